"""`check_model`: the comparisons of a model, and which of its parts is to blame."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..checks import FLOAT64, as_rng
from ..family import Family, as_model
from ..models.custom import Custom
from .bounds import out_of_bounds
from .passes import PASSES, SAME_F, Checks
from .probing import ROWS, Prober, points_of, thetas_of, x_of
from .result import RIGHT, WRONG, CheckResult, Finding

__all__ = ["check_model"]


#: why a part is wrong and not named
FOLLOWS = (
    "r_backward works on what the other passes left, so it may be wrong because they are: check "
    "again when they are right."
)
ALL_FOLLOW = (
    "All others are held against f, which is not the same whenever it is asked for: check again "
    "when forward is right."
)


def check_model(
    model: Family,
    theta: ArrayLike | None = None,
    x: ArrayLike | None = None,
    *,
    rng: int | np.random.Generator | None = 0,
) -> CheckResult:
    """Check a model's derivatives: which of its functions is wrong, and by how much.

    Of a `Custom` model the functions have the names that they were given by. Of any other family
    the parts are its passes: ``backward`` (products with the transposed Jacobian), ``r_forward``
    (with the Jacobian) and ``r_backward`` (with the Hessian).

    Parameters
    ----------
    model : MLP, Linear, Custom or another family
    theta : array_like, shape (P,) or (n, P), optional
        Where to check. By default, at three draws of ``model.init``, each entry changed a little.
    x : array_like, shape (rows, n_inputs), optional
        Rows to check with, of which the first 64 are looked at. By default standard normal draws.
        Rows where f is NaN or inf are left out.
    rng : int, numpy.random.Generator or None
        A seed, a generator, or None for fresh entropy.

    Returns
    -------
    CheckResult
        Prints as a table; ``ok``, ``wrong`` and ``raise_if_wrong()``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or shape.

    Notes
    -----
    What is right is derived from f alone, by differences whose steps are chosen for each number and
    whose own error is known (about 1e-10 of it); 1e-6 is accepted. Where they are not exact enough
    to tell, as near a kink of relu, a number is not judged. A wrong f cannot be found, but if the
    derivatives agree with each other and not with it, ``forward`` is named.

    Examples
    --------
    >>> import fastmaml as fm
    >>> fm.check_model(fm.MLP([2, 8, 1], "tanh")).ok
    True
    """
    generator = as_rng("rng", rng)
    as_model(model)
    names = _names(model)
    if isinstance(model, Custom):
        start = thetas_of(model, theta, generator)[0]
        bounds = out_of_bounds(model, start, x_of(model, x, generator)[:ROWS])
        if bounds:  # compiled code would destroy memory
            return CheckResult(
                repr(model), bounds, tuple(dict.fromkeys(each.part for each in bounds))
            )
    prober = Prober(model, FLOAT64)
    points = points_of(model, prober, theta, x, generator)
    if not points:
        note = "f is NaN or inf wherever it was asked: give theta= and x= where it has a value"
        finding = Finding("forward", "has a value", float("inf"), 0.0, WRONG, note)
        return CheckResult(repr(model), (finding,), ("forward",))
    order, notes = _order_of(prober)
    checks = Checks(model, prober, order, names)
    for point in points:
        checks.derivatives(point)
        checks.same(point)
        checks.single(point)
    findings = tuple(each.finding() for each in checks.all.values())
    blamed = _blamed(findings, names)
    left = {each.part for each in findings if each.verdict == WRONG} - set(blamed)
    if left and any(_is_of_f(each, names) and each.verdict == WRONG for each in findings):
        notes += (ALL_FOLLOW,)
    elif names["r_backward"] in left and "forward" not in blamed:
        notes += (FOLLOWS,)
    return CheckResult(repr(model), findings, blamed, notes)


def _names(model: Family) -> dict[str, str]:
    """What each pass is called."""
    if not isinstance(model, Custom):
        return {name: name for name in PASSES}
    names = dict(zip(PASSES, ("forward", "vjp", "jvp", "hvp"), strict=True))
    derived = model.derived
    for name, word in names.items():
        # The function that something is derived from is to blame.
        while word in derived:
            word = derived[word].split(",")[0]
        names[name] = word
    return names


def _order_of(prober: Prober) -> tuple[int, tuple[str, ...]]:
    """The highest derivatives that a model has, and what is said of those that it has not."""
    for order in (2, 1):
        try:
            prober.compiled.reaching(order)
        except ValueError as error:
            why = str(error)
            continue
        return (order, ()) if order == 2 else (order, (f"Not checked: {why}",))
    return 0, (f"Not checked: {why}",)


def _is_of_f(finding: Finding, names: dict[str, str]) -> bool:
    """Whether it says that f is the same however it is asked for."""
    return finding.part == names["forward"] and finding.check in SAME_F


def _blamed(findings: tuple[Finding, ...], names: dict[str, str]) -> tuple[str, ...]:
    """The parts whose errors no other explains."""
    wrong = [each for each in findings if each.verdict == WRONG]
    if any(_is_of_f(each, names) for each in wrong):
        return (names["forward"],)  # there is no f to hold the others against
    parts = {each.part for each in wrong if " or " not in each.part}
    both = {names["backward"], names["r_forward"]}
    agree = any(" or " in each.part and each.verdict == RIGHT for each in findings)
    if len(both) == 2 and both <= parts and agree and names["forward"] not in parts:
        return ("forward",)  # its derivatives agree with each other
    if names["r_backward"] == "r_backward" and parts & both:
        parts.discard("r_backward")  # it works on what the others left
    if not parts:
        parts = {each.part for each in wrong}
    order = [*dict.fromkeys(names.values()), *(each.part for each in wrong)]
    return tuple(dict.fromkeys(part for part in order if part in parts))
