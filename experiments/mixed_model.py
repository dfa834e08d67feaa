"""A linear mixed model for groups of rows, by statsmodels: a cubic in time, and deviations from it.

y = X β + Z b_group + noise, b ~ N(0, Ψ): X has powers of the first input up to the third and the
other inputs as they are; Z has the first one, two or three of 1, t, t². How many, the Bayesian
information criterion says. A new group gets β and E[b | its support rows], the best linear unbiased
predictor. Needs the extra ``experiments``.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from .real_contenders import Split

DEGREE = 3  # of the cubic
MOST_RANDOM = 3  # columns of Z


def mixed_model(s: Split) -> NDArray[Any]:
    """Predict rows of new groups by the model of least BIC on the training groups."""
    scaler = StandardScaler().fit(s.train.x)
    fixed = _fixed(scaler.transform(s.train.x))
    columns = _independent(fixed)
    x, unit = fixed[:, columns], s.train.y.std()
    fits = [
        _fit(s.train.y / unit, x, _random(scaler.transform(s.train.x), n), s.train.groups)
        for n in range(1, MOST_RANDOM + 1)
    ]
    found = [fit for fit in fits if fit is not None]
    if not found:
        raise FloatingPointError("no mixed model converged")
    _, beta, psi, noise = min(found, key=lambda fit: fit[0])

    def rows(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        x = scaler.transform(x)
        return _fixed(x)[:, columns], _random(x, len(psi))

    y = np.empty(len(s.x_new))
    for name in np.unique(s.groups_new):
        known, new = s.known.groups == name, s.groups_new == name
        X, Z = rows(s.known.x[known])
        covariance = Z @ psi @ Z.T + noise * np.eye(len(Z))
        b = psi @ Z.T @ np.linalg.solve(covariance, s.known.y[known] / unit - X @ beta)
        X, Z = rows(s.x_new[new])
        y[new] = unit * (X @ beta + Z @ b)
    return y


def _fit(
    y: NDArray[Any], X: NDArray[Any], Z: NDArray[Any], groups: NDArray[Any]
) -> tuple[float, NDArray[Any], NDArray[Any], float] | None:
    """BIC, β, Ψ and the variance of the noise, or None where the fit fails."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a Ψ on the boundary is an estimate as good as any
        try:
            result = MixedLM(y, X, groups, exog_re=Z).fit(reml=False, method=["lbfgs", "powell"])
        except (np.linalg.LinAlgError, ValueError):
            return None
    n = Z.shape[1]
    n_params = X.shape[1] + n * (n + 1) // 2 + 1
    bic = -2.0 * result.llf + n_params * np.log(len(y))
    psi, noise = np.asarray(result.cov_re), float(result.scale)
    beta = np.asarray(result.fe_params)
    whole = np.isfinite(bic) and np.isfinite(beta).all() and np.isfinite(psi).all() and noise > 0
    return (float(bic), beta, psi, noise) if whole else None


def _fixed(x: NDArray[Any]) -> NDArray[Any]:
    powers = [x[:, 0] ** power for power in range(DEGREE + 1)]
    return np.column_stack([*powers, x[:, 1:]])


def _random(x: NDArray[Any], n: int) -> NDArray[Any]:
    return np.column_stack([x[:, 0] ** power for power in range(n)])


def _independent(x: NDArray[Any]) -> list[int]:
    """Columns, from the left, none of which is a combination of those before it."""
    kept: list[int] = []
    for i in range(x.shape[1]):
        residual = x[:, i]
        if kept:
            basis = x[:, kept]
            residual = residual - basis @ np.linalg.lstsq(basis, residual)[0]
        if np.linalg.norm(residual) > 1e-6 * max(np.linalg.norm(x[:, i]), 1e-300):
            kept.append(i)
    return kept
