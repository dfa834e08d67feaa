"""What experiments.real_tables compares: ways to predict new groups from others and a few rows.

Each contender is a function of a `Split`, which holds the training groups whole and the support
rows of new groups, and returns predictions at its ``x_new``. Whatever a contender has to choose it
chooses on the training groups: by cross-checks of its own, or on `Split.inner`, which sets a
quarter of them aside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from fastmaml import BayesianLastLayer, BayesianLastLayerRegressor
from fastmaml.learn import MAMLRegressor

from .baselines import rank, support_mean
from .estimator_defaults import HalfKnown
from .gaussian_process import gaussian_process
from .measures import place_in_group
from .mixed_model import mixed_model
from .tables import Table

ASIDE = 0.25  # share of the training groups on which contenders choose
FINE_TUNING = list(product((1, 5, 20, 100), (0.01, 0.03, 0.1, 0.3)))  # steps and rate
PENALTIES = np.logspace(-3, 3, 13)
DRAWS = 3  # of told rows of each training group, where any rows may be known


@dataclass(frozen=True, eq=False)
class Split:
    """Training groups, support rows of new groups, and the rows to predict.

    Parameters
    ----------
    train, known : Table
        Rows of each group in order; of a new group `known` holds the first `n_known`.
    x_new, groups_new : ndarray
        The rows asked for.
    n_known : int
    forecast : bool
        Whether the order is that of time; else it is random.
    seed : int
        Of all that is random in a contender.
    """

    train: Table
    known: Table
    x_new: NDArray[Any]
    groups_new: NDArray[Any]
    n_known: int
    forecast: bool
    seed: int

    @cached_property
    def pooled(self) -> MAMLRegressor:
        """The estimator's network without inner steps: one for all training groups."""
        return MAMLRegressor(steps=0, random_state=self.seed).fit(*self.train)

    @cached_property
    def inner(self) -> tuple[Split, NDArray[Any]]:
        """A split of the training groups, and the targets that it asks for."""
        names = np.random.default_rng(self.seed).permutation(np.unique(self.train.groups))
        aside = names[: max(2, round(ASIDE * len(names)))]
        return split(self.train, aside, self.n_known, self.forecast, self.seed)


def split(
    table: Table, tested: NDArray[Any], n_known: int, forecast: bool, seed: int
) -> tuple[Split, NDArray[Any]]:
    """Take some groups of a table as new; return their targets apart, which no contender sees."""
    test = np.isin(table.groups, tested)
    first = place_in_group(table.groups) < n_known
    train, known, new = (
        Table(*(column[rows] for column in table)) for rows in (~test, test & first, test & ~first)
    )
    return Split(train, known, new.x, new.groups, n_known, forecast, seed), new.y


def of_mean(s: Split) -> NDArray[Any]:
    """The mean of the support rows."""
    return support_mean(s.train, s.known, s.x_new, s.groups_new, s.seed)


# ---- one network for all, and what is made of it


def pooled(s: Split) -> NDArray[Any]:
    """One network for all groups, which does not adapt."""
    return _adapted(s.pooled, s)


def fine_tuned(s: Split) -> NDArray[Any]:
    """The pooled network after gradient steps on the support; `inner` says how many, how long."""

    def predict(part: Split, choice: tuple[int, float]) -> NDArray[Any]:
        steps, rate = choice
        kept = part.pooled.get_params()
        network = part.pooled.set_params(steps=steps, inner_lr=rate)
        try:
            return _adapted(network, part)
        finally:
            network.set_params(**kept)

    return predict(s, _chosen(s, FINE_TUNING, predict))


def last_layer(s: Split) -> NDArray[Any]:
    """The pooled network, its last layer refitted by ridge towards what it was."""
    return _refitted(s, _chosen(s, PENALTIES, _refitted))


def _refitted(s: Split, penalty: float) -> NDArray[Any]:
    """Ridge is the closed form with one prior variance, the inverse of the penalty."""
    network = s.pooled
    head = BayesianLastLayer(network.model_, loss="mse", prior="shared")
    theta = head.pack(network.model_.unpack(network.theta_), 1.0 / penalty, 1.0)
    scaling = network.scaling_
    names = np.unique(s.groups_new)
    f = head.predict(
        theta,
        [scaling.scale_x(s.known.x[s.known.groups == name]) for name in names],
        [scaling.scale_y(s.known.y[s.known.groups == name][:, None]) for name in names],
        [scaling.scale_x(s.x_new[s.groups_new == name]) for name in names],
    )
    y = np.empty(len(s.x_new))
    for name, own in zip(names, f, strict=True):
        y[s.groups_new == name] = scaling.unscale_y(own)[:, 0]
    return y


