"""Optimizers against their formulas, and the loop that drives them."""

from __future__ import annotations

import dataclasses
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from same import bits

import fastmaml as fm
from fastmaml.datasets import Sinusoid, Tasks
from fastmaml.learn import (
    SGD,
    Adam,
    AdamState,
    AdamW,
    Cosine,
    Reptile,
    SGDState,
    Step,
    TrainState,
    minimize,
    reptile_gradient,
    train,
)

OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, momentum=0.5),
    Adam(0.1, beta1=0.8, beta2=0.99, epsilon=1e-6),
    AdamW(Cosine(0.1, 300, final=0.01), beta1=0.8, beta2=0.99, weight_decay=1e-4),
]
DTYPES = [np.float32, np.float64]


class Quadratic:
    """Stands in for a MAML: half the squared distance of theta from the target that a batch is."""

    def value_and_gradient(self, theta: np.ndarray, target: Any) -> tuple[float, np.ndarray]:
        gradient = (theta - target).astype(theta.dtype)
        return 0.5 * float(gradient @ gradient), gradient


def still_target() -> tuple[np.ndarray]:
    return (np.array([1.0, -2.0, 3.0]),)


# ---- optimizers


def test_sgd_is_equation_1() -> None:
    rng = np.random.default_rng(0)
    theta, gradient = rng.normal(size=(2, 5))
    optimizer = SGD(0.25)
    new, state = optimizer.update(theta, gradient, optimizer.init(theta))
    np.testing.assert_array_equal(new, theta - 0.25 * gradient)
    np.testing.assert_array_equal(new, fm.equations.meta_update(theta, gradient, 0.25))
    assert state.n_updates == 1


def test_momentum_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    optimizer, theta = SGD(0.1, momentum=0.8), rng.normal(size=3)
    state, expected, velocity = optimizer.init(theta), theta, np.zeros(3)
    for _ in range(5):
        gradient = rng.normal(size=3)
        theta, state = optimizer.update(theta, gradient, state)
        velocity = 0.8 * velocity + gradient
        expected = expected - 0.1 * velocity
        np.testing.assert_allclose(theta, expected, rtol=1e-14)


def test_adamw_shrinks_before_the_step_of_adam() -> None:
    theta, gradient = np.random.default_rng(0).normal(size=(2, 6))
    adam, adamw = Adam(0.1), AdamW(0.1, weight_decay=0.5)
    step = adam.update(theta, gradient, adam.init(theta))[0] - theta
    new, _ = adamw.update(theta, gradient, adamw.init(theta))
    np.testing.assert_allclose(new, theta * 0.95 + step, rtol=1e-14)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_schedule_gives_each_update_its_rate(kind: Any, dtype: Any) -> None:
    def schedule(n_updates: int) -> Any:
        return np.float64([0.5, 0.25][n_updates])  # must not make float32 wider

    theta = gradient = np.array([1.0, -2.0], dtype)
    scheduled, state = kind(schedule), kind(0.5).init(theta)
    one, state_one = scheduled.update(theta, gradient, state)
    two, _ = scheduled.update(one, gradient, state_one)
    np.testing.assert_array_equal(one, kind(0.5).update(theta, gradient, state)[0], strict=True)
    np.testing.assert_array_equal(two, kind(0.25).update(one, gradient, state_one)[0], strict=True)


def test_cosine_and_step_schedules() -> None:
    cosine = Cosine(1.0, 4, final=0.2)
    expected = [0.2 + 0.4 * (1 + np.cos(np.pi * n / 4)) for n in range(5)]
    np.testing.assert_allclose([cosine(n) for n in range(5)], expected, rtol=1e-15)
    assert cosine(5) == cosine(1000) == 0.2
    assert [Step(8.0, 2, 0.5)(n) for n in range(6)] == [8.0, 8.0, 4.0, 4.0, 2.0, 2.0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("theta", "gradient", "error", "text"),
    [
        ([1.0, 2.0], np.ones(3), ValueError, r"gradient has shape \(3,\), theta has \(2,\)"),
        ([1.0], [1j], TypeError, "gradient has dtype complex128"),
        ([1j], [1.0], TypeError, "theta has dtype complex128"),
        ([1.0], np.ma.array([1.0]), TypeError, "gradient is a masked array"),
        (np.ma.array([1.0]), [1.0], TypeError, "theta is a masked array"),
        ([1.0], None, TypeError, "gradient is None"),
    ],
)
def test_what_is_no_gradient_is_named(
    optimizer: Any, theta: Any, gradient: Any, error: Any, text: str
) -> None:
    state = optimizer.init(np.zeros(2))
    with pytest.raises(error, match=text):
        optimizer.update(theta, gradient, state)


@pytest.mark.parametrize("optimizer", OPTIMIZERS[1:])
def test_a_state_of_another_size_is_named(optimizer: Any) -> None:
    state = optimizer.init(np.zeros(2))
    with pytest.raises(ValueError, match=r"state\.\w+ has shape \(2,\), theta has \(3,\)"):
        optimizer.update(np.zeros(3), np.zeros(3), state)


def test_arrays_of_another_byte_order_are_converted() -> None:
    theta = np.array([1.0, 2.0], ">f8")
    new, _ = Adam(0.5).update(theta, theta, Adam().init(theta))
    assert new.dtype.isnative


