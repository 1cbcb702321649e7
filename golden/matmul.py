"""The matmul array and the block accumulation behind it."""

import numpy as np

from intaglio.golden import small_float
from intaglio.hw.formats import E8M0_BIAS, FloatFormat

__all__ = ["block_accumulate", "matmul_array"]


def matmul_array(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Exact sums of the products of each block.

    x (tokens, blocks, 32) and weights (outputs, blocks, 32) -> (blocks, tokens, outputs), as
    float64 that holds integers: they stay below 2**37.
    """
    left = np.ascontiguousarray(x.swapaxes(0, 1), dtype=np.float64)
    right = weights.transpose(1, 2, 0).astype(np.float64, copy=False)
    return left @ right


def block_accumulate(
    fmt: FloatFormat, sums: np.ndarray, x_exponents: np.ndarray, weight_exponents: np.ndarray,
    fraction_bits: int,
) -> np.ndarray:  # fmt: skip
    """Scale each block's sum by both exponents, round it, and add the blocks in order.

    sums (blocks, tokens, outputs), x_exponents (tokens, blocks), weight_exponents (outputs,
    blocks) -> (tokens, outputs). `fraction_bits` are those of both element formats together.
    """
    exponent = x_exponents.T[:, :, None] + weight_exponents.T[:, None, :]
    terms = small_float.convert(fmt, sums, exponent - 2 * E8M0_BIAS - fraction_bits)
    total = terms[0]
    for term in terms[1:]:
        total = small_float.add(fmt, total, term)
    return total
