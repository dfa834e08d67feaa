"""Models: identity, layout of the parameters, initial values, predictions."""

import copy
import pickle
from itertools import pairwise, repeat

import numpy as np
import pytest
from test_checks import KINDS, error, whole

from fastmaml.models import MLP, Linear, Network
from fastmaml.models.initial import DEFAULT, SCHEMES

MODELS = [
    MLP([1, 40, 40, 1]),
    MLP((2, 3), activation="sin"),
    MLP([3, 4, 2], activation="relu"),
    MLP([1, 1, 1], activation="gelu"),
    MLP([2, 4, 3, 1], activation=["relu", "tanh"]),
    MLP([2, 4, 3, 1], activation=["tanh", "relu"]),
    Linear(3),
    Linear(1),
    Linear(3, n_outputs=2, intercept=False),
]
many = pytest.mark.parametrize("model", MODELS, ids=repr)


@many
def test_equal_models_are_one(model):
    for other in (
        eval(repr(model)),
        pickle.loads(pickle.dumps(model)),
        copy.copy(model),
        copy.deepcopy(model),
    ):
        assert type(other) is type(model)
        assert other == model
        assert hash(other) == hash(model)
        assert vars(other) == vars(model)
    assert sum(model == other for other in MODELS) == 1
    assert isinstance(model, Network)


def test_repr():
    assert repr(MLP(np.array([1, 40, 40, 1]))) == "MLP([1, 40, 40, 1], activation='tanh')"
    assert repr(Linear(np.int8(3))) == "Linear(3, n_outputs=1, intercept=True)"


def test_a_word_for_each_hidden_layer():
    sizes, words = [1, 40, 40, 20, 1], ["relu", "relu", "identity"]
    model = MLP(sizes, words)
    assert model.activation == ("relu", "relu", "identity")
    assert repr(model) == "MLP([1, 40, 40, 20, 1], activation=['relu', 'relu', 'identity'])"
    for given in (tuple(words), iter(words), np.array(words)):
        same = MLP(sizes, given)
        assert same == model
        assert {type(word) for word in same.activation} == {str}
    assert model != MLP(sizes, words[::-1])
    assert model != MLP(sizes, "relu")
    np.testing.assert_array_equal(model.init(0), MLP(sizes, "relu").init(0))


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_a_sequence_of_equal_words_is_the_word(kind):
    one = MLP([2, 3, 4, 1], "relu")
    same = MLP([2, 3, 4, 1], kind(["relu", "relu"]))
    assert (same, hash(same), repr(same)) == (one, hash(one), repr(one))
    assert (type(same.activation), same.activation) == (str, "relu")
    assert MLP([2, 3, 1], kind(["sin"])) == MLP([2, 3, 1], "sin")


def test_the_activation_of_no_layer():
    assert MLP([3, 1], "relu").activation == "relu"
    assert MLP([3, 1], []) == MLP([3, 1], ()) == MLP([3, 1], "identity")


def test_models_of_another_family_are_not_equal():
    assert MLP([3, 1], activation="identity") != Linear(3)
    assert MLP([3, 1]) != MLP([3, 1], activation="sin")


@many
def test_models_do_not_change(model):
    for name in ("layer_sizes", "activation", "n_params", "new"):
        with pytest.raises(AttributeError, match=f"cannot assign to field '{name}'"):
            setattr(model, name, 1)
    with pytest.raises(AttributeError, match="cannot delete field 'activation'"):
        del model.activation


@many
def test_sizes(model):
    sizes = model.layer_sizes
    assert type(sizes) is tuple
    assert (model.n_inputs, model.n_outputs) == (sizes[0], sizes[-1])
    assert model.n_layers == len(sizes) - 1
    count = 0
    for n_in, n_out in pairwise(sizes):
        count += n_in * n_out + (n_out if model.intercept else 0)
    assert model.n_params == count


def test_sizes_of_the_sinusoid_network():
    model = MLP([1, 40, 40, 1])
    assert (model.n_params, model.n_layers, model.intercept) == (1761, 3, True)


