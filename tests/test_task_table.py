"""Tables of rows as tasks: labels, missing cells, short tasks, held-out tasks, batches."""

import datetime
from decimal import Decimal

import numpy as np
import pytest

import fastmaml as fm
from fastmaml.datasets import TaskTable, label_text
from fastmaml.datasets.labels import as_labels, identity

COUNTS = {"a": 5, "b": 2, "c": 9, "d": 6}


def rows(counts=COUNTS, seed=0):
    """Shuffled rows; x holds a number that no other row has, y follows from it."""
    rng = np.random.default_rng(seed)
    tasks = rng.permutation(np.repeat(list(counts), list(counts.values())))
    x = np.arange(len(tasks)) / 4
    return x, 2 * x + 1, tasks


def table(**options):
    return TaskTable.from_rows(*rows(), **options)


# ---- from what a user has


def test_rows_stay_with_their_task_in_their_order():
    x, y, tasks = rows()
    made = TaskTable.from_rows(x, y, tasks)
    assert made.names == ("a", "b", "c", "d")
    assert made.n_rows.tolist() == [5, 2, 9, 6]
    np.testing.assert_array_equal(made.x[:, 0], x[made.order])
    for name, own in zip(made.names, made.by_task(made.x), strict=True):
        np.testing.assert_array_equal(own[:, 0], x[tasks == name])
    assert repr(made) == "TaskTable(4 tasks, 22 rows, 1 inputs, 1 outputs)"


def test_a_dict_a_frame_and_arrays_are_one_table():
    pd = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow")
    x, y, tasks = rows()
    columns = {"x": x, "y": y, "task": tasks}
    frames = [columns, pd.DataFrame(columns), pa.table(columns)]
    frames.append(pd.DataFrame(columns).astype({"x": "Float64", "task": "category"}))
    made = [TaskTable.from_frame(frame, "task", ["x"], ["y"]) for frame in frames]
    made.append(TaskTable.from_dict({t: (x[tasks == t], y[tasks == t]) for t in COUNTS}))
    for other in made:
        want = table()
        assert other.names == want.names
        np.testing.assert_array_equal(other.x, want.x)
        np.testing.assert_array_equal(other.y, want.y)
        np.testing.assert_array_equal(other.offsets, want.offsets)


def test_several_columns_name_a_task():
    frame = {"x": [1.0, 2.0, 3.0], "site": ["n", "m", "n"], "unit": [2, 1, 1]}
    made = TaskTable.from_frame(frame, ["site", "unit"], ["x"])
    assert made.names == (("m", 1), ("n", 1), ("n", 2))
    assert made.x[:, 0].tolist() == [2.0, 3.0, 1.0]
    assert made.y.shape == (3, 0)
    assert TaskTable.from_frame(frame, None, ["x"]).names == ("all",)


def test_the_dict_keeps_its_order_and_each_name_what_it_is():
    made = TaskTable.from_dict({"b": ([1.0], [2.0]), 1: ([3.0], [4.0]), "1": ([5.0], [6.0])})
    assert made.names == ("b", 1, "1")
    assert made.find(["1", 1.0, "c"]).tolist() == [2, 1, -1]


def test_float32_stays_and_all_else_is_float64():
    made = TaskTable.from_rows(np.zeros(3, np.float32), [1, 2, 3])
    assert (made.x.dtype, made.y.dtype) == (np.float32, np.float64)
    assert made.split(2).x.dtype == np.float32
    assert made.sample(1, 2, 1, rng=0, dtype=np.float32).y.dtype == np.float32


