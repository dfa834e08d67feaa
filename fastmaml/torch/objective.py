"""An objective of fastmaml's as a module of PyTorch's: theta is its parameter."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..checks import as_flag, shown
from ..closed_form import BayesianLastLayer
from ..learner import Learner
from ..maml import MAML
from ..parameters import as_theta
from .functions import arrays, as_tensors, loss_of
from .modules import require_cpu, require_parameters
from .operator import theta_of
from .problems import problem_of, with_rate

__all__ = ["Objective"]


class Objective(nn.Module):
    """A `MAML` or `BayesianLastLayer` as a module, whose call is the meta-loss.

    Parameters
    ----------
    objective : MAML or BayesianLastLayer
    theta : array_like, shape (P,)
        Parameters to start from, such as ``objective.model.init(0)``, or ``objective.init(0)`` of a
        BayesianLastLayer. They are copied; float32 stays float32, everything else becomes float64.
    learn_inner_lr : bool
        Whether the inner rates of a MAML are a parameter, too: ``inner_lr``, in the shape that
        ``objective.inner_lr`` has.

    Attributes
    ----------
    theta : nn.Parameter, shape (P,)
        Of one run of memory, which the kernels read where it is.
    inner_lr : nn.Parameter or None

    Raises
    ------
    TypeError, ValueError
        For another objective, or a theta that does not fit it.

    Examples
    --------
    >>> import torch
    >>> import fastmaml as fm
    >>> from fastmaml.torch import Objective
    >>> head = fm.BayesianLastLayer(fm.MLP([1, 20, 1]))
    >>> module = Objective(head, head.init(0, "float32"))
    >>> x, y = torch.rand(4, 10, 1), torch.rand(4, 10, 1)
    >>> module(x[:, :5], y[:, :5], x[:, 5:], y[:, 5:]).backward()
    >>> module.theta.grad.shape
    torch.Size([83])
    >>> mean, std = module.predict(x[:, :5], y[:, :5], x[:, 5:], return_std=True)
    >>> module.forward(x, y).shape, module.extra_repr() == repr(head)
    (torch.Size([]), True)
    >>> module.adapt(x, y).mean.shape
    (4, 1, 21)
    """

    inner_lr: nn.Parameter | None

    def __init__(
        self, objective: MAML | BayesianLastLayer, theta: ArrayLike, *, learn_inner_lr: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(objective, Learner):
            raise TypeError(
                f"objective is {shown(objective)}; accepted are a fastmaml.MAML and a "
                "fastmaml.BayesianLastLayer"
            )
        if not isinstance(objective, MAML) and as_flag("learn_inner_lr", learn_inner_lr):
            raise ValueError(
                f"learn_inner_lr is True, objective is a {type(objective).__name__}, which has no "
                "inner rates; accepted is False"
            )
        if isinstance(theta, Tensor):
            require_cpu("theta", theta)
            theta = theta.detach().numpy()
        start = torch.from_numpy(as_theta(objective._space, theta).copy())
        self.objective = objective
        self.theta = nn.Parameter(start)
        self.inner_lr = None
        if isinstance(objective, MAML) and as_flag("learn_inner_lr", learn_inner_lr):
            rates = np.array(objective.inner_lr)
            self.inner_lr = nn.Parameter(torch.from_numpy(rates).to(start.dtype))
        self._problem = problem_of(objective)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._problem = problem_of(self.objective)  # a copy's, or of another process

    def forward(
        self, x: Any, y: Any, x_query: Any = None, y_query: Any = None,
        *, sample_weight: Any = None, sample_weight_query: Any = None,
    ) -> Tensor:  # fmt: skip
        """Return the loss of the adapted tasks, to call ``backward()`` of; see `meta_loss`.

        Parameters
        ----------
        x, y : Tensor or list of Tensor
            Support rows of each task.
        x_query, y_query : Tensor or list of Tensor, optional
            Query rows. Without them the support rows serve as both.
        sample_weight, sample_weight_query : Tensor or list of Tensor, optional
            Of each support and query row.

        Returns
        -------
        loss : Tensor, shape ()

        Raises
        ------
        TypeError, ValueError
            For tensors of another kind, shape or device, or that are not finite.
        """
        parameters: list[Tensor] = [self.theta]
        require_parameters("theta", parameters)
        data = x, y, x_query, y_query, sample_weight, sample_weight_query
        return loss_of(parameters, self.inner_lr, data, self._problem)

    def adapt(self, x: Any, y: Any, *, sample_weight: Any = None) -> Any:
        """Return each task's parameters (n_tasks, P), or the posterior of its last layer.

        Parameters
        ----------
        x, y : Tensor or list of Tensor
        sample_weight : Tensor or list of Tensor, optional
            Of each row.

        Returns
        -------
        Tensor or fastmaml.Posterior
            As of `fastmaml.MAML.adapt`, (n_tasks, P). A posterior is of NumPy arrays. No gradient
            goes through it.

        Raises
        ------
        TypeError, ValueError
            For tensors of another kind, shape or device, or that are not finite.
        """
        objective, theta = self._outside()
        rows, weights = arrays(sample_weight, x=x, y=y)
        adapted = objective.adapt(theta, *rows, **weights)
        return adapted if isinstance(adapted, tuple) else as_tensors(adapted)

    def predict(
        self, x: Any, y: Any, x_new: Any, *, sample_weight: Any = None, **options: Any
    ) -> Any:
        """Adapt to each task's rows (x, y), then predict at `x_new`.

        Parameters
        ----------
        x, y, x_new : Tensor or list of Tensor
        sample_weight : Tensor or list of Tensor, optional
            Of each row of x and y.
        **options
            Of ``objective.predict``: ``return_std=True`` of a BayesianLastLayer.

        Returns
        -------
        Tensor, list of Tensor, or a pair of these
            As ``objective.predict`` has them. No gradient goes through it.

        Raises
        ------
        TypeError, ValueError
            For tensors of another kind, shape or device, or that are not finite.
        """
        objective, theta = self._outside()
        rows, weights = arrays(sample_weight, x=x, y=y, x_new=x_new)
        found = objective.predict(theta, *rows, **weights, **options)
        if isinstance(found, tuple):
            return tuple(as_tensors(each) for each in found)
        return as_tensors(found)

    def _outside(self) -> tuple[Any, Any]:
        require_cpu("theta", self.theta)
        rate = None if self.inner_lr is None else self.inner_lr.detach().numpy()
        return with_rate(self._problem, rate), theta_of([self.theta])

    def extra_repr(self) -> str:
        """Return what the objective is."""
        return repr(self.objective)
