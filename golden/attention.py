"""The attention engine: base-2 softmax over windows, accumulated in integers.

The maximum is kept as an integer (the ceiling of the largest score), so that merging a window
into what came before is a shift, not a multiplication.
"""

import numpy as np

from intaglio.golden import small_float
from intaglio.golden.table import evaluate
from intaglio.hw.formats import E8M0_BIAS, ElementFormat, FloatFormat
from intaglio.hw.tables import EXP2, SCORE_BITS, SCORE_FRACTION

__all__ = ["attend", "exp2", "merge_windows", "scores"]

LOWEST = -(1 << (SCORE_BITS - 1))
"""Stands for "no score"; real scores are greater."""


def _shift_right(x: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """``x / 2**shift`` rounded half up, for shift >= 0."""
    shift = np.minimum(shift, 62)
    return ((x >> np.maximum(shift - 1, 0)) + (shift > 0)) >> (shift > 0)


def scores(
    q_format: ElementFormat, q: np.ndarray, q_exponents: np.ndarray,
    k_format: ElementFormat, k: np.ndarray, k_exponents: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Scores in fixed point with SCORE_FRACTION bits, saturated to SCORE_BITS.

    q (tokens, heads, blocks, block) and k (positions, heads, blocks, block), both integers with
    E8M0 codes (..., blocks) -> (tokens, positions, heads) int64. The exact dot product of each
    block is shifted to fixed point, rounded half up and saturated; blocks are added and saturated.
    """
    left = np.ascontiguousarray(q.transpose(1, 2, 0, 3), dtype=np.float64)
    right = np.ascontiguousarray(k.transpose(1, 2, 3, 0), dtype=np.float64)
    dots = (left @ right).transpose(2, 3, 0, 1).astype(np.int64)
    exponent = q_exponents[:, None] + k_exponents[None] - 2 * E8M0_BIAS
    up = exponent - q_format.fraction_bits - k_format.fraction_bits + SCORE_FRACTION
    limit = (1 << (SCORE_BITS - 1)) - 1
    fixed = _shift_right(dots << (SCORE_BITS - 1), np.maximum(SCORE_BITS - 1 - up, 0))
    return np.clip(np.clip(fixed, -limit, limit).sum(axis=-1), -limit, limit)


def exp2(x: np.ndarray, extra: np.ndarray | int) -> np.ndarray:
    """``2**(x - extra)`` in PROBABILITY_FRACTION bits, for scores x <= 0 and integers extra >= 0.

    The table's value in [1, 2) is shifted right once, rounded half up.
    """
    down = -(x >> SCORE_FRACTION) + extra
    return _shift_right(evaluate(EXP2, x & ((1 << SCORE_FRACTION) - 1)), down)


def merge_windows(
    s: np.ndarray, v: np.ndarray, v_exponents: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Softmax-weighted sum of values, window by window.

    s (tokens, windows, window, heads) scores, `LOWEST` where a position is not attended to;
    v (windows, window, heads, blocks, block); v_exponents (windows, window, heads, blocks).
    Returns the sum (tokens, heads, blocks, block), its exponents (tokens, heads, blocks; E8M0
    codes) and the sum of the weights (tokens, heads), all int64.
    """
    seen = s > LOWEST
    ceiling = -(-s.max(axis=2) >> SCORE_FRACTION)
    maximum = np.maximum.accumulate(ceiling, axis=1)
    codes = np.where(seen[..., None], v_exponents, -1)
    largest = np.maximum.accumulate(codes.max(axis=2), axis=1)

    x = np.where(seen, s - (maximum[:, :, None] << SCORE_FRACTION), 0)
    weight = np.where(seen, exp2(x, 0), 0)
    fold = np.where(seen[..., None], largest[:, :, None] - v_exponents, 0)
    folded = np.where(seen[..., None], exp2(x[..., None], fold), 0)
    parts = np.einsum("twihb,wihbd->twhbd", folded.astype(np.float64), v.astype(np.float64))
    parts, weights = parts.astype(np.int64), weight.sum(axis=2)

    total, norm = parts[:, 0], weights[:, 0]
    for w in range(1, s.shape[1]):
        rise = maximum[:, w] - maximum[:, w - 1]
        rescale = rise[..., None] + largest[:, w] - largest[:, w - 1]
        total = (total >> np.minimum(rescale, 62)[..., None]) + parts[:, w]
        norm = (norm >> np.minimum(rise, 62)) + weights[:, w]
    return total, largest[:, -1], norm


def attend(
    fmt: FloatFormat, s: np.ndarray, window: int, v_format: ElementFormat, v: np.ndarray,
    v_exponents: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Context vectors as small floats: (tokens, heads, head_dim).

    s (tokens, positions, heads), `LOWEST` where masked; v (positions, heads, blocks, block) and
    its E8M0 codes, one key/value head for each query head. One reciprocal for each head.
    """
    pad = -s.shape[1] % window
    s = np.pad(s, ((0, 0), (0, pad), (0, 0)), constant_values=LOWEST)
    v = np.pad(v, ((0, pad), *[(0, 0)] * 3))
    v_exponents = np.pad(v_exponents, ((0, pad), (0, 0), (0, 0)))
    total, codes, norm = merge_windows(
        s.reshape(s.shape[0], -1, window, s.shape[2]),
        v.reshape(-1, window, *v.shape[1:]),
        v_exponents.reshape(-1, window, *v_exponents.shape[1:]),
    )
    inverse = small_float.reciprocal(fmt, small_float.convert(fmt, norm, 0))
    exponent = (codes - E8M0_BIAS - v_format.fraction_bits)[..., None]
    context = small_float.multiply(
        fmt, small_float.convert(fmt, total, exponent), inverse[..., None, None]
    )
    return context.reshape(*norm.shape, -1)
