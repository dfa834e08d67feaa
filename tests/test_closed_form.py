"""Adaptation in closed form: values, gradients, posteriors, and what is said of odd data."""

import pickle
import re
import warnings
from decimal import Decimal, localcontext

import closed_form_reference as reference
import numba
import numpy as np
import pytest
from cases import DTYPES, relative_error
from closed_form_cases import FORMS, LOSSES, TOLERANCE, draw, options
from processes import python
from test_family import Decay

import fastmaml as fm
from fastmaml.methods import closed_form

compiled_only = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="NumPy would warn of what overflows"
)
ANALYTIC = ("identity", "softplus", "tanh", "sigmoid", "silu", "sin", "elu", "leaky_relu", "relu")
SEEDS = range(12 if numba.config.DISABLE_JIT else 60)


def small(seed, **options):
    return draw(seed, ANALYTIC, 12 if numba.config.DISABLE_JIT else 30, **options)


def tasks(n_tasks=4, k=5, q=6, n_in=1, n_out=1, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(n_tasks, k, n_in), (n_tasks, k, n_out), (n_tasks, q, n_in), (n_tasks, q, n_out)]
    return [rng.normal(size=shape) for shape in shapes]


def moved(head, seed=0, dtype="float64"):
    """Parameters at which nothing is special."""
    rng = np.random.default_rng(seed)
    theta = head.init(rng)
    return (theta + 0.2 * rng.normal(size=len(theta))).astype(dtype)


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    """Each way in which a task's system is solved."""
    monkeypatch.setattr(closed_form, "dual_limit", FORMS[request.param])
    return request.param


# ---- against the reference


@pytest.mark.parametrize("seed", SEEDS)
def test_value_and_gradient(seed, form):
    case = small(seed)
    want = reference.value(case.head, case.theta, *case.lists)
    slope = reference.gradient(case.head, case.theta, *case.lists)
    head = fm.BayesianLastLayer(case.head.model, **options(case.head))
    for dtype in DTYPES:
        theta = case.theta.astype(dtype)
        value, gradient = head.value_and_gradient(theta, *case.data)
        assert gradient.dtype == dtype
        assert relative_error([value], [want]) <= TOLERANCE[dtype]
        assert relative_error(gradient, slope) <= TOLERANCE[dtype]
        found = head.evaluate(theta, *case.data)
        assert (found.value, found.gradient.tobytes()) == (value, gradient.tobytes())
        assert head.value(theta, *case.data) == pytest.approx(value, rel=TOLERANCE[dtype])
        assert head.gradient(theta, *case.data).tobytes() == gradient.tobytes()
        of_tasks = [
            reference.task_value(head, case.theta, *task) for task in zip(*case.lists, strict=True)
        ]
        assert relative_error(found.task_values, of_tasks) <= TOLERANCE[dtype]


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_predictions_and_posteriors(seed, form):
    case = small(seed)
    head = fm.BayesianLastLayer(case.head.model, **options(case.head))
    x, y, x_query, _ = case.lists
    for dtype in DTYPES:
        theta = case.theta.astype(dtype)
        mean, std = head.predict(theta, *case.data[:2], x_query, return_std=True)
        alone = head.predict(theta, *case.data[:2], x_query)
        found = head.adapt(theta, *case.data[:2])
        for i, rows in enumerate(x_query):
            f, variance = reference.predict(head, case.theta, x[i], y[i], rows)
            got = [np.reshape(part[i], f.shape) for part in (mean, std, alone)]
            assert relative_error(got[0], f) <= TOLERANCE[dtype]
            assert relative_error(got[1] ** 2, variance) <= TOLERANCE[dtype]
            assert relative_error(got[2], f) <= TOLERANCE[dtype]
            weights, precision = reference.posterior(head, case.theta, x[i], y[i])
            scale = found.scale[i]
            assert relative_error(found.mean[i], weights) <= 10 * TOLERANCE[dtype]
            assert relative_error(scale @ scale.T, precision) <= TOLERANCE[dtype]
            assert not np.triu(scale, 1).any()
        noise = reference.parts(head, case.theta).noise_variance
        assert relative_error(found.noise_variance, noise) <= TOLERANCE[dtype]
        assert {part.dtype for part in (mean[0], std[0], *found)} == {np.dtype(dtype)}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["gelu", "tanh"])
