"""Batches of tasks: every way to hand one over gives the same rows, every misfit its message."""

import numpy as np
import pytest
from test_checks import FLOAT32, FLOAT64, KINDS, error, well_formed, whole

import fastmaml as fm
from fastmaml.models import MLP, Linear
from fastmaml.tasks import NO_Y, Rows, as_rows, as_tasks, offsets_of, split

ONE = MLP([1, 2, 1])
MANY = Linear(3, n_outputs=2)
COUNTS = (3, 1, 4)


def batch(model, n_tasks=4, rows=5):
    return whole(n_tasks, rows, model.n_inputs), whole(n_tasks, rows, model.n_outputs) + 1


def ragged(model):
    return (
        [whole(count, model.n_inputs) + count for count in COUNTS],
        [whole(count, model.n_outputs) - count for count in COUNTS],
    )


def check_rows(rows, x, y, dtype=FLOAT64):
    """Check `rows` against lists of per-task arrays."""
    assert isinstance(rows, Rows)
    assert well_formed(rows.x, dtype)
    assert well_formed(rows.y, dtype)
    assert rows.offsets.dtype == np.int64
    assert rows.offsets.flags.c_contiguous
    assert not rows.offsets.flags.writeable
    counts = [len(task) for task in x]
    assert rows.n_tasks == len(counts)
    assert rows.offsets.tolist() == [sum(counts[:i]) for i in range(len(counts) + 1)]
    assert rows.ragged is (len(set(counts)) > 1)
    np.testing.assert_array_equal(rows.x, np.concatenate(x))
    np.testing.assert_array_equal(rows.y, np.concatenate(y))


@pytest.mark.parametrize("model", [ONE, MANY], ids=repr)
@pytest.mark.parametrize("n_tasks", [1, 4])
@pytest.mark.parametrize("n_rows", [1, 5])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_arrays_become_rows_without_a_copy(model, n_tasks, n_rows, dtype):
    x, y = (array.astype(dtype) for array in batch(model, n_tasks, n_rows))
    rows = as_rows(model, x, y, dtype)
    check_rows(rows, x, y, dtype)
    assert np.shares_memory(rows.x, x)
    assert np.shares_memory(rows.y, y)
    assert rows.offsets is as_rows(model, x, y, dtype).offsets


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", [ONE, MANY], ids=repr)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("sizes", [(4, 5), (1, 1), (1, 3), (3, 1)], ids=str)
def test_every_kind_of_array(kind, model, dtype, sizes):
    x, y = batch(model, *sizes)
    given = KINDS[kind](x), KINDS[kind](y)
    before = [np.array(array) for array in given]
    check_rows(as_rows(model, *given, dtype), x, y, dtype)
    for array, old in zip(given, before, strict=True):
        np.testing.assert_array_equal(np.array(array), old)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", [ONE, MANY], ids=repr)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("outer", [list, tuple])
def test_every_kind_of_ragged_list(kind, model, dtype, outer):
    x, y = ragged(model)
    y = [task + 20 for task in y]  # unsigned integers have no sign
    given = outer(KINDS[kind](task) for task in x), outer(KINDS[kind](task) for task in y)
    check_rows(as_rows(model, *given, dtype), x, y, dtype)


def test_outputs_without_their_axis():
    x, y = batch(ONE)
    check_rows(as_rows(ONE, x, y[..., 0], FLOAT64), x, y)
    check_rows(as_rows(ONE, x, y[..., 0].tolist(), FLOAT64), x, y)
    check_rows(as_rows(ONE, x, list(y[..., 0]), FLOAT64), x, y)
    x, y = ragged(ONE)
    check_rows(as_rows(ONE, x, [task[:, 0] for task in y], FLOAT64), x, y)
    # as many rows as outputs, or as features, leaves no doubt either
    x, y = batch(ONE, 3, 1)
    check_rows(as_rows(ONE, x, y[..., 0], FLOAT64), x, y)


def test_lists_of_equal_tasks_are_not_ragged():
    x, y = batch(MANY)
    for given in ((list(x), list(y)), (x, list(y)), (tuple(x), y), (x.tolist(), y.tolist())):
        rows = as_rows(MANY, *given, FLOAT64)
        check_rows(rows, x, y)
        assert not rows.ragged


def test_a_list_may_mix_kinds():
    x, y = ragged(ONE)
    mixed = [x[0].tolist(), x[1].astype(">i4"), np.asfortranarray(x[2])]
    check_rows(as_rows(ONE, mixed, y, FLOAT64), x, y)


def test_lists_keep_no_other_layout():
    x, y = batch(MANY)
    given = [np.asfortranarray(task) for task in x], [np.asfortranarray(task) for task in y]
    check_rows(as_rows(MANY, *given, FLOAT64), x, y)


