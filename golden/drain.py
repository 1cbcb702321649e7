"""What happens to results on their way out of the array; each function is one mode of the drain."""

import numpy as np

from intaglio.golden.small_float import add, convert, multiply
from intaglio.golden.table import evaluate
from intaglio.hw.formats import FloatFormat
from intaglio.hw.tables import SIGMOID, SIGMOID_FRACTION, SIGMOID_INPUT_FRACTION

__all__ = ["gate", "rotate", "scale", "sigmoid"]


def scale(
    fmt: FloatFormat, y: np.ndarray, inverse_rms: np.ndarray, bias: np.ndarray | None
) -> np.ndarray:
    """``y * inverse_rms + bias``: results (tokens, outputs), inverse_rms (tokens, 1)."""
    y = multiply(fmt, y, inverse_rms)
    return y if bias is None else add(fmt, y, bias)


def rotate(fmt: FloatFormat, x: np.ndarray, rope: np.ndarray) -> np.ndarray:
    """RoPE of neighbouring pairs: x (..., head_dim / 2, 2), rope likewise (cosine, sine)."""
    (a, b), (cosine, sine) = np.moveaxis(x, -1, 0), np.moveaxis(rope, -1, 0)
    first = add(fmt, multiply(fmt, a, cosine), -multiply(fmt, b, sine))
    second = add(fmt, multiply(fmt, a, sine), multiply(fmt, b, cosine))
    return np.stack([first, second], axis=-1)


def sigmoid(fmt: FloatFormat, x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))`` by the table: the magnitude in fixed point, rounded half up."""
    magnitude = np.floor(np.ldexp(np.minimum(np.abs(x), 16.0), SIGMOID_INPUT_FRACTION) + 0.5)
    magnitude = np.minimum(magnitude.astype(np.int64), (1 << SIGMOID.input_bits) - 1)
    y = evaluate(SIGMOID, magnitude)
    return convert(fmt, np.where(x < 0, (1 << SIGMOID_FRACTION) - y, y), -SIGMOID_FRACTION)


def gate(fmt: FloatFormat, x: np.ndarray) -> np.ndarray:
    """SwiGLU of (gate, up) pairs: (..., 2) -> (...), ``(gate * up) * sigmoid(gate)``."""
    g, up = np.moveaxis(x, -1, 0)
    return multiply(fmt, multiply(fmt, g, up), sigmoid(fmt, g))
