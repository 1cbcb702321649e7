"""RMSNorm's one scalar: the inverse root of the mean square of the residual stream."""

import numpy as np

from intaglio.golden import mx
from intaglio.golden.small_float import add, convert, multiply, reciprocal_root
from intaglio.hw.formats import E8M0_BIAS, FloatFormat, mxint

__all__ = ["inverse_rms"]


def inverse_rms(fmt: FloatFormat, x: np.ndarray, inverse_dim: float, eps: float) -> np.ndarray:
    """``1 / sqrt(sum(x**2) * inverse_dim + eps)``: x (tokens, dim) -> (tokens,).

    Each block of 32 is squared as an MXINT block of ``fmt.precision + 1`` bits, in which the
    largest values keep their full significand, and summed exactly; the blocks' sums are added in
    order as small floats.
    """
    element = mxint(fmt.precision + 1)
    integers, exponents = mx.quantise(element, mx.blocks(x))
    sums = convert(
        fmt, (integers**2).sum(axis=-1), 2 * (exponents - E8M0_BIAS - element.fraction_bits)
    )
    total = sums[..., 0]
    for block in range(1, sums.shape[-1]):
        total = add(fmt, total, sums[..., block])
    return reciprocal_root(fmt, add(fmt, multiply(fmt, total, inverse_dim), eps))