def test_adam_is_its_paper() -> None:
    rng = np.random.default_rng(0)
    optimizer = Adam(0.05, beta1=0.7, beta2=0.9, epsilon=1e-3)
    theta = rng.normal(size=37)  # no multiple of a vector register
    state = optimizer.init(theta)
    expected = theta, np.zeros(37), np.zeros(37)
    for t in range(1, 8):
        gradient = rng.normal(size=37)
        theta, state = optimizer.update(theta, gradient, state)
        expected = reference.adam(expected[0], gradient, *expected[1:], t, 0.05, 0.7, 0.9, 1e-3)
        assert state.n_updates == t
        found = (theta, state.first_moment, state.second_moment)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_means_of_a_dead_unit_do_not_stay_subnormal(dtype: Any) -> None:
    tiny = np.finfo(dtype).tiny
    theta, zero = np.ones(3, dtype), np.zeros(3, dtype)
    state = AdamState(9, np.array([2 * tiny, tiny, 0], dtype), np.array([1, tiny, tiny], dtype))
    new, state = Adam().update(theta, zero, state)
    np.testing.assert_array_equal(new, theta)
    assert state.first_moment.tolist() == [pytest.approx(1.8 * tiny, rel=1e-6), 0, 0]
    assert state.second_moment.tolist() == [pytest.approx(0.999, rel=1e-6), 0, 0]


def test_adam_takes_arrays_of_any_shape_and_layout() -> None:
    rng = np.random.default_rng(0)
    theta, gradient = rng.normal(size=(2, 3, 4))
    flat = Adam().update(theta.ravel(), gradient.ravel(), Adam().init(theta.ravel()))[0]
    fortran = np.asfortranarray(theta), np.asfortranarray(gradient)
    for one, other in ((theta, gradient), fortran):
        found, _ = Adam().update(one, other, Adam().init(one))
        np.testing.assert_array_equal(found, flat.reshape(3, 4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_are_pure_and_keep_the_dtype(optimizer: Any, dtype: Any) -> None:
    theta = np.array([1.0, 2.0, 3.0], dtype)
    gradient = np.array([0.5, -0.5, 0.0])  # float64, whatever theta is
    state = optimizer.init(theta)
    before = bits((theta, gradient, state))
    for array in (theta, gradient, *(a for a in state if isinstance(a, np.ndarray))):
        array.flags.writeable = False
    new, new_state = optimizer.update(theta, gradient, state)
    again, again_state = optimizer.update(theta, gradient, state)
    assert bits((theta, gradient, state)) == before
    np.testing.assert_array_equal(new, again, strict=True)
    for one, two in zip(new_state, again_state, strict=True):
        np.testing.assert_array_equal(one, two, strict=True)
    assert new.dtype == dtype
    assert all(a.dtype == dtype for a in new_state if isinstance(a, np.ndarray))
    assert not np.shares_memory(new, theta)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_integer_parameters_become_float64(optimizer: Any) -> None:
    theta = np.array([1, 2, 3])
    new, _ = optimizer.update(theta, np.array([1, 0, -1]), optimizer.init(theta))
    assert new.dtype == np.float64
    assert new[1] == pytest.approx(2.0, abs=1e-4)  # weight decay
    assert new[0] < 1.0 < 3.0 < new[2]


def test_optimizers_are_values() -> None:
    assert Adam() == Adam(1e-3, 0.9, 0.999, 1e-8)
    assert hash(SGD(0.5)) == hash(SGD(0.5))
    assert pickle.loads(pickle.dumps(Adam(0.1))) == Adam(0.1)
    with pytest.raises(AttributeError):
        Adam().learning_rate = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SGD(0.0), "learning_rate is 0.0"),
        (lambda: SGD(-1.0), "learning_rate is -1.0"),
        (lambda: Adam(np.nan), "learning_rate is nan"),
        (lambda: Adam(beta1=1.0), "beta1 is 1.0"),
        (lambda: Adam(beta2=-0.1), "beta2 is -0.1"),
        (lambda: Adam(epsilon=0.0), "epsilon is 0.0"),
        (lambda: SGD(0.1, momentum=1.0), "momentum is 1.0"),
        (lambda: AdamW(weight_decay=-1.0), "weight_decay is -1.0"),
        (lambda: Cosine(0.0, 5), "initial is 0.0"),
        (lambda: Cosine(0.1, 0), "n_updates is 0"),
        (lambda: Cosine(0.1, 5, -0.1), "final is -0.1"),
        (lambda: Step(0.1, 0), "every is 0"),
        (lambda: Step(0.1, 5, 0.0), "factor is 0.0"),
    ],
)
def test_bad_numbers_are_named(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_a_rate_that_is_no_number_is_named() -> None:
    with pytest.raises(TypeError, match="learning_rate"):
        SGD("fast")  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"learning_rate is <class .*Cosine'>; accepted are numbers"
    ):
        Adam(Cosine)  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("state", [None, (1, 2, 3), {}])
def test_a_state_of_another_kind_is_named(optimizer: Any, state: Any) -> None:
    with pytest.raises(TypeError, match=f"state is a {type(state).__name__}; accepted is what in"):
        optimizer.update(np.ones(3), np.ones(3), state)


@pytest.mark.parametrize("n_updates", [None, "1", 0.5, [1, 2]])
def test_a_count_that_is_none_is_named(n_updates: Any) -> None:
    theta = np.ones(3)
    for optimizer in OPTIMIZERS:
        state = optimizer.init(theta)._replace(n_updates=n_updates)
        with pytest.raises(TypeError, match=r"state\.n_updates is"):
            optimizer.update(theta, theta, state)
    for schedule in (Cosine(0.1, 10), Step(0.1, 10)):
        with pytest.raises(TypeError, match="n_updates is"):
            schedule(n_updates)


