"""A Gaussian process for groups of rows: a function that all share, and one of each group's own.

y = f(x) + g_group(x) + noise, with f ~ GP(0, a RBF), g ~ GP(0, b + c RBF), all independent. The
hyperparameters are those of the greatest marginal likelihood of the training groups, found by
scikit-learn. Needs the extra ``sklearn``.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Kernel, WhiteKernel
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from .real_contenders import Split

#: rows of whole groups, at most, from which the hyperparameters are learned, and f
ROWS_LEARNED, ROWS_USED = 400, 1000
MOST_SCALES = 5  # inputs, up to which each has a length scale of its own


class InputsRBF(RBF):
    """The RBF kernel of all columns but the last, which says the group."""

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """Return the kernel, and its gradient if asked for."""
        return super().__call__(X[:, :-1], None if Y is None else Y[:, :-1], eval_gradient)


class SameGroup(Kernel):
    """1 for rows whose last columns are equal, else 0."""

    def __init__(self) -> None:  # scikit-learn reads the hyperparameters, none, off the signature
        pass

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """Return the kernel, and its gradient, which has no entries, if asked for."""
        K = (X[:, None, -1] == (X if Y is None else Y)[None, :, -1]).astype(float)
        return (K, np.empty((*K.shape, 0))) if eval_gradient else K

    def diag(self, X: Any) -> NDArray[Any]:
        """Return the kernel of each row and itself."""
        return np.ones(len(X))

    def is_stationary(self) -> bool:
        """Return whether only differences count."""
        return False


def gaussian_process(s: Split) -> NDArray[Any]:
    """Predict rows of new groups given the training groups and their own support rows."""
    inputs, target = StandardScaler().fit(s.train.x), StandardScaler().fit(s.train.y[:, None])
    names = np.random.default_rng(s.seed).permutation(np.unique(s.train.groups))
    counts = np.array([np.sum(s.train.groups == name) for name in names])

    def fitted(kernel: Kernel, most: int, optimizer: str | None) -> GaussianProcessRegressor:
        some = names[: max(2, int(np.sum(np.cumsum(counts) <= most)))]
        rows = np.isin(s.train.groups, some)
        code = np.unique(s.train.groups[rows], return_inverse=True)[1]
        x = np.column_stack([inputs.transform(s.train.x[rows]), code])
        y = target.transform(s.train.y[rows][:, None])[:, 0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of a scale at its bound
            return GaussianProcessRegressor(kernel, optimizer=optimizer).fit(x, y)

    n = s.train.x.shape[1]
    scales = np.ones(n) if n <= MOST_SCALES else np.sqrt(n)
    strength = {"constant_value_bounds": (1e-4, 1e2)}
    rbf = InputsRBF(scales, length_scale_bounds=(0.05, 1e2))
    own = ConstantKernel(0.5, **strength) + ConstantKernel(0.5, **strength) * rbf
    kernel = (
        ConstantKernel(1.0, **strength) * rbf + SameGroup() * own + WhiteKernel(0.1, (1e-5, 1e1))
    )
    learned = fitted(kernel, ROWS_LEARNED, "fmin_l_bfgs_b").kernel_
    process = fitted(learned, ROWS_USED, None)

    y = np.empty(len(s.x_new))
    for name in np.unique(s.groups_new):
        known, new = s.known.groups == name, s.groups_new == name
        x = inputs.transform(np.concatenate([s.known.x[known], s.x_new[new]]))
        mean, covariance = process.predict(
            np.column_stack([x, np.full(len(x), -1.0)]), return_cov=True
        )
        k = int(known.sum())
        residual = target.transform(s.known.y[known][:, None])[:, 0] - mean[:k]
        weights = np.linalg.solve(covariance[:k, :k], residual)
        y[new] = target.inverse_transform((mean[k:] + covariance[k:, :k] @ weights)[:, None])[:, 0]
    return y
