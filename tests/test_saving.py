"""fm.save and fm.load: everything comes back with its bits, and nothing else is let in."""

import json
import re
import sys
from dataclasses import dataclass, replace

import numba
import numpy as np
import pytest
import sympy
from custom_models import FUNCTIONS
from formulas import LAWS
from test_checks import error as refused

import fastmaml as fm
from fastmaml.learn import (
    SGD,
    Best,
    Checkpointer,
    Reptile,
    Scaling,
    TrainState,
    load_checkpoint,
    save_checkpoint,
)
from fastmaml.saving import HEADER

MODEL = fm.MLP([2, 5, 1], activation="relu")
RNG = np.random.default_rng(0)
X, Y, NEW = RNG.normal(size=(3, 4, 2)), RNG.normal(size=(3, 4, 1)), RNG.normal(size=(3, 2, 2))
SCALING = Scaling([0.1, 1e9], [1 / 3, 2.0], [5.0], [7.0])

A, B, C, U, V = sympy.symbols("a b c u v")
FORMULA = fm.Formula(
    A * U / 3 + sympy.atan2(C, V**2) + sympy.Max(B, U) ** A * 0.1, parameters=[A, B, C],
    inputs=[U, V], positive=[A], bounds={B: (0.1, 1 / 3)},
)  # fmt: skip
GREY = fm.Sum(FORMULA, fm.Scaled(MODEL, [0.1, -1e9], 1 / 3, 5.0, 7.0), names=["law", "rest"])

OBJECTIVES = [
    fm.MAML(MODEL),
    fm.MAML(MODEL, inner_lr=np.float32(0.1), steps=0),
    fm.MAML(MODEL, inner_lr=np.array(0.3), steps=2, order="first", loss="mse", task_mean=True),
    fm.MAML(MODEL, inner_lr=[0.1, 0.2, 1 / 3], steps=3, step_weights=[0.0, 0.1, 0.2, 0.7]),
    fm.MAML(MODEL, inner_lr=RNG.random((1, 2)), method="explicit", inner_momentum=0.9),
    fm.MAML(MODEL, inner_lr=RNG.random(MODEL.n_params), check_finite=False, max_memory=10**6),
    fm.MAML(MODEL, order="implicit", proximal=2.0, cg_rtol=1e-3, cg_maxiter=7),
    fm.MAML(fm.Linear(2, intercept=False), inner_lr=0, loss="half_mse"),
    fm.MAML(fm.MLP([2, 5, 3, 1], activation=["relu", "sin"]), inner_lr=0.1),
    fm.MAML(FORMULA, inner_lr=[[0.1, 0.2, 1 / 3]], loss=fm.Huber(0.3)),
    fm.MAML(GREY, steps=2),
    fm.MAML(fm.Frozen(GREY, np.arange(GREY.n_params) % 3 == 1), query_loss="mse"),
    Reptile(fm.MAML(MODEL, inner_lr=[[0.1], [0.2]], steps=2)),
]


def bits(objective):
    """All that makes an objective, arrays as bytes."""
    maml = getattr(objective, "maml", objective)
    fields = {n: getattr(maml, n) for n in maml.__dataclass_fields__ if n != "_problem"}
    for name in ("inner_lr", "step_weights"):
        array = None if fields[name] is None else np.asarray(fields[name], np.float64)
        fields[name] = None if array is None else (array.shape, array.tobytes())
    return type(objective), fields


@pytest.mark.filterwarnings("ignore::fastmaml.DivergenceWarning")  # the bits are what counts
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_comes_back_with_its_bits(objective, dtype, tmp_path):
    maml = getattr(objective, "maml", objective)
    theta = maml.model.init(0, dtype)
    path = tmp_path / "model"  # no ending is added
    extra = {"seed": 1, "notes": ["a", None, 0.1, "é"]}
    fm.save(path, objective, theta, scaling=SCALING, inputs=["a", "b"], outputs=["c"], extra=extra)
    saved = fm.load(str(path))
    assert bits(saved.objective) == bits(objective)
    assert (saved.theta.dtype, saved.theta.tobytes()) == (theta.dtype, theta.tobytes())
    assert saved.scaling == SCALING
    assert (saved.inputs, saved.outputs, saved.extra) == (("a", "b"), ("c",), extra)
    assert saved.version == fm.__version__
    want = SCALING.unscale_y(
        maml.predict(theta, SCALING.scale_x(X), SCALING.scale_y(Y), SCALING.scale_x(NEW))
    )
    np.testing.assert_array_equal(saved.predict(X, Y, NEW), want)
    assert saved.predict(X, Y, NEW).dtype == np.float64