def test_time_sorts_the_rows_of_a_task():
    days = np.array(["2020-01-03", "2020-01-01", "2020-01-02"], "M8[D]")
    for time in ([3, 1, 2], days, list(days.astype(object))):
        made = TaskTable.from_rows([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], time=time)
        assert made.split(1, how="first").x[0, :, 0].tolist() == [2.0]
        assert made.x[:, 0].tolist() == [2.0, 3.0, 1.0]
    framed = TaskTable.from_frame({"x": [1.0, 2.0], "t": [1, 0]}, None, ["x"], time="t")
    assert framed.x[:, 0].tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (["1", 2.0, 3.0], "column 'x' holds '1' in row 0; accepted are numbers"),
        ([1.0, 2.0, datetime.date(2020, 1, 1)], r"column 'x' holds .* in row 2; accepted are numb"),
        (np.array(["2020-01-01"] * 3, "M8[D]"), "column 'x' holds .* in row 0; accepted are num"),
        (np.array([1, 2, 3], "m8[s]"), "column 'x' holds .* in row 0; accepted are numbers"),
        ([1.0, (2.0,), 3.0], r"column 'x' holds \(2.0,\) in row 1"),
    ],
)
def test_what_is_no_number_is_not_made_one(column, text):
    frame = {"x": column, "y": [1.0, 2.0, 3.0]}
    with pytest.raises(TypeError, match=text):
        TaskTable.from_frame(frame, None, ["x"], ["y"])


def test_numbers_of_any_kind_and_missing_ones():
    frame = {"x": [1, Decimal("2.5"), None, np.float32(0.5), float("nan")], "g": [1, 1, 1, 1, 2]}
    with pytest.warns(UserWarning, match="1 of 2 tasks have fewer than 1 rows and are left out: 2"):
        made = TaskTable.from_frame(frame, "g", ["x"], missing="drop", short_tasks="drop")
    assert made.x[:, 0].tolist() == [1.0, 2.5, 0.5]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: TaskTable.from_rows([], []), ValueError, "x has no rows"),
        (lambda: TaskTable.from_rows([1.0], [1.0, 2.0]), ValueError, "y has 2 rows, x has 1"),
        (lambda: TaskTable.from_rows(np.zeros((1, 1, 1))), ValueError, r"x has shape \(1, 1, 1\)"),
        (lambda: TaskTable.from_rows(["a"]), TypeError, "x has dtype <U1"),
        (lambda: TaskTable.from_rows([1.0], [1.0], [1, 2]), ValueError, r"tasks has shape \(2,\)"),
        (lambda: TaskTable.from_rows([1.0], [1.0], "a"), TypeError, "tasks is 'a'; accepted is on"),
        (
            lambda: TaskTable.from_rows([1.0], [1.0], np.array(1)),
            ValueError,
            r"tasks has shape \(\)",
        ),
        (
            lambda: TaskTable.from_rows([1.0], [1.0], np.array(None)),
            TypeError,
            r"tasks is array\(None",
        ),
        (
            lambda: TaskTable.from_frame({"x": 1.0}, None, ["x"]),
            TypeError,
            "column 'x' is 1.0; accepted are columns of numbers",
        ),
        (lambda: TaskTable.from_dict({}), TypeError, "tasks is {}; accepted is a dict"),
        (
            lambda: TaskTable.from_dict({1: 2.0}),
            TypeError,
            r"tasks\[1\] is 2.0; accepted are pairs",
        ),
        (lambda: TaskTable.from_dict({None: ([1.0],)}), ValueError, "tasks has the name None"),
        (
            lambda: TaskTable.from_dict({1: ([1.0], [1.0]), 2: (np.ones((3, 2)), np.ones(3))}),
            ValueError,
            r"tasks\[2\] has x \(3, 2\) and y \(3, 1\); accepted are x \(rows, 1\) and y",
        ),
        (
            lambda: TaskTable.from_frame({"x": [1.0]}, "g", ["x"]),
            ValueError,
            "frame has no column 'g'; it has 'x'",
        ),
        (
            lambda: TaskTable.from_frame({"x": [1.0], "y": [1.0, 2.0]}, None, ["x"], ["y"]),
            ValueError,
            r"column 'y' has shape \(2,\); accepted is one entry for each row, \(1,\)",
        ),
        (
            lambda: TaskTable.from_frame({"x": [1.0]}, None, "x"),
            TypeError,
            "inputs or outputs is the text 'x'; accepted are lists",
        ),
    ],
)
def test_what_is_no_table_is_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---- missing cells, short tasks


