"""Families of tasks: their equations, their held-out tasks, their draws."""

import inspect
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.signal import lfilter

import fastmaml as fm
from fastmaml.datasets import (
    FAMILIES,
    Harmonic,
    LinearSystem,
    Pendulum,
    SensorCalibration,
    Sinusoid,
)


@dataclass(frozen=True)
class Frequencies(Sinusoid):
    """Sinusoids whose frequency is drawn, too: tasks of three parameters."""

    frequency_range: tuple[float, float] = (0.8, 1.2)


every_family = pytest.mark.parametrize(
    "family", [*FAMILIES.values(), Frequencies], ids=[*FAMILIES, "sinusoid-frequencies"]
)


def split_parameter(family, functions):
    """Where in its range each task's split parameter lies, from 0 to 1."""
    value = functions[0]
    if isinstance(family, LinearSystem):
        value = np.arccos(value[:, 0] / (2 * np.sqrt(-value[:, 1])))
    low, high = getattr(family, family.split_range)
    return (value - low) / (high - low)


# What every family has ---------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda part: part[0, ...], "has shape"),
        (lambda part: part[:1].repeat(5, 0), "has shape"),
        (lambda part: part[..., None], r"has shape .*; accepted is \(n_tasks"),
        (lambda part: part[:0], "has shape"),
        (lambda part: part * np.nan, "holds nan"),
        (lambda part: part.astype(str), "has dtype"),
        (lambda part: None, "is None"),
    ],
    ids=["one", "more", "deeper", "none", "nan", "text", "None"],
)
def test_functions_that_do_not_fit_are_named(family, spoil, text):
    made = family()
    functions = made.sample_functions(3, rng=0)
    names = list(inspect.signature(made.sample_points).parameters)
    for i in range(1, len(functions)):  # the first says how many tasks there are
        spoiled = [spoil(part) if j == i else part for j, part in enumerate(functions)]
        with pytest.raises((TypeError, ValueError), match=f"^({'|'.join(names)}) {text}"):
            made.sample_points(*spoiled, 2, rng=0)
    with pytest.raises(TypeError, match="dtype is 'int'; accepted are float32 and float64"):
        made.sample_points(*functions, 2, rng=0, dtype="int")
    for n_points in (0, 10**30):
        with pytest.raises(ValueError, match="n_points is"):
            made.sample_points(*functions, n_points, rng=0)
    with pytest.raises(MemoryError, match="n_points 10000000000000 of 3 tasks would take"):
        made.sample_points(*functions, 10**13, rng=0)


@every_family
def test_more_tasks_than_a_machine_holds_are_named(family):
    with pytest.raises(
        ValueError, match=r"n_tasks is 10+; accepted are integers of at least 1 and"
    ):
        family().sample_functions(10**30)
    with pytest.raises(MemoryError, match=r"numbers of n_tasks 10+ would take"):
        family().sample_functions(10**14)


def test_more_harmonics_than_a_machine_holds_are_named():
    with pytest.raises(ValueError, match=r"n_harmonics is 10+; accepted are integers"):
        Harmonic(n_harmonics=10**30)
    with pytest.raises(MemoryError, match=r"10+ numbers of n_tasks 3 would take"):
        Harmonic(n_harmonics=10**14).sample(3, 1, 1)


def test_what_a_pendulum_or_a_sensor_divides_by_is_above_0():
    with pytest.raises(ValueError, match=r"length holds 0\.0; accepted are numbers above 0"):
        Pendulum().sample_points([1, 0], [1, 1], [0, 0], 2, rng=0)
    with pytest.raises(ValueError, match=r"mass holds -1\.0; accepted are numbers above 0"):
        Pendulum().sample_points([1, 1], [1, -1], [0, 0], 2, rng=0)
    with pytest.raises(ValueError, match=r"saturation holds 0\.0; accepted are numbers above 0"):
        SensorCalibration().sample_points([1], [0], [0], 2, rng=0)