def test_booleans_count_as_numbers():
    x = whole(2, 3, 1) > 2
    check_rows(as_rows(ONE, x, x, FLOAT32), x.astype(float), x.astype(float), FLOAT32)


def test_without_y():
    for x in (batch(MANY)[0], ragged(MANY)[0]):
        rows = as_rows(MANY, x, NO_Y, FLOAT32)
        assert rows.y.shape == (0, 2)
        assert rows.y.dtype == np.float32
        np.testing.assert_array_equal(rows.x, np.concatenate(list(x)))


@pytest.mark.parametrize("x", [batch(MANY)[0], ragged(MANY)[0], batch(MANY)[0][0]])
def test_what_takes_y_does_not_go_without(x):
    """A kernel would read the numbers that lie behind an empty y."""
    maml, theta, step = fm.MAML(MANY), MANY.init(0), {"inner_lr": 0.1}
    text = "y is None; accepted are arrays of real numbers"
    error(lambda: as_rows(MANY, x, None, FLOAT64), TypeError, text)
    error(lambda: maml.adapt(theta, x, None), TypeError, text)
    error(lambda: maml.predict(theta, x, None, x), TypeError, text)
    error(lambda: maml.value(theta, x, None), TypeError, text)
    error(lambda: fm.learn.reptile_gradient(maml, theta, x, None), TypeError, text)
    for name in ("residuals", "task_loss", "task_gradient", "task_hessian"):
        equation = getattr(fm.equations, name)
        error(lambda equation=equation: equation(MANY, theta, x, None), TypeError, text)
    error(lambda: fm.equations.task_hessp(MANY, theta, theta, x, None), TypeError, text)
    for name in ("adapted_parameters", "adaptation_jacobian", "meta_gradient"):
        equation = getattr(fm.equations, name)
        error(lambda equation=equation: equation(MANY, theta, x, None, **step), TypeError, text)


def test_offsets_are_shared_and_read_only():
    offsets = offsets_of(3, 2)
    assert offsets.tolist() == [0, 2, 4, 6]
    assert offsets_of(3, 2) is offsets
    with pytest.raises(ValueError, match="read-only"):
        offsets[0] = 1


def test_split():
    rows = as_rows(MANY, *batch(MANY), FLOAT64)
    assert split(rows.x, rows).shape == (4, 5, 3)
    assert split(np.zeros((20, 2, 7)), rows).shape == (4, 5, 2, 7)
    assert split(np.zeros(20), rows).shape == (4, 5)
    rows = as_rows(MANY, *ragged(MANY), FLOAT64)
    parts = split(rows.y, rows)
    assert [part.shape for part in parts] == [(3, 2), (1, 2), (4, 2)]
    np.testing.assert_array_equal(np.concatenate(parts), rows.y)
    assert [part.shape for part in split(np.zeros((8, 2, 7)), rows)] == [
        (count, 2, 7) for count in COUNTS
    ]


# Support and query -------------------------------------------------------------------------------


def test_support_serves_as_query():
    support, query = as_tasks(ONE, *batch(ONE), None, None, FLOAT64)
    assert support is query


def test_support_and_query_are_ragged_independently():
    x, y = batch(ONE, 3)
    xs, ys = ragged(ONE)
    for given in ((x, y, xs, ys), (xs, ys, x, y), (xs, ys, x[:, :2], y[:, :2])):
        support, query = as_tasks(ONE, *given, FLOAT64)
        check_rows(support, *given[:2])
        check_rows(query, *given[2:])


def test_half_a_query_set():
    x, y = batch(ONE)
    error(
        lambda: as_tasks(ONE, x, y, x, None, FLOAT64),
        ValueError,
        "x_query is given, y_query is not; accepted are both or neither",
    )
    error(
        lambda: as_tasks(ONE, x, y, None, y, FLOAT64),
        ValueError,
        "y_query is given, x_query is not; accepted are both or neither",
    )


def test_query_sets_of_another_number_of_tasks():
    x, y = batch(ONE, 4)
    for xq, yq in (batch(ONE, 3), ragged(ONE)):
        error(
            lambda xq=xq, yq=yq: as_tasks(ONE, x, y, xq, yq, FLOAT64),
            ValueError,
            "x_query has 3 tasks, x has 4; accepted is the same number of tasks",
        )


def test_errors_of_a_query_set_name_it():
    x, y = batch(ONE)
    error(
        lambda: as_tasks(ONE, x, y, whole(4, 5, 3), y, FLOAT64),
        ValueError,
        f"x_query has 3 features, the model takes 1 ({ONE!r})",
    )
    error(
        lambda: as_tasks(ONE, x, y, x, whole(4, 5, 3), FLOAT64),
        ValueError,
        f"y_query has 3 outputs, the model gives 1 ({ONE!r})",
    )
    broken = y.copy()
    broken[2, 3] = np.nan
    error(
        lambda: as_tasks(ONE, x, y, x, broken, FLOAT64),
        ValueError,
        "y_query holds nan in task 2, row 3",
    )
    as_tasks(ONE, x, y, x, broken, FLOAT64, check_finite=False)


# Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [None, "text", 1j, np.ma.masked_array(np.ones((4, 5, 1)))], ids=repr
)
def test_other_kinds(bad):
    x, y = batch(ONE)
    error(lambda: as_tasks(ONE, bad, y, None, None, FLOAT64), TypeError, "x ", "accepted are")
    error(lambda: as_tasks(ONE, x, bad, None, None, FLOAT64), TypeError, "y ", "accepted are")
    x, y = ragged(ONE)
    error(lambda: as_rows(ONE, [*x[:2], bad], y, FLOAT64), TypeError, "x[2] ", "accepted are")
    error(lambda: as_rows(ONE, x, [bad, *y[1:]], FLOAT64), TypeError, "y[0] ", "accepted are")


def test_arrays_of_objects():
    boxed = np.empty(3, object)
    boxed[:] = ragged(ONE)[0]
    error(lambda: as_rows(ONE, boxed, None, FLOAT64), TypeError, "x has dtype object", "real")


ONE_OR_MANY = "; accepted are (n_tasks, rows, 1), and (rows, 1) for a single task"


@pytest.mark.parametrize(
    ("model", "shape", "texts"),
    [
        (ONE, (4, 5, 3), ["x has 3 features, the model takes 1", repr(ONE)]),
        (ONE, (4, 5, 0), ["x has 0 features, the model takes 1"]),
        (MANY, (4, 5, 1), ["x has 1 features, the model takes 3", repr(MANY)]),
        (ONE, (4, 5), ["x has shape (4, 5)", ONE_OR_MANY, "x[..., None]"]),
        (MANY, (5, 4), ["x has shape (5, 4); accepted are (n_tasks, rows, 3), and (rows, 3) for"]),
        (ONE, (5,), ["x has shape (5,)", ONE_OR_MANY, "x[..., None]"]),
        (ONE, (), ["x has shape ()", ONE_OR_MANY]),
        (ONE, (2, 4, 5, 1), ["x has shape (2, 4, 5, 1)", ONE_OR_MANY]),
        (ONE, (0, 5, 1), ["x has shape (0, 5, 1); accepted are one or more tasks and rows"]),
        (ONE, (4, 0, 1), ["x has shape (4, 0, 1); accepted are one or more tasks and rows"]),
    ],
    ids=str,
)
def test_x_of_another_shape(model, shape, texts):
    error(lambda: as_rows(model, np.zeros(shape), None, FLOAT64), ValueError, *texts)


@pytest.mark.parametrize(
    ("model", "shape", "texts"),
    [
        (ONE, (4, 5, 3), ["y has 3 outputs, the model gives 1", repr(ONE)]),
        (MANY, (4, 5, 1), ["y has 1 outputs, the model gives 2", repr(MANY)]),
        (MANY, (4, 5), ["y has shape (4, 5); accepted is (n_tasks, rows, 2)", repr(MANY)]),
        (ONE, (4,), ["y has shape (4,); accepted is (n_tasks, rows, 1) or (n_tasks, rows)"]),
        (ONE, (), ["y has shape ()"]),
        (ONE, (0, 5), ["y has shape (0, 5); accepted are one or more tasks and rows"]),
        (ONE, (4, 0, 1), ["y has shape (4, 0, 1); accepted are one or more tasks and rows"]),
        (ONE, (3, 5), ["y has 3 tasks, x has 4; accepted is the same number of tasks"]),
        (ONE, (5, 4, 1), ["y has 5 tasks, x has 4"]),
        (ONE, (4, 6), ["y has 6 rows in task 0, x has 5; accepted is the same number of rows"]),
    ],
    ids=str,
)
def test_y_of_another_shape(model, shape, texts):
    x, _ = batch(model)
    error(lambda: as_rows(model, x, np.zeros(shape), FLOAT64), ValueError, *texts)


@pytest.mark.parametrize(
    ("shapes", "texts"),
    [
        ([], ["x has 0 tasks; accepted are one or more"]),
        ([(3, 1), (0, 1)], ["x[1] has 0 rows; accepted are tasks of one or more rows"]),
        ([(3, 1), (2, 2)], ["x[1] has 2 features, the model takes 1", repr(ONE)]),
        ([(3, 1), (2,)], ["x[1] has shape (2,); accepted is (rows, 1)", "x[1][..., None]"]),
        ([(2, 3, 1)], ["x[0] has shape (2, 3, 1); accepted is (rows, 1)"]),
        ([()], ["x[0] has shape (); accepted is (rows, 1)"]),
    ],
    ids=str,
)
def test_lists_of_x_of_another_shape(shapes, texts):
    x = [np.zeros(shape) for shape in shapes]
    error(lambda: as_rows(ONE, x, None, FLOAT64), ValueError, *texts)