def test_missing_cells_are_an_error_or_dropped():
    x, y = [1.0, np.nan, 3.0, 4.0], [1.0, 2.0, np.nan, 4.0]
    with pytest.raises(ValueError, match=r"x holds nan in column 0, row 1 \(not finite: rows 1\)"):
        TaskTable.from_rows(x, y)
    assert TaskTable.from_rows(x, y, missing="drop").x[:, 0].tolist() == [1.0, 4.0]
    with pytest.raises(ValueError, match="y holds inf in column 0, row 0"):
        TaskTable.from_rows([1.0, 2.0], [np.inf, np.nan], missing="drop")
    with pytest.raises(ValueError, match="missing is 'fill'; accepted are 'error', 'drop'"):
        TaskTable.from_rows(x, y, missing="fill")
    made = TaskTable.from_rows([1.0, 2.0], [1.0, 2.0], ["a", None], missing="drop")
    assert made.names == ("a",)
    assert made.order.tolist() == [0]


def test_short_tasks_are_an_error_or_left_out_with_a_count():
    with pytest.raises(ValueError, match=r"task 'b' has 2 rows; accepted are 6 .* \(2 of 4 tasks"):
        table(min_rows=6)
    with pytest.warns(UserWarning, match="2 of 4 tasks have fewer than 6 rows .* out: 'a', 'b'"):
        left = table(min_rows=6, short_tasks="drop")
    assert left.names == ("c", "d")
    with pytest.raises(ValueError, match=r"task 'b' has 2 rows; .* \(4 of 4 tasks have fewer\)"):
        table(min_rows=10, short_tasks="drop")
    with pytest.raises(ValueError, match="short_tasks is 'keep'"):
        table(short_tasks="keep")


# ---- labels


@pytest.mark.parametrize(
    ("labels", "where"),
    [
        (["a", None, "b"], "None in row 1"),
        (["a", np.nan, "b"], "nan in row 1"),
        (np.array(["a", np.nan, "b"]), "'nan' in row 1"),
        (np.array(["a", None, "b"], str), "'None' in row 1"),
        ([b"a", b" ", b"b"], "b' ' in row 1"),
        (np.array([b"a", b"", b"b"]), "b'' in row 1"),
        (np.array(["a", None, None], object), "None in row 1, 2"),
        (np.array([1.0, np.nan, 2.0]), "nan in row 1"),
        (
            np.array(["2020-01-01", "NaT", "NaT"], "M8[D]"),
            r"np.datetime64\('NaT'(,'D')?\) in row 1, 2",
        ),
        (["a", "  ", ""], "'  ' in row 1, 2"),
        (np.array(["a", " ", ""]), "' ' in row 1, 2"),
        (np.ma.array([1, 2, 3], mask=[0, 1, 0]), "a masked entry in row 1"),
        (np.ma.array(["a", "b", "c"], dtype=object, mask=[0, 0, 1]), "a masked entry in row 2"),
        ([("a", 1), ("a", None), ("b", 1)], r"\('a', None\) in row 1"),
    ],
)
def test_missing_labels_are_no_task(labels, where):
    with pytest.raises(ValueError, match=f"groups holds {where}; accepted is a label for each row"):
        as_labels("groups", labels, 3)
    assert (as_labels("groups", labels, 3, "drop").code[1:] < 0).any()


def test_columns_without_an_order_or_of_a_frame_are_no_labels():
    pd = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match=r"groups is \{.*\}; accepted is one label for each"):
        as_labels("groups", {1, 2, 3}, 3)
    frame = pd.DataFrame(np.eye(3, dtype=int), columns=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"groups has shape \(3, 3\); accepted is one entry for"):
        as_labels("groups", frame, 3)


