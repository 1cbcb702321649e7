"""Tables of the transcendental functions, in the integers that golden and RTL both compute with.

A table is read at ``index`` (the high bits of its argument) and interpolated along the chord to
the next entry with ``low`` (the rest). Imports nothing but the standard library.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from intaglio.hw.formats import FloatFormat

__all__ = [
    "EXP2",
    "PROBABILITY_FRACTION",
    "SCORE_BITS",
    "SCORE_FRACTION",
    "SIGMOID",
    "SIGMOID_FRACTION",
    "SIGMOID_INPUT_FRACTION",
    "Table",
    "reciprocal_root_table",
    "reciprocal_table",
]

GUARD = 3
"""Bits below the result's least significant one that a table's entries carry."""

SCORE_FRACTION = 14
"""Fraction bits of an attention score, which is a base-2 logarithm in fixed point."""

SCORE_BITS = 26
"""Width of a score, sign included: scores saturate at +-2048."""

PROBABILITY_FRACTION = 16
"""Fraction bits of a softmax weight ``2**(score - maximum)``, which is at most 1."""

SIGMOID_INPUT_FRACTION = 14
"""Fraction bits of the magnitude that `SIGMOID` is read with; it saturates below 16."""

SIGMOID_FRACTION = 18
"""Fraction bits of a value of `SIGMOID`."""


@dataclass(frozen=True)
class Table:
    """``y = (base[index] + (rise[index] * low >> low_bits) + half) >> GUARD``.

    `base` is unsigned, `rise` is the signed difference to the next entry.
    """

    index_bits: int
    low_bits: int
    base: tuple[int, ...]
    rise: tuple[int, ...]

    @property
    def input_bits(self) -> int:
        """Bits of the argument."""
        return self.index_bits + self.low_bits

    @property
    def base_bits(self) -> int:
        """Bits of an unsigned entry."""
        return max(self.base).bit_length()

    @property
    def rise_bits(self) -> int:
        """Bits of a signed difference."""
        return 1 + max(max(abs(r) for r in self.rise).bit_length(), 1)

    @property
    def output_bits(self) -> int:
        """Bits of the unsigned result."""
        last = self.base[-1] + self.rise[-1]
        return ((max(*self.base, last) + (1 << GUARD >> 1)) >> GUARD).bit_length()


def _tabulate(function: Callable[[int], float], index_bits: int, low_bits: int) -> Table:
    """Sample `function`, given the index and returning the result in units of its last bit."""
    knots = [round(function(i) * (1 << GUARD)) for i in range((1 << index_bits) + 1)]
    rise = tuple(b - a for a, b in pairwise(knots))
    return Table(index_bits, low_bits, tuple(knots[:-1]), rise)


EXP2 = _tabulate(lambda i: 2.0 ** (i / 256 + PROBABILITY_FRACTION), 8, SCORE_FRACTION - 8)
"""``2**f`` for f in [0, 1) with `SCORE_FRACTION` bits; in [1, 2) with `PROBABILITY_FRACTION`."""

SIGMOID = _tabulate(
    lambda i: 2.0**SIGMOID_FRACTION / (1.0 + math.exp(-i / 32)),
    9,
    SIGMOID_INPUT_FRACTION - 5,
)
"""``1 / (1 + exp(-x))`` for x in [0, 16); in [1/2, 1] with `SIGMOID_FRACTION` bits."""


def _fraction_index_bits(fmt: FloatFormat) -> int:
    # The chord's error is a quarter of the square of the step, so half the bits suffice.
    return (fmt.fraction_bits + 1) // 2


@cache
def reciprocal_table(fmt: FloatFormat) -> Table:
    """``1 / 1.f`` for a fraction f; in [1/2, 1] with ``fmt.precision`` fraction bits."""
    bits = _fraction_index_bits(fmt)
    scale = 2.0**fmt.precision
    return _tabulate(lambda i: scale / (1 + i / (1 << bits)), bits, fmt.fraction_bits - bits)


@cache
def reciprocal_root_table(fmt: FloatFormat) -> tuple[Table, Table]:
    """``1 / sqrt(1.f)`` and ``1 / sqrt(2 * 1.f)``, for even and odd exponents.

    In [1/2, 1] with ``fmt.precision`` fraction bits.
    """
    bits = _fraction_index_bits(fmt)
    scale = 2.0**fmt.precision

    def table(factor: int) -> Table:
        return _tabulate(
            lambda i: scale / math.sqrt(factor * (1 + i / (1 << bits))),
            bits,
            fmt.fraction_bits - bits,
        )

    return table(1), table(2)
