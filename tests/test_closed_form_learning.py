"""What takes an objective takes this one: train, minimize, checkpoints, files, SciPy, warmup."""

import numba
import numpy as np
import pytest
from cases import relative_error

import fastmaml as fm
from fastmaml.datasets import Sinusoid
from fastmaml.learn import (
    SGD,
    Adam,
    Checkpointer,
    Scaling,
    load_checkpoint,
    minimize,
    save_checkpoint,
    train,
)

compiled_only = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="NumPy would warn of what overflows"
)


def head_of(**options):
    return fm.BayesianLastLayer(fm.MLP([1, 12, 6, 1]), **{"task_mean": True, **options})


def sampler(seed=0):
    rng = np.random.default_rng(seed)
    return rng, lambda: Sinusoid().sample(8, n_support=5, n_query=5, rng=rng)


@pytest.mark.parametrize("loss", ["nll", "mse"])
def test_training_learns(loss):
    head = head_of(loss=loss)
    _, draw = sampler()
    test = Sinusoid().sample(100, n_support=5, n_query=10, rng=99)
    theta = head.init(0)
    result = train(
        head, theta, draw, Adam(0.01), 300, clip_norm=10.0, validation=test, validate_every=100
    )
    assert head.value(result.theta, *test) < 0.8 * head.value(theta, *test)
    assert result.maml is head
    assert result.inner_lr is None
    assert result.best.maml is head
    assert result.best.value == head.value(result.best.theta, *test)


def test_a_resumed_training_has_the_same_bits(tmp_path):
    head, path = head_of(), tmp_path / "checkpoint.npz"
    rng, draw = sampler()
    whole = train(head, head.init(0), draw, Adam(0.01), 6)
    rng, draw = sampler()
    saver = Checkpointer(path, rng, 1, {"a": 1}, head)
    train(head, head.init(0), draw, Adam(0.01), 3, saver)
    loaded = load_checkpoint(path)
    assert type(loaded.maml) is fm.BayesianLastLayer
    rng, draw = sampler()
    loaded.restore(rng)
    rest = train(loaded.maml, head.init(0), draw, Adam(0.01), 6, resume=loaded.state)
    assert rest.theta.tobytes() == whole.theta.tobytes()


def test_a_checkpoint_of_another_theta_is_refused(tmp_path):
    head = head_of()
    state = train(head, head.init(0), sampler()[1], SGD(1e-6), 1).state
    with pytest.raises(ValueError, match=r"objective has BayesianLastLayer\(MLP\(\[1, 12, 6, 1\]"):
        save_checkpoint(
            tmp_path / "c.npz", state._replace(theta=state.theta[:-1], optimizer_state=None),
            maml=head,
        )  # fmt: skip


def test_what_cannot_be_learned_is_refused():
    head = head_of()
    with pytest.raises(TypeError, match="which has no inner_lr to learn; accepted is a fastmaml"):
        train(head, head.init(0), sampler()[1], Adam(), 1, rate_optimizer=Adam())
    pytest.importorskip("scipy")
    with pytest.raises(TypeError, match="which has no inner_lr to learn; accepted is a fastmaml"):
        minimize(head, head.init(0), sampler()[1](), learn_rates=True)
    with pytest.raises(ValueError, match=r"sampler\(\) has 3 entries; accepted are \(x, y\) and"):
        train(head, head.init(0), lambda: sampler()[1]()[:3], Adam(), 1)


@compiled_only
def test_a_task_that_overflows_is_named():
    x, y, x_query, y_query = sampler()[1]()
    x = x.copy()
    x[3] = 1e300
    broken = fm.BayesianLastLayer(fm.Linear(1))
    with pytest.raises(FloatingPointError, match=r"\(1 of 8 tasks diverged: 3\); a smaller"):
        train(broken, broken.init(0), lambda: (x, y, 1e9 * x_query, y_query), Adam(), 1)
    found = train(
        broken, broken.init(0), lambda: (x, y, x_query, y_query), Adam(), 1, on_divergence="skip"
    )
    assert np.isfinite(found.theta).all()