@every_family
def test_shapes_dtypes_and_layout(family):
    tasks = family().sample(7, n_support=3, n_query=5, rng=0)
    widths = family.n_inputs, family.n_outputs
    assert [a.shape for a in tasks] == [(7, rows, n) for rows in (3, 5) for n in widths]
    single = family().sample(7, n_support=3, n_query=5, rng=0, dtype=np.float32)
    for array, rounded in zip(tasks, single, strict=True):
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(rounded, array.astype(np.float32), strict=True)


@every_family
def test_a_seed_reproduces_and_a_generator_moves_on(family):
    rng = np.random.default_rng(7)
    first, again = family().sample(3, 4, 5, 7), family().sample(3, 4, 5, rng)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(family().sample(3, 4, 5, rng).x, first.x)


@every_family
def test_tasks_are_points_of_drawn_functions(family):
    """The two halves of ``sample`` are there for whoever wants one without the other."""
    whole, rng = family().sample(4, 6, 0, 3), np.random.default_rng(3)
    functions = family().sample_functions(4, rng)
    assert {len(part) for part in functions} == {4}
    x, y = family().sample_points(*functions, 6, rng)
    np.testing.assert_array_equal(x, whole.x)
    np.testing.assert_array_equal(y, whole.y)
    assert whole.x_query is None


@every_family
@pytest.mark.parametrize("n_query", [0, 3])
def test_a_range_of_support_rows_is_one_number_a_batch_drawn_before_the_tasks(family, n_query):
    rng, again, seen = np.random.default_rng(5), np.random.default_rng(5), []
    for _ in range(30):
        tasks = family().sample(3, (2, 4), n_query, rng)
        seen.append(int(again.integers(2, 5)))
        for one, other in zip(tasks, family().sample(3, seen[-1], n_query, again), strict=True):
            np.testing.assert_array_equal(one, other)
    assert set(seen) == {2, 3, 4}
    assert rng.bit_generator.state == again.bit_generator.state


@every_family
def test_a_range_of_one_number_is_that_number(family):
    for given in ((4, 4), [4, 4], (np.int64(4), 4)):
        for one, other in zip(
            family().sample(3, given, 5, 7), family().sample(3, 4, 5, 7), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_every_number_of_a_range_is_as_likely():
    rng = np.random.default_rng(0)
    counts = [Sinusoid().sample(1, (1, 15), 1, rng).x.shape[1] for _ in range(3000)]
    expected = np.bincount(counts, minlength=16)[1:]
    assert expected.sum() == 3000
    assert ((expected - 200) ** 2 / 200).sum() < 29.1  # chi squared, 14 degrees: 1 % is beyond


@every_family
@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ((15, 1), ValueError, r"n_support is \(15, 1\); accepted are pairs \(low, high\) of int"),
        ((0, 5), ValueError, r"n_support is \(0, 5\); .* with 1 <= low <= high <= 2814"),
        ((1, 10**30), ValueError, r"n_support is \(1, 10+.*\); accepted are pairs"),
        ((1, 2, 3), ValueError, r"n_support is \(1, 2, 3\); accepted are pairs"),
        ((), ValueError, r"n_support is \(\); accepted are pairs"),
        ((1.0, 5.0), ValueError, r"n_support is \(1.0, 5.0\); accepted are pairs"),
        ((True, 5), ValueError, r"n_support is \(True, 5\); accepted are pairs"),
        (["1", "5"], ValueError, r"n_support is \['1', '5'\]; accepted are pairs"),
        (0, ValueError, r"n_support is 0; accepted are integers .*, and pairs \(low, high\) of th"),
        (2.5, TypeError, r"n_support is 2.5; accepted are integers .*, and pairs \(low, high\)"),
        ("15", TypeError, r"n_support is '15'; accepted are integers"),
        (None, TypeError, r"n_support is None; accepted are integers"),
        (slice(1, 15), TypeError, r"n_support is slice\(1, 15, None\); accepted are integers"),
    ],
)
def test_a_wrong_number_or_range_of_support_rows_is_named(family, given, error, text):
    with pytest.raises(error, match=text):
        family().sample(3, given, 5, rng=0)