def test_names_and_scaling_are_optional(tmp_path):
    theta = MODEL.init(0, "float32")
    fm.save(tmp_path / "a.npz", OBJECTIVES[0], theta)
    saved = fm.load(tmp_path / "a.npz")
    assert saved[2:6] == (None, None, None, None)
    np.testing.assert_array_equal(saved.predict(X, Y, NEW), OBJECTIVES[0].predict(theta, X, Y, NEW))
    assert saved.predict(list(X), list(Y), NEW[0]).dtype == np.float32
    ragged = saved.predict([X[0], X[1, :2]], [Y[0], Y[1, :2]], [NEW[0], NEW[1, :1]])
    assert [len(f) for f in ragged] == [2, 1]


def test_an_old_file_is_replaced_and_kept_when_that_fails(tmp_path):
    path = tmp_path / "a.npz"
    for seed in (0, 1):
        fm.save(path, OBJECTIVES[0], MODEL.init(seed))
    with pytest.raises(TypeError, match="extra is not what JSON can hold"):
        fm.save(path, OBJECTIVES[0], MODEL.init(2), extra={1, 2})
    np.testing.assert_array_equal(fm.load(path).theta, MODEL.init(1))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("name", LAWS)
def test_a_formula_is_saved_and_compiles_to_the_same(name, tmp_path, monkeypatch):
    """Equal, so its program is, too; and read without SymPy."""
    model, values, path = LAWS[name].model, LAWS[name].values, tmp_path / "law.npz"
    fm.save(path, fm.MAML(model), model.pack(values))
    monkeypatch.setitem(sys.modules, "sympy", None)
    saved = fm.load(path)
    again = saved.objective.model
    assert again == model
    assert repr(again) == repr(model)
    assert again.unpack(saved.theta).keys() == values.keys()


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_what_holds_functions_is_refused(tmp_path):
    custom = fm.Custom(9, 2, 3, **FUNCTIONS)
    for model in (custom, fm.Sum(custom, fm.Linear(2, 3)), fm.Features(np.sin, 2, n_inputs=2)):
        refused(
            lambda model=model: fm.save(tmp_path / "a", fm.MAML(model), np.zeros(model.n_params)),
            TypeError, "which cannot be saved, for it holds functions, and a file no code",
        )  # fmt: skip


FORMULA_DAMAGES = {
    "op": (lambda f: f["nodes"][-1].__setitem__(0, "system"), "is no operation"),
    "arity": (lambda f: f["nodes"][-1].append(0), "is no operation"),
    "op of another kind": (lambda f: f["nodes"][-1].__setitem__(0, ["add"]), "Formula: "),
    "later": (lambda f: f["nodes"][-1].__setitem__(1, len(f["nodes"]) - 1),
              "accepted are integers from 0 to below"),
    "negative": (lambda f: f["nodes"][-1].__setitem__(1, -1), "has -1; accepted are integers from"),
    "bool": (lambda f: f["nodes"][-1].__setitem__(1, True), "has True; accepted are integers"),
    "no node": (lambda f: f["nodes"].append(3), "Formula: "),
    "empty node": (lambda f: f["nodes"].append([]), "Formula: "),
    "input": (lambda f: f["nodes"].append(["input", 2]), "has 2; accepted are integers from 0 to"),
    "constant": (lambda f: f["nodes"].append(["constant", 10**400]), "accepted are finite constan"),
    "constants": (lambda f: f["nodes"].append(["constant", 1.0, 2.0]), "Formula: "),
    "outputs": (lambda f: f["outputs"].append(0), "outputs, slopes and bends are not those of 1 o"),
    "no output": (lambda f: f.update(outputs=[None]), "outputs has None; accepted are integers"),
    "place": (lambda f: f.update(outputs=[10**6]), "outputs has 1000000; accepted are integers"),
    "slopes": (lambda f: f["slopes"][0].pop(), "outputs, slopes and bends are not those of"),
    "bends": (lambda f: f.update(bends=3), "Formula: "),
    "direction": (lambda f: f.update(outputs=[[n[0] for n in f["nodes"]].index("direction")]),
                  "outputs or slopes depend on a direction"),
    "text": (lambda f: f.update(text=[3]), "text is [3]; accepted are texts, one for each output"),
    "texts": (lambda f: f["text"].append("x"), "outputs, slopes and bends are not those of 2"),
    "parameters": (lambda f: f["parameters"].pop(), "Formula: "),
    "twice": (lambda f: f.update(inputs=["a", "u"]), "parameters and inputs has 'a' twice"),
    "positive": (lambda f: f.update(positive=["u"]), "positive has 'u'; accepted are the paramet"),
    "bounds": (lambda f: f.update(bounds=[["b", 2.0, 1.0]]), "accepted are pairs with low < high"),
    "no bounds": (lambda f: f.update(bounds=[["b", 2.0]]), "Formula: "),
    "more": (lambda f: f.update(more=1), "Formula has no argument 'more'"),
    "less": (lambda f: f.pop("nodes"), "Formula: "),
}  # fmt: skip