@compiled_only
def test_a_single_task_without_support_rows_that_overflows():
    head, none = fm.BayesianLastLayer(fm.Linear(1), "sse"), np.empty((0, 1))
    batch = none, none, np.array([[1e300]]), np.array([[1e9]])
    theta = head.pack([([[1.0]], [0.0])], 1.0, 1.0)
    with pytest.raises(FloatingPointError, match=r"\(1 of 1 tasks diverged: 0\)"):
        train(head, theta, lambda: batch, Adam(), 1)


def test_minimizers():
    optimize = pytest.importorskip("scipy.optimize")
    head, tasks = head_of(), sampler()[1]()
    theta = head.init(0)
    result = minimize(head, theta, tasks, 20)
    assert result.maml is head
    assert result.inner_lr is None
    assert result.values[-1] < head.value(theta, *tasks)
    found = optimize.minimize(
        head.value_and_gradient, theta, args=tasks, jac=True, hessp=head.hessp,
        method="trust-ncg", options={"maxiter": 3},
    )  # fmt: skip
    assert found.fun < head.value(theta, *tasks)


def test_saved_and_loaded(tmp_path):
    head = head_of(loss="mean_nll", prior="shared", noise="per_output")
    path, (x, y, x_new, _) = tmp_path / "model.npz", sampler()[1]()
    theta = head.init(0, "float32")
    fm.save(path, head, theta, inputs=["volt"])
    saved = fm.load(path)
    assert repr(saved.objective) == repr(head)
    assert saved.theta.tobytes() == theta.tobytes()
    assert (saved.predict(x, y, x_new) == head.predict(theta, x, y, x_new)).all()
    with pytest.raises(TypeError, match=r"accepted are a fastmaml\.MAML and a fastmaml\.learn\.R"):
        _ = saved.maml
    scaling = Scaling([1.0], [2.0], [3.0], [4.0])
    fm.save(path, head, head.init(0), scaling=scaling)
    found = fm.load(path).predict(x, y, x_new)
    want = head.predict(head.init(0), (x - 1) / 2, (y - 3) / 4, (x_new - 1) / 2)
    assert relative_error(found, 3 + 4 * want) < 1e-12
    mean, std = fm.load(path).predict(x, y, x_new, return_std=True)
    want = head.predict(head.init(0), (x - 1) / 2, (y - 3) / 4, (x_new - 1) / 2, return_std=True)
    assert (mean == found).all()
    assert relative_error(std, 4 * want[1]) < 1e-12
    for bad in (None, 1, "yes"):
        with pytest.raises(TypeError, match="return_std is "):
            fm.load(path).predict(x, y, x_new, return_std=bad)
    ragged = fm.load(path).predict(list(x), list(y), [x_new[0], *x_new[1:, :2]], return_std=True)
    assert [(m.shape, s.shape) for m, s in zip(*ragged, strict=True)][:2] == [
        ((5, 1), (5, 1)), ((2, 1), (2, 1)),
    ]  # fmt: skip
    assert (ragged[1][1] == std[1, :2]).all()
    fm.save(path, fm.MAML(head.model), head.model.init(0))
    with pytest.raises(ValueError, match="return_std is True, the model adapts by a MAML, which"):
        fm.load(path).predict(x, y, x_new, return_std=True)
    with pytest.raises(ValueError, match=r"theta has shape \(109,\), the model takes \(111,\)"):
        fm.save(path, head, head.model.init(0))
    with pytest.raises(TypeError, match=r"fastmaml\.BayesianLastLayer and a fastmaml\.learn\.R"):
        fm.save(path, object(), theta)


def test_warmup_takes_its_name():
    fm.warmup(["closed_form"], ["float64"])