def test_finite_differences(loss, activation, form):
    head = fm.BayesianLastLayer(
        fm.MLP([2, 5, 4, 2], activation), loss, noise="per_output", prior="diagonal"
    )
    theta, data = moved(head), tasks(3, 4, 7, 2, 2)
    gradient, h = head.gradient(theta, *data), 1e-6
    slopes = np.array(
        [
            (head.value(theta + step, *data) - head.value(theta - step, *data)) / (2 * h)
            for step in h * np.eye(len(theta))
        ]
    )
    assert relative_error(gradient, slopes) < 1e-7
    v = np.linspace(-1, 1, len(theta))
    along = (head.gradient(theta + h * v, *data) - head.gradient(theta - h * v, *data)) / (2 * h)
    assert relative_error(head.hessp(theta, v, *data), along) < 1e-5


def test_gradient_steps_on_the_head_alone_end_there():
    """MAML's steps of the last layer, pulled back by a proximal term as the prior pulls."""
    model, weight = fm.MLP([1, 8, 1]), 2.0
    x, y, x_new, _ = tasks(3, 4, 6)
    head = fm.BayesianLastLayer(model, "half_sse", prior="shared")
    theta = moved(head)
    network = theta[: model.n_params]
    packed = head.pack(model.unpack(network), 1 / weight, 1.0)
    steps = 200 if numba.config.DISABLE_JIT else 2000
    maml = fm.MAML(model, fm.anil_inner_lr(model, 0.05), steps, order="implicit", proximal=weight)
    close = 1e-5 if numba.config.DISABLE_JIT else 1e-10
    want = maml.predict(network, x, y, x_new)
    assert relative_error(head.predict(packed, x, y, x_new), want) < close
    adapted = model.unpack(maml.adapt(network, x, y))[-1]
    mean = head.adapt(packed, x, y).mean
    assert relative_error(mean[:, :, :-1], adapted[0]) < close
    assert relative_error(mean[:, :, -1], adapted[1]) < close


# ---- forms of data


def test_no_support_rows_and_the_prior_predicts(form):
    head = fm.BayesianLastLayer(fm.MLP([1, 4, 2]))
    theta, (_, _, x_new, y_new) = moved(head), tasks(3, 1, 5, 1, 2)
    none = np.empty((3, 0, 1)), np.empty((3, 0, 2))
    mean, std = head.predict(theta, *none, x_new, return_std=True)
    network = theta[: head.model.n_params]
    assert relative_error(mean, head.model.predict(network, x_new)) < 1e-14
    _, variance = reference.predict(head, theta, none[0][0], none[1][0], x_new[1])
    assert relative_error(std[1] ** 2, variance) < 1e-14
    lists = [[rows[i] for i in range(3)] for rows in (*none, x_new, y_new)]
    want = head.value_and_gradient(theta, *none, x_new, y_new)
    for data in (lists, [[*none[0]], [*none[1]], x_new, y_new]):
        value, gradient = head.value_and_gradient(theta, *data)
        assert (value, gradient.tobytes()) == (want[0], want[1].tobytes())
    assert relative_error(want[1], reference.gradient(head, theta, *lists)) < 1e-12
    single = head.predict(theta, none[0][0], none[1][0], x_new[0])
    assert relative_error(single, mean[0]) < 1e-14
    posterior = head.adapt(theta, *none)
    assert relative_error(posterior.mean[0], reference.parts(head, theta).prior_mean) < 1e-14
    ragged = head.predict(theta, [none[0][0], x_new[0]], [none[1][0], y_new[0]], x_new[:2])
    assert relative_error(ragged[0], mean[0]) < 1e-14


