"""One update of Adam [1]_, in one pass over the parameters.

With g the gradient, m and v the running means, both from zero, and t updates counting this one,

    m <- beta1 m + (1 - beta1) g,    v <- beta2 v + (1 - beta2) g^2
    theta <- theta - rate / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)

A relu unit that no row activates has gradient 0, and its m decays until it is subnormal, where it
would stay and make the arithmetic ten times slower. So an m below the smallest normal number counts
as 0, and then so does such a v: theta would move by less than rate / epsilon such numbers.

.. [1] D. P. Kingma, J. Ba. Adam: A Method for Stochastic Optimization. ICLR 2015, algorithm 1.
"""

from __future__ import annotations

import numpy as np

from .compile.jit import serial_kernel


@serial_kernel
def adam(numbers, theta, gradient, first, second, new_theta, new_first, new_second):
    """Write the new theta, m and v; all arrays (P,) of one dtype.

    ``numbers`` are beta1, 1 - beta1, beta2, 1 - beta2, sqrt(1 - beta2^t), epsilon and
    rate / (1 - beta1^t).
    """
    tiny, zero = np.finfo(theta.dtype).tiny, theta.dtype.type(0)
    keep1, take1, keep2, take2, correction, epsilon, rate = numbers
    for i in range(theta.size):
        g = gradient[i]
        m = keep1 * first[i] + take1 * g
        v = keep2 * second[i] + take2 * (g * g)
        if abs(m) < tiny:
            m = zero
            v = zero if v < tiny else v
        new_first[i] = m
        new_second[i] = v
        new_theta[i] = theta[i] - m / (np.sqrt(v) / correction + epsilon) * rate