def _chosen(s: Split, choices: Any, predict: Callable[[Split, Any], NDArray[Any]]) -> Any:
    """The choice of least squared error, mean over rows, on the groups that `inner` sets aside."""
    part, y = s.inner
    errors = [float(np.mean((predict(part, choice) - y) ** 2)) for choice in choices]
    return choices[int(np.argmin(np.nan_to_num(errors, nan=np.inf, posinf=np.inf)))]


# ---- ours, with their defaults


def maml(s: Split) -> NDArray[Any]:
    """``MAMLRegressor()``."""
    return _adapted(MAMLRegressor(random_state=s.seed).fit(*s.train), s)


def maml_of_halves(s: Split) -> NDArray[Any]:
    """``MAMLRegressor()`` as it was."""
    return _adapted(HalfKnown(random_state=s.seed).fit(*s.train), s)


def maml_told(s: Split) -> NDArray[Any]:
    """The same, told how it will be used: after how many rows, and whether the first ones."""
    regressor = MAMLRegressor(shots=s.n_known, shuffle=not s.forecast, random_state=s.seed)
    return _adapted(regressor.fit(*s.train), s)


def closed_form(s: Split) -> NDArray[Any]:
    """``BayesianLastLayerRegressor()``."""
    return _adapted(BayesianLastLayerRegressor(random_state=s.seed).fit(*s.train), s)


def closed_form_told(s: Split) -> NDArray[Any]:
    """The same, told how it will be used."""
    regressor = BayesianLastLayerRegressor(
        n_support=s.n_known, shuffle=not s.forecast, random_state=s.seed
    )
    return _adapted(regressor.fit(*s.train), s)


def _adapted(regressor: Any, s: Split) -> NDArray[Any]:
    return regressor.adapt_predict(*s.known, s.x_new, s.groups_new)


# ---- others


def told_forest(s: Split) -> NDArray[Any]:
    """A random forest that is told a summary of the support, and predicts what is above its mean.

    In training it is told the first rows of each group, as in use, or three draws of any.
    """
    rng = np.random.default_rng(s.seed)
    x, y = [], []
    for _ in range(1 if s.forecast else DRAWS):
        groups = s.train.groups
        place = place_in_group(groups) if s.forecast else rank(groups, rng)
        known = Table(*(column[place < s.n_known] for column in s.train))
        rest = Table(*(column[place >= s.n_known] for column in s.train))
        told, mean = _told(known, rest.x, rest.groups)
        x.append(told)
        y.append(rest.y - mean)
    forest = RandomForestRegressor(min_samples_leaf=3, max_features=0.5, random_state=s.seed)
    forest.fit(np.concatenate(x), np.concatenate(y))
    told, mean = _told(s.known, s.x_new, s.groups_new)
    return forest.predict(told) + mean


def _told(known: Table, x: NDArray[Any], groups: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows with the summary of their group: means, deviation and last of y, slope on column 0."""
    names, code = np.unique(groups, return_inverse=True)
    summaries = []
    for name in names:
        own = known.groups == name
        t, y = known.x[own, 0], known.y[own]
        t = t - t.mean()
        slope = t @ y / max(t @ t, 1e-12)
        summaries.append([*known.x[own].mean(axis=0), y.mean(), y.std(), slope, y[-1]])
    told = np.array(summaries)[code]
    return np.concatenate([x, told], axis=1), told[:, -4]


CONTENDERS: dict[str, Callable[[Split], NDArray[Any]]] = {
    "support mean": of_mean,
    "pooled network": pooled,
    "pooled, fine-tuned": fine_tuned,
    "pooled, last layer by ridge": last_layer,
    "MAML": maml,
    "MAML, half known": maml_of_halves,
    "MAML, told the use": maml_told,
    "closed form": closed_form,
    "closed form, told the use": closed_form_told,
    "Gaussian process": gaussian_process,
    "mixed model": mixed_model,
    "forest told a summary": told_forest,
}
OURS = tuple(name for name in CONTENDERS if name.startswith(("MAML", "closed form")))