def test_missing_labels_of_pandas_are_no_task():
    pd = pytest.importorskip("pandas")
    for column in (
        pd.Series([1, pd.NA], dtype="Int64"),
        pd.Series(["a", None], dtype="string"),
        pd.Series(["a", None], dtype="category"),
        pd.to_datetime(pd.Series(["2020-01-01", None])),
        [pd.Timestamp("2020-01-01"), pd.NaT],
        ["a", pd.NA],
    ):
        with pytest.raises(ValueError, match=r"groups holds .* in row 1; accepted is a label"):
            as_labels("groups", column, 2)


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [
        ([1, "1"], r"numbers \(1 in row 0\) and text \('1' in row 1\)"),
        (np.array([1, "1"], object), r"numbers \(1 in row 0\) and text"),
        ([1, True], r"numbers \(1 in row 0\) and truth values \(True in row 1\)"),
        ([b"a", "a"], "bytes objects .* and text"),
        (
            [np.datetime64("2020-01-01"), np.datetime64("2020-01-01T00:00:00")],
            "dates in days .* and dates in seconds",
        ),
        (
            [datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1)],
            "dates in days .* and dates in seconds",
        ),
        ([("a", 1), ("a", "1")], r"tuples \(text, numbers\) .* and tuples \(text, text\)"),
        ([1j, 2j], None),
        ([[1], [1]], None),
        ([{}, {}], None),
    ],
)
def test_labels_are_of_one_kind(labels, kinds):
    text = (
        f"labels of two kinds, {kinds}" if kinds else "that have no order|a list; accepted|a dict"
    )
    with pytest.raises(TypeError, match=text):
        as_labels("groups", labels, 2)


@pytest.mark.parametrize(
    "labels", [[" a", "a"], ["e\u0301", "\u00e9"], ["a  b", "a b"], [b"a ", b"a"]]
)
def test_text_that_looks_the_same_is_not_two_tasks(labels):
    for given in (labels, np.array(labels)):
        with pytest.raises(ValueError, match=r"\(row [01]\) and .* \(row [01]\), text that looks"):
            as_labels("groups", given, 2)
    assert as_labels("groups", [" a", "b "], 2).names == (" a", "b ")  # as they were given


def test_labels_come_once_and_sorted_as_what_they_are():
    assert as_labels("g", [3, 1, 3, 2.5], 4) == ((1, 2.5, 3), pytest.approx([2, 0, 2, 1]))
    names, code = as_labels("g", np.array([3, 1, 3]), 3)
    assert names == (1, 3)
    assert type(names[0]) is int
    assert code.tolist() == [1, 0, 1]
    dates = np.array(["2020-01-02", "2020-01-01"], "M8[ns]")
    assert as_labels("g", dates, 2).names == (dates[1], dates[0])
    hours = [datetime.timedelta(hours=2), datetime.timedelta(hours=1)]
    assert as_labels("g", hours, 2).names == (hours[1], hours[0])
    assert as_labels("g", [b"b", b"a"], 2).names == (b"a", b"b")


def test_a_day_is_the_same_day_in_every_unit():
    pd = pytest.importorskip("pandas")
    day = datetime.date(2020, 1, 1)
    same = [day, np.datetime64("2020-01-01"), np.datetime64("2020-01-01", "ns"),
            datetime.datetime(2020, 1, 1), pd.Timestamp("2020-01-01")]  # fmt: skip
    assert len({identity(label) for label in same}) == 1
    assert {label_text(label) for label in same} == {"2020-01-01"}
    made = TaskTable.from_rows([1.0], [1.0], np.array(["2020-01-01"], "M8[D]"))
    assert made.find(same).tolist() == [0] * 5
    later = np.datetime64("2020-01-01T00:00:00.000000001")
    assert identity(later) != identity(day)
    assert label_text(later) == "2020-01-01+1000000000as"
    long = [datetime.timedelta(days=1), np.timedelta64(24, "h"), pd.Timedelta(1, "D")]
    assert len({identity(label) for label in long}) == 1


def test_texts_of_labels_are_those_of_files():
    labels = [7, 7.0, "7", 0.5, True, ("a", 7), datetime.timedelta(minutes=1)]
    assert [label_text(v) for v in labels] == ["7", "7", "7", "0.5", "True", '["a", "7"]', "60"]
    assert identity(7) == identity(7.0) == identity(np.int8(7)) != identity("7")
    moment = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    assert identity(moment)[0] == "dates with a time zone"