def test_a_range_beyond_the_memory_is_named_whatever_is_drawn():
    with pytest.raises(MemoryError, match=r"n_tasks 3, n_support 10+ and n_query 0 would take"):
        Sinusoid().sample(3, (1, 10**13), 0, rng=0)


@every_family
def test_train_and_test_tasks_are_disjoint(family):
    places = {}
    for part in ("all", "train", "test"):
        one = family(part=part)
        places[part] = split_parameter(one, one.sample_functions(20_000, rng=1))
    margin = 1e-9  # of rounding
    for part, low, high in (("train", 0.0, 0.8), ("test", 0.8, 1.0)):
        within = np.modf(10 * places[part] + margin)[0]
        assert within.min() >= low
        assert within.max() <= high + 2 * margin
    # both in every cell of the whole range, a fifth of which is held out
    for drawn in places.values():
        counts = np.bincount((10 * drawn).astype(int), minlength=10)
        np.testing.assert_allclose(counts, 2000, rtol=0.1)
    within = np.modf(10 * places["all"])[0]
    assert 0.19 < (within > 0.8).mean() < 0.21


@every_family
def test_meta_gradient_of_every_family(family):
    model = fm.MLP([family.n_inputs, 8, family.n_outputs], "tanh")
    maml = fm.MAML(model, inner_lr=0.01, loss="mse", task_mean=True)
    theta = model.init(0)
    tasks = family(part="train").sample(5, 6, 7, rng=0)
    value, gradient = maml.value_and_gradient(theta, *tasks)
    assert maml.value(theta - 1e-3 * gradient, *tasks) < value


@every_family
def test_families_are_values(family):
    assert family() == family(part="all")
    assert hash(family()) == hash(family(part="all"))
    assert family() != family(part="test")
    with pytest.raises(AttributeError):
        family().part = "test"


@every_family
def test_arguments(family):
    with pytest.raises(ValueError, match="part is 'held'; accepted are 'all', 'train', 'test'"):
        family(part="held")
    name = family.split_range
    with pytest.raises(ValueError, match=rf'{name} is \(0.6, 0.6\), part is "test"; accepted is'):
        family(part="test", **{name: (0.6, 0.6)})
    with pytest.raises(ValueError, match=rf'{name} is .*part is "train"; .* with 0 <= low < high'):
        family(part="train", **{name: (-0.5, 0.6)})
    assert family(**{name: (0.6, 0.6)}).sample(2, 3, 3, rng=0).x.shape[0] == 2
    with pytest.raises(ValueError, match=f"{name} is 3; accepted are two finite numbers"):
        family(**{name: 3})
    for arguments, text in (((0, 1, 1), "n_tasks is 0"), ((1, 0, 1), "n_support is 0")):
        with pytest.raises(ValueError, match=text):
            family().sample(*arguments, rng=0)
    with pytest.raises(ValueError, match="n_query is -1"):
        family().sample(1, 1, -1, rng=0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Harmonic(noise=-0.1), "noise is -0.1; accepted are standard deviations"),
        (lambda: LinearSystem(noise=-1), "noise is -1.0; accepted"),
        (lambda: SensorCalibration(noise=np.nan), "noise is nan; accepted are finite"),
        (lambda: Harmonic(n_harmonics=0), "n_harmonics is 0; accepted are integers of at least 1"),
        (lambda: LinearSystem(radius_range=(0.5, 1)), r"radius_range is \(0.5, 1.0\); .* below 1"),
        (lambda: LinearSystem(radius_range=(-0.5, 0)), r"radius_range is \(-0.5, 0.0\)"),
        (lambda: LinearSystem(angle_range=(-1, 1)), r"angle_range is \(-1.0, 1.0\); .* 0 to π"),
        (lambda: LinearSystem(angle_range=(0, 4)), r"angle_range is \(0.0, 4.0\); accepted are"),
        (lambda: Pendulum(length_range=(0, 1)), r"length_range is \(0.0, 1.0\); .* above 0"),
        (lambda: Pendulum(mass_range=(-1, 1)), r"mass_range is \(-1.0, 1.0\); .* above 0"),
        (lambda: Pendulum(friction_range=(-1, 1)), r"friction_range is .* at least 0"),
        (lambda: Pendulum(time_step=0), "time_step is 0.0; accepted are numbers above 0"),
        (lambda: SensorCalibration(gain_range=(0, 1)), r"gain_range is \(0.0, 1.0\); .* above 0"),
        (lambda: SensorCalibration(saturation_range=(0, 1)), r"saturation_range is .* above 0"),
    ],
)
def test_what_a_family_does_not_take(make, text):
    with pytest.raises(ValueError, match=text):
        make()


