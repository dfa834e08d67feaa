"""Rows of one task as they come: the posterior of the last layer, updated by each."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import FLOAT64, all_finite, as_array, as_flag, as_number, require_finite, shape_text
from .family import Family, feature_map_of
from .kernels.compile.records import View
from .kernels.methods import stream as kernels

__all__ = ["Posterior", "Stream"]


class Posterior(NamedTuple):
    """The last layer of each task given its support rows: what `BayesianLastLayer.adapt` returns.

    With p features, the values of the last hidden layer and a 1 for the bias (if there is one), the
    weights of output o are normal with mean ``mean[o]`` and covariance ``noise_variance[o] * inv(L
    @ L.T)``, where L is ``scale``. So the prediction at features phi is ``mean[o] @ phi``, and the
    variance of an observation there is ``noise_variance[o] * (1 + |inv(L) @ phi|²)``.

    Attributes
    ----------
    mean : ndarray, shape (n_tasks, n_outputs, p)
        The weights of each output, the bias last. Without the axis of tasks for a single task.
    scale : ndarray, shape (n_tasks, p, p)
        Lower Cholesky factor of the posterior's precision (not of its covariance) in units of the
        noise's: the same for all outputs. Zero above the diagonal.
    noise_variance : ndarray, shape (n_outputs,)
        Variance of an observation, of all tasks.

    Examples
    --------
    >>> import fastmaml as fm
    >>> head = fm.BayesianLastLayer(fm.Linear(1))
    >>> posterior = head.adapt(head.init(0), [[[1.0], [2.0]]], [[3.0, 4.0]])
    >>> posterior.mean.shape, posterior.scale.shape
    ((1, 1, 2), (1, 2, 2))
    """

    mean: NDArray[Any]
    scale: NDArray[Any]
    noise_variance: NDArray[Any]


class Stream:
    """The posterior of one task, which takes rows one at a time.

    `BayesianLastLayer.start` makes it. After any rows it is the posterior given all of them, as
    `BayesianLastLayer.adapt` gives it for the batch, to rounding and however many there were: each
    row rotates the Cholesky factor of the posterior's precision [1]_, in float64.

    A stream works in memory of its own, so it is for one thread at a time; `copy` makes another.
    It can be pickled.

    Attributes
    ----------
    n_rows : int
        Rows taken in since `start`.

    References
    ----------
    .. [1] G. H. Golub, C. F. Van Loan, Matrix computations, 4th edition, section 6.5.4; as a
       filter: G. J. Bierman, Factorization methods for discrete sequential estimation, 1977,
       chapter 5.

    Examples
    --------
    >>> import fastmaml as fm
    >>> head = fm.BayesianLastLayer(fm.Linear(1))
    >>> stream = head.start(head.init(0))
    >>> for x, y in [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]:
    ...     stream.update([x], [y])
    >>> mean, std = stream.predict([3.0], return_std=True)
    >>> mean.shape, std.shape
    ((1,), (1,))
    """

    def __init__(
        self, model: Family, theta: NDArray[Any], posterior: Posterior, check_finite: bool = True
    ) -> None:
        mean, scale, noise = (part.astype(FLOAT64) for part in posterior)
        p, m, dtype = mean.shape[1], mean.shape[0], theta.dtype
        compiled = model.compiled(dtype)
        self._model, self._check, self._dtype = model, check_finite, dtype
        self._table = compiled.table
        self._shared = np.empty(compiled.n_padded + compiled.n_derived, dtype)
        kernels.prepare(self._table, theta, self._shared)
        self._state = np.zeros((p, -(-(p + m) // 8) * 8))  # whole cache lines
        with np.errstate(all="ignore"):
            self._state[:, :p] = scale.T
            self._state[:, p : p + m] = scale.T @ mean.T
        self._noise = noise
        self._memory = np.zeros(View(self._table).width, dtype)
        self._phi = np.zeros(self._state.shape[1])
        self.n_rows = 0

    def __repr__(self) -> str:
        return f"<Stream of {self._model!r}, {self.n_rows} rows>"

    def update(
        self, x_row: ArrayLike, y_row: ArrayLike, forget: float = 1.0, *, sample_weight: float = 1.0
    ) -> None:
        """Take in one row.

        Parameters
        ----------
        x_row : array_like, shape (n_inputs,)
        y_row : array_like, shape (n_outputs,)
            Or a number if there is one output.
        forget : float
            What all that was known counts before this row, prior included: the precision is
            multiplied by it. Above 0, at most 1; 0.99 remembers about 100 rows. Where rows bring
            nothing on a feature, its variance then grows without bound.
        sample_weight : float
            How often the row counts, 0 or more: its noise variance is divided by it.

        Raises
        ------
        TypeError, ValueError
            For a row of another shape, or that is not finite. The stream is then as it was.
        """
        x, y = self._row("x_row", x_row), self._row("y_row", y_row)
        if forget != 1.0:
            forget = as_number("forget", forget)
            if not 0.0 < forget <= 1.0:
                raise ValueError(f"forget is {forget}; accepted are numbers above 0, up to 1")
        if sample_weight != 1.0:
            sample_weight = as_number("sample_weight", sample_weight)
            if sample_weight < 0.0:
                raise ValueError(
                    f"sample_weight is {sample_weight}; accepted are numbers of at least 0"
                )
            if sample_weight == 0.0:  # what it holds is not looked at: 0 times inf would be NaN
                x, y = np.zeros_like(x), np.zeros_like(y)
        kernels.update(
            self._table, self._shared, x, y, float(sample_weight), float(forget), self._state,
            self._memory, self._phi,
        )  # fmt: skip
        self.n_rows += 1

    def predict(self, x_row: ArrayLike, return_std: bool = False) -> Any:
        """Predict at one row.

        Parameters
        ----------
        x_row : array_like, shape (n_inputs,)
        return_std : bool
            Whether to return standard deviations, too.

        Returns
        -------
        mean : ndarray, shape (n_outputs,)
        std : ndarray, shape (n_outputs,)
            Only with `return_std`: the standard deviation of an observation, its noise included.

        Raises
        ------
        TypeError, ValueError
            For a row of another shape, or that is not finite.
        """
        x = self._row("x_row", x_row)
        m = self._model.n_outputs
        mean, std = np.empty(m, self._dtype), np.empty(m, self._dtype)
        kernels.predict(
            self._table, self._shared, x, self._noise, self._state, self._memory, self._phi, mean,
            std,
        )  # fmt: skip
        if return_std is False:
            return mean
        return (mean, std) if as_flag("return_std", return_std) else mean

    @property
    def posterior(self) -> Posterior:
        """The posterior given all rows so far, in float64 whatever theta is.

        `BayesianLastLayer.start` goes on from it.
        """
        p = len(self._state)
        upper, right = self._state[:, :p], self._state[:, p : p + len(self._noise)]
        mean = np.linalg.solve(upper, right)
        mean, scale = (np.ascontiguousarray(part.T) for part in (mean, np.triu(upper)))
        return Posterior(mean, scale, self._noise.copy())

    def copy(self) -> Stream:
        """Return a stream that goes on from here on its own."""
        return copy.deepcopy(self)

    def _row(self, name: str, row: Any) -> NDArray[Any]:
        """One row of inputs, or of targets, in theta's dtype."""
        width = self._model.n_inputs if name == "x_row" else self._model.n_outputs
        if type(row) is np.ndarray and row.dtype == self._dtype and row.flags.carray:
            array = row
        else:
            array = as_array(name, row, self._dtype)
        if array.shape != (width,):
            if name == "x_row" or array.shape or width > 1:
                raise ValueError(
                    f"{name} has shape {shape_text(array.shape)}; accepted is "
                    f"{shape_text((width,))} ({self._model!r})"
                )
            array = array.reshape(1)
        if self._check and not (math.isfinite(array[0]) if width == 1 else all_finite(array)):
            require_finite(name, array, ("feature" if name == "x_row" else "output",))
        if name == "x_row" and (feature_map := feature_map_of(self._model)) is not None:
            array = feature_map(array[None])[0]
            if self._check:
                require_finite("transform(x_row)", array, ("feature",))
        return array