def test_a_count_of_many_digits_breaks_no_message() -> None:
    with pytest.raises(ValueError, match=r"n_updates is <int>; accepted are .* at most 9223"):
        Step(2.0, 1, 2.0)(10**5000)
    with pytest.raises(OverflowError, match=r"factor is 2\.0: the rate after 1000000 updates"):
        Step(2.0, 1, 2.0)(10**6)


def test_a_schedule_that_gives_no_number_is_named() -> None:
    optimizer = SGD(lambda n: None if n else 0.1)  # type: ignore[arg-type,return-value]
    theta, state = optimizer.update(np.ones(3), np.ones(3), optimizer.init(np.ones(3)))
    with pytest.raises(TypeError, match=r"learning_rate\(1\) is None; accepted is one real number"):
        optimizer.update(theta, theta, state)


# ---- the loop


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_reaches_the_minimum(optimizer: Any, dtype: Any) -> None:
    result = train(Quadratic(), np.zeros(3, dtype), still_target, optimizer, 300)
    assert result.theta.dtype == dtype
    np.testing.assert_allclose(result.theta, still_target()[0], atol=1e-2)
    assert result.values.shape == (300,)
    assert result.values[0] == 7.0  # before the first update
    assert result.values[-1] < 1e-3


@pytest.mark.parametrize("order", ["exact", "first"])
def test_meta_training_reduces_the_error_after_adaptation(order: str) -> None:
    maml = fm.MAML(fm.MLP([1, 16, 16, 1]), inner_lr=0.02, order=order, loss="mse", task_mean=True)
    heldout = Sinusoid().sample(200, 10, 10, rng=1)
    rng = np.random.default_rng(0)
    theta = maml.model.init(rng)
    result = train(maml, theta, lambda: Sinusoid().sample(10, 10, 10, rng), Adam(0.01), 300)
    assert result.values[-30:].mean() < result.values[:30].mean()
    assert maml.value(result.theta, *heldout) < 0.7 * maml.value(theta, *heldout)


def test_the_callback_sees_every_iteration() -> None:
    seen: list[TrainState] = []
    start = np.zeros(3)
    result = train(Quadratic(), start, still_target, SGD(0.5), 4, lambda s: seen.append(s))
    assert [state.iteration for state in seen] == [1, 2, 3, 4]
    np.testing.assert_array_equal(result.values, [state.value for state in seen])
    # The states are still what they were: each update made new arrays.
    for state in seen:
        np.testing.assert_array_equal(state.theta, still_target()[0] * (1 - 0.5**state.iteration))
        assert state.optimizer_state.n_updates == state.iteration
    np.testing.assert_array_equal(result.theta, seen[-1].theta)
    np.testing.assert_array_equal(start, np.zeros(3))


def test_the_callback_can_stop() -> None:
    result = train(
        Quadratic(), np.zeros(3), still_target, SGD(0.5), 100, lambda s: s.iteration == 7
    )
    assert len(result.values) == 7
    assert result.optimizer_state.n_updates == 7


def test_no_iterations_return_what_was_given() -> None:
    theta = np.array([1, 2, 3])
    result = train(Quadratic(), theta, still_target, Adam(), 0)
    np.testing.assert_array_equal(result.theta, [1.0, 2.0, 3.0], strict=True)
    assert result.values.shape == (0,)
    assert result.values.dtype == np.float64
    assert result.theta is not theta
    assert result.optimizer_state.n_updates == 0


