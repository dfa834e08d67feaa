"""Task samplers: what they draw, and that they draw it again."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import fastmaml as fm
from fastmaml.datasets import Harmonic, Sinusoid, Tasks


def test_defaults_are_those_of_the_paper() -> None:
    sinusoid = Sinusoid()
    amplitude, phase = sinusoid.sample_functions(20_000, rng=0)
    tasks = sinusoid.sample(2_000, 10, 10, rng=0)
    for draws, low, high in (
        (amplitude, 0.1, 5.0),
        (phase, 0.0, np.pi),
        (tasks.x, -5.0, 5.0),
        (tasks.x_query, -5.0, 5.0),
    ):
        assert draws.min() >= low
        assert draws.max() <= high
        # Uniform: the deciles are where they should be, to a hundredth of the range.
        expected = low + np.linspace(0.1, 0.9, 9) * (high - low)
        np.testing.assert_allclose(
            np.quantile(draws, np.linspace(0.1, 0.9, 9)), expected, atol=0.015 * (high - low)
        )


def test_shapes_dtypes_and_layout() -> None:
    tasks = Sinusoid().sample(7, n_support=3, n_query=5, rng=0)
    assert isinstance(tasks, Tasks)
    assert [array.shape for array in tasks] == [(7, 3, 1), (7, 3, 1), (7, 5, 1), (7, 5, 1)]
    rounded = Sinusoid().sample(7, n_support=3, n_query=5, rng=0, dtype=np.float32)
    for array, single in zip(tasks, rounded, strict=True):
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(single, array.astype(np.float32), strict=True)


def test_support_and_query_are_drawn_one_after_the_other() -> None:
    """However they are computed: a seed means the same tasks for equal and for other counts."""
    one, other = Sinusoid().sample(7, 3, 3, rng=0), Sinusoid().sample(7, 3, 2, rng=0)
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.y, other.y)
    rng = np.random.default_rng(0)
    functions = Sinusoid().sample_functions(7, rng)
    for x, y in (one[:2], one[2:]):
        again = Sinusoid().sample_points(*functions, 3, rng)
        np.testing.assert_array_equal(again, (x, y))


class Shift:
    def sample_points(self, *arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        x, y = super().sample_points(*arguments)  # type: ignore[misc]
        return x, y + 100


class ShiftedByMixin(Shift, Sinusoid): ...


class Shifted(Sinusoid):
    def sample_points(self, *arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        x, y = super().sample_points(*arguments)
        return x, y + 100


def test_a_subclass_may_draw_other_points() -> None:
    for kind, n_query in product((Shifted, ShiftedByMixin), (3, 2)):
        shifted, plain = (made().sample(7, 3, n_query, rng=0) for made in (kind, Sinusoid))
        np.testing.assert_array_equal(shifted.x, plain.x)
        np.testing.assert_array_equal(shifted.y_query, plain.y_query + 100)


def test_targets_are_the_sine_of_each_task() -> None:
    """Support and query of a task lie on one A sin(x - phi) = a sin(x) + b cos(x)."""
    tasks = Sinusoid().sample(50, n_support=4, n_query=6, rng=1)
    for x, y, x_query, y_query in zip(*tasks, strict=True):
        basis = np.hstack([np.sin(x), np.cos(x)])
        (a, b), *_ = np.linalg.lstsq(basis, y[:, 0], rcond=None)
        np.testing.assert_allclose(basis @ [a, b], y[:, 0], atol=1e-10)
        np.testing.assert_allclose(a * np.sin(x_query) + b * np.cos(x_query), y_query, atol=1e-8)
        assert 0.1 <= np.hypot(a, b) <= 5.0 + 1e-8
        assert b <= 1e-8  # sin(phi) >= 0


def test_evaluate_broadcasts_a_shared_grid() -> None:
    grid = np.linspace(-5, 5, 11)[:, None]
    truth = Sinusoid.evaluate([1.0, 2.0], [0.0, np.pi / 2], grid)
    assert truth.shape == (2, 11, 1)
    np.testing.assert_allclose(truth[0], np.sin(grid), atol=1e-15)
    np.testing.assert_allclose(truth[1], -2 * np.cos(grid), atol=1e-14)


def test_a_seed_reproduces_and_a_generator_moves_on() -> None:
    sinusoid = Sinusoid()
    for first, again in zip(sinusoid.sample(3, 4, 5, 7), sinusoid.sample(3, 4, 5, 7), strict=True):
        np.testing.assert_array_equal(first, again)
    rng = np.random.default_rng(7)
    np.testing.assert_array_equal(sinusoid.sample(3, 4, 5, rng).x, sinusoid.sample(3, 4, 5, 7).x)
    assert not np.array_equal(sinusoid.sample(3, 4, 5, rng).x, sinusoid.sample(3, 4, 5, 7).x)


def test_ranges_can_be_set() -> None:
    sinusoid = Sinusoid(amplitude_range=(2, 2), phase_range=(0, 0), x_range=(1, 3))
    tasks = sinusoid.sample(4, 5, 6, rng=0)
    assert tasks.x.min() >= 1
    assert tasks.x.max() <= 3
    np.testing.assert_allclose(tasks.y, 2 * np.sin(tasks.x))
    assert sinusoid == Sinusoid((2.0, 2.0), (0.0, 0.0), (1.0, 3.0))
    assert hash(sinusoid) == hash(Sinusoid((2.0, 2.0), (0.0, 0.0), (1.0, 3.0)))


def test_without_a_range_the_frequency_is_1_and_takes_no_draw() -> None:
    """The draws of releases before the frequency could be drawn."""
    rng = np.random.default_rng(3)
    amplitude, phase = rng.uniform(0.1, 5.0, 4), rng.uniform(0.0, np.pi, 4)
    x = rng.uniform(-5.0, 5.0, (4, 6, 1))
    tasks = Sinusoid().sample(4, 6, 0, rng=3)
    np.testing.assert_array_equal(tasks.x, x)
    np.testing.assert_array_equal(
        tasks.y, amplitude[:, None, None] * np.sin(x - phase[:, None, None])
    )
    assert Sinusoid() == Sinusoid(frequency_range=None)


@pytest.mark.parametrize("n_query", [6, 2])
def test_a_frequency_that_is_drawn_is_a_third_parameter_of_a_task(n_query: int) -> None:
    family, rng = Sinusoid(frequency_range=(0.8, 1.2)), np.random.default_rng(3)
    amplitude, phase, frequency = functions = family.sample_functions(500, rng)
    for part, plain in zip(functions, Sinusoid().sample_functions(500, rng=3), strict=False):
        np.testing.assert_array_equal(part, plain)
    assert 0.8 <= frequency.min() < 0.81
    assert 1.19 < frequency.max() <= 1.2
    tasks = family.sample(500, 6, n_query, rng=3)
    A, phi, omega = (part[:, None, None] for part in functions)
    for x, y in (tasks[:2], tasks[2:]):
        drawn = family.sample_points(*functions, x.shape[1], rng)
        np.testing.assert_array_equal(drawn, (x, y))
        np.testing.assert_allclose(y, A * np.sin(omega * x - phi), rtol=0, atol=1e-14)
        np.testing.assert_array_equal(family.evaluate(amplitude, phase, x, frequency), y)
    x, y = family.sample_points(amplitude, phase, frequency=frequency, n_points=2, dtype="float32")
    assert x.dtype == y.dtype == np.float32


def test_a_range_of_frequencies_is_checked_like_others() -> None:
    with pytest.raises(ValueError, match=r"frequency_range is \(1.2, 0.8\); accepted are two fin"):
        Sinusoid(frequency_range=(1.2, 0.8))
    assert Sinusoid(frequency_range=[1, 2]).frequency_range == (1.0, 2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="phase_range is None; accepted are two finite numbers"):
        Sinusoid(phase_range=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frequency_range is None; accepted are two finite number"):
        Harmonic(frequency_range=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"frequency has shape \(1,\); accepted is \(n_tasks,\)"):
        Sinusoid(frequency_range=(1, 2)).sample_points([1, 1], [0, 0], [1], 3)


def test_without_a_query_set_the_support_serves_as_both() -> None:
    tasks = Sinusoid().sample(4, 5, 0, rng=0)
    assert tasks.x_query is None
    assert tasks.y_query is None
    maml = fm.MAML(fm.MLP([1, 4, 1]))
    theta = maml.model.init(0)
    assert maml.value(theta, *tasks) == maml.value(theta, tasks.x, tasks.y, tasks.x, tasks.y)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((1.0, -1.0), r"x_range is \(1.0, -1.0\); accepted are two finite numbers"),
        ((0.0, np.inf), "x_range is"),
        ((0.0, np.nan), "x_range is"),
        ((1.0, 2.0, 3.0), "x_range is"),
        (3.0, "x_range is 3.0"),
        (("a", "b"), "x_range is"),
    ],
)
def test_a_bad_range_is_named(given: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Sinusoid(x_range=given)  # type: ignore[arg-type]


def test_bad_counts_are_named() -> None:
    with pytest.raises(ValueError, match="n_tasks is 0"):
        Sinusoid().sample(0, 5, 5, rng=0)
    with pytest.raises(ValueError, match="n_support is 0"):
        Sinusoid().sample(5, 0, 5, rng=0)
    with pytest.raises(ValueError, match="n_query is -1"):
        Sinusoid().sample(5, 5, -1, rng=0)
    with pytest.raises(TypeError, match=r"n_tasks is 2\.5"):
        Sinusoid().sample(2.5, 5, 5, rng=0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rng is 'seed'"):
        Sinusoid().sample(5, 5, 5, rng="seed")  # type: ignore[arg-type]
