"""Rows one at a time: the batch's posterior to rounding, however many there were."""

import pickle
import re

import closed_form_reference as reference
import numba
import numpy as np
import pytest
from cases import DTYPES, relative_error

import fastmaml as fm

MANY = 200 if numba.config.DISABLE_JIT else 100_000


def problem(n_out=1, dtype="float64", hidden=(8,), rows=40, **options):
    rng = np.random.default_rng(0)
    head = fm.BayesianLastLayer(fm.MLP([2, *hidden, n_out]), noise="per_output", **options)
    theta = (head.init(rng) + 0.3 * rng.normal(size=head.n_params)).astype(dtype)
    x = rng.normal(size=(rows, 2))
    y = 3 + np.sin(x @ rng.normal(size=(2, n_out))) + 0.1 * rng.normal(size=(rows, n_out))
    return head, theta, x.astype(dtype), y.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_out", [1, 3])
def test_rows_one_at_a_time_are_the_batch(n_out, dtype):
    head, theta, x, y = problem(n_out, dtype)
    stream, tolerance = head.start(theta), {"float64": 1e-12, "float32": 2e-5}[dtype]
    for k in range(20):
        want = head.predict(theta, x[:k], y[:k], x[30:], return_std=True)
        for i in range(10):
            got = stream.predict(x[30 + i], return_std=True)
            for mine, batch in zip(got, want, strict=True):
                assert mine.shape == (n_out,)
                assert mine.dtype == dtype
                assert relative_error(mine, batch[i]) < tolerance
            assert (stream.predict(x[30 + i]) == got[0]).all()
        assert stream.n_rows == k
        stream.update(x[k], y[k])


def test_after_many_rows_it_is_the_batch_still():
    head, theta, x, y = problem(2, rows=MANY, hidden=(20, 7))
    stream = head.start(theta)
    for row in zip(x, y, strict=True):
        stream.update(*row)
    want = head.predict(theta, x, y, x[:50], return_std=True)
    got = [stream.predict(row, return_std=True) for row in x[:50]]
    for i in range(2):
        assert relative_error([each[i] for each in got], want[i]) < 1e-10
    noise = head.unpack(theta).noise_variance
    # What the rows leave unknown, beside the noise: the hardest number to keep.
    left = np.array([each[1] for each in got]) ** 2 / noise - 1
    assert relative_error(left, want[1] ** 2 / noise - 1) < 1e-6
    assert (left > 0).all()


def test_forgetting_weighs_rows():
    """A row that counts w is sqrt(w) times its features and targets; so is the prior's."""
    head, theta, x, y = problem(rows=6)
    stream, forget = head.start(theta), (0.9, 1.0, 0.5, 0.99, 0.2, 1.0)
    for row in zip(x, y, forget, strict=True):
        stream.update(*row)
    of = reference.parts(head, theta)
    weights = [np.prod(forget[k + 1 :]) for k in range(6)]
    phi, all_of_it = reference.features(head, of, x), np.prod(forget)
    prior = np.diag(all_of_it / of.prior_variance)
    precision = prior + (phi.T * weights) @ phi
    mean = np.linalg.solve(precision, prior @ of.prior_mean.T + (phi.T * weights) @ y)
    f, std = stream.predict([0.3, -0.4], return_std=True)
    psi = reference.features(head, of, np.array([[0.3, -0.4]]))
    h = 1 + (psi @ np.linalg.solve(precision, psi.T))[0, 0]
    assert relative_error(f, (psi @ mean)[0]) < 1e-12
    assert relative_error(std**2, h * of.noise_variance) < 1e-12


def test_a_stream_that_forgets_follows_what_changes():
    head, theta, x, _ = problem(rows=400)
    follows, keeps = head.start(theta), head.start(theta)
    for i, row in enumerate(x):
        y = [np.sin(row[0]) if i < 200 else -np.sin(row[0])]
        follows.update(row, y, forget=0.95)
        keeps.update(row, y)
    error = [abs(stream.predict([1.0, 0.0])[0] + np.sin(1.0)) for stream in (follows, keeps)]
    assert error[0] < 0.2 < error[1]


