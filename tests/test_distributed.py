"""Fleets on clusters of processes: what they compute, whatever happens to the workers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fleets import cluster_of, wait_for
from same import bits

import fastmaml as fm
from fastmaml.datasets import Sinusoid
from fastmaml.distributed import calls as calls_module
from fastmaml.distributed import worker as worker_module
from fastmaml.distributed.sums import TreeSum
from fastmaml.learn import (
    SGD,
    Adam,
    Checkpointer,
    Reptile,
    load_checkpoint,
    minimize,
    train,
)

Fleet = fm.distributed.Fleet

MODEL = fm.MLP([1, 8, 8, 1], activation="tanh")
MAML = fm.MAML(MODEL, inner_lr=0.01, loss="mse", task_mean=True)
HEAD = fm.BayesianLastLayer(MODEL, task_mean=True)
TASKS = Sinusoid().sample(23, n_support=5, n_query=6, rng=0)
THETA = MODEL.init(1)


@pytest.fixture(scope="module")
def client():
    """Two workers of one thread each, for tests that leave them as they are."""
    with cluster_of(2) as client:
        yield client


def sample(rng):
    return Sinusoid().sample(3, 4, 4, rng)


def sampler_here():
    """`sample` as a function that travels by its code: workers need not find this file."""

    def sampler(rng):
        from fastmaml.datasets import Sinusoid

        return Sinusoid().sample(3, 4, 4, rng)

    return sampler


def drawn(n_shares, seed=0):
    """What a fleet with `sampler_here` draws in all its shares."""
    shares = [sample(np.random.default_rng([seed, share])) for share in range(n_shares)]
    return tuple(np.concatenate(parts) for parts in zip(*shares, strict=True))


def loader_here(folder, n_shares):
    """A loader of TASKS, which notes each of its calls in a folder."""
    tasks = fm.distributed.shares.cut(TASKS, n_shares)
    folder = str(folder)

    def loader(share):
        import tempfile

        tempfile.mkstemp(dir=folder, prefix=f"{share}-")
        return tasks[share]

    return loader


def calls(folder):
    return sorted(int(name.partition("-")[0]) for name in os.listdir(folder))


# ---- what is computed


OBJECTIVES = {
    "maml": MAML,
    "sum": fm.MAML(MODEL, inner_lr=0.01, loss="mse"),
    "rates": fm.MAML(MODEL, inner_lr=np.full((2, 3), 0.01), steps=2, task_mean=True),
    "implicit": fm.MAML(MODEL, inner_lr=0.01, order="implicit", proximal=900.0),
    "closed form": HEAD,
    "reptile": Reptile(MAML),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_the_objective_on_all_tasks(client, name):
    objective = OBJECTIVES[name]
    theta = THETA if name != "closed form" else HEAD.init(1)
    value, gradient = objective.value_and_gradient(theta, *TASKS)
    with Fleet(client, objective, TASKS) as fleet:
        assert fleet.n_shares == len(TASKS.x)
        ours = fleet.value_and_gradient(theta)
        whole = fleet.evaluate(theta)
        assert fleet.value(theta) == ours[0]
    np.testing.assert_allclose(ours[0], value, rtol=1e-12)
    np.testing.assert_allclose(ours[1], gradient, rtol=0, atol=1e-12 * abs(gradient).max())
    assert type(ours[0]) is float
    assert bits((whole.value, whole.gradient)) == bits(ours)
    assert (whole.n_tasks, whole.diverged) == (23, ())
    if isinstance(objective, fm.MAML):
        expected = objective.evaluate(theta, *TASKS).inner_lr_gradient
        assert np.shape(whole.inner_lr_gradient) == np.shape(expected)
        assert type(whole.inner_lr_gradient) is type(expected)
        np.testing.assert_allclose(whole.inner_lr_gradient, expected, rtol=1e-9)
    else:
        assert whole.inner_lr_gradient is None


def test_a_formula_is_compiled_on_the_workers(client):
    sympy = pytest.importorskip("sympy")
    x, a, p = sympy.symbols("x a p")
    wave = fm.Formula(a * sympy.sin(x - p), parameters=[a, p], inputs=[x])
    maml = fm.MAML(wave, inner_lr=0.01, task_mean=True)
    theta = np.array([1.0, 0.5])
    with Fleet(client, maml, TASKS) as fleet:
        value, gradient = fleet.value_and_gradient(theta)
    expected = maml.value_and_gradient(theta, *TASKS)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-9)


def test_float32_and_tasks_in_other_forms(client):
    x, y = TASKS.x, TASKS.y
    value, gradient = MAML.value_and_gradient(THETA, x, y)
    forms = [(x, y), (x.tolist(), y.tolist()), (list(x), list(y[..., 0])), (x, y, None, None)]
    for tasks in forms:
        with Fleet(client, MAML, tasks, n_shares=3) as fleet:
            ours = fleet.value_and_gradient(THETA.astype(np.float32))
        assert ours[1].dtype == np.float32
        np.testing.assert_allclose(ours[0], value, rtol=1e-5)
        np.testing.assert_allclose(ours[1], gradient, rtol=0, atol=2e-5 * abs(gradient).max())
    with Fleet(client, MAML, (x[0], y[0])) as fleet:
        assert fleet.n_shares == 1
        assert fleet.value(THETA) == MAML.value(THETA, x[0], y[0])


def test_rows_may_have_weights(client):
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1.0, (23, 5)), rng.uniform(0.5, 1.0, (23, 6))
    named = dict(zip(("sample_weight", "sample_weight_query"), weights, strict=True))
    expected = MAML.value_and_gradient(THETA, *TASKS, **named)
    with Fleet(client, MAML, (*TASKS, *weights), n_shares=4) as fleet:
        value, gradient = fleet.value_and_gradient(THETA)
        assert fleet.evaluate(THETA).value == fleet.value(THETA) == value
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-12)


def test_given_tasks_are_those_of_the_moment(client):
    tasks = tuple(part.copy() for part in TASKS)
    with Fleet(client, MAML, tasks, n_shares=4) as fleet:
        tasks[0][...] = 99.0
        np.testing.assert_allclose(fleet.value(THETA), MAML.value(THETA, *TASKS), rtol=1e-12)


def test_a_loader_is_called_once_a_share(client, tmp_path):
    with Fleet(client, MAML, loader=loader_here(tmp_path, 5), n_shares=5) as fleet:
        one = fleet.value(THETA, [3, 1])
        assert calls(tmp_path) == [1, 3]
        whole = fleet.value_and_gradient(THETA)
        assert bits(whole) == bits(fleet.value_and_gradient(THETA))
        assert fleet.value(THETA, [1, 3]) == one
        assert fleet.with_inner_lr(0.02).value(THETA) != whole[0]
        assert calls(tmp_path) == [0, 1, 2, 3, 4]
        fleet.close()
        assert bits(whole) == bits(fleet.value_and_gradient(THETA))
        assert calls(tmp_path) == sorted(2 * [0, 1, 2, 3, 4])
    with Fleet(client, MAML, TASKS, n_shares=5) as fleet:
        assert bits(whole) == bits(fleet.value_and_gradient(THETA))
    part = [*range(4, 9), *range(13, 18)]  # shares 1 and 3
    expected = MAML.value(THETA, *(array[part] for array in TASKS))
    np.testing.assert_allclose(one, expected, rtol=1e-12)


def test_a_sampler_draws_by_seed(client):
    with Fleet(client, MAML, sampler=sampler_here(), n_shares=4) as fleet:
        for seed in (0, 7, 2**40):
            expected = MAML.value(THETA, *drawn(4, seed))
            np.testing.assert_allclose(fleet.value(THETA, seed), expected, rtol=1e-12)
        assert fleet.value(THETA) == fleet.value(THETA, 0)
        assert fleet.evaluate(THETA).n_tasks == 12


# ---- whatever happens to the workers


def computed_here(shares):
    """What a fleet gives for MAML and THETA, share by share in this process."""
    objective, sums = replace(MAML, task_mean=False), TreeSum(len(shares))
    for place, tasks in enumerate(shares):
        found = objective.evaluate(THETA, *tasks)
        numbers = [[found.value, len(tasks[0])], found.gradient, [found.inner_lr_gradient]]
        sums.put((0, place), np.concatenate(numbers))
    mean = sums.total / sums.total[1]
    return float(mean[0]), mean[2:-1], float(mean[-1])


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_bits_do_not_depend_on_the_workers(n_threads):
    """Of 5, 3, 2 and 1 workers, as they go."""
    fixed = bits(computed_here(fm.distributed.shares.cut(TASKS, 11)))
    drawn = bits(computed_here([sample(np.random.default_rng([5, i])) for i in range(11)]))
    with cluster_of(5, n_threads) as client:
        given = Fleet(client, MAML, TASKS, n_shares=11)
        drawing = Fleet(client, MAML, sampler=sampler_here(), n_shares=11)
        for n_workers in (5, 3, 2, 1):
            client.cluster.scale(n_workers)
            wait_for(client, n_workers)
            assert bits(tuple(given.evaluate(THETA)[:3])) == fixed
            assert bits(tuple(drawing.evaluate(THETA, 5)[:3])) == drawn


@pytest.mark.parametrize(("n_workers", "n_kills"), [(1, 1), (2, 2)])
def test_a_worker_that_is_killed_costs_only_time(tmp_path, n_workers, n_kills):
    flag = str(tmp_path / "flag")

    def sampler(rng):
        import os
        import signal

        from fastmaml.datasets import Sinusoid

        tasks = Sinusoid().sample(3, 4, 4, rng)
        try:
            os.rmdir(flag)  # which one succeeds in, in the middle of its shares
        except OSError:
            return tasks
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    with (
        cluster_of(n_workers) as client,
        Fleet(client, MAML, sampler=sampler, n_shares=8) as drawing,
        Fleet(client, MAML, TASKS, n_shares=8) as given,
    ):
        wanted = [bits(drawing.value_and_gradient(THETA, seed)) for seed in range(n_kills)]
        kept = bits(given.value_and_gradient(THETA))
        for expected, seed in zip(wanted, range(n_kills), strict=True):
            wait_for(client, n_workers)
            os.mkdir(flag)
            assert bits(drawing.value_and_gradient(THETA, seed)) == expected
            assert not os.path.exists(flag)
            assert bits(given.value_and_gradient(THETA)) == kept
        wait_for(client, n_workers)
        assert bits(given.value_and_gradient(THETA)) == kept


def test_a_share_that_kills_its_workers_is_an_error(monkeypatch):
    def loader(share):
        import os
        import signal

        if share == 2:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return [[[1.0]]], [[[1.0]]]

    monkeypatch.setattr(calls_module, "MOST_LOSSES", 1)
    with cluster_of(1) as client, Fleet(client, MAML, loader=loader, n_shares=3) as fleet:
        with pytest.raises(
            RuntimeError, match=r"3 of 3 shares \(0, 1, 2\) were lost 1 times, each time with the w"
        ):
            fleet.value(THETA)
        wait_for(client, 1)


def test_a_worker_of_another_version_and_one_without():
    """On the one hand errors that say so; on the other no harm to those that come later."""

    def pretend():
        from fastmaml.distributed import worker

        worker.__version__ = "0.0.7"

    def hide():
        import sys

        for name in [name for name in sys.modules if name.partition(".")[0] == "fastmaml"]:
            del sys.modules[name]
        sys.modules["fastmaml"] = None

    accepted = f"accepted are workers with fastmaml {fm.__version__}, as the client has"
    with cluster_of(1) as client, Fleet(client, MAML, TASKS) as fleet:
        fleet.value(THETA)
        client.run(pretend)
        with pytest.raises(RuntimeError, match=rf"tcp://.* has fastmaml 0\.0\.7; {accepted}"):
            fleet.value(THETA)
        client.run(hide)
        with pytest.raises(
            RuntimeError, match=f"cannot take part .*No module named .*; {accepted}"
        ):
            fleet.value(THETA)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_worker_computes_on_as_many_threads_as_it_has(client, n_threads):
    """Dask sets the variables of OpenMP and MKL alone: dask/distributed issue 9075."""

    def loader(share):
        from fastmaml.kernels.compile import jit

        raise ValueError(f"{jit.get_num_threads()} of numba's threads")

    def widen(dask_worker):
        dask_worker.state.nthreads = 3 - dask_worker.state.nthreads

    if n_threads == 2:
        client.run(widen)
    try:
        with (
            Fleet(client, MAML, loader=loader, n_shares=2) as fleet,
            pytest.raises(ValueError, match=rf"^{n_threads} of numba's threads \(in share 0, of"),
        ):
            fleet.value(THETA)
    finally:
        if n_threads == 2:
            client.run(widen)


def test_closing_drops_the_tasks(client):
    def kept(dask_worker):
        from fastmaml.distributed.worker import _kept

        return {fleet: sorted(each.tasks) for fleet, each in _kept.get(dask_worker, {}).items()}

    fleet = Fleet(client, MAML, TASKS, n_shares=4)
    fleet.value(THETA)
    key = fleet._shared.key
    assert sorted(each[key] for each in client.run(kept).values()) == [[0, 1], [2, 3]]
    fleet.close()
    assert all(key not in each for each in client.run(kept).values())
    fleet.value(THETA)
    assert sorted(each[key] for each in client.run(kept).values()) == [[0, 1], [2, 3]]
    fleet.close()


# ---- training on it


def seeds(rng):
    return lambda: (int(rng.integers(2**32)),)


def test_training_with_rates_validation_and_checkpoints(client, tmp_path):
    path = tmp_path / "checkpoint.npz"
    with Fleet(client, MAML, sampler=sampler_here(), n_shares=4) as fleet:

        def run(n_iterations, rng, **options):
            return train(
                fleet, THETA, seeds(rng), Adam(0.01), n_iterations, validation=(99,),
                validate_every=2, rate_optimizer=Adam(0.1), **options,
            )  # fmt: skip

        rng = np.random.default_rng(3)
        run(4, rng, callback=Checkpointer(path, rng, every=4, maml=fleet.objective))
        checkpoint = load_checkpoint(path)
        assert checkpoint.maml.inner_lr == checkpoint.state.inner_lr
        rng = np.random.default_rng()
        checkpoint.restore(rng)
        resumed, whole = run(8, rng, resume=checkpoint.state), run(8, np.random.default_rng(3))
        assert bits(resumed.theta) == bits(whole.theta)
        assert resumed.inner_lr == whole.inner_lr != MAML.inner_lr
        assert whole.maml.inner_lr == whole.maml.objective.inner_lr == whole.inner_lr
        assert whole.best.maml.value(whole.best.theta, 99) == whole.best.value

    def batch():
        return drawn(4, int(rng.integers(2**32)))

    rng = np.random.default_rng(3)
    here = train(
        MAML, THETA, batch, Adam(0.01), 8, validation=drawn(4, 99), validate_every=2,
        rate_optimizer=Adam(0.1),
    )  # fmt: skip
    np.testing.assert_allclose(whole.theta, here.theta, rtol=1e-8)
    np.testing.assert_allclose(whole.values, here.values, rtol=1e-8)
    assert whole.best.iteration == here.best.iteration


def test_training_on_shares(client):
    """The tasks of some shares, others to validate on."""
    with Fleet(client, HEAD, TASKS, n_shares=6) as fleet:
        batches = iter([[0, 1], [2, 3], [4], [1, 2]])
        result = train(
            fleet, HEAD.init(0), lambda: (next(batches),), SGD(0.01), 4, validation=([5],),
            validate_every=1,
        )  # fmt: skip
        assert result.best.value == fleet.value(result.best.theta, [5])
        assert not hasattr(fleet, "inner_lr")


def test_minimizers(client):
    optimize = pytest.importorskip("scipy.optimize")
    with Fleet(client, MAML, TASKS, n_shares=4) as fleet:
        first = fleet.value(THETA)
        plain = optimize.minimize(
            fleet.value_and_gradient, THETA, jac=True, options={"maxiter": 5}, method="L-BFGS-B"
        )
        ours = minimize(fleet, THETA, (), 5)
        assert plain.fun == ours.values[-1] < first
        learned = minimize(fleet, THETA, (), 5, learn_rates=True)
        assert learned.maml.inner_lr == learned.inner_lr != 0.01
        assert learned.maml.value(learned.theta) == learned.values[-1]


WILD = fm.MAML(fm.Linear(1), inner_lr=0.1, steps=3, task_mean=True, check_finite=True)


def wild_tasks():
    """Of six tasks, those at 1 and 4 overflow after their steps."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (6, 3, 1))
    x[[1, 4]] *= 1e80
    return x, 2 * x