@pytest.mark.parametrize("damage", FORMULA_DAMAGES)
def test_a_damaged_formula_is_told(damage, tmp_path):
    change, text = FORMULA_DAMAGES[damage]
    path = tmp_path / "a.npz"
    fm.save(path, fm.MAML(FORMULA), FORMULA.init(0))

    def put(header):
        change(header["objective"]["arguments"]["model"]["arguments"])

    rewrite(path, put)
    with pytest.raises(ValueError, match=rf"a\.npz is a damaged model: .*{re.escape(text)}"):
        fm.load(path)


@dataclass(frozen=True, eq=False)
class Other(fm.MAML):
    """An objective of one's own."""


@pytest.mark.parametrize(
    ("objective", "options", "error", "text"),
    [
        (
            Other(MODEL),
            {},
            TypeError,
            "objective is Other.*cannot be saved; accepted are objects of M",
        ),
        (
            Reptile(Other(MODEL)),
            {},
            TypeError,
            "objective.maml is Other.*, a Other, which cannot be",
        ),
        (
            MODEL,
            {},
            TypeError,
            "objective is MLP.*accepted are a fastmaml.MAML, a fastmaml.Bay",
        ),
        (
            fm.MAML(MODEL),
            {"scaling": 2},
            TypeError,
            "scaling is 2; accepted are a Scaling and None",
        ),
        (
            fm.MAML(MODEL),
            {"scaling": Scaling([0.0], [1.0], [0.0], [1.0])},
            ValueError,
            "scaling has 1 inputs and 1 outputs; accepted are those of the model, 2 and 1",
        ),
        (
            fm.MAML(MODEL),
            {"inputs": ["a"]},
            ValueError,
            r"inputs is \['a'\]; accepted are None and",
        ),
        (
            fm.MAML(MODEL),
            {"inputs": "ab"},
            ValueError,
            "inputs is 'ab'; accepted are None and the n",
        ),
        (
            fm.MAML(MODEL),
            {"outputs": [1]},
            ValueError,
            "outputs is .1.; accepted are None and the n",
        ),
        (
            fm.MAML(MODEL),
            {"theta": np.zeros(3)},
            ValueError,
            r"theta has shape \(3,\), the model ta",
        ),
        (
            fm.MAML(MODEL),
            {"outputs": 10**5000},
            ValueError,
            "outputs is <int>; accepted are None and the",
        ),
        (
            fm.MAML(MODEL),
            {"extra": 10**5000},
            TypeError,
            "extra is not what JSON can hold: Exceeds the limit",
        ),
        (fm.MAML(MODEL), {"theta": np.full(21, np.nan)}, ValueError, "theta holds nan"),
    ],
)
def test_what_cannot_be_saved_is_named(objective, options, error, text, tmp_path):
    options = {"theta": MODEL.init(0), **options}
    with pytest.raises(error, match=text):
        fm.save(tmp_path / "a.npz", objective, **options)
    assert not list(tmp_path.iterdir())


# ---- files that are not what they should be


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "a.npz"
    objective = OBJECTIVES[3]
    fm.save(path, objective, MODEL.init(0), scaling=SCALING, inputs=["a", "b"], outputs=["c"])
    return path


def rewrite(path, change, **arrays):
    with np.load(path) as npz:
        content = {name: npz[name] for name in npz.files}
    header = json.loads(str(content.pop(HEADER)))
    header = change(header) or header
    np.savez(path, **{**content, **arrays, HEADER: np.array(json.dumps(header))})


def test_a_newer_format_is_refused_in_words(whole):
    rewrite(whole, lambda h: h.update(format=2, version="9.0", more=1))
    with pytest.raises(
        ValueError, match=r"a\.npz was written by fastmaml 9\.0 in format 2; accept"
    ):
        fm.load(whole)


