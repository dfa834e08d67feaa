"""How much a call allocates: as docs/memory.md says, within `max_memory`, and with the same bits.

All large memory of a call is NumPy arrays, which tracemalloc sees.
"""

import gc
import pickle
import tracemalloc
import weakref

import numba
import numpy as np
import pytest
from cases import METHODS
from closed_form_cases import FORMS
from fastmaml.kernels.methods import modes

import fastmaml as fm
from fastmaml import checks, plan, workspace
from fastmaml.methods import closed_form, dense, factored, stepwise
from fastmaml.tasks import as_tasks

compiled_only = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="would take too long")
MODES = {"value": modes.VALUE, "gradient": modes.GRADIENT, "evaluate": modes.RATES}
# What Python objects take, and the checks of the arguments.
SLACK = 40_000


def data(model, n_tasks, rows, dtype):
    rng = np.random.default_rng(0)
    shapes = [(n_tasks, rows, n) for n in (model.n_inputs, model.n_outputs)] * 2
    return [model.init(0, dtype), *(rng.normal(size=shape).astype(dtype) for shape in shapes)]


def allocated(function, *arguments):
    """The most bytes that a call holds at a time beyond its inputs, and those of its results."""
    function(*arguments)  # what is remembered from call to call,
    workspace.release()  # but for the memory to work in
    tracemalloc.start()
    try:
        results = function(*arguments)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    results = results if isinstance(results, tuple) else (results,)
    return peak, sum(part.nbytes for part in results if isinstance(part, np.ndarray))


def planned(maml, mode, arguments):
    """Workers, chunks of a piece, and bytes by the formula."""
    theta = arguments[0]
    support, query = as_tasks(maml.model, *arguments[1:], theta.dtype)
    found = stepwise.plan_for(maml._problem, theta.dtype, support, query, MODES[mode])
    workers, piece, _ = found.split()
    return workers, piece, found.memory(workers, piece)


@compiled_only
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("method", "layer_sizes", "n_tasks", "dtype", "rate"),
    [
        ("factored", [1, 40, 40, 1], 600, "float32", 0.01),
        ("factored", [2, 60, 30, 2], 300, "float64", np.full((3, 3), 0.01)),
        ("dense", [1, 60, 60, 1], 300, "float32", 0.01),
        ("dense", [2, 60, 30, 2], 300, "float32", "per parameter"),
        ("explicit", [2, 20, 3], 50, "float64", 0.01),
    ],
)
def test_allocations_agree_with_the_formula(method, layer_sizes, n_tasks, dtype, rate, mode):
    model = fm.MLP(layer_sizes)
    steps = len(rate) if np.ndim(rate) else 1
    if isinstance(rate, str):
        rate = np.full((1, model.n_params), 0.01)
    maml = fm.MAML(model, rate, steps, method=method)
    arguments = data(model, n_tasks, 5, dtype)
    _, _, formula = planned(maml, mode, arguments)
    peak, results = allocated(getattr(maml, mode), *arguments)
    task_values = 8 * n_tasks
    assert formula > 3 * SLACK
    assert 0.98 * formula < peak < 1.03 * (formula + results + task_values) + SLACK


@compiled_only
@pytest.mark.parametrize("method", METHODS)
def test_memory_does_not_grow_with_the_tasks(method):
    model = fm.MLP([1, 3, 1] if method == "explicit" else [1, 20, 20, 1])
    maml = fm.MAML(model, method=method)
    few, many = (
        allocated(maml.gradient, *data(model, n_tasks, 4, "float32"))[0]
        for n_tasks in (2_000, 20_000)
    )
    assert many - few < 8 * 18_000 + SLACK  # the loss of each task, in float64