def test_what_is_never_seen_is_forgotten_to_a_number():
    """Of a relu unit that no row activates, 0.9^5000 of the prior's precision would be 0."""
    head = fm.BayesianLastLayer(fm.MLP([1, 2, 1], "relu"))
    theta = head.pack([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 2.0]], [0.0])], 1.0, 0.01)
    stream = head.start(theta)
    for i in range(20_000 if not numba.config.DISABLE_JIT else 400):
        stream.update([1.0 + i % 3], [3.0 + 2 * (i % 3)], forget=0.9)
    mean, std = stream.predict([4.0], return_std=True)
    assert relative_error(mean, [9.0]) < 1e-6
    assert 0.1 < std[0] < 0.3
    mean, std = stream.predict([-1.0], return_std=True)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert std[0] > 0.2
    stream.update([-1.0], [5.0])
    assert relative_error(stream.predict([-1.0]), [5.0]) < 0.5


def test_from_a_posterior():
    head, theta, x, y = problem(2)
    posterior = head.adapt(theta, x[:10], y[:10])
    stream, whole = head.start(theta, posterior), head.start(theta)
    for i in range(20):
        whole.update(x[i], y[i])
        if i >= 10:
            stream.update(x[i], y[i])
    for mine, other in zip(
        stream.predict(x[30], return_std=True), whole.predict(x[30], return_std=True), strict=True
    ):
        assert relative_error(mine, other) < 1e-12
    batch = head.adapt(theta, x.reshape(2, 20, 2), y.reshape(2, 20, 2))
    one = fm.BayesianLastLayer.start(
        head, theta, type(batch)(batch.mean[1], batch.scale[1], batch.noise_variance)
    )
    want = head.predict(theta, x[20:], y[20:], x[:1])
    assert relative_error(one.predict(x[0]), want[0]) < 1e-12


@pytest.mark.parametrize("n_out", [1, 3])
def test_its_posterior_is_that_of_the_batch(n_out):
    head, theta, x, y = problem(n_out)
    stream = head.start(theta)
    for k in (0, 1, 30):
        while stream.n_rows < k:
            stream.update(x[stream.n_rows], y[stream.n_rows])
        found = stream.posterior
        assert isinstance(found, fm.Posterior)
        for mine, batch in zip(found, head.adapt(theta, x[:k], y[:k]), strict=True):
            assert mine.shape == batch.shape
            assert mine.dtype == np.float64
            assert relative_error(mine, batch) < 1e-12
        again = head.start(theta, found)
        for mine, own in zip(again.predict(x[33], True), stream.predict(x[33], True), strict=True):
            assert relative_error(mine, own) < 1e-12
        found.noise_variance[:] = 7.0  # what is returned is nobody else's
        assert (stream.posterior.noise_variance != 7.0).all()
        assert (again.posterior.noise_variance != 7.0).all()


def test_its_posterior_keeps_what_float32_would_round():
    head, theta, x, y = problem(2, "float32")
    stream = head.start(theta)
    for row in zip(x, y, strict=True):
        stream.update(*row)
    found = stream.posterior
    assert {part.dtype for part in found} == {np.dtype("float64")}
    again = head.start(theta, found).posterior
    for mine, own in zip(again, found, strict=True):
        assert relative_error(mine, own) < 1e-12


def test_copies_and_pickles_go_their_own_way():
    head, theta, x, y = problem()
    stream = head.start(theta)
    stream.update(x[0], y[0])
    before = stream.predict(x[5])
    for other in (stream.copy(), pickle.loads(pickle.dumps(stream))):
        assert (other.predict(x[5]) == before).all()
        other.update(x[1], y[1])
        assert (other.predict(x[5]) != before).all()
        assert (stream.predict(x[5]) == before).all()
        assert (other.n_rows, stream.n_rows) == (2, 1)