def test_a_file_that_is_cut_short_or_changed_is_named(whole):
    content = whole.read_bytes()
    for end in range(0, len(content), 97):
        whole.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"a\.npz "):
            fm.load(whole)
    start = content.index(b"\x93NUMPY")
    for at in range(start, len(content), 61):
        whole.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        saved, error = attempt(whole)
        if saved is None:
            assert "a.npz " in error
        else:  # a byte that means nothing, such as the time of a member
            assert bits(saved.objective) == bits(OBJECTIVES[3])
            np.testing.assert_array_equal(saved.theta, MODEL.init(0))


def attempt(path):
    """What was loaded, or the text of the ValueError; any other exception is a failure."""
    try:
        return fm.load(path), ""
    except ValueError as error:
        return None, str(error)


JUNK = [None, True, -1, 1.5, 10**30, "x", [], [1], {}, {"array": "theta"}, {"array": 3}, [[[]]],
        {"class": "MAML", "arguments": {}}, {"class": "os.system", "arguments": {}}]  # fmt: skip
MEANT = {  # what may be there too
    "extra": JUNK, "scaling": [None], "inputs": [None], "outputs": [None], "version": ["x"],
    "objective.method": [], "objective.order": [],
    "objective.check_finite": [True], "objective.task_mean": [True],
    "objective.cg_rtol": [1.5], "objective.max_memory": [None],
    "objective.query_loss": [None],
    "objective.proximal": [None],
}  # fmt: skip


def paths():
    yield from (("format",), ("version",), ("objective",), ("scaling",), ("inputs",), ("outputs",))
    yield ("objective", "class")
    yield ("objective", "arguments")
    for name in fm.MAML.__dataclass_fields__:
        if name != "_problem":
            yield ("objective", "arguments", name)
    yield ("objective", "arguments", "model", "class")
    yield ("objective", "arguments", "model", "arguments", "layer_sizes")
    yield ("objective", "arguments", "model", "arguments", "activation")
    yield ("scaling", "x_mean")


@pytest.mark.parametrize("where", [*paths()], ids=".".join)
def test_every_field_of_the_header_is_checked(where, whole):
    content = whole.read_bytes()
    name = ".".join(part for part in where if part != "arguments" or where[-1] == part)
    for junk in JUNK:
        whole.write_bytes(content)

        def put(header, junk=junk):
            inner = header
            for part in where[:-1]:
                inner = inner[part]
            inner[where[-1]] = junk

        rewrite(whole, put)
        saved, error = attempt(whole)
        if any(junk is meant or repr(junk) == repr(meant) for meant in MEANT.get(name, [])):
            assert saved is not None, error
        else:
            assert error.startswith(f"{whole} "), (junk, saved)


@pytest.mark.parametrize(
    ("change", "arrays", "text"),
    [
        (
            lambda h: [1],
            {},
            "is no saved model; accepted are files of fastmaml.save .its header has",
        ),
        (
            lambda h: h.pop("extra") and None,
            {},
            "is a damaged model: its header has format, inputs",
        ),
        (lambda h: h.update(more=1), {}, "is a damaged model: its header has extra, format"),
        (lambda h: None, {"more": np.zeros(2)}, "its arrays are not those of the objective"),
        (lambda h: None, {"theta": np.zeros(21, int)}, "it has no theta of float32 or float64"),
        (
            lambda h: None,
            {"theta": np.zeros(3)},
            r"theta has shape \(3,\), the model takes \(21,\)",
        ),
        (lambda h: None, {"theta": np.full(21, np.inf)}, "theta holds inf"),
        (lambda h: None, {"objective.inner_lr": np.zeros(7)}, r"inner_lr has shape \(7,\)"),
        (
            lambda h: h["objective"]["arguments"].update(steps=10**9, inner_lr=0.1),
            {},
            "1000000000 steps of 2 layers are more than 10000000",
        ),
        (
            lambda h: h["objective"]["arguments"].update(spoon=1),
            {},
            "MAML has no argument 'spoon'",
        ),
        (
            lambda h: h["objective"]["arguments"]["model"]["arguments"].update(activation=[]),
            {},
            "MLP: activation has length 0; accepted are a word .* of which there are 1",
        ),
        (
            lambda h: h["objective"]["arguments"]["model"]["arguments"].update(activation=["a"]),
            {},
            r"MLP: activation\[0\] is 'a'; accepted are 'identity', ",
        ),
        (
            lambda h: h["objective"].update({"class": "Other"}),
            {},
            "there is an object of class 'Other'; known are MAML, BayesianLastLayer, Reptile, MLP",
        ),
    ],
)
def test_what_is_damaged_is_said(change, arrays, text, whole):
    rewrite(whole, change, **arrays)
    with pytest.raises(ValueError, match=rf"a\.npz .*{text}"):
        fm.load(whole)


