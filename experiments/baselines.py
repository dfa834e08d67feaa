"""What a table of groups is predicted with when nobody meta-learns.

Each function learns from the rows of training groups and predicts rows of new groups, of each of
which some rows are known: ``predict(train, known, x_new, groups_new, seed)``, tables and arrays as
in experiments.tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from .tables import Table

PENALTIES = np.logspace(-3, 3, 13)
MOST_CROSSED = 8  # inputs, up to which the cubic has products of them


def support_mean(
    train: Table, known: Table, x_new: NDArray[Any], groups_new: NDArray[Any], seed: int
) -> NDArray[Any]:
    """The mean of the known rows of the group."""
    return _means(known.y, known.groups, groups_new)


def ridge_per_group(
    train: Table, known: Table, x_new: NDArray[Any], groups_new: NDArray[Any], seed: int
) -> NDArray[Any]:
    """Ridge regression on the known rows of each group alone; the penalty by leave-one-out."""
    y = np.empty(len(x_new))
    for group in np.unique(groups_new):
        own, new = known.groups == group, groups_new == group
        model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
        y[new] = model.fit(known.x[own], known.y[own]).predict(x_new[new])
    return y


def pooled_cubic(
    train: Table, known: Table, x_new: NDArray[Any], groups_new: NDArray[Any], seed: int
) -> NDArray[Any]:
    """One cubic for all groups, and an offset of each: the mean residual of its known rows.

    It is fitted within groups, after their means are taken from targets and from all terms. Of more
    than eight inputs it has powers but no products.
    """
    scaler = StandardScaler().fit(train.x)

    def terms(x: NDArray[Any]) -> NDArray[Any]:
        x = scaler.transform(x)
        if x.shape[1] <= MOST_CROSSED:
            return PolynomialFeatures(3, include_bias=False).fit_transform(x)
        return np.concatenate([x, x**2, x**3], axis=1)

    within = terms(train.x)
    within = within - _means(within, train.groups, train.groups)
    scale = within.std(axis=0)
    scale[scale < 1e-9] = np.inf  # the same in each group: the offset has it
    targets = train.y - _means(train.y, train.groups, train.groups)
    model = RidgeCV(PENALTIES, fit_intercept=False).fit(within / scale, targets)
    residuals = known.y - model.predict(terms(known.x) / scale)
    return model.predict(terms(x_new) / scale) + _means(residuals, known.groups, groups_new)


def told_forest(
    train: Table, known: Table, x_new: NDArray[Any], groups_new: NDArray[Any], seed: int
) -> NDArray[Any]:
    """A random forest that is told the means of the known rows: of their inputs and targets.

    In training it is told those of as many random rows of a group, and learns its other rows.
    """
    rng = np.random.default_rng(seed)
    n_known = int(np.median(np.unique(known.groups, return_counts=True)[1]))
    x, y = [], []
    for _ in range(3):
        told = rank(train.groups, rng) < n_known
        rest = ~told
        part = Table(train.x[told], train.y[told], train.groups[told])
        x.append(_tell(part, train.x[rest], train.groups[rest]))
        y.append(train.y[rest])
    forest = RandomForestRegressor(min_samples_leaf=3, max_features=0.5, random_state=seed)
    forest.fit(np.concatenate(x), np.concatenate(y))
    return forest.predict(_tell(known, x_new, groups_new))


def pooled_network(
    train: Table, known: Table, x_new: NDArray[Any], groups_new: NDArray[Any], seed: int
) -> NDArray[Any]:
    """scikit-learn's network for all groups, which does not adapt; it stops by validation."""
    network = MLPRegressor(
        hidden_layer_sizes=(40, 40), max_iter=500, early_stopping=True, random_state=seed
    )
    pipeline = make_pipeline(StandardScaler(), network)
    model = TransformedTargetRegressor(pipeline, transformer=StandardScaler())
    return model.fit(train.x, train.y).predict(x_new)


Predict = Callable[[Table, Table, NDArray[Any], NDArray[Any], int], NDArray[Any]]

BASELINES: dict[str, Predict] = {
    "mean of the support": support_mean,
    "ridge per group": ridge_per_group,
    "pooled cubic with offsets": pooled_cubic,
    "random forest told the means": told_forest,
    "pooled network": pooled_network,
}


def rank(groups: NDArray[Any], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the place of each row in a random order of its group's rows, from 0."""
    order = rng.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    first = np.searchsorted(groups[order], groups[order])
    place = np.empty(len(groups), np.intp)
    place[order] = np.arange(len(groups)) - first
    return place


def _means(values: NDArray[Any], groups: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
    """The mean of the values of each wanted group."""
    names, code, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, code, values)
    means = (sums.T / counts).T
    return means[np.searchsorted(names, wanted)]


def _tell(known: Table, x: NDArray[Any], groups: NDArray[Any]) -> NDArray[Any]:
    told = np.column_stack([known.x, known.y])
    return np.concatenate([x, _means(told, known.groups, groups)], axis=1)