def test_an_interrupt_passes_through_with_the_last_state_in_hand() -> None:
    last: list[TrainState] = []

    def callback(state: TrainState) -> None:
        last[:] = [state]
        if state.iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Quadratic(), np.zeros(3), still_target, Adam(), 10, callback)
    assert last[0].iteration == 3
    np.testing.assert_array_equal(
        last[0].theta, train(Quadratic(), np.zeros(3), still_target, Adam(), 3).theta
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resuming_from_a_file_gives_the_same_bits(optimizer: Any, tmp_path: Path) -> None:
    maml = fm.MAML(fm.MLP([1, 8, 1]), loss="mse", task_mean=True)
    start = maml.model.init(0)

    def run(rng: np.random.Generator, theta: np.ndarray, n: int, **options: Any) -> Any:
        def sampler() -> Tasks:
            return Sinusoid().sample(5, 5, 5, rng)

        return train(maml, theta, sampler, optimizer, n, **options)

    whole = run(np.random.default_rng(3), start, 20)

    rng = np.random.default_rng(3)
    first = run(rng, start, 8)
    np.savez(tmp_path / "state.npz", theta=first.theta, **first.optimizer_state._asdict())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        saved = dict(file)
    theta = saved.pop("theta")
    kind = AdamState if isinstance(optimizer, Adam) else SGDState
    second = run(rng, theta, 12, optimizer_state=kind(**saved))

    np.testing.assert_array_equal(second.theta, whole.theta)
    np.testing.assert_array_equal(np.concatenate([first.values, second.values]), whole.values)
    for one, two in zip(second.optimizer_state, whole.optimizer_state, strict=True):
        np.testing.assert_array_equal(one, two)
    assert type(second.optimizer_state.n_updates) is int


class Breaks:
    """A quadratic until the third call, then whatever it is given."""

    def __init__(self, value: float, gradient: float) -> None:
        self.calls, self.value, self.gradient = 0, value, gradient

    def value_and_gradient(self, theta: np.ndarray, target: Any) -> tuple[float, np.ndarray]:
        self.calls += 1
        value, gradient = Quadratic().value_and_gradient(theta, target)
        if self.calls == 3:
            value, gradient[1] = self.value, self.gradient
        return value, gradient


@pytest.mark.parametrize(
    ("value", "gradient", "text"),
    [
        (np.nan, 0.0, "meta-objective is nan and its gradient is finite in iteration 3"),
        (np.inf, np.nan, "is inf and its gradient is not finite in 1 of 3 entries in iteration 3"),
        (1.5, np.inf, "is 1.5 and its gradient is not finite in 1 of 3 entries in iteration 3"),
    ],
)
def test_numbers_that_are_not_finite_stop_it(value: float, gradient: float, text: str) -> None:
    seen: list[TrainState] = []
    with pytest.raises(FloatingPointError, match=text):
        train(Breaks(value, gradient), np.zeros(3), still_target, SGD(0.1), 9, seen.append)
    assert [state.iteration for state in seen] == [1, 2]
    assert np.isfinite(seen[-1].theta).all()


def test_what_helps_is_what_the_objective_has() -> None:
    """A rate of the inner steps only where there are any."""
    model = fm.Linear(1)
    head, maml = (
        fm.BayesianLastLayer(model, "mse", check_finite=False),
        fm.MAML(model, check_finite=False),
    )
    x = np.full((1, 3, 1), 1e200)
    for objective, theta, text in (
        (head, head.init(0), "; a smaller learning_rate usually helps"),
        (Breaks(np.nan, 0.0), np.zeros(3), "; a smaller learning_rate usually helps$"),
        (maml, model.init(0), "; a smaller inner_lr or learning_rate usually helps"),
        (Reptile(maml), model.init(0), "; a smaller inner_lr or learning_rate usually helps"),
    ):
        tasks = still_target if isinstance(objective, Breaks) else lambda: (x, x, x, -x)
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=text):
            train(objective, theta, tasks, SGD(0.1), 9)


@pytest.mark.parametrize("n", [-1, 2.5, None, True])
def test_a_bad_number_of_iterations_is_named(n: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="n_iterations is"):
        train(Quadratic(), np.zeros(3), still_target, SGD(0.1), n)


# ---- clipping


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_long_gradient_is_clipped_to_its_norm(dtype: Any, scale: float) -> None:
    """Also where the square of the norm is no number of the dtype."""
    start = np.array([3.0, 0.0, -4.0], dtype) * dtype(scale)
    target = (np.zeros(3, dtype),)

    class Squares(Quadratic):
        def value_and_gradient(self, theta: np.ndarray, target: Any) -> tuple[float, np.ndarray]:
            return 1.0, theta - target

    def step(limit: float) -> np.ndarray:
        return start - train(Squares(), start, lambda: target, SGD(1.0), 1, clip_norm=limit).theta

    np.testing.assert_array_equal(step(6.0 * scale), start)
    clipped = step(1.25 * scale)
    np.testing.assert_allclose(clipped, start / 4, rtol=1e-6)
    assert clipped.dtype == dtype


def test_a_gradient_of_zeros_is_clipped_to_zeros() -> None:
    result = train(Quadratic(), still_target()[0], still_target, SGD(1.0), 2, clip_norm=1.0)
    np.testing.assert_array_equal(result.theta, still_target()[0])


# ---- inner rates

TASKS = Sinusoid().sample(6, 5, 5, rng=0)
MAML = fm.MAML(fm.MLP([1, 6, 1]), loss="mse", task_mean=True)


def maml_with(**changes: Any) -> fm.MAML:
    return dataclasses.replace(MAML, **changes)


@pytest.mark.parametrize("log_rates", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("steps", "inner_lr"),
    [(1, 0.05), (2, [[0.05], [0.02]]), (2, [[0.05, 0.01], [0.02, 0.03]]), (1, np.full(19, 0.05))],
)
def test_rates_are_learned_as_their_gradient_says(
    steps: int, inner_lr: Any, dtype: Any, log_rates: bool
) -> None:
    maml = maml_with(inner_lr=inner_lr, steps=steps)
    theta = maml.model.init(0, dtype)
    result = train(
        maml, theta, lambda: TASKS, SGD(0.1), 3, rate_optimizer=SGD(0.01), log_rates=log_rates
    )
    rates, expected = np.array(inner_lr), theta
    for _ in range(3):
        at = maml_with(inner_lr=rates if rates.ndim else float(rates), steps=steps)
        _, gradient, _, slope = at.evaluate(expected, *TASKS)
        expected = expected - 0.1 * gradient
        slope = np.asarray(slope, np.float64)
        rates = rates * np.exp(-0.01 * rates * slope) if log_rates else rates - 0.01 * slope
    np.testing.assert_allclose(result.inner_lr, rates, rtol=1e-12)
    np.testing.assert_array_equal(result.theta, expected, strict=True)
    assert np.shape(result.inner_lr) == np.shape(inner_lr)
    assert np.any(rates != inner_lr)
    assert isinstance(result.inner_lr, float) == (np.ndim(inner_lr) == 0)