@pytest.mark.parametrize(
    ("sizes", "kind", "texts"),
    [
        (3, TypeError, ["layer_sizes is 3", "sequences of integers"]),
        ("12", TypeError, ["layer_sizes is '12'", "sequences of integers"]),
        (b"12", TypeError, ["layer_sizes is b'12'"]),
        (None, TypeError, ["layer_sizes is None"]),
        (np.array(3), TypeError, ["layer_sizes is array(3)", "sequences of integers"]),
        ([1, 2.0, 1], TypeError, ["layer_sizes[1] is 2.0", "integers of at least 1"]),
        ([True, 1], TypeError, ["layer_sizes[0] is True", "integers of at least 1"]),
        ([1, 0, 1], ValueError, ["layer_sizes[1] is 0", "integers of at least 1"]),
        ([1], ValueError, ["layer_sizes is [1]", "two or more sizes"]),
        ([], ValueError, ["layer_sizes is []", "two or more sizes"]),
    ],
    ids=str,
)
def test_other_layer_sizes(sizes, kind, texts):
    error(lambda: MLP(sizes), kind, *texts)


def test_other_arguments():
    error(lambda: MLP([1, 1], "relu6"), ValueError, "activation is 'relu6'", "'identity', 'relu'")
    error(lambda: MLP([1, 1], None), TypeError, "activation is None", "'sin'")
    for one in (None, 1, b"relu", {"relu"}, {"relu": 1}, np.array("relu")):
        texts = f"activation is {one!r}", "'sin', or a sequence of them, one for each hidden layer"
        error(lambda one=one: MLP([1, 1, 1], one), TypeError, *texts)
    for words, length, n_hidden in (
        ([], 0, 2), (["relu"], 1, 2), (["relu"] * 3, 3, 2), (["relu"], 1, 0),
        (repeat("relu"), "1000 or more", 2),
    ):  # fmt: skip
        sizes = [1] * (n_hidden + 2)
        texts = f"activation has length {length}; accepted are a word", f"there are {n_hidden}"
        error(lambda words=words, sizes=sizes: MLP(sizes, words), ValueError, *texts)
    texts = "activation[1] is 'relu6'; accepted are 'identity', 'relu'", "'sin'"
    error(lambda: MLP([1, 1, 1, 1], ["relu", "relu6"]), ValueError, *texts)
    error(lambda: MLP([1, 1, 1, 1], [None, "relu"]), TypeError, "activation[0] is None", "words")
    error(lambda: MLP([1, 1, 1], [["relu"]]), TypeError, "activation[0] is ['relu']", "words")
    error(lambda: Linear(1.0), TypeError, "n_inputs is 1.0", "integers of at least 1")
    error(lambda: Linear(0), ValueError, "n_inputs is 0", "integers of at least 1")
    error(lambda: Linear(1, 0), ValueError, "n_outputs is 0", "integers of at least 1")
    error(lambda: Linear(1, intercept=1), TypeError, "intercept is 1", "True and False")


# Initial values ----------------------------------------------------------------------------------


@many
def test_init_is_a_function_of_the_seed(model):
    theta = model.init(3)
    assert theta.shape == (model.n_params,)
    assert theta.dtype == np.float64
    np.testing.assert_array_equal(theta, model.init(np.int64(3)))
    np.testing.assert_array_equal(theta, model.init(np.random.default_rng(3)))
    assert (theta != model.init(4)).any()
    assert (model.init() != model.init()).any()
    single = model.init(3, dtype="float32")
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, theta.astype(np.float32))


def test_init_draws_from_the_generator_it_is_given():
    generator = np.random.default_rng(0)
    first, second = Linear(3).init(generator), Linear(3).init(generator)
    assert (first != second).any()


