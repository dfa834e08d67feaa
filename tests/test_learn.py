"""Optimizers against their formulas, and the loop that drives them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmaml as fm
from fastmaml.datasets import Sinusoid, Tasks
from fastmaml.learn import SGD, Adam, AdamState, SGDState, TrainState, train

OPTIMIZERS = [SGD(0.1), Adam(0.1, beta1=0.8, beta2=0.99, epsilon=1e-6)]
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
    assert state == SGDState(1)


def test_adam_is_its_paper() -> None:
    """Algorithm 1 of Kingma and Ba, written entry by entry."""
    rng = np.random.default_rng(0)
    optimizer = Adam(0.05, beta1=0.7, beta2=0.9, epsilon=1e-3)
    theta = rng.normal(size=4)
    state = optimizer.init(theta)
    expected, m, v = theta.tolist(), [0.0] * 4, [0.0] * 4
    for t in range(1, 8):
        gradient = rng.normal(size=4)
        theta, state = optimizer.update(theta, gradient, state)
        for i, g in enumerate(gradient.tolist()):
            m[i] = 0.7 * m[i] + 0.3 * g
            v[i] = 0.9 * v[i] + 0.1 * g * g
            m_hat, v_hat = m[i] / (1 - 0.7**t), v[i] / (1 - 0.9**t)
            expected[i] -= 0.05 * m_hat / (v_hat**0.5 + 1e-3)
        np.testing.assert_allclose(theta, expected, rtol=1e-13, atol=1e-15)
        assert state.n_updates == t
        np.testing.assert_allclose(state.first_moment, m, rtol=1e-13)
        np.testing.assert_allclose(state.second_moment, v, rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_are_pure_and_keep_the_dtype(optimizer: Any, dtype: Any) -> None:
    theta = np.array([1.0, 2.0, 3.0], dtype)
    gradient = np.array([0.5, -0.5, 0.0])  # float64, whatever theta is
    state = optimizer.init(theta)
    before = pickle.dumps((theta, gradient, state))
    for array in (theta, gradient, *(a for a in state if isinstance(a, np.ndarray))):
        array.flags.writeable = False
    new, new_state = optimizer.update(theta, gradient, state)
    again, again_state = optimizer.update(theta, gradient, state)
    assert pickle.dumps((theta, gradient, state)) == before
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
    assert new[1] == 2.0
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
    ],
)
def test_bad_numbers_are_named(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_a_rate_that_is_no_number_is_named() -> None:
    with pytest.raises(TypeError, match="learning_rate"):
        SGD("fast")  # type: ignore[arg-type]


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
        assert state.optimizer_state == SGDState(state.iteration)
    np.testing.assert_array_equal(result.theta, seen[-1].theta)
    np.testing.assert_array_equal(start, np.zeros(3))


def test_the_callback_can_stop() -> None:
    result = train(
        Quadratic(), np.zeros(3), still_target, SGD(0.5), 100, lambda s: s.iteration == 7
    )
    assert len(result.values) == 7
    assert result.optimizer_state == SGDState(7)


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


@pytest.mark.parametrize("n", [-1, 2.5, None, True])
def test_a_bad_number_of_iterations_is_named(n: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="n_iterations is"):
        train(Quadratic(), np.zeros(3), still_target, SGD(0.1), n)