def test_tasks_that_diverge_are_named(client):
    with Fleet(client, WILD, wild_tasks(), n_shares=3) as fleet:
        assert not np.isfinite(fleet.value(np.ones(2)))
        with pytest.raises(FloatingPointError, match=r"\(2 of 6 tasks diverged: 1, 4\)"):
            train(fleet, np.ones(2), lambda: (), SGD(0.01), 2)
        assert train(fleet, np.ones(2), lambda: (), SGD(0.01), 1, on_divergence="keep").values


@pytest.mark.parametrize("learn_rates", [False, True])
def test_tasks_that_diverge_are_left_out(client, learn_rates):
    x, y = wild_tasks()
    options = {"rate_optimizer": SGD(0.01)} if learn_rates else {}
    with Fleet(client, WILD, (x, y), n_shares=3) as fleet:
        result = train(fleet, np.ones(2), lambda: (), SGD(0.1), 3, on_divergence="skip", **options)
        some = fleet.evaluate_others(np.ones(2), [0])  # tasks 0 and 1
        assert (some.n_tasks, some.diverged) == (2, (1,))
    assert result.state.diverged == (1, 4)
    here = train(WILD, np.ones(2), lambda: (x, y), SGD(0.1), 3, on_divergence="skip", **options)
    np.testing.assert_allclose(result.theta, here.theta, rtol=1e-12)
    np.testing.assert_allclose(result.values, here.values, rtol=1e-12)
    np.testing.assert_allclose(result.inner_lr, here.inner_lr, rtol=1e-12)