def test_logarithms_keep_signs_and_zeros() -> None:
    maml = maml_with(inner_lr=[[0.0, 0.05], [-0.01, 0.02]], steps=2)
    theta = maml.model.init(0)
    result = train(maml, theta, lambda: TASKS, Adam(), 30, rate_optimizer=AdamW(1.0))
    np.testing.assert_array_equal(np.sign(result.inner_lr), np.sign(maml.inner_lr))
    assert not np.allclose(result.inner_lr, maml.inner_lr)


def test_rates_stay_unless_asked_for() -> None:
    result = train(MAML, MAML.model.init(0), lambda: TASKS, Adam(), 3)
    assert result.inner_lr == 0.01
    assert result.state.rate_state is None


def test_what_has_no_rates_learns_none() -> None:
    reptile = Reptile(maml_with(steps=2))
    with pytest.raises(TypeError, match=r"maml is Reptile.*, which has no inner_lr to learn"):
        train(reptile, MAML.model.init(0), lambda: TASKS, SGD(0.1), 3, rate_optimizer=Adam())


@pytest.mark.parametrize("inner_lr", [0.01, [[0.01, 0.02]], np.full(19, 0.01)])
def test_a_result_has_the_objective_with_its_rates(inner_lr: Any) -> None:
    maml, draw = maml_with(inner_lr=inner_lr), np.random.default_rng(0)
    result = train(
        maml, maml.model.init(0), lambda: Sinusoid().sample(3, 5, 5, draw), Adam(0.1), 12,
        rate_optimizer=Adam(0.3), validation=TASKS, validate_every=1,
    )  # fmt: skip
    best = result.best
    assert best is not None
    np.testing.assert_array_equal(result.maml.inner_lr, result.inner_lr)
    np.testing.assert_array_equal(best.maml.inner_lr, best.inner_lr)
    assert best.maml.value(best.theta, *TASKS) == best.value
    assert maml.value(best.theta, *TASKS) != best.value
    np.testing.assert_array_equal(maml.inner_lr, inner_lr)
    assert result.state.best is not None
    assert result.state.best.maml is None


def test_an_objective_whose_rates_stay_is_the_one_that_was_given() -> None:
    for objective in (MAML, Reptile(MAML)):
        result = train(
            objective, MAML.model.init(0), lambda: TASKS, SGD(0.1), 2, validation=TASKS,
            validate_every=1,
        )  # fmt: skip
        assert result.maml is objective
        assert result.best is not None
        assert result.best.maml is objective
    assert train(Quadratic(), np.zeros(3), still_target, SGD(0.1), 1).best is None


def test_a_best_from_before_the_resumption_has_its_own_rates() -> None:
    def run(n: int, **options: Any) -> Any:
        return train(
            MAML, MAML.model.init(0), lambda: TASKS, SGD(1e-3), n, rate_optimizer=SGD(0.1),
            validation=TASKS, validate_every=1, **options,
        )  # fmt: skip

    first = run(2)
    kept = first.state._replace(best=first.state.best._replace(value=-1.0))  # not to be beaten
    second = run(4, resume=kept)
    assert second.best.iteration == 2
    assert second.best.maml.inner_lr == first.best.inner_lr != second.maml.inner_lr


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steps": 0, "inner_lr": 0.01}, "steps is 0"),
        ({"order": "implicit", "proximal": 1.0}, 'order is "implicit"'),
        ({"inner_lr": [[0.0, 0.0]]}, "inner_lr is 0, and its logarithm is learned"),
    ],
)
def test_rates_that_cannot_change_are_not_learned(changes: Any, text: str) -> None:
    maml, theta = maml_with(**changes), MAML.model.init(0)
    with pytest.raises(ValueError, match=rf"rate_optimizer is given, .* cannot change \({text}\)"):
        train(maml, theta, lambda: TASKS, Adam(), 1, rate_optimizer=Adam())
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match=rf"learn_rates is given, .* cannot change \({text}\)"):
        minimize(maml, theta, TASKS, 1, learn_rates=True)


@pytest.mark.parametrize("on_divergence", ["raise", "keep"])
def test_rates_that_an_update_makes_infinite_are_named(on_divergence: str) -> None:
    text = r"the inner rates after iteration \d are none .*inner_lr holds .*: the update of SGD\(l"
    with pytest.raises(FloatingPointError, match=text):
        train(
            MAML, MAML.model.init(0), lambda: TASKS, SGD(1e-9), 9,
            rate_optimizer=SGD(1e30), on_divergence=on_divergence,
        )  # fmt: skip


def test_rates_of_zero_are_learned_without_logarithms() -> None:
    maml, theta = maml_with(inner_lr=0.0), MAML.model.init(0)
    result = train(
        maml, theta, lambda: TASKS, SGD(0.1), 1, rate_optimizer=SGD(0.1), log_rates=False
    )
    assert result.maml.inner_lr == result.inner_lr != 0.0


# ---- divergence


def wild(**changes: Any) -> tuple[fm.MAML, Any, np.ndarray]:
    """Float32, and tasks of which 2 and 4 overflow on their way."""
    tasks = Sinusoid().sample(6, 5, 5, rng=0, dtype=np.float32)
    y = tasks.y.copy()
    y[[2, 4]] = 1e25
    return maml_with(**changes), tasks._replace(y=y), MAML.model.init(0, np.float32)