def test_a_pickle_is_never_read(whole):
    np.savez(whole, theta=np.array([{}], object))
    with pytest.raises(ValueError, match=r"a\.npz "):
        fm.load(whole)


def test_models_and_checkpoints_are_not_mistaken_for_each_other(whole, tmp_path):
    with pytest.raises(ValueError, match=r"a\.npz is no checkpoint"):
        load_checkpoint(whole)
    theta = MODEL.init(0)
    save_checkpoint(tmp_path / "b.npz", TrainState(1, 0.0, theta, SGD(0.1).init(theta)))
    with pytest.raises(
        ValueError, match=r"b\.npz .*it is a checkpoint, which load_checkpoint reads"
    ):
        fm.load(tmp_path / "b.npz")


# ---- the objective in a checkpoint


def states():
    theta = MODEL.init(0)
    best = Best(2, 0.5, MODEL.init(1), np.array([[0.5, 0.25]]))
    optimizer_state = SGD(0.1).init(theta)
    rates = np.array([[0.1, 1 / 3]])
    return TrainState(3, 0.0, theta, optimizer_state, inner_lr=rates, best=best)


def test_a_checkpoint_hands_over_what_was_learned(tmp_path):
    state, path = states(), tmp_path / "a.npz"
    maml = fm.MAML(MODEL, inner_lr=[[0.01, 0.01]], step_weights=[0.25, 0.75], loss="mse")
    saver = Checkpointer(path, every=1, maml=maml)
    saver(state)
    checkpoint = load_checkpoint(path)
    assert bits(checkpoint.maml) == bits(replace(maml, inner_lr=state.inner_lr))
    assert bits(checkpoint.best.maml) == bits(replace(maml, inner_lr=state.best.inner_lr))
    np.testing.assert_array_equal(checkpoint.best.theta, state.best.theta)
    assert checkpoint.state.best.maml is None
    fm.save(tmp_path / "b.npz", checkpoint.best.maml, checkpoint.best.theta)
    assert bits(fm.load(tmp_path / "b.npz").objective) == bits(checkpoint.best.maml)


def test_a_checkpoint_without_an_objective_has_none(tmp_path):
    save_checkpoint(tmp_path / "a.npz", states())
    checkpoint = load_checkpoint(tmp_path / "a.npz")
    assert checkpoint.maml is None
    assert checkpoint.best.maml is None
    save_checkpoint(tmp_path / "a.npz", states()._replace(best=None, inner_lr=None))
    assert load_checkpoint(tmp_path / "a.npz").best is None


def test_a_reptile_in_a_checkpoint_keeps_its_rates(tmp_path):
    state = states()._replace(best=None, inner_lr=None)
    save_checkpoint(tmp_path / "a.npz", state, maml=OBJECTIVES[-1])
    assert bits(load_checkpoint(tmp_path / "a.npz").maml) == bits(OBJECTIVES[-1])


@pytest.mark.parametrize(
    ("maml", "error", "text"),
    [
        (Other(MODEL), TypeError, "objective is Other.*cannot be saved"),
        (2, TypeError, "objective is 2, a int; accepted are a fastmaml.MAML, a fastmaml.Bay"),
        (
            fm.MAML(fm.Linear(2)),
            ValueError,
            r"theta is float64 of shape \(21,\), objective has Lin",
        ),
    ],
)
def test_an_objective_that_a_checkpoint_cannot_hold_is_named(maml, error, text, tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(error, match=text):
        save_checkpoint(path, states(), maml=maml)
    state = states()._replace(best=None, inner_lr=np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"inner_lr has shape \(1, 3\)"):
        save_checkpoint(path, state, maml=fm.MAML(MODEL))
    assert not path.exists()


@pytest.mark.parametrize("junk", [junk for junk in JUNK if junk is not None])
def test_a_damaged_objective_in_a_checkpoint_is_named(junk, tmp_path):
    path = tmp_path / "a.npz"
    save_checkpoint(path, states(), maml=fm.MAML(MODEL))
    with np.load(path) as npz:
        content = {name: npz[name] for name in npz.files}
    header = json.loads(str(content["fastmaml_checkpoint"]))
    header["objective"] = junk
    np.savez(path, **{**content, "fastmaml_checkpoint": np.array(json.dumps(header))})
    with pytest.raises(ValueError, match=r"a\.npz is a damaged checkpoint: "):
        load_checkpoint(path)