def test_shapes_are_those_of_maml():
    model = fm.MLP([1, 3, 1])
    head, maml = fm.BayesianLastLayer(model), fm.MAML(model)
    theta, (x, y, x_new, _) = moved(head), tasks(4, 5, 6)
    for flat in (False, True):
        targets = y[..., 0] if flat else y
        for data in (
            (x, targets, x_new),
            (x, targets, x_new[0]),
            (x[0], targets[0], x_new[0]),
            ([x[0], x[1, :2]], [targets[0], targets[1, :2]], [x_new[0], x_new[1, :3]]),
        ):
            want = maml.predict(theta[: model.n_params], *data)
            found = head.predict(theta, *data, return_std=True)
            for got in found:
                assert isinstance(got, list) == isinstance(want, list)
                assert [np.shape(part) for part in got] == [np.shape(part) for part in want]
    single = head.adapt(theta, x[0], y[0])
    assert [part.shape for part in single] == [(1, 4), (4, 4), (1,)]
    assert [part.shape for part in head.adapt(theta, x, y)] == [(4, 1, 4), (4, 4, 4), (1,)]
    assert np.ndim(head.evaluate(theta, x[0], y[0]).task_values) == 0


def test_support_serves_as_query(form):
    head = fm.BayesianLastLayer(fm.MLP([1, 4, 1]))
    theta, (x, y, _, _) = moved(head), tasks()
    value, gradient = head.value_and_gradient(theta, x, y)
    same = head.value_and_gradient(theta, x, y, x, y)
    assert (value, gradient.tobytes()) == (same[0], same[1].tobytes())


def test_tasks_permuted_and_doubled():
    head = fm.BayesianLastLayer(fm.MLP([2, 6, 2]), noise="per_output")
    theta, data = moved(head), tasks(7, 3, 4, 2, 2)
    found = head.evaluate(theta, *data)
    order = np.random.default_rng(0).permutation(7)
    other = head.evaluate(theta, *(part[order] for part in data))
    assert relative_error(other.task_values, found.task_values[order]) < 1e-13
    assert relative_error(other.gradient, found.gradient) < 1e-13
    twice = head.evaluate(theta, *(np.concatenate([part, part]) for part in data))
    assert relative_error(twice.gradient, 2 * found.gradient) < 1e-13
    mean = fm.BayesianLastLayer(fm.MLP([2, 6, 2]), noise="per_output", task_mean=True)
    averaged = mean.evaluate(theta, *data)
    assert relative_error(7 * averaged.gradient, found.gradient) < 1e-13
    assert averaged.value == pytest.approx(found.value / 7)


def test_squared_errors_do_not_know_the_noise():
    for loss in LOSSES[2:]:
        head = fm.BayesianLastLayer(fm.MLP([1, 3, 2]), loss, noise="per_output")
        theta, data = moved(head), tasks(2, 3, 4, 1, 2)
        louder = theta.copy()
        louder[-2:] += 3
        assert head.value(theta, *data) == head.value(louder, *data)
        assert not head.gradient(theta, *data)[-2:].any()


def test_out_receives_the_gradient():
    head = fm.BayesianLastLayer(fm.MLP([1, 3, 1]))
    theta, data = moved(head), tasks()
    want, out = head.gradient(theta, *data), theta.copy()
    assert head.gradient(out, *data, out=out) is out
    assert out.tobytes() == want.tobytes()
    with pytest.raises(ValueError, match=r"out has shape \(10,\); accepted are ndarrays"):
        head.gradient(theta, *data, out=np.empty(10))


# ---- bits


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_however_it_is_worked(dtype, form):
    head = fm.BayesianLastLayer(fm.MLP([1, 7, 5, 2], "relu"))
    n_tasks = 20 if numba.config.DISABLE_JIT else 150
    theta, data = moved(head, dtype=dtype), tasks(n_tasks, 6, 8, 1, 2)
    data = [part.astype(dtype) for part in data]

    def everything(head):
        found = [*head.evaluate(theta, *data), *head.adapt(theta, *data[:2])]
        found += head.predict(theta, *data[:3], return_std=True)
        return [np.asarray(part).tobytes() for part in found]

    want = everything(head)
    assert everything(head) == want
    for limit in (1, 200_000):
        small = fm.BayesianLastLayer(head.model, max_memory=limit)
        assert everything(small) == want
    for n in range(1, numba.config.NUMBA_NUM_THREADS + 1):
        with fm.threads(n):
            assert everything(fm.BayesianLastLayer(head.model)) == want


# ---- the specification