def test_divergence_of_a_single_task() -> None:
    """One that is given without an axis of tasks is one task, not as many as it has rows."""
    model = fm.MLP([1, 4, 1])
    x, y = np.ones((3, 1)), np.full(3, 1e200)
    maml = fm.MAML(model, steps=9, inner_lr=1e38)
    for data in ((x, y), (x.tolist(), y.tolist())):
        with pytest.raises(FloatingPointError, match=r"\(1 of 1 tasks diverged: 0\)"):
            train(maml, model.init(0), lambda data=data: data, Adam(), 1)
        result = train(maml, model.init(0), lambda data=data: data, Adam(), 1, on_divergence="skip")
        assert result.state.diverged == (0,)


def test_reptile_of_a_single_task() -> None:
    maml = fm.MAML(fm.Linear(1), steps=2, inner_lr=0.1)
    x, y = np.array([[0.5], [1.0]]), np.array([1.0, 2.0])
    np.testing.assert_array_equal(
        reptile_gradient(maml, [0.0, 1.0], x, y),
        reptile_gradient(maml, [0.0, 1.0], x[None], y[None]),
    )


@pytest.mark.parametrize("rates", [None, SGD(1e-3)])
@pytest.mark.parametrize("form", [tuple, lambda tasks: [list(part) for part in tasks]])
def test_divergence_names_the_tasks(form: Any, rates: Any) -> None:
    maml, tasks, theta = wild()
    text = r"in iteration 1 \(2 of 6 tasks diverged: 2, 4\); a smaller"
    with pytest.raises(FloatingPointError, match=text):
        train(maml, theta, lambda: form(tasks), SGD(0.1), 3, rate_optimizer=rates)


@pytest.mark.parametrize("rates", [None, SGD(1e-3)])
@pytest.mark.parametrize("query", [True, False])
def test_skip_is_the_update_of_the_others(query: bool, rates: Any) -> None:
    maml, tasks, theta = wild()
    batch = tasks if query else tasks[:2]
    seen: list[TrainState] = []
    options = {"rate_optimizer": rates, "clip_norm": 0.5}
    result = train(
        maml, theta, lambda: batch, SGD(0.1), 3, seen.append, on_divergence="skip", **options
    )
    others = [part[[0, 1, 3, 5]] for part in batch]
    expected = train(maml, theta, lambda: others, SGD(0.1), 3, **options)
    np.testing.assert_array_equal(result.theta, expected.theta)
    np.testing.assert_array_equal(result.values, expected.values)
    assert result.inner_lr == expected.inner_lr
    assert [state.diverged for state in seen] == [(2, 4)] * 3


def test_nothing_changes_when_all_are_skipped() -> None:
    maml, tasks, theta = wild()
    wild_ones = [part[[2, 4]] for part in tasks]
    result = train(maml, theta, lambda: wild_ones, Adam(), 2, on_divergence="skip")
    np.testing.assert_array_equal(result.theta, theta)
    assert np.isnan(result.values).all()
    assert result.optimizer_state.n_updates == 0
    assert result.state.diverged == (0, 1)


def test_keep_updates_with_what_came() -> None:
    maml, tasks, theta = wild()
    with pytest.raises(ValueError, match="theta holds nan"):  # in the second iteration
        train(maml, theta, lambda: tasks, Adam(), 2, on_divergence="keep")
    maml, tasks, theta = wild(check_finite=False)
    result = train(maml, theta, lambda: tasks, Adam(), 2, on_divergence="keep", clip_norm=1.0)
    assert not np.isfinite(result.theta).all()
    assert result.state.diverged
    assert result.optimizer_state.n_updates == 2


def test_a_sum_that_overflows_alone_leaves_everything_out() -> None:
    class Large(Quadratic):
        def value_and_gradient(self, theta: np.ndarray, x: Any) -> tuple[float, np.ndarray]:
            return (np.inf if len(x) > 1 else 1.0), np.ones(3)

    result = train(Large(), np.zeros(3), lambda: ([1, 2],), SGD(1.0), 1, on_divergence="skip")
    np.testing.assert_array_equal(result.theta, np.zeros(3))
    assert result.state.diverged == (0, 1)


# ---- validation and early stopping


class Drift(Quadratic):
    """A step of 1 an iteration; the validation value is the distance of theta[0] from 5."""

    def value_and_gradient(self, theta: np.ndarray, target: Any) -> tuple[float, np.ndarray]:
        return 1.0, -np.ones(3)

    def value(self, theta: np.ndarray, bad: Any) -> float:
        return np.nan if theta[0] in bad else abs(theta[0] - 5.0)


def drift(n: int, *bad: float, **options: Any) -> tuple[Any, list[TrainState]]:
    seen: list[TrainState] = []
    result = train(
        Drift(), np.zeros(3), still_target, SGD(1.0), n, seen.append,
        validation=(bad,), validate_every=2, **options,
    )  # fmt: skip
    return result, seen


def test_the_best_validation_is_kept() -> None:
    result, seen = drift(9)
    assert [s.validation_value for s in seen] == [None, 3, None, 1, None, 1, None, 3, None]
    assert result.best.iteration == 4  # the first of two equals
    assert result.best.value == 1.0
    np.testing.assert_array_equal(result.best.theta, np.full(3, 4.0))
    assert seen[2].best.iteration == 2


def test_patience_counts_validations_without_a_new_best() -> None:
    assert len(drift(100, patience=1)[1]) == 6
    assert len(drift(100, patience=3)[1]) == 10
    result, seen = drift(100, patience=3)
    # What has stopped stays so when it is resumed.
    assert len(drift(100, patience=3, resume=result.state)[1]) == 0
    early = seen[4]
    assert drift(100, patience=3, resume=early)[0].state.iteration == 10


