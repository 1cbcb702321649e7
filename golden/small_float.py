"""The small float, emulated: float64 arrays that hold small-float values, one rounding per step.

With at most 24 bits of precision every sum and product of two values has a double rounding that
is harmless (53 >= 2 * 24 + 2), so float64 arithmetic followed by `round_float` is exact.
"""

import numpy as np

from intaglio.golden.table import evaluate
from intaglio.hw.formats import FloatFormat
from intaglio.hw.tables import reciprocal_root_table, reciprocal_table

__all__ = [
    "add",
    "convert",
    "decode",
    "encode",
    "multiply",
    "reciprocal",
    "reciprocal_root",
    "round_float",
]


def round_float(fmt: FloatFormat, x: np.ndarray) -> np.ndarray:
    """Round finite float64 values to `fmt`: nearest even, saturating, tiny ones to zero."""
    drop = 52 - fmt.fraction_bits
    bits = np.ascontiguousarray(x, dtype=np.float64).view(np.int64)
    bits = (bits + ((1 << (drop - 1)) - 1) + ((bits >> drop) & 1)) & -(1 << drop)
    rounded = bits.view(np.float64)
    rounded = np.where(np.abs(rounded) < fmt.smallest, 0.0, rounded)
    return np.clip(rounded, -fmt.largest, fmt.largest)


def add(fmt: FloatFormat, a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
    """Sum of two small floats."""
    return round_float(fmt, np.add(a, b))


def multiply(fmt: FloatFormat, a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
    """Product of two small floats."""
    return round_float(fmt, np.multiply(a, b))


def convert(fmt: FloatFormat, integer: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """``integer * 2**exponent``, rounded once; the integers are below 2**53 in magnitude."""
    return round_float(fmt, np.ldexp(np.asarray(integer, dtype=np.float64), exponent))


def encode(fmt: FloatFormat, x: np.ndarray) -> np.ndarray:
    """Codes (int64) of small-float values."""
    significand, exponent = np.frexp(np.abs(x))
    fraction = np.ldexp(significand, fmt.precision).astype(np.int64) - (1 << fmt.fraction_bits)
    code = ((exponent + fmt.bias - 1).astype(np.int64) << fmt.fraction_bits) + fraction
    code |= (np.asarray(x) < 0).astype(np.int64) << (fmt.bits - 1)
    return np.where(np.asarray(x) == 0, 0, code)


def decode(fmt: FloatFormat, code: np.ndarray) -> np.ndarray:
    """Values (float64) of codes."""
    code = np.asarray(code, dtype=np.int64)
    exponent = (code >> fmt.fraction_bits) & ((1 << fmt.exponent_bits) - 1)
    fraction = code & ((1 << fmt.fraction_bits) - 1)
    magnitude = np.ldexp(
        (fraction + (1 << fmt.fraction_bits)).astype(np.float64),
        exponent - fmt.bias - fmt.fraction_bits,
    )
    magnitude = np.where(exponent == 0, 0.0, magnitude)
    return np.where(code >> (fmt.bits - 1) & 1, -magnitude, magnitude)


def _split(fmt: FloatFormat, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fraction (an integer) and exponent (unbiased) of positive values; of 1.0 where zero."""
    significand, exponent = np.frexp(np.where(x == 0, 1.0, x))
    fraction = np.ldexp(significand, fmt.precision).astype(np.int64) - (1 << fmt.fraction_bits)
    return fraction, exponent.astype(np.int64) - 1


def reciprocal(fmt: FloatFormat, x: np.ndarray) -> np.ndarray:
    """``1 / x`` for x >= 0 by the table; the largest value for 0."""
    fraction, exponent = _split(fmt, x)
    y = evaluate(reciprocal_table(fmt), fraction)
    return np.where(x == 0, fmt.largest, convert(fmt, y, -exponent - fmt.precision))


def reciprocal_root(fmt: FloatFormat, x: np.ndarray) -> np.ndarray:
    """``1 / sqrt(x)`` for x >= 0 by the tables; the largest value for 0."""
    fraction, exponent = _split(fmt, x)
    even, odd = (evaluate(table, fraction) for table in reciprocal_root_table(fmt))
    y = np.where(exponent & 1, odd, even)
    return np.where(x == 0, fmt.largest, convert(fmt, y, -(exponent >> 1) - fmt.precision))