def test_parameters():
    model = fm.MLP([1, 3, 2])
    for prior, noise, n in (
        ("diagonal", "shared", 5), ("shared", "shared", 2), ("diagonal", "per_output", 6),
        ("shared", "per_output", 3),
    ):  # fmt: skip
        head = fm.BayesianLastLayer(model, prior=prior, noise=noise)
        assert head.n_params == model.n_params + n
        theta = head.init(3, "float32")
        assert theta.dtype == np.float32
        assert (theta[: model.n_params] == model.init(3, "float32")).all()
        assert not theta[model.n_params :].any()
        theta = moved(head)
        again = head.pack(*head.unpack(theta))
        assert relative_error(again, theta) < 1e-14
        layers, prior_variance, noise_variance = head.unpack(np.stack([theta, theta]))
        assert layers[0][0].shape == (2, 3, 1)
        assert len(prior_variance[1]) + len(noise_variance[1]) == n
    linear = fm.BayesianLastLayer(fm.Linear(3, intercept=False))
    assert (linear.n_params, linear.n_features) == (3 + 3 + 1, 3)
    with pytest.raises(AttributeError):
        head.loss = "mse"
    assert repr(linear).startswith("BayesianLastLayer(model=Linear(3, n_outputs=1")


def test_pickle_and_copies_give_the_same():
    head = fm.BayesianLastLayer(fm.MLP([1, 3, 1]), "mse")
    theta, data = moved(head), tasks()
    want = head.value(theta, *data)
    again = pickle.loads(pickle.dumps(head))
    assert again.value(theta, *data) == want
    assert again.n_params == head.n_params


USED_ELSEWHERE = """
import pickle, sys
from pathlib import Path
head, theta, x, y, x_query, y_query = pickle.loads(Path(sys.argv[1]).read_bytes())
value, gradient = head.value_and_gradient(theta, x, y, x_query, y_query)
mean, std = head.predict(theta, x, y, x_query, return_std=True)
print(value.hex(), *(part.tobytes().hex() for part in (gradient, mean, std)))
"""


def test_a_head_that_was_used_works_in_another_process(tmp_path):
    """Its plans hold addresses of this one."""
    head = fm.BayesianLastLayer(fm.MLP([1, 3, 1]))
    theta, data = moved(head), tasks()
    value, gradient = head.value_and_gradient(theta, *data)
    found = gradient, *head.predict(theta, *data[:3], return_std=True)
    (tmp_path / "head.pickle").write_bytes(pickle.dumps((head, theta, *data)))
    output = python(USED_ELSEWHERE, tmp_path / "head.pickle")
    assert output.split() == [value.hex(), *(part.tobytes().hex() for part in found)]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"model": 3}, TypeError, "model is 3; accepted are MLP and Linear\n"),
        ({"loss": "hinge"}, ValueError, "loss is 'hinge'; accepted are 'nll', 'mean_nll', 'half_"),
        ({"prior": "full"}, ValueError, "prior is 'full'; accepted are 'diagonal', 'shared'"),
        ({"noise": 0.1}, TypeError, "noise is 0.1; accepted are the words 'shared', 'per_output'"),
        ({"task_mean": 1}, TypeError, "task_mean is 1; accepted are True and False"),
        ({"check_finite": None}, TypeError, "check_finite is None; accepted are True and False"),
        ({"max_memory": 0}, ValueError, "max_memory is 0; accepted are integers of at least 1"),
    ],
)
def test_options_are_checked(options, kind, text):
    with pytest.raises(kind) as raised:
        fm.BayesianLastLayer(**{"model": fm.Linear(1), **options})
    assert text in f"{raised.value}\n"


def test_a_model_without_weight_layers_is_refused():
    with pytest.raises(ValueError, match=r"without weight layers; accepted are MLP and Linear"):
        fm.BayesianLastLayer(Decay())