# Each family's equation --------------------------------------------------------------------------


def test_sinusoid_of_part_all_draws_as_before():
    """The published experiment draws from it, in this order."""
    rng = np.random.default_rng(5)
    amplitude, phase = rng.uniform(0.1, 5.0, 3), rng.uniform(0.0, np.pi, 3)
    for got, want in zip(Sinusoid().sample_functions(3, rng=5), (amplitude, phase), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("n_harmonics", [1, 2, 3])
def test_harmonic_is_a_sum_of_multiples_of_a_frequency(n_harmonics):
    family, rng = Harmonic(n_harmonics=n_harmonics), np.random.default_rng(0)
    functions = family.sample_functions(20, rng)
    x, y = family.sample_points(*functions, 30, rng)
    for i, (frequency, amplitude, phase, _) in enumerate(zip(*functions, strict=True)):
        waves = [
            a * np.sin(k * frequency * x[i] + b)
            for k, (a, b) in enumerate(zip(amplitude, phase, strict=True), start=1)
        ]
        np.testing.assert_allclose(y[i], sum(waves), atol=1e-12)
    noisy = Harmonic(n_harmonics=n_harmonics, noise=0.5)
    x, y = noisy.sample_points(*functions, 2000, rng)
    residual = y - noisy.evaluate(*functions[:3], x)
    assert 0.49 < residual.std() < 0.51
    place = functions[3][:, None, None]
    assert abs((x - place).mean()) < 0.02
    assert 0.98 < (x - place).std() < 1.02


def test_linear_system_is_a_filter():
    """Without noise, SciPy's filter turns the inputs of the rows into their targets."""
    family, rng = LinearSystem(noise=0.0), np.random.default_rng(0)
    a, b = family.sample_functions(20, rng)
    x, y = family.sample_points(a, b, 30, rng)
    for i in range(20):
        np.testing.assert_allclose(x[i] @ [*a[i], *b[i]], y[i, :, 0], rtol=1e-12, atol=1e-12)
        # consecutive rows of one experiment
        np.testing.assert_array_equal(x[i, 1:, 0], y[i, :-1, 0])
        np.testing.assert_array_equal(x[i, 2:, 1], y[i, :-2, 0])
        np.testing.assert_array_equal(x[i, 1:, 3], x[i, :-1, 2])
        # from the first row on, that state and these inputs give the whole output
        drive = b[i, 0] * x[i, :, 2] + b[i, 1] * x[i, :, 3]
        state = [a[i, 0] * x[i, 0, 0] + a[i, 1] * x[i, 0, 1], a[i, 1] * x[i, 0, 0]]
        output, _ = lfilter([1.0], [1.0, *-a[i]], drive, zi=state)
        np.testing.assert_allclose(output, y[i, :, 0], rtol=1e-9, atol=1e-9)


def test_linear_system_is_stable_and_its_noise_has_its_size():
    family, rng = LinearSystem(noise=0.3), np.random.default_rng(1)
    a, b = family.sample_functions(200, rng)
    roots = np.array([np.roots([1.0, *-row]) for row in a])
    assert np.abs(roots).max() <= 0.8 + 1e-12
    assert np.abs(roots).min() >= 0.3 - 1e-12
    assert np.abs(roots.imag).min() > 0
    x, y = family.sample_points(a, b, 200, rng)
    residual = y[..., 0] - np.einsum("nkp,np->nk", x, np.hstack([a, b]))
    assert 0.295 < residual.std() < 0.305
    assert 0.98 < x[..., 2].std() < 1.02


def test_pendulum_obeys_its_equation_of_motion():
    """Every time step against an adaptive integrator of high order."""
    family, rng = Pendulum(), np.random.default_rng(0)
    functions = family.sample_functions(6, rng)
    x, y = family.sample_points(*functions, 8, rng)
    for i, (length, mass, friction) in enumerate(zip(*functions, strict=True)):
        for (sine, cosine, velocity, torque), change in zip(x[i], y[i], strict=True):
            start = np.array([np.arctan2(sine, cosine), velocity])

            def slope(_, state, torque=torque, m=mass, c=friction, r=length):
                force = -m * 9.81 * r * np.sin(state[0]) - c * state[1] + torque
                return [state[1], force / (m * r * r)]

            found = solve_ivp(slope, (0, 0.05), start, method="DOP853", rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(change, found.y[:, -1] - start, rtol=1e-8, atol=1e-8)
        # each step begins where the one before ended
        np.testing.assert_allclose(x[i, :-1, 2] + y[i, :-1, 1], x[i, 1:, 2], rtol=1e-12)
        angle = np.arctan2(x[i, :, 0], x[i, :, 1])
        np.testing.assert_allclose(np.sin(angle[:-1] + y[i, :-1, 0]), x[i, 1:, 0], atol=1e-12)


def test_a_pendulum_does_not_depend_on_its_batch():
    family = Pendulum(torque_range=(0, 0), velocity_range=(1, 1))
    functions = family.sample_functions(3, rng=0)
    state = np.array([[0.3, 1.0, -2.0], [1.0, 1.0, 1.0]])
    together = family._step(*functions, state, np.zeros(3))
    for i in range(3):
        alone = family._step(*(part[[i]] for part in functions), state[:, [i]], np.zeros(1))
        np.testing.assert_allclose(alone[:, 0], together[:, i], rtol=1e-14)


def test_a_free_pendulum_without_friction_keeps_its_energy():
    family = Pendulum(friction_range=(0, 0), torque_range=(0, 0))
    rng = np.random.default_rng(0)
    length, mass, friction = family.sample_functions(20, rng)
    x, _ = family.sample_points(length, mass, friction, 200, rng)
    energy = (length[:, None] * x[..., 2]) ** 2 / 2 - 9.81 * length[:, None] * x[..., 1]
    np.testing.assert_allclose(energy, energy[:, :1] + np.zeros(200), rtol=1e-5, atol=1e-5)


def test_sensor_reads_a_saturated_line():
    family, rng = SensorCalibration(noise=0.0), np.random.default_rng(0)
    gain, offset, saturation = (part[:, None, None] for part in family.sample_functions(50, rng))
    reading, quantity = family.sample_points(*(p[:, 0, 0] for p in (gain, offset, saturation)), 20)
    inverse = (saturation * np.arctanh(reading / saturation) - offset) / gain
    np.testing.assert_allclose(inverse, quantity, atol=1e-12)
    assert (np.abs(reading) < saturation).all()
    assert quantity.min() >= -1
    assert quantity.max() <= 1
    noisy = SensorCalibration(noise=0.1, quantity_range=(0, 0), offset_range=(0, 0))
    assert 0.097 < noisy.sample(500, 20, 0, rng=0).x.std() < 0.103