def test_if_all_diverge_nothing_changes(client):
    x, y = wild_tasks()
    with Fleet(client, WILD, (list(x[[1, 4]]), list(y[[1, 4]])), n_shares=2) as fleet:
        result = train(fleet, np.ones(2), lambda: (), SGD(0.1), 1, on_divergence="skip")
    assert bits(result.theta) == bits(np.ones(2))
    assert np.isnan(result.values).all()
    assert result.state.diverged == (0, 1)


# ---- errors


def test_errors_of_the_arguments(client):
    def refuses(error, message, *arguments, **options):
        with pytest.raises(error, match=message):
            Fleet(*arguments, **options)

    load = {"loader": len}
    refuses(TypeError, r"client is 'tcp'; accepted is a distributed\.Client", "tcp", MAML, TASKS)
    refuses(TypeError, "objective is a MLP; accepted are a fastmaml.MAML", client, MODEL, TASKS)
    refuses(ValueError, "no source of tasks given; accepted is one of tasks", client, MAML)
    refuses(ValueError, "tasks and loader given; accepted is one", client, MAML, TASKS, **load)
    refuses(ValueError, r"n_shares is None; accepted with a loader are int", client, MAML, **load)
    refuses(ValueError, "n_shares is 0", client, MAML, **load, n_shares=0)
    refuses(TypeError, "n_shares is", client, MAML, **load, n_shares=1.5)
    refuses(TypeError, "sampler is 3; accepted are functions", client, MAML, sampler=3, n_shares=2)
    refuses(ValueError, "n_shares is 24; accepted are .* to 23", client, MAML, TASKS, n_shares=24)
    refuses(ValueError, "tasks has 3 entries; accepted", client, MAML, TASKS[:3])
    refuses(TypeError, "tasks is a int; accepted are", client, MAML, 3)
    refuses(TypeError, r"tasks is \(1, 2\); accepted are \(x, y\)", client, MAML, (1, 2))
    refuses(ValueError, r"tasks\[1\] has 22 tasks, tasks\[0\] has 23; accepted is the same",
            client, MAML, (TASKS.x, TASKS.y[1:]))  # fmt: skip
    refuses(ValueError, "tasks has 0 tasks; accepted are", client, MAML, (TASKS.x[:0], TASKS.y[:0]))