@compiled_only
@pytest.mark.parametrize("method", ["dense", "factored"])
def test_max_memory_is_kept(method):
    model = fm.MLP([1, 40, 40, 1])
    arguments = data(model, 600, 5, "float32")
    whole = fm.MAML(model, method=method)
    _, _, most = planned(whole, "gradient", arguments)
    # One thread cannot do with fewer workers, only with shorter pieces.
    _, _, least = planned(fm.MAML(model, method=method, max_memory=1), "gradient", arguments)
    assert least < 0.8 * most
    for share in (0.75, 0.5, 0.3):
        limit = max(int(share * most), least)
        limited = fm.MAML(model, method=method, max_memory=limit)
        peak, results = allocated(limited.gradient, *arguments)
        assert peak < 1.03 * (limit + results + 8 * 600) + SLACK


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_pieces_have_the_same_bits(method, dtype):
    """One chunk a call and one worker, against what the default cuts."""
    model = fm.MLP([2, 4, 3], "gelu")
    n_tasks = 40 if numba.config.DISABLE_JIT else 400
    arguments = data(model, n_tasks, 6, dtype)
    options = {"inner_lr": [[0.01, 0.02], [0.0, 0.01]], "steps": 2, "step_weights": [0.5, 0, 1]}
    results = []
    for limit in (None, 200_000, 1):
        maml = fm.MAML(model, **options, method=method, max_memory=limit)
        results.append([np.asarray(part).tobytes() for part in maml.evaluate(*arguments)])
        if limit == 1:
            workers, piece, _ = planned(maml, "evaluate", arguments)
            assert (workers, piece) == (1, 1)
            assert len(stepwise.plan_for(maml._problem, arguments[0].dtype, *as_tasks(
                model, *arguments[1:], arguments[0].dtype), modes.RATES).chunks) > 5  # fmt: skip
    assert results[0] == results[1] == results[2]


def test_max_memory_by_default_and_its_errors():
    problem = fm.MAML(fm.Linear(1))._problem
    assert problem.max_memory == plan.default_max_memory() > 2**26
    with pytest.raises(ValueError, match="max_memory is 0; accepted are integers of at least 1"):
        fm.MAML(fm.Linear(1), max_memory=0)
    with pytest.raises(TypeError, match=r"max_memory is 1000000000\.0; accepted are integers"):
        fm.MAML(fm.Linear(1), max_memory=1e9)


@compiled_only
def test_wide_network_few_tasks():
    """16-512-512-1, 32 tasks of 10 + 10 rows, on two threads."""
    sizes = [16, 512, 512, 1]
    model = fm.MLP(sizes)
    maml = fm.MAML(model, 1e-3, method="factored")
    with fm.threads(min(2, numba.config.NUMBA_NUM_THREADS)):
        peak, _ = allocated(maml.gradient, *data(model, 32, 10, "float32"))
    assert peak < 4 * 4 * (model.n_params + 640 * sum(sizes))


def kept():
    """Bytes that this thread keeps for the next call."""
    found = workspace._kept.__dict__.get("workspace")
    return 0 if found is None else found.memory.size


@compiled_only
def test_memory_is_kept_from_call_to_call():
    model = fm.MLP([1, 40, 40, 1])
    maml, arguments = fm.MAML(model), data(model, 600, 5, "float32")
    workspace.release()
    assert kept() == 0
    maml.gradient(*arguments)
    assert kept() > 100_000
    tracemalloc.start()
    try:
        maml.gradient(*arguments)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * model.n_params + 8 * 600 + 10_000  # the results


def test_few_rows_to_adapt_to_and_many_to_judge_by():
    """Memory is linear in the query rows."""
    model = fm.MLP([1, 40, 40, 1])
    rng, sizes = np.random.default_rng(0), {}
    for n_query in (1_000, 10_000):
        arrays = [rng.normal(size=(2, k, 1)) for k in (2, 2, n_query, n_query)]
        for mode in MODES:
            maml = fm.MAML(model, method="factored")
            sizes[mode, n_query] = planned(maml, mode, [model.init(0), *arrays])[2]
    for mode in MODES:
        assert sizes[mode, 10_000] < 10.5 * sizes[mode, 1_000] < 5e8


def test_only_so_much_is_kept(monkeypatch):
    monkeypatch.setattr(workspace, "KEPT", 10_000)
    workspace.release()
    f64 = np.dtype("float64")
    with workspace.borrow(workspace.Layout((f64, (2_000,)))) as (large,):
        assert large.shape == (2_000,)
    assert kept() == 0
    with workspace.borrow(workspace.Layout((f64, (3, 5)), (np.dtype("float32"), (7,)))) as arrays:
        assert [array.shape for array in arrays] == [(3, 5), (7,)]
        assert all(array.ctypes.data % workspace.ALIGNMENT == 0 for array in arrays)
    assert 0 < kept() < 10_000