# ---- tasks held out


def many(n=40, seed=0):
    return rows({f"task {i}": 3 + i % 4 for i in range(n)}, seed)


def names(parts):
    return [set(part.names) for part in parts]


def test_the_parts_depend_on_names_and_seed_alone():
    x, y, tasks = many()
    parts = TaskTable.from_rows(x, y, tasks).hold_out(8, 10, seed=1)
    assert [part.n_tasks for part in parts] == [22, 8, 10]
    assert set.union(*names(parts)) == set(tasks)
    order = np.random.default_rng(1).permutation(len(x))[: len(x) - 20]  # sorted and deleted
    order = np.concatenate([order, [np.flatnonzero(tasks == t)[0] for t in set(tasks)]])
    again = TaskTable.from_rows(x[order], y[order], tasks[order]).hold_out(8, 10, seed=1)
    assert names(again) == names(parts)
    other = TaskTable.from_rows(x, y, tasks).hold_out(8, 10, seed=2)
    assert names(other) != names(parts)
    numbers = np.array([int(t.removeprefix("task ")) for t in tasks])
    texts = TaskTable.from_rows(x, y, numbers.astype(str)).hold_out(8, 10)
    assert [{int(t) for t in part} for part in names(texts)] == names(
        TaskTable.from_rows(x, y, numbers).hold_out(8, 10)
    )


def test_a_new_task_moves_at_most_one_across_each_border():
    x, y, tasks = many()
    before = names(TaskTable.from_rows(x, y, tasks).hold_out(8, 10))
    for i in range(20):
        longer = np.append(x, 0.5), np.append(y, 0.5), np.append(tasks, f"new {i}")
        after = names(TaskTable.from_rows(*longer).hold_out(8, 10))
        assert len(before[2] - after[2]) <= 1
        assert len(before[1] - after[1]) <= 1


def test_known_parts_stay_whatever_comes_and_goes():
    x, y, tasks = many()
    parts = TaskTable.from_rows(x, y, tasks).hold_out(8, 10)
    known = {field: list(part.names) for field, part in zip(parts._fields, parts, strict=True)}
    gone = parts.test.names[0]
    kept = tasks != gone
    changed = np.append(x[kept], [1.0]), np.append(y[kept], [1.0]), np.append(tasks[kept], "new")
    again = TaskTable.from_rows(*changed).hold_out(known=known)
    assert names(again) == [
        set(parts.training.names) | {"new"}, set(parts.validation.names),
        set(parts.test.names) - {gone},
    ]  # fmt: skip
    pairs = TaskTable.from_frame({"x": [1.0, 2.0], "a": [1, 2], "b": [1, 1]}, ["a", "b"], ["x"])
    assert pairs.hold_out(known={"test": [[2, 1]]}).test.names == ((2, 1),)  # as JSON has it


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n_test": 5}, "n_validation is 0, n_test 5; accepted are together up to 4, the tasks"),
        ({"n_test": -1}, "n_test is -1"),
        ({"known": {"exam": ["a"]}}, "known is 'exam'; accepted are 'training', 'validation'"),
        ({"known": {"test": ["a"], "training": ["a"]}}, "known names 'a' in two parts"),
    ],
)
def test_wrong_parts_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        table().hold_out(**options)


def test_names_that_are_one_text_cannot_be_held_out():
    made = TaskTable.from_dict({1: ([1.0],), "1": ([2.0],)})
    with pytest.raises(ValueError, match="two tasks have names that are '1' as text"):
        made.hold_out()


# ---- batches


def sizes(side):
    return [len(task) for task in side]