# Of each scheme: the standard deviation in a layer (n_out, n_in), the largest number in units of it
# (none: a normal distribution has tails), and whether biases are drawn too.
UNIFORM = np.sqrt(3)
DRAWN = {
    "fan_in_uniform": (lambda n_in, n_out: 1 / np.sqrt(3 * n_in), UNIFORM, False),
    "pytorch": (lambda n_in, n_out: 1 / np.sqrt(3 * n_in), UNIFORM, True),
    "lecun_normal": (lambda n_in, n_out: 1 / np.sqrt(n_in), None, False),
    "lecun_uniform": (lambda n_in, n_out: 1 / np.sqrt(n_in), UNIFORM, False),
    "glorot_normal": (lambda n_in, n_out: np.sqrt(2 / (n_in + n_out)), None, False),
    "glorot_uniform": (lambda n_in, n_out: np.sqrt(2 / (n_in + n_out)), UNIFORM, False),
    "he_normal": (lambda n_in, n_out: np.sqrt(2 / n_in), None, False),
    "he_uniform": (lambda n_in, n_out: np.sqrt(2 / n_in), UNIFORM, False),
}
WIDE = [
    MLP([50, 400, 60], "relu"),
    MLP([50, 400, 60], "tanh"),
    Linear(200, 60),
    Linear(200, 60, intercept=False),
]


def test_every_scheme_is_tested():
    assert list(DRAWN) == list(SCHEMES)


@pytest.mark.parametrize("scheme", DRAWN)
@pytest.mark.parametrize("model", WIDE, ids=repr)
def test_schemes(model, scheme):
    deviation, largest, biases = DRAWN[scheme]
    for weight, bias in model.unpack(model.init(0, scheme=scheme)):
        n_out, n_in = weight.shape
        drawn = [weight]
        if bias is not None and biases:
            drawn.append(bias)
        elif bias is not None:
            assert not bias.any()
        for array in drawn:
            unit = array / deviation(n_in, n_out)
            noise = 1 / np.sqrt(array.size)
            assert abs(unit.mean()) < 4 * noise
            assert abs(unit.std() - 1) < 3 * noise
            if largest is None:
                assert np.abs(unit).max() > 3
            else:
                assert (1 - 10 / array.size) * largest < np.abs(unit).max() <= largest * (1 + 1e-12)


@many
def test_init_draws_by_its_default(model):
    np.testing.assert_array_equal(model.init(0), model.init(0, scheme=DEFAULT))
    each = {model.init(0, scheme=scheme).tobytes() for scheme in SCHEMES}
    assert len(each) > 5  # some schemes agree where a layer has as many inputs as outputs


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_are_functions_of_the_seed(scheme):
    model = MLP([2, 7, 3])
    theta = model.init(5, scheme=scheme)
    np.testing.assert_array_equal(theta, model.init(5, scheme=scheme))
    single = model.init(5, np.float32, scheme)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, theta.astype(np.float32))


def test_init_errors():
    error(lambda: MODELS[0].init(1.5), TypeError, "rng is 1.5", "a seed")
    error(lambda: MODELS[0].init(-1), ValueError, "rng is -1", "at least 0")
    error(
        lambda: MODELS[0].init(0, int), TypeError, "dtype is <class 'int'>", "float32 and float64"
    )
    error(
        lambda: MODELS[0].init(0, scheme="he"),
        ValueError,
        "scheme is 'he'",
        *(f"'{scheme}'" for scheme in SCHEMES),
    )
    error(lambda: MODELS[0].init(0, scheme=None), TypeError, "scheme is None", "'pytorch'")


# Layout ------------------------------------------------------------------------------------------


def test_layout():
    model = MLP([2, 3, 1])
    (w1, b1), (w2, b2) = model.unpack(np.arange(13.0))
    assert w1.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert b1.tolist() == [6, 7, 8]
    assert w2.tolist() == [[9, 10, 11]]
    assert b2.tolist() == [12]


@many
def test_pack_and_unpack(model):
    theta = whole(model.n_params)
    layers = model.unpack(theta)
    assert len(layers) == model.n_layers
    for weight, bias in layers:
        assert np.shares_memory(weight, theta)
        assert (bias is not None) == model.intercept
    np.testing.assert_array_equal(model.pack(layers), theta)
    assert not np.shares_memory(model.pack(layers), theta)
    layers[0][0][0, 0] = -1.0
    assert theta[0] == -1.0