def guard_all(monkeypatch, guard=8192):
    """Surround each array of a workspace by bytes that are looked at after each call."""
    workspace.release()
    init, enter = workspace.Layout.__init__, workspace.Workspace.__enter__

    def guarded(self, *arrays):
        init(self, *arrays)
        self.places = [place + 2 * guard for place in self.places]

    def on(self, memory):
        starts = np.cumsum([guard, *self.places])
        return [
            memory[start : start + size].view(dtype).reshape(shape)
            for (dtype, shape), size, start in zip(self.arrays, self.sizes, starts, strict=False)
        ]

    def fill(self):
        self.memory.fill(255)
        return enter(self)

    def inspect(self, *error):
        layout = next(key for key, value in self.laid_out.items() if value is self.arrays)
        for array in self.arrays:
            start = array.ctypes.data - self.memory.ctypes.data
            around = [self.memory[start - guard : start]]
            around += [self.memory[start + array.nbytes : start + array.nbytes + guard]]
            assert all((part == 255).all() for part in around), layout.arrays

    monkeypatch.setattr(dense, "rows_of", workspace.rows_of.__wrapped__)  # none from before
    monkeypatch.setattr(workspace.Layout, "__init__", guarded)
    monkeypatch.setattr(workspace.Layout, "on", on)
    monkeypatch.setattr(workspace.Workspace, "__enter__", fill)
    monkeypatch.setattr(workspace.Workspace, "__exit__", inspect)


@compiled_only
@pytest.mark.parametrize("own", [True, False, None])
@pytest.mark.parametrize("method", METHODS)
def test_kernels_stay_within_their_memory(method, own, monkeypatch):
    """Bytes before and after each array of a call stay as they are."""
    guard_all(monkeypatch)
    if own is not None:
        monkeypatch.setattr(factored, "own_layers", lambda model, *_: [own] * model.n_layers)
    rng = np.random.default_rng(0)
    for sizes, counts, steps, dtype in (
        ([1, 1], [1], 1, "float32"),
        ([3, 17, 5, 2], [1, 30, 4, 4], 2, "float32"),
        ([2, 33, 1], [7] * 40, 3, "float64"),
        ([1, 8, 8, 9], [80, 1], 0, "float64"),
    ):
        model = fm.MLP(sizes, "tanh")
        x, x_query = ([rng.normal(size=(k, sizes[0])) for k in c] for c in (counts, counts[::-1]))
        y, y_query = ([rng.normal(size=(k, sizes[-1])) for k in c] for c in (counts, counts[::-1]))
        for weights in (None, np.ones(steps + 1)):
            maml = fm.MAML(model, 1e-3, steps, method=method, step_weights=weights)
            theta = model.init(0, dtype)
            maml.evaluate(theta, x, y, x_query, y_query)
            maml.predict(theta, x, y, x_query)


@compiled_only
@pytest.mark.parametrize("form", FORMS)
def test_closed_form_stays_within_its_memory(form, monkeypatch):
    guard_all(monkeypatch)
    monkeypatch.setattr(closed_form, "dual_limit", FORMS[form])
    rng = np.random.default_rng(0)
    for sizes, counts, dtype in (
        ([1, 1], [1], "float32"),
        ([3, 17, 5, 2], [0, 30, 4, 4], "float32"),
        ([2, 33, 1], [7] * 40, "float64"),
        ([1, 8, 8, 9], [80, 1], "float64"),
        ([1, 4, 18], [3, 0], "float32"),
    ):
        model = fm.MLP(sizes, "tanh")
        query = [count + 1 for count in counts[::-1]]
        x, x_query = ([rng.normal(size=(k, sizes[0])) for k in c] for c in (counts, query))
        y, y_query = ([rng.normal(size=(k, sizes[-1])) for k in c] for c in (counts, query))
        for loss in ("nll", "mse"):
            head = fm.BayesianLastLayer(model, loss, noise="per_output")
            theta = head.init(0, dtype)
            head.evaluate(theta, x, y, x_query, y_query)
            head.value(theta, x, y, x_query, y_query)
            head.predict(theta, x, y, x_query)
            head.predict(theta, x, y, x_query, return_std=True)
            head.adapt(theta, x, y)


