"""How many cycles operations take, beside their first, where it is the same each time."""

from intaglio.hw.shared.operations import Operation
from intaglio.hw.shared.units import Quantise, Tables
from intaglio.hw.small_float import FloatAdd, FloatConvert, FloatMultiply

__all__ = ["CYCLES"]

PRODUCT = 1
"""Of the integer multiplier."""

CYCLES = {
    Operation.MULTIPLY: PRODUCT,
    Operation.ACCUMULATE: PRODUCT,
    Operation.QUANTISE: Quantise.LATENCY,
    Operation.SQUARE: Quantise.LATENCY + PRODUCT,
    Operation.EXP2: Tables.LATENCY,
    Operation.SIGMOID: Tables.LATENCY,
    Operation.RECIPROCAL: Tables.LATENCY,
    Operation.RECIPROCAL_ROOT: Tables.LATENCY,
    Operation.FLOAT_ADD: FloatAdd.LATENCY,
    Operation.FLOAT_SUBTRACT: FloatAdd.LATENCY,
    Operation.FLOAT_MULTIPLY: FloatMultiply.LATENCY,
    Operation.CONVERT: FloatConvert.LATENCY,
}
"""None for all others; some of these end by themselves."""