def test_lists_of_y_of_another_shape():
    x, y = ragged(ONE)
    error(
        lambda: as_rows(ONE, x, [y[0], y[1], y[2][:3]], FLOAT64),
        ValueError,
        "y has 3 rows in task 2, x has 4; accepted is the same number of rows",
    )
    error(lambda: as_rows(ONE, x, y[:2], FLOAT64), ValueError, "y has 2 tasks, x has 3")
    error(lambda: as_rows(ONE, x, [], FLOAT64), ValueError, "y has 0 tasks")
    error(
        lambda: as_rows(ONE, x, [y[0], y[1][0, 0], y[2]], FLOAT64),
        ValueError,
        "y[1] has shape (); accepted is (rows, 1) or (rows,)",
    )
    x, y = ragged(MANY)
    error(
        lambda: as_rows(MANY, x, [y[0], y[1][:, 0], y[2]], FLOAT64),
        ValueError,
        "y[1] has shape (1,); accepted is (rows, 2)",
    )
    error(
        lambda: as_rows(MANY, x, [y[0], y[1][:, :1], y[2]], FLOAT64),
        ValueError,
        "y[1] has 1 outputs, the model gives 2",
    )


# ---- a single task


@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist, tuple])
@pytest.mark.parametrize("model", [ONE, MANY], ids=repr)
def test_a_single_task(model, kind):
    x, y = batch(model)
    rows = as_rows(model, kind(x[0]), kind(y[0]), FLOAT64)
    assert rows.single
    assert not rows.flat
    assert not rows.ragged
    np.testing.assert_array_equal(rows.x, x[0])
    np.testing.assert_array_equal(rows.y, y[0])
    assert rows.offsets.tolist() == [0, len(x[0])]


@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist, tuple])
def test_a_single_task_of_targets_without_axis(kind):
    x, y = batch(ONE)
    rows = as_rows(ONE, kind(x[0]), kind(y[0, :, 0]), FLOAT64)
    assert rows.single
    assert rows.flat
    np.testing.assert_array_equal(rows.y, y[0])


@pytest.mark.parametrize(
    ("model", "shape", "texts"),
    [
        (ONE, (5, 2), ["y has 2 outputs, the model gives 1"]),
        (ONE, (1, 5), ["y has 5 outputs, the model gives 1"]),
        (ONE, (1, 5, 1), ["y has shape (1, 5, 1); accepted is (rows, 1) or (rows,)"]),
        (MANY, (5,), ["y has shape (5,); accepted is (rows, 2)"]),
        (ONE, (4,), ["y has 4 rows in task 0, x has 5"]),
        (ONE, (0,), ["y has shape (0,); accepted are one or more"]),
    ],
    ids=str,
)
def test_y_of_another_shape_of_a_single_task(model, shape, texts):
    x, _ = batch(model)
    error(lambda: as_rows(model, x[0], np.zeros(shape), FLOAT64), ValueError, *texts)


def test_support_and_query_of_other_numbers_of_tasks():
    x, y = batch(ONE)
    error(
        lambda: as_tasks(ONE, x[0], y[0], x[:2], y[:2], FLOAT64),
        ValueError,
        "x_query has 2 tasks, x has 1",
    )


def test_lists_that_are_no_arrays():
    error(
        lambda: as_rows(ONE, [[[1.0], [2.0, 3.0]]], None, FLOAT64),
        ValueError,
        "x[0] is no regular array",
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_data_that_is_not_finite(bad, dtype):
    for x, y in (batch(MANY, 3), ragged(MANY)):
        for task, row in ((0, 0), (1, 0), (2, 3)):
            for name in ("x", "y"):
                broken = [np.array(a) for a in (x if name == "x" else y)]
                broken[task][row, -1] = bad
                given = (broken, y) if name == "x" else (x, broken)
                error(
                    lambda given=given: as_rows(MANY, *given, dtype),
                    ValueError,
                    f"{name} holds {bad} in task {task}, row {row}; "
                    f"accepted are finite {dtype} numbers",
                )
                rows = as_rows(MANY, *given, dtype, check_finite=False)
                assert not np.isfinite(rows.x if name == "x" else rows.y).all()


def test_data_too_large_for_the_dtype_is_not_finite():
    x, y = batch(ONE)
    x[1, 2] = 1e300
    for given in (x, list(x)):
        error(
            lambda given=given: as_rows(ONE, given, y, FLOAT32),
            ValueError,
            "x holds inf in task 1, row 2; accepted are finite float32 numbers",
        )
    y[0, 0] = np.finfo("f4").max  # its square is not finite, but it is
    as_rows(ONE, np.zeros_like(x), y, FLOAT32)