def test_a_validation_that_is_no_number_is_never_the_best() -> None:
    assert drift(9, 2.0, 4.0)[0].best.iteration == 6
    assert drift(9, 2.0, 4.0, 6.0, 8.0, patience=2)[0].best is None
    assert len(drift(9, 2.0, 4.0, 6.0, 8.0, patience=2)[1]) == 4


def test_reptile_is_validated() -> None:
    maml = maml_with(steps=3)
    options = {"validation": TASKS, "validate_every": 1}
    result = train(Reptile(maml), maml.model.init(0), lambda: TASKS, SGD(0.1), 2, **options)
    assert result.best.value == maml.value(result.best.theta, *TASKS)


def test_validation_is_with_the_rates_that_were_learned() -> None:
    result = train(
        MAML, MAML.model.init(0), lambda: TASKS, Adam(), 4, rate_optimizer=Adam(0.1),
        validation=TASKS, validate_every=4,
    )  # fmt: skip
    at = maml_with(inner_lr=result.inner_lr)
    assert result.best.value == at.value(result.theta, *TASKS)
    assert result.best.inner_lr == result.inner_lr


# ---- going on


def test_resuming_from_any_state_gives_the_same_bits() -> None:
    def run(n: int, rng: np.random.Generator, **options: Any) -> Any:
        return train(
            maml_with(inner_lr=[[0.01, 0.02]]), MAML.model.init(0),
            lambda: Sinusoid().sample(3, 5, 5, rng), AdamW(Cosine(0.01, 12)), n,
            rate_optimizer=SGD(0.1, momentum=0.9), clip_norm=1.0, validation=TASKS,
            validate_every=4, **options,
        )  # fmt: skip

    whole = run(12, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    first = run(7, rng)
    second = run(12, rng, resume=first.state)
    assert bits(second.state) == bits(whole.state)
    np.testing.assert_array_equal(np.concatenate([first.values, second.values]), whole.values)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"clip_norm": 0.0}, ValueError, "clip_norm is 0.0"),
        ({"on_divergence": "stop"}, ValueError, "on_divergence is 'stop'"),
        ({"log_rates": 1}, TypeError, "log_rates is 1"),
        ({"validate_every": 0}, ValueError, "validate_every is 0"),
        ({"patience": 0, "validation": TASKS}, ValueError, "patience is 0"),
        ({"patience": 1}, ValueError, "patience is 1, validation is None"),
        (
            {"resume": TrainState(1, 0.0, np.zeros(2), None), "optimizer_state": 1},
            ValueError,
            "resume and optimizer_state are both given",
        ),
        (
            {"resume": TrainState(1, 0.0, np.zeros(2), None)},
            ValueError,
            r"resume holds theta of shape \(2,\), theta has \(3,\)",
        ),
        (
            {"resume": TrainState(1, 0.0, np.zeros(3), None, 0.1, SGDState(0, np.zeros(0)))},
            ValueError,
            "resume holds inner rates that were being learned",
        ),
        (
            {"resume": TrainState(1, 0.0, np.zeros(3), Adam().init(np.zeros(3)))},
            ValueError,
            r"state \(n_updates, first_moment, second_moment\), optimizer is SGD",
        ),
        (
            {"resume": Path("a.npz")},
            TypeError,
            "resume is a .*Path; accepted is a TrainState, such",
        ),
        ({"optimizer": Adam}, TypeError, "optimizer is <class .*Adam'>; accepted are optimizers"),
        ({"optimizer": {}}, TypeError, "optimizer is {}; accepted are optimizers"),
        ({"rate_optimizer": 0.1}, TypeError, "rate_optimizer is 0.1; accepted are optimizers, suc"),
    ],
)
def test_options_that_do_not_fit_are_named(options: Any, error: Any, text: str) -> None:
    options = {"optimizer": SGD(0.1), **options}
    with pytest.raises(error, match=text):
        train(Quadratic(), np.zeros(3), still_target, n_iterations=3, **options)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"maml": None}, "maml is a NoneType, which has no value_and_gradient"),
        ({"maml": fm.MAML}, "maml is a type, which has no value_and_gradient"),
        ({"sampler": TASKS}, "sampler is a Tasks; accepted are functions without arguments"),
        ({"sampler": lambda: 3}, r"sampler\(\) is a int; accepted are \(x, y\) and"),
        ({"callback": 1}, "callback is a int; accepted are functions of a TrainState"),
        ({"validation": 1}, r"validation is a int; accepted are \(x, y\) and"),
    ],
)
def test_what_the_loop_calls_is_named(given: Any, text: str) -> None:
    good = {"maml": Quadratic(), "theta": np.zeros(3), "sampler": still_target}
    with pytest.raises(TypeError, match=text):
        train(**{**good, "optimizer": SGD(0.1), "n_iterations": 1, **given})


@pytest.mark.parametrize("maml", [MAML, Reptile(MAML)])
def test_a_batch_is_two_or_four_arrays(maml: Any) -> None:
    start = maml_with().model.init(0)
    with pytest.raises(ValueError, match=r"sampler\(\) has 3 entries; accepted are \(x, y\) and"):
        train(maml, start, lambda: TASKS[:3], SGD(0.1), 1)
    with pytest.raises(ValueError, match="validation has 1 entries; accepted are"):
        train(maml, start, lambda: TASKS, SGD(0.1), 1, validation=TASKS[:1])