@compiled_only
@pytest.mark.parametrize(("loss", "dtype"), [("nll", "float32"), ("mse", "float64")])
def test_closed_form_allocates_what_its_plan_says(loss, dtype):
    model = fm.MLP([1, 40, 40, 1])
    head = fm.BayesianLastLayer(model, loss)
    theta, *arrays = data(model, 600, 5, dtype)
    theta = head.init(0, dtype)
    support, query = as_tasks(model, *arrays, theta.dtype)
    plan = closed_form._plan_for(head._problem, theta.dtype, support, query, modes.GRADIENT)
    workers, piece, _ = plan.split()
    formula = plan.memory(workers, piece)
    peak, results = allocated(head.gradient, theta, *arrays)
    assert formula > 3 * SLACK
    assert 0.98 * formula < peak < 1.03 * (formula + results + 8 * 600) + SLACK
    limited = fm.BayesianLastLayer(model, loss, max_memory=formula // 2)
    assert allocated(limited.gradient, theta, *arrays)[0] < 0.8 * peak


@compiled_only
def test_a_task_that_overflows_brings_no_copy_of_the_others():
    """Its layer 1 is inf in float32, and the others are not computed anew."""
    head = fm.BayesianLastLayer(fm.MLP([8, 4, 4, 1], "relu"))
    (first, second, last), *variances = head.unpack(head.init(0))
    layers = [(1e25 * first[0], first[1]), (1e-36 * second[0], second[1]), last]
    theta = head.pack(layers, *variances).astype("float32")
    x, y, x_new, _ = data(head.model, 2000, 10, "float32")[1:]
    far = x.copy()
    far[700] *= 1e15
    for call, arguments in ((head.predict, [y, x_new]), (head.adapt, [y])):
        (usual, _), (peak, _) = (allocated(call, theta, rows, *arguments) for rows in (x, far))
        assert all(np.isfinite(part).all() for part in call(theta, far, *arguments))
        assert peak - usual < 2 * far.nbytes / 4 < 2 * far.nbytes  # that in float64


def test_a_call_within_a_call_has_memory_of_its_own():
    """As a signal handler may make one."""
    layout = workspace.Layout((np.dtype("float64"), (10,)))
    with workspace.borrow(layout) as (outer,), workspace.borrow(layout) as (inner,):
        assert not np.shares_memory(outer, inner)
    with workspace.borrow(layout) as (again,):
        assert np.shares_memory(again, outer)


def test_many_layouts_share_one_block():
    workspace.release()
    largest = workspace.Layout((np.dtype("float64"), (1_000,)))
    with workspace.borrow(largest):
        pass
    size = kept()
    for n in range(3 * workspace.LAYOUTS):
        with workspace.borrow(workspace.Layout((np.dtype("float32"), (n,)))) as (array,):
            assert array.shape == (n,)
    assert kept() == size


def test_plans_are_remembered_by_their_problem_alone(monkeypatch):
    """A training that learns rates makes a problem an iteration; its plans hold the rates."""
    monkeypatch.setattr(stepwise, "REMEMBERED_PLANS", 3)
    model = fm.MLP([1, 3, 1])
    maml, theta = fm.MAML(model, np.full(model.n_params, 0.01)), model.init(0)
    for rows in range(1, 6):
        x = np.ones((2, rows, 1))
        maml.gradient(theta, x, x)
        maml.gradient(theta, [x[0], x[1, :1]], [x[0], x[1, :1]])
        assert 0 < len(maml._problem._plans) <= 3
    sent = pickle.loads(pickle.dumps(maml))
    assert not sent._problem._plans
    problem = weakref.ref(maml._problem)
    del maml
    gc.collect()
    assert problem() is None


def test_memory_of_a_container_counts(tmp_path, monkeypatch):
    """The file of its limit holds a number, or a word where there is none."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(checks, "CONTAINER_LIMITS", (str(tmp_path / "none"), str(limit)))
    known = checks.physical_memory.__wrapped__
    machine = known()
    for text, expected in (("max\n", machine), (f"{2**30}\n", 2**30), (f"{2**63}\n", machine)):
        limit.write_text(text)
        assert known() == expected