@many
def test_unpack_keeps_leading_axes(model):
    theta = np.asfortranarray(whole(2, 5, model.n_params))
    for (weight, bias), (one_weight, one_bias) in zip(
        model.unpack(theta), model.unpack(theta[1, 3]), strict=True
    ):
        assert np.shares_memory(weight, theta)
        np.testing.assert_array_equal(weight[1, 3], one_weight)
        if bias is None:
            assert one_bias is None
        else:
            np.testing.assert_array_equal(bias[1, 3], one_bias)


@pytest.mark.parametrize("kind", KINDS)
def test_pack_of_every_kind(kind):
    model = MLP([2, 3, 1])
    theta = whole(13)
    layers = [(KINDS[kind](weight), KINDS[kind](bias)) for weight, bias in model.unpack(theta)]
    packed = model.pack(layers)
    assert packed.dtype == (np.float32 if kind.endswith("float32") else np.float64)
    assert packed.dtype.isnative
    np.testing.assert_array_equal(packed, theta)


def test_pack_computes_in_float64_unless_all_is_float32():
    model = Linear(2)
    weight, bias = np.ones((1, 2), np.float32), np.ones(1, np.float32)
    assert model.pack([(weight, bias)]).dtype == np.float32
    assert model.pack([(weight, [1.0])]).dtype == np.float64
    assert model.pack([(weight, bias.astype(int))]).dtype == np.float64


def test_unpack_errors():
    model = MLP([2, 3, 1])
    for shape in ((12,), (), (13, 2), (0,)):
        error(
            lambda s=shape: model.unpack(np.zeros(s)),
            ValueError,
            f"theta has shape {shape}, the model takes (..., 13)",
            repr(model),
        )
    error(lambda: model.unpack(None), TypeError, "theta is None")
    error(lambda: model.unpack(np.zeros(13, complex)), TypeError, "theta has dtype complex128")


def test_pack_errors():
    model, bare = Linear(2), Linear(2, intercept=False)
    weight, bias = np.ones((1, 2)), np.ones(1)
    error(
        lambda: model.pack([]),
        ValueError,
        "layers has 0 entries, the model has 1 layers",
        repr(model),
    )
    error(
        lambda: model.pack([(weight.T, bias)]),
        ValueError,
        "layers[0] weight has shape (2, 1), the model takes (1, 2)",
        repr(model),
    )
    error(
        lambda: model.pack([(weight, np.ones(2))]),
        ValueError,
        "layers[0] bias has shape (2,), the model takes (1,)",
    )
    error(lambda: model.pack([(weight, None)]), TypeError, "layers[0] bias is None")
    error(
        lambda: bare.pack([(weight, bias)]),
        TypeError,
        "layers[0] has a bias, the model has no intercept; accepted is None",
    )
    for layers in (3, None, np.array(1.0)):
        name = type(layers).__name__
        error(
            lambda layers=layers: model.pack(layers), TypeError, f"layers is a {name}", "sequences"
        )
    error(lambda: model.pack([weight]), TypeError, "layers[0] is a ndarray", "(weight, bias)")
    error(lambda: model.pack([(weight,)]), TypeError, "layers[0] is a tuple", "(weight, bias)")
    error(
        lambda: model.pack([(weight.astype("U1"), bias)]),
        TypeError,
        "layers[0] weight has dtype <U",
    )


# Predictions -------------------------------------------------------------------------------------


def network(model, theta, x):
    """f(theta, x) of rows x in plain NumPy."""
    act = {
        "identity": lambda z: z,
        "tanh": np.tanh,
        "relu": lambda z: np.maximum(z, 0.0),
        "sin": np.sin,
    }
    layers, words = model.unpack(theta), model.activation
    each = [words] * len(layers) if isinstance(words, str) else words
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight.T + (0.0 if bias is None else bias)
        x = act[each[i]](x) if i + 1 < len(layers) else x
    return x


def problem(model, n_tasks, rows):
    rng = np.random.default_rng(1)
    theta = rng.normal(0.0, 0.5, (n_tasks, model.n_params))
    return theta, rng.normal(size=(n_tasks, rows, model.n_inputs))