def test_models_of_all_kinds():
    for model in (fm.Linear(2), fm.Linear(2, 3, intercept=False), fm.MLP([2, 5, 1], "sigmoid")):
        head, rng = fm.BayesianLastLayer(model), np.random.default_rng(1)
        theta, x = head.init(rng), rng.normal(size=(6, 2))
        y = rng.normal(size=(6, model.n_outputs))
        stream = head.start(theta)
        for row in zip(x[:4].tolist(), y[:4].tolist(), strict=True):
            stream.update(*row)
        assert relative_error(stream.predict(x[5]), head.predict(theta, x[:4], y[:4], x[5:])[0]) < (
            1e-12
        )
    assert repr(stream) == "<Stream of MLP([2, 5, 1], activation='sigmoid'), 4 rows>"


def test_a_number_is_a_row_of_one_output():
    head, theta, x, y = problem()
    stream, other = head.start(theta), head.start(theta)
    stream.update(x[0], float(y[0, 0]))
    other.update(list(x[0]), y[0])
    assert (stream.predict(x[1]) == other.predict(x[1])).all()


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e150, 1e300])
def test_rows_of_any_size_leave_numbers(size):
    """Features are the inputs, so that the state has their size."""
    head = fm.BayesianLastLayer(fm.Linear(2, intercept=False))
    theta = head.pack([([[0.5, -1.0]], None)], 1.0, 0.01)
    x, y = np.array([[1.0, 2.0], [-1.0, 0.5], [3.0, 1.0], [0.3, -2.0]]), [1.0, -2.0, 0.5, 3.0]
    stream = head.start(theta)
    for row, target in zip(x, y, strict=True):
        stream.update(size * row, [size * target])
    if size > 1:
        assert stream.posterior.scale[0, 0] > size
    mean, std = stream.predict(x[0], return_std=True)
    want = np.linalg.lstsq(x, y)[0] if size > 1 else [0.5, -1.0]
    assert relative_error(mean, [x[0] @ want]) < 1e-12
    assert relative_error(std, [0.1 if size > 1 else 0.1 * np.sqrt(6)]) < 1e-12


@pytest.mark.parametrize("forget", [1e-200, 1e-300])
def test_what_is_forgotten_at_once_is_forgotten_to_a_number(forget):
    head = fm.BayesianLastLayer(fm.MLP([1, 2, 1], "relu"))
    theta = head.pack([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 2.0]], [0.0])], 1.0, 0.01)
    stream = head.start(theta)
    for _ in range(3):
        stream.update([1.0], [3.0], forget=forget)
        mean, std = stream.predict([-1.0], return_std=True)
        assert np.isfinite(mean).all()
        assert 1e90 < std[0] < np.inf


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda s: s.update([1.0], [1.0]), ValueError,
         "x_row has shape (1,); accepted is (2,) (MLP([2, 8, 1], activation='tanh'))"),
        (lambda s: s.update([1.0, 2.0], [1.0, 2.0]), ValueError,
         "y_row has shape (2,); accepted is (1,)"),
        (lambda s: s.predict([[1.0, 2.0]]), ValueError, "x_row has shape (1, 2); accepted is (2,)"),
        (lambda s: s.predict(3.0), ValueError, "x_row has shape (); accepted is (2,)"),
        (lambda s: s.update([1.0, np.nan], [1.0]), ValueError,
         "x_row holds nan at feature 1; accepted are finite float64 numbers"),
        (lambda s: s.update([1.0, 1.0], [np.inf]), ValueError,
         "y_row holds inf at output 0; accepted are finite float64 numbers"),
        (lambda s: s.update([1.0, 1.0], None), TypeError, "y_row is None; accepted are arrays"),
        (lambda s: s.update([1.0, 1.0], [1.0], 0.0), ValueError,
         "forget is 0.0; accepted are numbers above 0, up to 1"),
        (lambda s: s.update([1.0, 1.0], [1.0], 1.5), ValueError,
         "forget is 1.5; accepted are numbers above 0, up to 1"),
        (lambda s: s.update([1.0, 1.0], [1.0], "all"), TypeError,
         "forget is 'all'; accepted is one real number"),
        (lambda s: s.predict([1.0, 1.0], 1), TypeError,
         "return_std is 1; accepted are True and False"),
    ],
)  # fmt: skip
def test_errors_leave_the_stream_as_it_was(call, kind, text):
    head, theta, x, y = problem()
    stream = head.start(theta)
    stream.update(x[0], y[0])
    before = stream.predict(x[5])
    with pytest.raises(kind, match=re.escape(text)):
        call(stream)
    assert (stream.predict(x[5]) == before).all()
    assert stream.n_rows == 1