def test_errors_of_a_call(client):
    with Fleet(client, MAML, TASKS, n_shares=4) as fleet:
        assert repr(fleet) == f"Fleet({MAML!r}, n_shares=4)"
        with pytest.raises(ValueError, match=r"theta has shape \(3,\)"):
            fleet.value(THETA[:3])
        with pytest.raises(ValueError, match="theta holds nan"):
            fleet.value(THETA * np.nan)
        with pytest.raises(ValueError, match="batch is 4; accepted are distinct integers from 0"):
            fleet.value(THETA, 4)
        with pytest.raises(TypeError, match="learn_rates is True, maml is Fleet"):
            minimize(Fleet(client, HEAD, TASKS), HEAD.init(0), (), learn_rates=True)
        with pytest.raises(TypeError, match=r"maml is a Fleet; accepted are a fastmaml\.MAML"):
            minimize(Fleet(client, Reptile(MAML), TASKS), THETA, ())
        frozen = Fleet(client, fm.MAML(MODEL, steps=0), TASKS)
        with pytest.raises(ValueError, match="steps is 0"):
            train(frozen, THETA, lambda: (), SGD(0.1), 1, rate_optimizer=SGD(0.1))
    with Fleet(client, MAML, sampler=sampler_here(), n_shares=4) as fleet:
        with pytest.raises(TypeError, match="batch is"):
            fleet.value(THETA, [1, 2])
        with pytest.raises(ValueError, match="batch is -1"):
            fleet.value(THETA, -1)