def call_errors():
    x, y, x_query, y_query = tasks(2, 3, 4)
    none = np.empty((2, 0, 1)), np.empty((2, 0, 1))
    name = "BayesianLastLayer(MLP([1, 3, 1], activation='tanh'), prior='diagonal', noise='shared')"
    nan = x.copy()
    nan[1, 2] = np.nan
    return {
        "theta of the model": (
            lambda head, theta: head.value(theta[:10], x, y),
            f"theta has shape (10,), the model takes (15,) ({name})",
        ),
        "theta in adapt": (
            lambda head, theta: head.adapt(np.append(theta, 0), x, y),
            f"theta has shape (16,), the model takes (15,) ({name})",
        ),
        "NaN in theta": (
            lambda head, theta: head.gradient(np.where(np.arange(15) == 14, np.nan, theta), x, y),
            "theta holds nan at parameter 14; accepted are finite float64 numbers",
        ),
        "NaN in theta of predict": (
            lambda head, theta: head.predict(np.where(np.arange(15) == 14, np.nan, theta), x, y, x),
            "theta holds nan at parameter 14; accepted are finite float64 numbers",
        ),
        "NaN in x": (
            lambda head, theta: head.predict(theta, nan, y, x),
            "x holds nan in task 1, row 2; accepted are finite float64 numbers",
        ),
        "no tasks": (
            lambda head, theta: head.adapt(theta, np.empty((0, 3, 1)), np.empty((0, 3, 1))),
            "x has shape (0, 3, 1); accepted are one or more tasks",
        ),
        "support without rows as query": (
            lambda head, theta: head.value(theta, *none),
            "x has shape (2, 0, 1); accepted are one or more tasks and rows",
        ),
        "a task without rows as query": (
            lambda head, theta: head.value(theta, [x[0], x[1, :0]], [y[0], y[1, :0]]),
            "x[1] has 0 rows; accepted are tasks of one or more rows",
        ),
        "query without rows": (
            lambda head, theta: head.value(theta, x, y, *none),
            "x_query has shape (2, 0, 1); accepted are one or more tasks and rows",
        ),
        "new rows": (
            lambda head, theta: head.predict(theta, x, y, none[0]),
            "x_new has shape (2, 0, 1); accepted are one or more tasks and rows",
        ),
        "rows of one side": (
            lambda head, theta: head.adapt(theta, none[0], y),
            "y has 3 rows in task 0, x has 0; accepted is the same number of rows",
        ),
        "half a query set": (
            lambda head, theta: head.value(theta, x, y, x_query),
            "x_query is given, y_query is not; accepted are both or neither",
        ),
        "tasks": (
            lambda head, theta: head.value(theta, x, y, x_query[:1], y_query[:1]),
            "x_query has 1 tasks, x has 2; accepted is the same number of tasks",
        ),
        "return_std": (
            lambda head, theta: head.predict(theta, x, y, x, 1),
            "return_std is 1; accepted are True and False",
        ),
        "unpack": (
            lambda head, theta: head.unpack(theta[:3]),
            f"theta has shape (3,), the model takes (..., 15) ({name})",
        ),
        "variances": (
            lambda head, theta: head.pack(head.unpack(theta)[0], [1.0, 2.0], 1.0),
            "prior_variance has shape (2,); accepted are a number and (4,)",
        ),
        "no variance": (
            lambda head, theta: head.pack(head.unpack(theta)[0], 1.0, 0.0),
            "noise_variance holds 0.0; accepted are numbers above 0",
        ),
        "NaN variance": (
            lambda head, theta: head.pack(head.unpack(theta)[0], np.nan, 1.0),
            "prior_variance holds nan; accepted are finite float64 numbers",
        ),
    }


@pytest.mark.parametrize("name", call_errors())
def test_errors_of_calls(name):
    call, text = call_errors()[name]
    head = fm.BayesianLastLayer(fm.MLP([1, 3, 1]))
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        call(head, moved(head))


def test_too_much_memory_is_said(monkeypatch):
    head = fm.BayesianLastLayer(fm.MLP([1, 3, 1]))
    monkeypatch.setattr("fastmaml.checks.physical_memory", lambda: 1000)
    with pytest.raises(MemoryError, match=r"in closed form with 6 rows of a task would take"):
        head.value(head.init(0), *tasks())