def test_errors_of_start():
    head, theta, x, y = problem(2)
    with pytest.raises(ValueError, match=r"theta has shape \(3,\), the model takes \(53,\)"):
        head.start(theta[:3])
    with pytest.raises(ValueError, match="theta holds nan at parameter 0"):
        head.start(np.where(np.arange(len(theta)), theta, np.nan))
    with pytest.raises(TypeError, match="posterior is a tuple; accepted is a Posterior, as adapt"):
        head.start(theta, (1, 2, 3))
    batch = head.adapt(theta, x.reshape(2, 20, 2), y.reshape(2, 20, 2))
    text = "posterior.mean has shape (2, 2, 9); accepted is (2, 9)"
    hint = "; of task i it is Posterior(p.mean[i], p.scale[i], p.noise_variance)"
    with pytest.raises(ValueError, match=re.escape(text) + ".*" + re.escape(hint)):
        head.start(theta, batch)
    wrong = head.adapt(theta, x, y)._replace(noise_variance=np.ones(3))
    with pytest.raises(ValueError, match=r"posterior.noise_variance has shape \(3,\); accepted is"):
        head.start(theta, wrong)


@pytest.mark.parametrize(
    ("name", "place", "value", "text"),
    [
        ("mean", (1, 3), np.nan, "posterior.mean holds nan at output 1, feature 3; accepted are f"),
        ("scale", (2, 0), np.inf, "posterior.scale holds inf at row 2, column 0; accepted are fin"),
        ("noise_variance", 1, np.nan, "posterior.noise_variance holds nan at output 1; accepted"),
        ("scale", (1, 4), 0.5, "posterior.scale holds 0.5 at row 1, column 4; accepted are lower "
         "Cholesky factors, zero above the diagonal"),
        ("scale", (3, 3), 0.0, "posterior.scale holds 0.0 on the diagonal, at row 3; accepted are "
         "numbers above 0"),
        ("scale", (0, 0), -1.0, "posterior.scale holds -1.0 on the diagonal, at row 0; accepted"),
        ("noise_variance", 0, -2.0, "posterior.noise_variance holds -2.0 at output 0; accepted are "
         "numbers above 0"),
        ("noise_variance", 1, 0.0, "posterior.noise_variance holds 0.0 at output 1; accepted are"),
    ],
)  # fmt: skip
def test_numbers_that_are_no_posterior(name, place, value, text):
    head, theta, x, y = problem(2)
    given = head.adapt(theta, x, y)
    getattr(given, name)[place] = value
    with pytest.raises(ValueError, match=re.escape(text)):
        head.start(theta, given)
    fm.BayesianLastLayer(head.model, noise="per_output", check_finite=False).start(theta, given)


def test_a_posterior_of_text():
    head, theta, x, y = problem(2)
    for name in fm.Posterior._fields:
        given = head.adapt(theta, x, y)._replace(**{name: "all"})
        with pytest.raises(TypeError, match=rf"^posterior\.{name} "):
            head.start(theta, given)