@pytest.mark.parametrize("theta", [[1j], None, np.ma.array([1.0])])
def test_parameters_of_the_wrong_kind_are_named(theta: Any) -> None:
    with pytest.raises(TypeError, match="theta "):
        train(Quadratic(), theta, still_target, SGD(0.1), 1)


# ---- SciPy


@pytest.mark.parametrize(
    ("maml", "tasks", "error", "text"),
    [
        (fm.Linear(1), TASKS, TypeError, "maml is a Linear; accepted are a fastmaml.MAML and"),
        (MAML, TASKS[:3], ValueError, r"tasks has 3 entries; accepted are \(x, y\) and"),
        (MAML, 1, TypeError, "tasks is a int; accepted are"),
    ],
)
def test_what_minimize_takes_is_named(maml: Any, tasks: Any, error: Any, text: str) -> None:
    pytest.importorskip("scipy")
    with pytest.raises(error, match=text):
        minimize(maml, MAML.model.init(0), tasks)


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "CG", "Newton-CG", "trust-constr"])
def test_minimizers_reach_the_minimum_of_a_linear_model(method: str) -> None:
    """One parameter, one step: the meta-objective is a parabola."""
    pytest.importorskip("scipy")
    maml = fm.MAML(fm.Linear(1, intercept=False), inner_lr=0.1)
    data = ([[[1.0]]], [[3.0]], [[[2.0]]], [[4.0]])
    seen: list[TrainState] = []
    result = minimize(maml, np.zeros(1), data, 50, seen.append, method=method)
    # theta' = 0.9 theta + 0.3, and the query wants 2 theta' = 4.
    np.testing.assert_allclose(result.theta, [17 / 9], rtol=1e-4)
    assert result.values.tolist() == [state.value for state in seen]
    assert [state.iteration for state in seen] == list(range(1, len(seen) + 1))
    assert result.values[-1] < 1e-6
    assert result.optimizer_state.success


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inner_lr", [0.01, [[0.01, 0.0]]])
def test_a_minimizer_learns_rates_too(dtype: Any, inner_lr: Any) -> None:
    pytest.importorskip("scipy")
    maml, theta = maml_with(inner_lr=inner_lr), MAML.model.init(0, dtype)
    result = minimize(maml, theta, TASKS, 20, learn_rates=True)
    fixed = minimize(maml, theta, TASKS, 20)
    assert result.theta.dtype == dtype
    assert np.shape(result.inner_lr) == np.shape(inner_lr)
    assert np.ravel(result.inner_lr)[0] != 0.01
    np.testing.assert_array_equal(fixed.inner_lr, inner_lr)
    reached = maml_with(inner_lr=result.inner_lr).value(result.theta, *TASKS)
    np.testing.assert_allclose(reached, result.values[-1], rtol=1e-6)
    assert reached < maml.value(theta, *TASKS)
    assert result.maml.value(result.theta, *TASKS) == reached
    assert fixed.maml is maml
    if np.ndim(inner_lr):
        assert result.inner_lr[0, 1] == 0.0


def test_the_callback_ends_a_minimizer() -> None:
    pytest.importorskip("scipy")
    theta = MAML.model.init(0)
    result = minimize(MAML, theta, TASKS, 20, lambda state: state.iteration == 3)
    assert len(result.values) == result.state.iteration == 3


@pytest.mark.parametrize("learn_rates", [False, True])
@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "CG", "Newton-CG", "trust-constr"])
def test_a_minimizer_that_loses_itself_says_which_task_diverged(
    method: str, learn_rates: bool
) -> None:
    x, y = np.ones((3, 2, 1)), np.ones((3, 2, 1))
    x[1] = 1e200
    maml = fm.MAML(fm.Linear(1), inner_lr=0.1, steps=3)
    named = r"1 of 3 tasks diverged: 1.*task 1 diverged in inner step 1, at inner_lr 0.1"
    with pytest.raises(FloatingPointError, match=named), np.errstate(all="ignore"):
        minimize(maml, [0.5, 0.0], (x, y), 20, method=method, learn_rates=learn_rates)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # SciPy's own
def test_a_minimizer_that_leaves_what_is_finite_says_so() -> None:
    data = np.full((1, 2, 1), 1e100), np.ones((1, 2, 1))
    with pytest.raises(FloatingPointError, match="L-BFGS-B goes from a finite gradient to param"):
        minimize(fm.MAML(fm.Linear(1), steps=0), [1.0, 0.0], data)


def test_rates_that_a_minimizer_cannot_take_are_an_error(monkeypatch: Any) -> None:
    monkeypatch.setattr("scipy.optimize.minimize", lambda f, z, **options: f(z + 200.0))
    with pytest.raises(FloatingPointError, match="the inner rates that L-BFGS-B tries"):
        minimize(MAML, MAML.model.init(0), TASKS, learn_rates=True)


def test_what_a_minimizer_does_not_take_is_named() -> None:
    with pytest.raises(ValueError, match="method is 'COBYLA'"):
        minimize(MAML, MAML.model.init(0), TASKS, method="COBYLA")
    with pytest.raises(ValueError, match="n_iterations is 0"):
        minimize(MAML, MAML.model.init(0), TASKS, 0)


def test_scipy_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r'SciPy, which comes with pip install "fastmaml\[scipy'):
        minimize(MAML, MAML.model.init(0), TASKS)