# ---- absurd numbers


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e-6, 1e6, 1e15, 1e30, 1e150])
@pytest.mark.parametrize("what", ["x", "y", "network", "prior", "noise"])
def test_nothing_finite_breaks_it(what, size, dtype, form):
    """It gives numbers, or inf or NaN with a warning; the variance is never below the noise's."""
    head = fm.BayesianLastLayer(fm.MLP([1, 6, 2], "relu"))
    theta, (x, y, x_query, y_query) = moved(head), tasks(3, 12, 4, 1, 2)
    ends = head.model.n_params, head.n_params - 1
    if what == "x":
        x, x_query = x * size, x_query * size
    elif what == "y":
        y, y_query = y * size, y_query * size
    elif what == "network":
        theta[: ends[0]] *= size
    else:
        theta[slice(*ends) if what == "prior" else slice(ends[1], None)] += np.log(size)
    with np.errstate(all="ignore"):
        theta, *data = (part.astype(dtype) for part in (theta, x, y, x_query, y_query))
    if not all(np.isfinite(part).all() for part in (theta, *data)):
        with pytest.raises(ValueError, match="holds"):
            head.value_and_gradient(theta, *data)
        return
    value, gradient = head.value_and_gradient(theta, *data)
    assert isinstance(value, float)
    assert gradient.shape == theta.shape
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mean, std = head.predict(theta, *data[:3], return_std=True)
    finite = bool(np.isfinite(mean).all() and np.isfinite(std).all())
    assert [w.category for w in caught] == ([] if finite else [fm.DivergenceWarning])
    if finite:
        noise = np.exp(np.float64(theta[-1]) / 2).astype(dtype)
        assert (std >= noise * (1 - 1e-6)).all()


@compiled_only
def test_float32_that_overflows_is_computed_again():
    """Features of 1e39, and a prior that is as narrow as they are large."""
    head = fm.BayesianLastLayer(fm.MLP([1, 4, 4, 1], "relu"))
    (x, y, x_query, y_query) = tasks(3, 4, 5)
    layers, *_ = head.unpack(moved(head))
    weights = [(1e12 * weight, bias) for weight, bias in layers[:2]]
    variances = [1e-78, 1e-78, 1e-78, 1e-78, 1.0]
    theta = head.pack([*weights, (np.zeros((1, 4)), np.zeros(1))], variances, 1.0)
    narrow = theta.astype("float32")
    data = [part.astype("float32") for part in (1e15 * x, y, 1e15 * x_query, y_query)]
    wide = narrow.astype("float64"), *(part.astype("float64") for part in data)
    want, got = head.evaluate(*wide), head.evaluate(narrow, *data)
    assert got.gradient.dtype == np.float32
    assert np.isfinite(want.gradient).all()
    assert got.value == pytest.approx(want.value, rel=1e-12)
    assert head.value(narrow, *data) == got.value
    with np.errstate(over="ignore"):  # the gradient of a weight of such a feature is inf
        assert (got.gradient == want.gradient.astype("float32")).all()
    found = head.predict(narrow, *data[:3], return_std=True)
    for mine, other in zip(found, head.predict(*wide[:4], return_std=True), strict=True):
        assert (mine == other.astype("float32")).all()


@compiled_only
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("numbers", [1, 200, 1_000_000])
def test_what_overflows_changes_no_other_task(ragged, numbers, monkeypatch):
    """Only such tasks are computed again, in runs of so many numbers."""
    monkeypatch.setattr(closed_form, "ANEW_NUMBERS", numbers)
    head = fm.BayesianLastLayer(fm.MLP([1, 6, 6, 2], "relu"), noise="per_output")
    (first, second, last), *variances = head.unpack(moved(head))
    layers = [(1e25 * first[0], first[1]), (1e-36 * second[0], second[1]), last]
    theta = head.pack(layers, *variances).astype("float32")
    x, y, x_new, _ = (part.astype("float32") for part in tasks(9, 4, 5, n_out=2))
    if ragged:
        counts = [4, 0, 1, 4, 3, 2, 4, 1, 0]
        x, y = ([rows[:k] for rows, k in zip(part, counts, strict=True)] for part in (x, y))
        x_new = [rows[: 1 + k] for rows, k in zip(x_new, counts, strict=True)]

    def everything(x, x_new):
        found = head.predict(theta, x, y, x_new, return_std=True)
        return [*found, *head.adapt(theta, x, y)[:2]]

    # Of 1e15 the first layer, in float32, makes inf; of task 2 only a new row is so large.
    far, far_new = ([rows.copy() for rows in part] for part in (x, x_new))
    far[5], far[6], far_new[2] = 1e15 * far[5], 1e15 * far[6], 1e15 * far_new[2]
    before, after = everything(x, x_new), everything(far, far_new)
    wide = head.predict(theta.astype("float64"), far, y, far_new, return_std=True)
    wide = [*wide, *head.adapt(theta.astype("float64"), far, y)[:2]]
    for which, (one, other, want) in enumerate(zip(before, after, wide, strict=True)):
        for i in range(9):
            if i in (5, 6) or (i == 2 and which < 2):
                assert np.isfinite(other[i]).all()
                assert relative_error(other[i], want[i]) < 1e-6
            else:
                assert one[i].tobytes() == other[i].tobytes()


