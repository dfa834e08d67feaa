"""JAX: the meta-loss as a function that JAX differentiates and compiles. Needs JAX: extra ``jax``.

>>> import jax
>>> import jax.numpy as jnp
>>> import fastmaml as fm
>>> from fastmaml.jax import meta_loss
>>> model = fm.MLP([1, 40, 1])
>>> loss = meta_loss(fm.MAML(model, inner_lr=0.01, loss="mse"))
>>> theta = jnp.asarray(model.init(0, "float32"))
>>> x, y = jnp.ones((4, 10, 1)), jnp.ones((4, 10, 1))
>>> value, gradient = jax.jit(jax.value_and_grad(loss))(theta, x, y)
>>> gradient.shape
(121,)
"""

try:
    import jax as _jax  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "jax":
        raise
    raise ImportError(
        'fastmaml.jax needs JAX, which comes with pip install "fastmaml[jax]"'
    ) from error

from .layouts import ravel as ravel
from .layouts import unravel as unravel
from .loss import meta_loss as meta_loss

__all__ = ["meta_loss", "ravel", "unravel"]
