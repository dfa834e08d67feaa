"""Arguments: every kind that is accepted gives the same numbers, every other has its message."""

from fractions import Fraction

import numpy as np
import pytest

from fastmaml import checks, parameters, rates
from fastmaml.models import MLP, Linear

FLOAT32, FLOAT64 = np.dtype("f4"), np.dtype("f8")
MODEL = MLP([1, 2, 2, 1])  # 3 layers, 13 parameters


def error(call, kind, *texts):
    """Check that `call` raises exactly `kind` with every one of `texts` in its message."""
    with pytest.raises(kind) as caught:
        call()
    assert caught.type is kind, caught.type
    for text in texts:
        assert text in str(caught.value), str(caught.value)


class Foreign:
    """An array of another library."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype=dtype)


class Guarded:
    """An array of another library that does not let itself be converted."""

    def __repr__(self):
        return "Guarded()"

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach first")


class Subclass(np.ndarray):
    """An ndarray in other clothes."""


def _strided(array):
    wide = np.full((*array.shape, 3), -7.0)
    wide[..., 1] = array
    return wide[..., 1]


def _reversed(array):
    return np.flip(np.flip(array).copy())


def _misaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    shifted = raw[1:].view("f8").reshape(array.shape)
    shifted[...] = array
    assert not array.size or not shifted.flags.aligned
    return shifted


def _read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


# What a user may hand over instead of a clean float64 array. The arrays in the tests hold small
# whole numbers, so that each of these holds them exactly.
KINDS = {
    "list": lambda a: a.tolist(),
    "list of arrays": list,
    "tuple of arrays": tuple,
    "foreign": Foreign,
    "subclass": lambda a: a.view(Subclass),
    "read-only": _read_only,
    "strided": _strided,
    "reversed": _reversed,
    "fortran": lambda a: np.asfortranarray(a.copy()),
    "misaligned": _misaligned,
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape))[1],
    "big-endian": lambda a: a.astype(">f8"),
    "big-endian float32": lambda a: a.astype(">f4"),
    "little-endian": lambda a: a.astype("<f8"),
    "float16": lambda a: a.astype(np.float16),
    "float32": lambda a: a.astype(np.float32),
    "longdouble": lambda a: a.astype(np.longdouble),
    "int8": lambda a: a.astype(np.int8),
    "int64": lambda a: a.astype(np.int64),
    "big-endian int": lambda a: a.astype(">i4"),
    "uint8": lambda a: a.astype(np.uint8),
    "uint64": lambda a: a.astype(np.uint64),
}


def whole(*shape):
    """Whole numbers 0, 1, 2, ... below 100."""
    return (np.arange(np.prod(shape, dtype=int)) % 100).astype(float).reshape(shape)


def well_formed(array, dtype):
    flags = array.flags
    return type(array) is np.ndarray and array.dtype == dtype and flags.carray


# Arrays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("shape", [(13,), (4, 3), (2, 3, 5), (1, 1), (0, 2)], ids=str)
def test_every_kind_of_array_gives_the_same_numbers(kind, dtype, shape):
    clean = whole(*shape)
    given = KINDS[kind](clean)
    if isinstance(given, list | tuple) and 0 in shape:
        pytest.skip("an empty list has no second axis")
    before = np.array(given)
    array = checks.as_array("x", given, dtype)
    assert well_formed(array, dtype)
    np.testing.assert_array_equal(array, clean)
    np.testing.assert_array_equal(np.array(given), before)


def test_booleans_count_as_numbers():
    array = checks.as_array("x", [True, False], FLOAT64)
    assert array.tolist() == [1.0, 0.0]
    assert well_formed(array, FLOAT64)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_no_copy_when_already_right(dtype):
    clean = whole(4, 3).astype(dtype)
    assert checks.as_array("x", clean, dtype) is clean
    assert parameters.as_theta(MODEL, clean.reshape(-1)[:1].repeat(13)).dtype == dtype


def test_a_read_only_array_is_not_copied_and_its_memory_stays():
    given = _read_only(whole(50, 3))
    array = checks.as_array("x", given, FLOAT64)
    assert np.shares_memory(array, given)
    assert not given.flags.writeable
    del given
    np.testing.assert_array_equal(array, whole(50, 3))


@pytest.mark.parametrize(
    ("value", "kind", "texts"),
    [
        (None, TypeError, ["x is None", "arrays of real numbers"]),
        ("abc", TypeError, ["x is text, 'abc'", "arrays of real numbers"]),
        (b"abc", TypeError, ["x is text"]),
        (["a", "b"], TypeError, ["x has dtype <U1", "real numbers"]),
        ([1.0, None], TypeError, ["x has dtype object", "real numbers"]),
        ({1.0}, TypeError, ["x has dtype object"]),
        (np.array([1, "a"], dtype=object), TypeError, ["x has dtype object"]),
        (np.array([1.0 + 0j]), TypeError, ["x has dtype complex128", "real numbers"]),
        (np.array(["2020-01-01"], "M8[D]"), TypeError, ["x has dtype datetime64[D]"]),
        (np.zeros(2, [("a", "f8")]), TypeError, ["x has dtype [('a', '<f8')]"]),
        (np.ma.masked_array([1.0, 2.0]), TypeError, ["x is a masked array", "plain arrays"]),
        ([[np.ma.masked_array([1.0], [True])]], TypeError, ["x is a masked array"]),
        ([1.0, np.ma.masked], TypeError, ["x is a masked array"]),
        ([[1.0], [1.0, 2.0]], ValueError, ["x is no regular array", "real numbers"]),
        (Guarded(), TypeError, ["x is a Guarded", "NumPy cannot convert", "call detach first"]),
    ],
    ids=repr,
)
def test_what_is_no_array_of_real_numbers(value, kind, texts):
    error(lambda: checks.as_array("x", value, FLOAT64), kind, *texts)
    error(lambda: checks.as_dtype("x", value), kind, *texts)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.float32, FLOAT32),
        (">f4", FLOAT32),
        (np.float64, FLOAT64),
        (">f8", FLOAT64),
        (np.float16, FLOAT64),
        (np.longdouble, FLOAT64),
        (np.int32, FLOAT64),
        (np.uint8, FLOAT64),
        (bool, FLOAT64),
    ],
)
def test_float32_stays_and_the_rest_becomes_float64(given, dtype):
    assert checks.as_dtype("theta", np.zeros(13, given)) == dtype
    theta = parameters.as_theta(MODEL, np.zeros(13, given))
    assert well_formed(theta, dtype)


def test_lists_are_float64():
    assert checks.as_dtype("theta", [1, 2]) == FLOAT64


@pytest.mark.parametrize("dtype", ["f4", float, np.float32, np.dtype("f8")], ids=str)
def test_as_float_dtype(dtype):
    assert checks.as_float_dtype("dtype", dtype) == np.dtype(dtype)


@pytest.mark.parametrize(
    "dtype", [None, "f2", ">f4", int, complex, "no", 3, np.longdouble], ids=str
)
def test_as_float_dtype_error(dtype):
    if dtype is np.longdouble and np.dtype(dtype) == FLOAT64:
        pytest.skip("long double is double here")
    error(
        lambda: checks.as_float_dtype("dtype", dtype),
        TypeError,
        f"dtype is {dtype!r}",
        "float32 and float64",
    )


# Finite ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("size", [0, 1, 7, 8192, 8193, 100_000])
def test_finite_whatever_the_size(dtype, size):
    array = np.full(size, np.finfo(dtype).max)  # finite, though the sum of its squares is not
    with np.errstate(all="raise"):
        assert checks.all_finite(array.astype(dtype))
        for bad in (np.nan, np.inf, -np.inf):
            for at in {0, size // 2, size - 1} if size else ():
                broken = array.astype(dtype)
                broken[at] = bad
                assert not checks.all_finite(broken)
                error(
                    lambda a=broken: checks.require_finite("theta", a, ("parameter",)),
                    ValueError,
                    f"theta holds {bad} at parameter {at}; accepted are finite {dtype} numbers",
                )


def test_plus_and_minus_inf_do_not_cancel():
    assert not checks.all_finite(np.array([np.inf, -np.inf]))


def test_finite_position_in_words():
    array = np.zeros((2, 3))
    array[1, 2] = np.nan
    error(
        lambda: checks.require_finite("theta", array, ("task", "parameter")),
        ValueError,
        "theta holds nan at task 1, parameter 2; accepted are finite float64 numbers",
    )
    error(
        lambda: checks.require_finite("theta", np.array(np.inf)),
        ValueError,
        "theta holds inf; accepted are finite float64 numbers",
    )


# theta -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_theta_of_every_kind(kind):
    theta = parameters.as_theta(MODEL, KINDS[kind](whole(13)))
    assert well_formed(theta, FLOAT32 if kind.endswith("float32") else FLOAT64)
    np.testing.assert_array_equal(theta, whole(13))


def test_theta_for_each_task():
    for shape, n_tasks in (((13,), 4), ((4, 13), 4), ((4, 13), -1), ((1, 13), 1), ((13,), -1)):
        assert parameters.as_theta(MODEL, whole(*shape), n_tasks).shape == shape


@pytest.mark.parametrize(
    ("shape", "n_tasks", "texts"),
    [
        ((12,), None, ["theta has shape (12,), the model takes (13,)", repr(MODEL)]),
        ((), None, ["theta has shape ()", "(13,)"]),
        ((0,), None, ["theta has shape (0,)", "(13,)"]),
        ((1, 13), None, ["theta has shape (1, 13), the model takes (13,) (MLP"]),
        ((4, 12), 4, ["theta has shape (4, 12)", "(13,) or (4, 13)"]),
        ((4, 12), -1, ["theta has shape (4, 12)", "(13,) or (n_tasks, 13)"]),
        ((0, 13), -1, ["theta has shape (0, 13)", "(13,) or (n_tasks, 13)"]),
        ((2, 2, 13), 2, ["theta has shape (2, 2, 13)", "(13,) or (2, 13)"]),
        ((3, 13), 4, ["theta has 3 tasks, x has 4", "(13,) or (4, 13)"]),
    ],
    ids=str,
)
def test_theta_of_another_shape(shape, n_tasks, texts):
    error(lambda: parameters.as_theta(MODEL, np.zeros(shape), n_tasks), ValueError, *texts)


def test_theta_of_another_kind():
    error(lambda: parameters.as_theta(MODEL, None), TypeError, "theta is None")
    error(
        lambda: parameters.as_theta(MODEL, np.zeros(13, complex)), TypeError, "theta has dtype comp"
    )


def test_theta_that_is_not_finite():
    theta = whole(2, 13)
    theta[1, 4] = np.inf
    error(
        lambda: parameters.as_theta(MODEL, theta, 2),
        ValueError,
        "theta holds inf at task 1, parameter 4; accepted are finite float64 numbers",
    )
    error(
        lambda: parameters.as_theta(MODEL, theta[1]), ValueError, "theta holds inf at parameter 4"
    )
    assert parameters.as_theta(MODEL, theta, 2, check_finite=False) is theta


# Scalars -----------------------------------------------------------------------------------------


def test_as_choice():
    assert checks.as_choice("order", "exact", ("exact", "first")) == "exact"
    error(
        lambda: checks.as_choice("order", "second", ("exact", "first")),
        ValueError,
        "order is 'second'; accepted are 'exact', 'first'",
    )
    for value in (None, 1, b"exact"):
        error(
            lambda v=value: checks.as_choice("order", v, ("exact", "first")),
            TypeError,
            f"order is {value!r}; accepted are the words 'exact', 'first'",
        )


def test_as_flag():
    assert checks.as_flag("task_mean", True) is True
    assert checks.as_flag("task_mean", np.bool_(False)) is False
    for value in (None, 1, "yes", 0.0):
        error(
            lambda v=value: checks.as_flag("task_mean", v),
            TypeError,
            f"task_mean is {value!r}; accepted are True and False",
        )


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)], ids=repr)
def test_as_count(value):
    count = checks.as_count("steps", value)
    assert type(count) is int
    assert count == 3


@pytest.mark.parametrize(
    "value", [True, np.True_, 1.0, np.float32(1), None, "1", [1], 1j, np.array([1, 2])], ids=repr
)
def test_as_count_of_another_kind(value):
    error(
        lambda: checks.as_count("steps", value),
        TypeError,
        f"steps is {value!r}; accepted are integers of at least 0",
    )


def test_as_count_below_the_minimum():
    assert checks.as_count("steps", 0) == 0
    error(lambda: checks.as_count("steps", -1), ValueError, "steps is -1", "at least 0")
    error(lambda: checks.as_count("n", 0, 1), ValueError, "n is 0", "at least 1")


def test_as_count_above_the_maximum():
    assert checks.as_count("n", 3, 0, 3) == 3
    error(lambda: checks.as_count("n", 4, 0, 3), ValueError, "n is 4", "at least 0 and at most 3")
    assert checks.as_count("n", 2**63 - 1) == 2**63 - 1
    error(lambda: checks.as_count("n", 2**63), ValueError, f"at least 0 and at most {2**63 - 1}")
    assert checks.as_count("seed", 2**128 - 1, 0, checks.MAX_SEED) == 2**128 - 1
    error(lambda: checks.as_rng("rng", 2**128), ValueError, "rng is ", f"at most {2**128 - 1}")


@pytest.mark.parametrize(
    "value",
    [2, 2.0, np.float32(2), np.float16(2), np.longdouble(2), np.int8(2), np.array(2.0)],
    ids=repr,
)
def test_as_number(value):
    number = checks.as_number("outer_lr", value)
    assert type(number) is float
    assert number == 2.0
    assert checks.as_positive("outer_lr", value) == 2.0


@pytest.mark.parametrize(
    "value",
    [True, np.True_, None, "1", 1j, [1.0], np.zeros(1), Fraction(1, 2), 10**400, np.ma.masked],
    ids=lambda value: f"{value!r:.20}",
)
def test_as_number_of_another_kind(value):
    error(
        lambda: checks.as_number("outer_lr", value),
        TypeError,
        f"outer_lr is {value!r:.60}; accepted is one real number",
    )


def test_as_number_of_another_value():
    for value in (np.nan, np.inf, -np.inf, np.float32(np.inf)):
        error(
            lambda v=value: checks.as_number("outer_lr", v),
            ValueError,
            f"outer_lr is {float(value)}; accepted are finite numbers",
        )
    for value in (0.0, -1):
        error(
            lambda v=value: checks.as_positive("outer_lr", v),
            ValueError,
            f"outer_lr is {float(value)}; accepted are numbers above 0",
        )


def test_as_rng():
    draw = np.random.default_rng(3).random()
    assert checks.as_rng("rng", 3).random() == draw
    assert checks.as_rng("rng", np.int64(3)).random() == draw
    generator = np.random.default_rng(3)
    assert checks.as_rng("rng", generator) is generator
    assert isinstance(checks.as_rng("rng", None), np.random.Generator)
    for value in (True, 1.5, "3", np.random.RandomState(3)):
        error(
            lambda v=value: checks.as_rng("rng", v),
            TypeError,
            "rng is ",
            "a seed",
            "numpy.random.Generator and None",
        )
    error(lambda: checks.as_rng("rng", -1), ValueError, "rng is -1", "at least 0")


# inner_lr ----------------------------------------------------------------------------------------


def per_entry(model, value, steps):
    """The rate of every step, layer and parameter, (S, L or P), read from the canonical form."""
    rate = rates.as_inner_lr(model, value, steps)
    assert rate.shape == np.shape(value)
    assert (rate.per_layer is None) != (rate.per_parameter is None)
    canonical = rate.per_parameter if rate.per_layer is None else rate.per_layer
    expected = (model.n_params,) if rate.per_layer is None else (steps, model.n_layers)
    assert well_formed(canonical, FLOAT64)
    assert canonical.shape == expected
    assert not np.shares_memory(canonical, value)
    return canonical


FORMS = {
    (): np.full((2, 3), 7.0),
    (2,): np.array([[0.0] * 3, [1.0] * 3]),
    (2, 1): np.array([[0.0] * 3, [1.0] * 3]),
    (3,): np.array([[0.0, 1.0, 2.0]] * 2),
    (1, 3): np.array([[0.0, 1.0, 2.0]] * 2),
    (2, 3): whole(2, 3),
    (13,): whole(13),
    (1, 13): whole(13),
}


@pytest.mark.parametrize("shape", FORMS, ids=str)
def test_inner_lr_of_every_form(shape):
    value = whole(*shape) if shape else np.array(7.0)
    np.testing.assert_array_equal(per_entry(MODEL, value, 2), FORMS[shape])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 3), (13,)], ids=str)
def test_inner_lr_of_every_kind(shape, kind):
    rate = rates.as_inner_lr(MODEL, KINDS[kind](whole(*shape)), 2)
    canonical = rate.per_parameter if rate.per_layer is None else rate.per_layer
    np.testing.assert_array_equal(canonical, whole(*shape))


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), -0.5], ids=repr)
def test_inner_lr_scalars(value):
    rate = rates.as_inner_lr(MODEL, value, 2)
    assert rate.shape == ()
    np.testing.assert_array_equal(rate.per_layer, np.full((2, 3), float(value)))


@pytest.mark.parametrize("shape", [(), (0,), (0, 1), (0, 3), (3,), (1, 3)], ids=str)
def test_inner_lr_without_steps(shape):
    rate = rates.as_inner_lr(MODEL, np.zeros(shape), 0)
    assert rate.per_layer.shape == (0, 3)
    gradient = rates.rate_gradient(rate, np.zeros((0, 3)))
    np.testing.assert_array_equal(gradient, np.zeros(shape))
    assert isinstance(gradient, float) if shape == () else gradient.shape == shape
    assert rates.as_inner_lr(MODEL, np.ones(13), 0).per_parameter.shape == (13,)


def test_inner_lr_of_one_number_in_a_list_is_never_ambiguous():
    for model, steps in ((Linear(2), 1), (Linear(1, intercept=False), 1), (MODEL, 1)):
        for shape in ((1,), (1, 1)):
            assert (per_entry(model, np.full(shape, 2.0), steps) == 2.0).all()
    # one layer, two steps: (1,) and (1, 1) can only mean the layer
    assert per_entry(Linear(2), np.ones(1), 2).shape == (2, 1)
    # no step: (1,) can only mean the layer, too
    assert per_entry(Linear(2), np.ones(1), 0).shape == (0, 1)


def test_inner_lr_that_is_ambiguous():
    error(
        lambda: rates.as_inner_lr(MODEL, np.ones(3), 3),
        ValueError,
        "inner_lr has shape (3,), which is ambiguous: steps == n_layers == 3",
        "accepted are (3, 1) per step, (1, 3) per layer",
        repr(MODEL),
    )
    error(
        lambda: rates.as_inner_lr(MODEL, np.ones(13), 13),
        ValueError,
        "inner_lr has shape (13,), which is ambiguous: steps == n_params == 13",
        "accepted are (13, 1) per step, (1, 13) per parameter",
    )
    by_step = rates.as_inner_lr(MODEL, [[1.0], [2.0], [3.0]], 3).per_layer
    by_layer = rates.as_inner_lr(MODEL, [[1.0, 2.0, 3.0]], 3).per_layer
    np.testing.assert_array_equal(by_step, by_layer.T)
    assert rates.as_inner_lr(MODEL, np.ones((13, 1)), 13).per_layer is not None
    assert rates.as_inner_lr(MODEL, np.ones((1, 13)), 13).per_parameter is not None


@pytest.mark.parametrize("shape", [(4,), (0,), (3, 2), (2, 2), (1, 1), (2, 13), (13, 1), (1, 2, 3)])
def test_inner_lr_of_another_shape(shape):
    error(
        lambda: rates.as_inner_lr(MODEL, np.ones(shape), 2),
        ValueError,
        f"inner_lr has shape {shape}; accepted are a scalar, (2,) per step, (3,) per layer, "
        "(2, 3) per step and layer, (13,) per parameter, and (2, 1), (1, 3), (1, 13)",
        repr(MODEL),
    )


def test_inner_lr_of_another_kind():
    error(lambda: rates.as_inner_lr(MODEL, None, 1), TypeError, "inner_lr is None")
    error(lambda: rates.as_inner_lr(MODEL, "0.1", 1), TypeError, "inner_lr is text")
    error(lambda: rates.as_inner_lr(MODEL, 1j, 1), TypeError, "inner_lr has dtype complex")
    error(lambda: rates.as_inner_lr(MODEL, True, 1), TypeError, "inner_lr is True", "real numbers")
    error(
        lambda: rates.as_inner_lr(MODEL, [[1.0], [1.0, 2.0]], 2),
        ValueError,
        "inner_lr is no regular array; accepted are a scalar, (2,) per step",
    )
    for value in (np.nan, [1.0, np.inf]):
        error(
            lambda v=value: rates.as_inner_lr(MODEL, v, 2),
            ValueError,
            f"inner_lr holds {np.max(value)}; accepted are finite float64 numbers",
        )


@pytest.mark.parametrize("shape", FORMS, ids=str)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_rate_gradient_is_the_chain_rule(shape, dtype):
    value = whole(*shape) if shape else np.array(7.0)
    rate = rates.as_inner_lr(MODEL, value, 2)
    canonical = rate.per_parameter if rate.per_layer is None else rate.per_layer
    weights = (whole(*canonical.shape) + 1).astype(dtype)
    gradient = rates.rate_gradient(rate, weights)
    if shape == ():
        assert type(gradient) is float
    else:
        assert gradient.shape == shape
        assert gradient.dtype == dtype
    # d/d value of sum(weights * canonical(value)), which is linear in value
    for index in np.ndindex(shape):
        direction = np.zeros(shape)
        direction[index] = 1.0
        moved = rates.as_inner_lr(MODEL, direction, 2)
        change = moved.per_parameter if rate.per_layer is None else moved.per_layer
        assert np.asarray(gradient)[index] == (weights * change).sum()


# step_weights ------------------------------------------------------------------------------------


def test_as_step_weights():
    assert rates.as_step_weights(None, 2).tolist() == [0.0, 0.0, 1.0]
    assert rates.as_step_weights(None, 0).tolist() == [1.0]
    given = whole(3)
    weights = rates.as_step_weights(given, 2)
    assert weights.tolist() == [0.0, 1.0, 2.0]
    assert not np.shares_memory(weights, given)
    assert well_formed(rates.as_step_weights([1], 0), FLOAT64)


def test_as_step_weights_error():
    for shape in ((2,), (), (1, 3), (0,)):
        error(
            lambda s=shape: rates.as_step_weights(np.ones(s), 2),
            ValueError,
            f"step_weights has shape {shape}; accepted are None and (3,)",
        )
    error(lambda: rates.as_step_weights(["a"], 0), TypeError, "step_weights has dtype <U1")
    error(
        lambda: rates.as_step_weights([1.0, np.nan], 1),
        ValueError,
        "step_weights holds nan at entry 1; accepted are finite float64 numbers",
    )