@compiled_only
def test_a_noise_that_overflows_is_named():
    head = fm.BayesianLastLayer(fm.MLP([1, 3, 1]))
    for dtype, log, in_std in (("float64", 900.0, True), ("float32", 100.0, False)):
        theta, (x, y, x_new, _) = moved(head, dtype=dtype), tasks()
        theta[-1] = log
        said = f"the noise variance is inf: theta holds its logarithm, {log:.3g}; targets scaled"
        with pytest.warns(fm.DivergenceWarning, match=re.escape(said)):
            assert np.isinf(head.adapt(theta, x, y).noise_variance).all()
        if in_std:
            with pytest.warns(fm.DivergenceWarning, match=re.escape(said)):
                head.predict(theta, x, y, x_new, return_std=True)
        else:  # its root is a number of float32
            std = head.predict(theta, x, y, x_new, return_std=True)[1]
            assert (std >= np.float32(np.exp(50.0)) * (1 - 1e-6)).all()
        assert np.isfinite(head.predict(theta, x, y, x_new)).all()


@compiled_only
def test_warnings_point_to_the_call():
    head = fm.BayesianLastLayer(fm.MLP([1, 3, 1]))
    theta, (x, y, x_new, _) = moved(head), tasks()
    theta[-1] = 900.0
    for call in (
        lambda: head.adapt(theta, x, y),
        lambda: head.predict(theta, x, y, x_new, return_std=True),
        lambda: head.start(theta),
    ):
        with pytest.warns(fm.DivergenceWarning) as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]


@compiled_only
def test_what_is_not_finite_is_said_with_the_task():
    head = fm.BayesianLastLayer(fm.MLP([1, 6, 1], "relu"))
    theta, (x, y, x_new, _) = moved(head), tasks(3, 4, 5)
    x[1] *= 1e200
    said = r"the posterior of task 1 is not finite \(1 of 3 tasks are not finite: 1\); data scaled"
    with pytest.warns(fm.DivergenceWarning, match=said):
        head.adapt(theta, x, y)
    with pytest.warns(fm.DivergenceWarning, match=said):
        head.predict(theta, x, y, x_new * np.array([1, 1e200, 1])[:, None, None])
    with pytest.warns(fm.DivergenceWarning, match=r"the posterior of the task is not finite; data"):
        head.adapt(theta, x[1], y[1])
    quiet = fm.BayesianLastLayer(head.model, check_finite=False)
    assert not np.isfinite(quiet.adapt(theta, x, y).scale[1]).all()
    assert np.isnan(quiet.value(np.full_like(theta, np.nan), x[:1], y[:1]))


def _decimal_value(numbers, task, loss):
    """The loss, mean and std at the first new row of one task of a linear model, in 90 digits.

    ``numbers`` are theta: the prior mean, log variances and log noise, each a `Decimal`.
    """
    p = (len(numbers) - 1) // 2
    mean, s, noise = numbers[:p], [v.exp() for v in numbers[p:-1]], numbers[-1].exp()
    rows, y, new, y_new = (
        [[Decimal(float(v)) for v in row] for row in np.column_stack(part)] for part in task
    )

    def solve(right):  # (1 / s + phi^T phi)^-1 right, by elimination: positive, so without pivoting
        a = [
            [sum(r[i] * r[j] for r in rows) + (1 / s[i] if i == j else 0) for j in range(p)]
            + [right[i]]
            for i in range(p)
        ]
        for i in range(p):
            for j in range(p):
                if j != i:
                    ratio = a[j][i] / a[i][i]
                    a[j] = [b - ratio * c for b, c in zip(a[j], a[i], strict=True)]
        return [a[i][p] / a[i][i] for i in range(p)]

    def dot(one, two):
        return sum(a * b for a, b in zip(one, two, strict=True))

    off = [t[0] - dot(mean, r) for r, t in zip(rows, y, strict=True)]
    moved = solve([dot([r[i] for r in rows], off) for i in range(p)])
    w, total = [a + b for a, b in zip(mean, moved, strict=True)], Decimal(0)
    found = []
    for r, t in zip(new, y_new, strict=True):
        variance = noise * (1 + dot(r, solve(r)))
        square = (t[0] - dot(w, r)) ** 2
        density = ((Decimal(2 * np.pi) * variance).ln() + square / variance) / 2
        total += square if loss == "sse" else density
        found.append((dot(w, r), variance.sqrt()))
    return total, found[0]