predicted = pytest.mark.parametrize(
    "model", [MLP([2, 5, 3]), MLP([1, 3, 3, 1], "relu"), MODELS[-1], Linear(1)], ids=repr
)


def close(got, want, dtype=np.float64):
    assert got.shape == want.shape
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 if dtype == np.float64 else 1e-5)


@predicted
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(4, 5), (1, 1), (1, 3), (3, 1)], ids=str)
def test_predict_every_shape(model, dtype, sizes):
    theta, x = problem(model, *sizes)
    one = theta[0].astype(dtype)
    close(model.predict(one, x[0]), network(model, theta[0], x[0]), dtype)
    close(model.predict(one, x), network(model, theta[0], x), dtype)
    every = theta.astype(dtype)
    each = np.array([network(model, t, rows) for t, rows in zip(theta, x, strict=True)])
    close(model.predict(every, x), each, dtype)
    close(model.predict(every, list(x)), each, dtype)
    shared = np.array([network(model, t, x[0]) for t in theta])
    close(model.predict(every, x[0]), shared, dtype)


@predicted
def test_predict_ragged(model):
    theta, x = problem(model, 3, 4)
    tasks = [rows[:count] for rows, count in zip(x, (3, 1, 4), strict=True)]
    for given, each in ((theta[0], [theta[0]] * 3), (theta, theta)):
        f = model.predict(given, tasks)
        assert isinstance(f, list)
        for got, t, rows in zip(f, each, tasks, strict=True):
            close(got, network(model, t, rows))


@pytest.mark.parametrize("kind", KINDS)
def test_predict_of_every_kind(kind):
    model = Linear(2, n_outputs=2)
    theta, x = whole(6) / 1.0, whole(4, 5, 2)
    want = network(model, theta, x)
    dtype = np.float32 if kind.endswith("float32") else np.float64
    given = KINDS[kind](theta)
    close(model.predict(given, KINDS[kind](x)), want, dtype)
    close(model.predict(given, KINDS[kind](x[0])), want[0], dtype)


def test_predict_takes_numbers_in_lists():
    model = Linear(2)
    theta = [1.0, 10.0, 100.0]
    close(model.predict(theta, [[1, 2], [3, 4]]), np.array([[121.0], [143.0]]))
    close(model.predict(theta, [[[1, 2]], [[3, 4]]]), np.array([[[121.0]], [[143.0]]]))


def test_predict_errors():
    model = Linear(3)
    theta = np.zeros(4)
    for shape in ((3,), (), (5, 2), (0, 3)):
        error(
            lambda s=shape: model.predict(theta, np.zeros(s)),
            ValueError,
            f"x has shape {shape}; accepted are (rows, 3) and (n_tasks, rows, 3)",
            repr(model),
        )
    error(
        lambda: Linear(1).predict([1.0, 2.0], [1.0, 2.0]),
        ValueError,
        "x has shape (2,)",
        "x[:, None]",
    )
    error(lambda: model.predict(theta, np.zeros((2, 5, 2))), ValueError, "x has 2 features")
    error(lambda: model.predict(theta, []), ValueError, "x has shape (0,)")
    error(lambda: model.predict(theta, None), TypeError, "x is None")
    error(lambda: model.predict(theta, [None]), TypeError, "x[0] is None")
    error(lambda: model.predict(np.zeros(5), np.zeros((2, 3))), ValueError, "theta has shape (5,)")
    error(lambda: model.predict(np.zeros((2, 2, 4)), np.zeros((2, 3))), ValueError, "(n_tasks, 4)")
    error(
        lambda: model.predict(np.zeros((2, 4)), np.zeros((3, 5, 3))),
        ValueError,
        "theta has 2 tasks, x has 3",
        "(4,) or (3, 4)",
    )
    x = np.zeros((5, 3))
    x[2, 1] = np.nan
    error(lambda: model.predict(theta, x), ValueError, "x holds nan at row 2, feature 1")
    error(lambda: model.predict(theta, x[None]), ValueError, "x holds nan in task 0, row 2")
