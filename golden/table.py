"""Reading the tables of :mod:`intaglio.hw.tables`, in exact integer arithmetic."""

from functools import cache

import numpy as np

from intaglio.hw.tables import GUARD, Table

__all__ = ["evaluate"]


@cache
def _arrays(table: Table) -> tuple[np.ndarray, np.ndarray]:
    return np.array(table.base, dtype=np.int64), np.array(table.rise, dtype=np.int64)


def evaluate(table: Table, x: np.ndarray) -> np.ndarray:
    """Interpolated value at the unsigned integers `x` of ``table.input_bits`` bits (int64)."""
    base, rise = _arrays(table)
    index, low = x >> table.low_bits, x & ((1 << table.low_bits) - 1)
    return (base[index] + (rise[index] * low >> table.low_bits) + (1 << GUARD >> 1)) >> GUARD