@compiled_only
@pytest.mark.parametrize("loss", ["sse", "nll"])
@pytest.mark.parametrize("exponent", [9, 14, 20])
def test_a_wide_prior_and_rows_that_depend_on_each_other(exponent, loss, form):
    """Where A is all rounding but for a few digits; against 90 digits."""
    rng = np.random.default_rng(exponent)
    x = rng.normal(size=(6, 4))
    x[:, 3], x[4] = x[:, 0] + x[:, 1], x[1]
    x, y, x_query, y_query = x[:5], rng.normal(size=(5, 1)), x[3:], rng.normal(size=(3, 1))
    x_query = x_query + rng.normal(scale=1e-3, size=x_query.shape) * (exponent < 20)
    head = fm.BayesianLastLayer(fm.Linear(4), loss)
    theta = moved(head)
    theta[5:10] = np.log(10.0**exponent) + rng.normal(size=5)
    ones = [np.ones(5), np.ones(3)]
    task = (x, ones[0]), (y,), (x_query, ones[1]), (y_query,)
    with localcontext() as context:
        context.prec = 90
        numbers = [Decimal(v) for v in theta.tolist()]
        want, (mean, std) = _decimal_value(numbers, task, loss)
        slope, step = [], Decimal("1e-30")
        for i in range(len(numbers)):
            ends = []
            for sign in (1, -1):
                there = [*numbers[:i], numbers[i] + sign * step, *numbers[i + 1 :]]
                ends.append(_decimal_value(there, task, loss)[0])
            slope.append(float((ends[0] - ends[1]) / (2 * step)))
    value, gradient = head.value_and_gradient(theta, x, y, x_query, y_query)
    tolerance = {9: 1e-9, 14: 1e-5, 20: 1e-3}[exponent]  # of s^1/2 roundings
    assert value == pytest.approx(float(want), rel=tolerance)
    assert np.abs(gradient - slope).max() <= {9: 1e-8, 14: 1e-3, 20: 1e-2}[exponent]
    found = head.predict(theta, x, y, x_query, return_std=True)
    assert found[0][0, 0] == pytest.approx(float(mean), rel=tolerance)
    assert found[1][0, 0] == pytest.approx(float(std), rel=tolerance)


@compiled_only
@pytest.mark.parametrize("variance", [1e12, 1e14, 1e16, 1e20])
def test_a_wide_prior_and_rows_that_repeat(variance, form):
    """Where A is of low rank, and much larger than I; the stream rotates row by row."""
    head = fm.BayesianLastLayer(fm.MLP([1, 8, 1], "relu"))
    theta = moved(head)
    theta[head.model.n_params : -1] = np.log(variance)
    for k in (3, 40):
        x, y = np.ones((1, k, 1)), np.linspace(-1, 2, k).reshape(1, k, 1)
        mean, std = head.predict(theta, x, y, x[:, :1], return_std=True)
        stream = head.start(theta)
        for row, target in zip(x[0], y[0], strict=True):
            stream.update(row, target)
        of_stream = stream.predict(x[0, 0], return_std=True)
        assert mean.item() == pytest.approx(of_stream[0].item(), rel=1e-5)
        assert std.item() == pytest.approx(of_stream[1].item(), rel=1e-5)
        assert mean.item() == pytest.approx(y.mean(), rel=1e-5)
        assert np.isfinite(head.gradient(theta, x, y)).all()
        narrow = [part.astype("float32") for part in (theta, x, y, x[:, :1])]
        found = head.predict(*narrow, return_std=True)
        assert found[0].item() == pytest.approx(mean.item(), rel=1e-4)
        assert found[1].item() == pytest.approx(std.item(), rel=1e-4)