@pytest.mark.parametrize(
    ("arguments", "support", "query"),
    [
        ((), [2, 1, 4, 3], [3, 1, 5, 3]),
        ((3,), [3, 1, 3, 3], [2, 1, 6, 3]),
        ((0.75,), [3, 1, 6, 4], [2, 1, 3, 2]),
        (([4, 1, 5, 2],), [4, 1, 5, 2], [1, 1, 4, 4]),
    ],
)
@pytest.mark.parametrize("how", ["first", "random"])
def test_every_row_is_support_or_query_of_its_task(arguments, support, query, how):
    made = table()
    tasks = made.split(*arguments, how=how, rng=0)
    assert (sizes(tasks.x), sizes(tasks.x_query)) == (support, query)
    for i, own in enumerate(made.by_task(made.x)):
        together = np.concatenate([tasks.x[i], tasks.x_query[i]])
        np.testing.assert_array_equal(together if how == "first" else np.sort(together, 0), own)
        np.testing.assert_array_equal(tasks.y[i], 2 * tasks.x[i] + 1)
        np.testing.assert_array_equal(tasks.y_query[i], 2 * tasks.x_query[i] + 1)


def test_a_random_split_is_that_of_its_seed():
    one, same, other = (table().split(2, rng=seed) for seed in (0, 0, 1))
    for i in range(4):
        np.testing.assert_array_equal(one.x[i], same.x[i])
    assert any((one.x[i] != other.x[i]).any() for i in range(4))


def test_with_both_numbers_a_batch_is_regular():
    made = table().take([0, 2, 3])
    tasks = made.split(3, n_query=2, rng=0)
    assert (tasks.x.shape, tasks.y_query.shape) == ((3, 3, 1), (3, 2, 1))
    assert made.split(5, n_query=0).x_query is None
    assert sizes(made.split(n_query=2, how="first").x) == [2, 4, 3]
    assert made.split([3, 5, 4], n_query=1).x_query.shape == (3, 1, 1)


def test_sampled_rows_are_of_one_task_and_none_comes_twice():
    made = TaskTable.from_rows(*many())
    tasks = made.sample(30, 1, 2, rng=0)
    drawn = np.concatenate([tasks.x, tasks.x_query], axis=1)[..., 0]
    assert len(np.unique(drawn)) == 90
    place = np.searchsorted(np.sort(made.x[:, 0]), drawn)
    whose = np.repeat(np.arange(40), made.n_rows)[np.argsort(made.x[:, 0])][place]
    assert (whose == whose[:, :1]).all()
    assert len(np.unique(whose[:, 0])) == 30
    alone = made.sample(5, 3, 0, rng=0, dtype=np.float32)
    assert alone.x_query is None
    assert alone.x.dtype == np.float32
    ragged = made.sample(40, 3, rng=0)
    assert sizes(ragged.x) == np.minimum(3, made.n_rows[np.random.default_rng(0).choice(
        40, 40, replace=False)] - 1).tolist()  # fmt: skip
    first = made.sample(1, 2, 1, rng=0, how="first")
    assert any(np.array_equal(own[:2], first.x[0]) for own in made.by_task(made.x))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda t: t.sample(10, 3, 2),
            ValueError,
            "n_tasks is 10; accepted are up to 4, the tasks",
        ),
        (
            lambda t: t.sample(4, 3, 4),
            ValueError,
            r"task '[abd]' has \d rows; accepted are 7 or more",
        ),
        (lambda t: t.split(n_query=2), ValueError, "task 'b' has 2 rows; accepted are 3 or more"),
        (lambda t: t.split(0), ValueError, "n_support is 0; accepted are integers of at least 1"),
        (lambda t: t.split(1.0), ValueError, "n_support is 1.0; accepted are shares between 0 and"),
        (lambda t: t.split("2"), TypeError, "n_support is .*'2'"),
        (lambda t: t.split(np.array(1.5)), TypeError, r"n_support is array\(1.5\)"),
        (lambda t: t.split(np.ones((4, 1), int)), ValueError, "n_support is array"),
        (lambda t: t.split([[1], [1, 2]]), ValueError, "n_support is no regular array"),
        (lambda t: t.split(10**5000), TypeError, "n_support has dtype object"),
        (lambda t: t.split(1, n_query=10**30), ValueError, "n_query is 10+; accepted are integers"),
        (lambda t: t.sample(1, dtype="int"), TypeError, "dtype is 'int'; accepted are float32 and"),
        (lambda t: t.take([]).split(), ValueError, "the table has no tasks; accepted are one or m"),
        (lambda t: t.split([1, 2]), ValueError, r"n_support is \[1, 2\]; accepted are .* \(4,\)"),
        (lambda t: t.split([1, 2, 0, 1]), ValueError, r"\(4,\) integers of at least 1, one for"),
        (
            lambda t: t.split(2, how="last"),
            ValueError,
            "how is 'last'; accepted are 'random', 'fir",
        ),
        (lambda t: t.split(2, n_query=-1), ValueError, "n_query is -1"),
        (lambda t: t.split(2, rng="x"), TypeError, "rng is 'x'"),
    ],
)
def test_wrong_batches_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call(table())