def test_errors_on_a_worker_say_in_which_share(client):
    bad = tuple(part.copy() for part in TASKS)
    bad[1][[20, 9]] = np.nan
    with (
        Fleet(client, MAML, bad, n_shares=4) as fleet,
        pytest.raises(ValueError, match=r"y holds nan in task 4, row 0; .* \(in share 1, of 4\)"),
    ):
        fleet.value(THETA)

    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__()

    def loader(share):
        if share == 0:
            return 3
        if share == 1:
            raise FileNotFoundError(2, "no such file", "tasks.npz")
        raise Odd(1, 2)

    with Fleet(client, MAML, loader=loader, n_shares=4) as fleet:
        with pytest.raises(TypeError, match=r"tasks is 3; accepted are \(x, y\) .*in share 0, of"):
            fleet.value(THETA)
        with pytest.raises(FileNotFoundError, match=r"tasks\.npz"):
            fleet.value(THETA, [1])
        with pytest.raises(RuntimeError, match=r"^Odd: "):
            fleet.value(THETA, [2])


def test_a_function_that_a_worker_cannot_load_is_an_error(client, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def loader(share): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with (
        Fleet(client, MAML, loader=only_here.loader, n_shares=2) as fleet,
        pytest.raises(
            RuntimeError, match=r"the worker tcp://.* cannot load the loader \(.*only_here"
        ),
    ):
        fleet.value(THETA)


def test_an_error_of_several_arguments_has_a_note_of_the_share(client):
    def loader(share):
        raise FileNotFoundError(2, "no such file", "tasks.npz")

    with (
        Fleet(client, MAML, loader=loader, n_shares=4) as fleet,
        pytest.raises(FileNotFoundError) as found,
    ):
        fleet.value(THETA, [3])
    if sys.version_info >= (3, 11):
        assert found.value.__notes__ == ["(in share 3, of 4)"]


def test_a_function_that_would_end_the_worker_is_an_error(client):
    """Dask's worker would go on without an answer, and the call wait for it."""

    def sampler(rng):
        import sys

        sys.exit(3)

    with (
        Fleet(client, MAML, sampler=sampler, n_shares=2) as fleet,
        pytest.raises(RuntimeError, match=r"^SystemExit: 3 \(in share 0, of 2\)$"),
    ):
        fleet.value(THETA)


def test_shares_without_tasks_are_errors(client):
    def sampler(rng):
        return [], []

    with (
        Fleet(client, MAML, sampler=sampler, n_shares=2) as fleet,
        pytest.raises(ValueError, match=r"x has 0 tasks; .* \(in share 0, of 2\)"),
    ):
        fleet.value(THETA)


def test_what_cannot_be_sent_is_an_error_that_names_it(client):
    lock = threading.Lock()  # which no pickle holds
    with pytest.raises(TypeError, match=r"sampler is .*, which cannot be sent to workers \(.*lock"):
        Fleet(client, MAML, sampler=lambda rng: lock.acquire(), n_shares=2)


def test_a_closed_client_is_an_error():
    with cluster_of(1) as client:
        fleet = Fleet(client, MAML, TASKS, n_shares=2)
        fleet.value(THETA)
        client.close()
        with pytest.raises(RuntimeError, match="client is closed; accepted is one that is conn"):
            fleet.value(THETA)
        fleet.close()


def test_closing_does_not_wait_for_a_worker_that_is_gone(monkeypatch):
    """The scheduler itself tries for 30 s to reach one that died a moment ago."""
    import asyncio

    class Client:
        gone = False

        def nthreads(self):
            return {"gone": 1, "there": 1}

        async def run(self, function, key, workers, on_error):
            while workers == ["gone"]:
                await asyncio.sleep(0.001)
            forgotten.append((function, key, workers))
            return {workers[0]: None}

        def sync(self, function, *arguments):
            self.nthreads = self.nthreads_later
            return asyncio.run(function(*arguments))

        async def nthreads_later(self):
            return {"there": 1}

    monkeypatch.setattr(calls_module, "PATIENCE", 0.001)
    forgotten = []
    shared = calls_module.Shared(Client(), 1, None, None)
    calls_module.drop(shared)
    assert forgotten == [(worker_module.forget, shared.key, ["there"])]


def test_an_asynchronous_client_is_refused():
    distributed = pytest.importorskip("distributed")

    async def ask():
        async with (
            distributed.LocalCluster(
                processes=False, n_workers=0, dashboard_address="127.0.0.1:0", asynchronous=True
            ) as cluster,
            distributed.Client(cluster, asynchronous=True) as client,
        ):
            with pytest.raises(ValueError, match="client is asynchronous; accepted is a Client"):
                Fleet(client, MAML, TASKS)

    import asyncio

    asyncio.run(ask())


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    wanted = r'Fleet needs Dask, which comes with pip install "fastmaml\[distributed\]"'
    with pytest.raises(ImportError, match=wanted):
        Fleet(None, MAML, TASKS)


def test_dask_is_not_imported_until_it_is_needed():
    code = (
        "import sys, fastmaml\nfastmaml.distributed.Fleet\n"
        "print([name for name in ('dask', 'distributed') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_worker_that_is_gone_is_not_waited_for(monkeypatch):
    """The scheduler itself tries for 30 s to reach one that died a moment ago."""
    import asyncio

    class Client:
        looks = 0

        async def run(self, name, workers, on_error):
            while name == "gone" or (name == "slow" and self.looks < 3):
                await asyncio.sleep(0.001)
            return {workers[0]: name}

        async def nthreads(self):
            self.looks += 1
            return {"fast": 1, "slow": 1}

    monkeypatch.setattr(calls_module, "PATIENCE", 0.001)
    asked = {name: (name,) for name in ("gone", "fast", "slow")}
    answers = asyncio.run(calls_module._ask(Client(), asked))
    assert calls_module._is_loss(answers.pop("gone"))
    assert answers == {"fast": "fast", "slow": "slow"}


def test_a_worker_that_is_about_to_end_counts_as_lost():
    """Its thread pool takes nothing more."""
    import asyncio
    from types import SimpleNamespace

    class Closed:
        def submit(self, *_):
            raise RuntimeError("cannot schedule new futures after shutdown")

    class Worker(SimpleNamespace):
        __hash__ = object.__hash__

    ending = Worker(state=SimpleNamespace(nthreads=1), executors={"default": Closed()})
    request = worker_module.Request("key", b"", THETA, "value", False, None, 1, [], [])
    answer = asyncio.run(worker_module.fleet_work(fm.__version__, tuple(request), ending))
    assert calls_module._is_loss(answer)
