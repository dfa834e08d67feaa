"""MAML as a scikit-learn estimator, for long-format data: rows, and the group that each is from.

Needs scikit-learn, from the extra ``sklearn``; so :mod:`fastmaml.learn` imports this file only when
`MAMLRegressor` is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models import MLP
from .adapted import AdaptedRegressor
from .gradient_steps import ByGradientSteps
from .grouped import GroupedRegressor, average_of_tasks
from .holdout import drawn_support

__all__ = ["AdaptedRegressor", "MAMLRegressor"]


class MAMLRegressor(GroupedRegressor, ByGradientSteps):
    """A multilayer perceptron, meta-learned by MAML [1]_ from rows that come in groups.

    Each group (a device, a person, a country) is a task. ``fit`` finds parameters from which a few
    gradient steps on some rows of a group predict its other rows; ``adapt`` takes these steps on
    the rows of a new group and returns an ordinary regressor.

    Inputs and targets are standardised with mean and standard deviation of the rows that ``fit``
    sees. The loss is ``"mse"`` of the standardised targets, averaged over groups.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Sizes of the hidden layers.
    activation : str or sequence of str
        Of the hidden layers, as for :class:`fastmaml.MLP`: a word for all, or one for each.
    inner_lr : float or array_like
        Learning rate of the inner steps, in the forms of :class:`fastmaml.MAML`.
    learn_rates : bool
        Whether the inner rates are learned too, one for each step and layer (or for each
        parameter, if `inner_lr` has these); `inner_lr` is then where they start.
    steps : int
        Number of inner steps. It may be changed (``set_params``) after ``fit``: adaptation takes
        what is there when it happens. Steps beyond those whose rates were learned have the least
        rate of each layer.
    shots : int, optional
        Support rows of a group: what it adapts to in training and in ``score``. Its other rows are
        the query set; a group of fewer rows keeps one as query. By default a number is drawn for
        each group and iteration, from 1 to half of the group's rows, so that a new group may have
        as many; if it will always have the same, say so.
    shuffle : bool
        Whether support rows are drawn at random, anew in each iteration. False: they are the first
        rows of each group, as for a forecast.
    meta_batch : int
        Groups in each meta-update, drawn without replacement; all if there are fewer.
    learning_rate_init : float
        Learning rate of Adam, the meta-update.
    clip_norm : float or None
        A meta-gradient of larger norm is scaled down to it.
    max_iter : int
        The most meta-updates.
    early_stopping : bool
        Whether part of the data is set aside to validate on, and the parameters that did best
        there are kept. Of 10 groups and more, groups are set aside; of fewer, rows of each group
        that has three.
    validation_fraction : float
        How much is set aside; two groups at the least.
    n_iter_no_change : int
        The training ends after so many checks of the loss (one in 50 meta-updates, 20 at the least
        in `max_iter`) in which it has not fallen by `tol`. It is the loss of validation, or without
        `early_stopping` the mean loss of training since the last check.
    tol : float
        What counts as a fall, as a fraction of the lowest loss so far.
    order : {"exact", "first"}
        As for :class:`fastmaml.MAML`.
    random_state : int, RandomState instance or None
        Decides initial parameters, groups and splits. An integer gives the same result each time.
    verbose : bool
        Whether each check of the loss prints a line.
    warm_start : bool
        Whether ``fit`` goes on from the parameters, rates and scaling of the last ``fit``.

    Attributes
    ----------
    model_ : MLP
    theta_ : ndarray, shape (P,)
        The meta-parameters, for standardised data; float32 if X is, else float64.
    inner_lr_ : float or ndarray
        The inner rates: (steps, n_layers) if they were learned.
    scaling_ : Scaling
    groups_ : list
        Labels of the groups that ``predict`` knows.
    loss_curve_ : list of float
        Loss of each iteration after adaptation.
    loss_ : float
        The mean of that since the last check.
    validation_loss_curve_ : list of float or None
        Loss of validation at each check; None if nothing was set aside.
    best_validation_loss_ : float or None
    n_iter_ : int
        Iterations done; those after the best validation count too.
    n_outputs_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns, if X has names and all are text.

    Raises
    ------
    TypeError, ValueError
        In ``fit``, for a parameter or data that is not accepted.
    FloatingPointError
        In ``fit``, if the training diverges; it names the group. In ``score``, if the adaptation
        of a group ends in numbers that are not finite.

    Warns
    -----
    ConvergenceWarning
        (scikit-learn's.) If `max_iter` ends the training while the loss still falls.
    DivergenceWarning
        In ``adapt``, ``predict``, ``adapt_predict`` and ``score``, if the adaptation of a group
        diverges; it names the group, the step and the rate.
    UserWarning
        In ``fit``, for groups of a single row, which are left out, and if the result is worse than
        the mean of the training targets. In ``predict`` and ``score``, once for each model that was
        fitted with groups and is given none.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine, Model-agnostic meta-learning for fast adaptation of deep
       networks, ICML 2017, algorithm 2.

    Notes
    -----
    With scikit-learn's metadata routing on, `groups` reach ``fit``, ``predict`` and ``score``
    without further requests; see ``docs/estimator.md``.

    Examples
    --------
    Sixty lines, each with a slope of its own and eight rows; then a new one, of which three are
    known.

    >>> import numpy as np
    >>> from fastmaml.learn import MAMLRegressor
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(60), 8)
    >>> X = rng.uniform(-1, 1, (480, 1))
    >>> y = rng.normal(1.0, 0.5, 60)[groups] * X[:, 0]
    >>> maml = MAMLRegressor((16,), learning_rate_init=0.01, n_iter_no_change=3, random_state=0)
    >>> maml = maml.fit(X, y, groups)
    >>> new = maml.adapt([[-0.8], [0.1], [0.9]], [-1.6, 0.2, 1.8])
    >>> new.predict([[0.5]]).shape
    (1,)
    >>> x_test = np.linspace(-1, 1, 9)[:, None]
    >>> bool(new.score(x_test, 2 * x_test[:, 0]) > 0.9)
    True
    >>> known = groups < 2
    >>> maml.adapt_predict(X[known], y[known], groups[known], X[:3], groups[:3]).shape
    (3,)
    >>> bool(maml.score(X, y, groups) > 0.5)
    True
    >>> import pathlib, tempfile
    >>> import fastmaml as fm
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.npz")
    >>> fm.save(path, maml)  # what maml.to_save() returns
    >>> again = MAMLRegressor.from_saved(fm.load(path))
    """

    def predict(self, X: Any, groups: Any = None) -> NDArray[Any]:
        """Predict rows of known groups.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        groups : array_like, shape (rows,), optional
            Labels among those of ``fit``: each group adapts to all its rows there. A model that was
            fitted without groups adapts to all rows. One that was fitted with groups and is given
            none predicts by the meta-parameters as they are, and warns of that once.

        Returns
        -------
        y : ndarray, shape (rows,) or (rows, n_outputs)
            Float32 if X and y were in ``fit``, else float64.

        Raises
        ------
        ValueError
            For a group that ``fit`` has not seen, or other columns than there.
        """
        predicted: NDArray[Any] = self._predict(X, groups)
        return predicted

    def adapt(self, X: Any, y: Any, sample_weight: Any = None) -> AdaptedRegressor:
        """Return a regressor for one task, adapted to its rows.

        Parameters
        ----------
        X : array_like or DataFrame, shape (rows, n_features)
        y : array_like, shape (rows,) or (rows, n_outputs)
        sample_weight : array_like, shape (rows,), optional
            Weight of each row in the loss, 0 or more.

        Returns
        -------
        AdaptedRegressor
            Fitted; it has ``predict`` and ``score``. It carries no rows of the training.

        Raises
        ------
        NotFittedError
            Before ``fit``, as from the methods below.
        TypeError, ValueError
            For data that does not fit that of ``fit``, in its columns or outputs.

        Warns
        -----
        DivergenceWarning
            If the adaptation diverges, as from the methods below.
        """
        adapted: AdaptedRegressor = self._adaptable().fit(X, y, sample_weight)
        return adapted

    def _n_support(self) -> Any:
        return drawn_support() if self.shots is None else super()._n_support()

    def _loss(self, model: MLP) -> str:
        return "mse"

    def _of_mean(
        self, targets: list[NDArray[Any]], known: NDArray[Any], of_targets: Any, of_known: Any
    ) -> float:
        mean = np.average(known, axis=0, weights=of_known)
        return average_of_tasks([np.square(t - mean) for t in targets], of_targets)