@pytest.mark.parametrize("how", ["random", "first"])
@pytest.mark.parametrize("n_query", [2, None])
def test_a_range_of_support_rows_is_one_number_a_batch_drawn_before_the_tasks(how, n_query):
    made = table().take([0, 2, 3])
    rng, again, seen = np.random.default_rng(5), np.random.default_rng(5), set()
    for _ in range(30):
        tasks = made.sample(2, (1, 3), n_query, rng, how=how)
        n = int(again.integers(1, 4))
        want = made.sample(2, n, n_query, again, how=how)
        assert tasks.names == want.names
        for side, other in zip(tasks, want, strict=True):
            for one, two in zip(side, other, strict=True):
                np.testing.assert_array_equal(one, two)
        assert {len(x) for x in tasks.x} == {n}
        seen.add(n)
    assert seen == {1, 2, 3}


def test_a_task_that_is_short_for_what_was_drawn_has_fewer_support_rows():
    tasks = table().sample(4, (20, 30), rng=0)
    by_name = dict(zip(tasks.names, zip(tasks.x, tasks.x_query, strict=True), strict=True))
    assert {name: (len(x), len(q)) for name, (x, q) in by_name.items()} == {
        name: (rows - 1, 1) for name, rows in COUNTS.items()
    }


def test_a_tuple_of_two_is_a_range_and_a_list_a_number_for_each_of_two_tasks():
    made = table().take([0, 2])
    assert {len(x) for x in made.sample(2, (2, 2), 1, rng=0).x} == {2}
    tasks = made.sample(2, [2, 4], 1, rng=0)
    assert {name: len(x) for name, x in zip(tasks.names, tasks.x, strict=True)} == {"a": 2, "c": 4}
    for call in (made.split, lambda given: made.divide(np.arange(2), given)):
        with pytest.raises(
            ValueError, match=r"n_support is \(2, 4\), a range, from which only sample draws; accep"
        ):
            call((2, 4))
        call([2, 4])


@pytest.mark.parametrize("seed", range(5))
def test_a_range_needs_rows_for_its_most_whatever_is_drawn(seed):
    with pytest.raises(ValueError, match=r"task 'd' has 6 rows; accepted are 9 or more \(n_suppo"):
        table().take([2, 3]).sample(2, (1, 7), 2, rng=seed)


@pytest.mark.parametrize("given", [(3, 2), (0, 2), (0.1, 0.5), ("a", "b"), (1, None)])
def test_a_wrong_range_is_named(given):
    with pytest.raises(ValueError, match=r"n_support is \(.*\); accepted are pairs \(low, high\)"):
        table().sample(2, given, rng=0)


def test_a_lone_row_is_no_task_to_split():
    made = TaskTable.from_rows([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ["a", "a", "b"])
    with pytest.raises(ValueError, match="task 'b' has 1 rows; accepted are 2 or more"):
        made.split()


def test_a_ragged_batch_goes_straight_into_the_meta_gradient():
    model = fm.MLP([1, 4, 1])
    maml = fm.MAML(model)
    theta = model.init(0)
    tasks = table().split(3, rng=0)
    alone = sum(maml.gradient(theta, *([side[i]] for side in tasks)) for i in range(4))
    np.testing.assert_allclose(maml.gradient(theta, *tasks), alone, rtol=1e-12)
