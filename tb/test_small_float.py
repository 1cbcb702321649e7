"""Small-float arithmetic against golden: corners, close operands and random ones."""

import numpy as np
import pytest

from intaglio.golden import small_float
from intaglio.hw.formats import FloatFormat
from intaglio.hw.pipeline import Streamed
from intaglio.hw.small_float import FloatAdd, FloatConvert, FloatMultiply
from intaglio.tb.bench import ON_BOTH, check

FORMATS = pytest.mark.parametrize("fmt", [FloatFormat(), FloatFormat(5, 10)], ids=str)


def operands(fmt: FloatFormat, count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of codes: all pairs of corners, neighbours that cancel, and random ones."""
    rng = np.random.default_rng(1)
    top, sign = fmt.top << fmt.fraction_bits, 1 << (fmt.bits - 1)
    ones = (1 << fmt.fraction_bits) - 1
    unit = fmt.bias << fmt.fraction_bits
    corners = np.array([0, 1 << fmt.fraction_bits, unit, unit | 1, unit | ones, top, top | ones])
    corners = np.concatenate([corners, corners[1:] | sign])
    a, b = (x.ravel() for x in np.meshgrid(corners, corners))
    exponent = rng.integers(1, fmt.top + 1, (2, count))
    exponent[1, : count // 2] = np.clip(
        exponent[0, : count // 2] + rng.integers(-fmt.precision - 3, fmt.precision + 4, count // 2),
        1,
        fmt.top,
    )
    codes = (exponent << fmt.fraction_bits) | rng.integers(0, ones + 1, (2, count))
    codes |= rng.integers(0, 2, (2, count)) * sign
    return np.concatenate([a, codes[0]]), np.concatenate([b, codes[1]])


def payloads(**fields: np.ndarray) -> list[dict]:
    """Stream payloads from arrays of integers, one for each field."""
    rows = zip(*(values.tolist() for values in fields.values()), strict=True)
    return [dict(zip(fields, row, strict=True)) for row in rows]


def codes(fmt: FloatFormat, values: np.ndarray) -> list[int]:
    """Expected payloads of small-float values."""
    return small_float.encode(fmt, values).tolist()


@ON_BOTH
@FORMATS
def test_add(fmt, simulator, tmp_path):
    """The sum, or `b` where it stands alone."""
    a, b = operands(fmt)
    alone = np.random.default_rng(5).integers(0, 4, len(a)) == 0
    augend = np.where(alone, 0.0, small_float.decode(fmt, a))
    expected = small_float.add(fmt, augend, small_float.decode(fmt, b))
    stimulus = payloads(alone=alone.astype(int), a=a, b=b)
    check(
        Streamed(FloatAdd(fmt)), {"i": stimulus}, {"o": codes(fmt, expected)}, simulator, tmp_path
    )


@ON_BOTH
@FORMATS
def test_multiply(fmt, simulator, tmp_path):
    a, b = operands(fmt)
    expected = small_float.multiply(fmt, small_float.decode(fmt, a), small_float.decode(fmt, b))
    check(
        Streamed(FloatMultiply(fmt)),
        {"i": payloads(a=a, b=b)},
        {"o": codes(fmt, expected)},
        simulator,
        tmp_path,
    )


@ON_BOTH
@pytest.mark.parametrize(
    ("fmt", "bits"), [(FloatFormat(), 22), (FloatFormat(), 9), (FloatFormat(8, 10), 37)]
)
def test_convert(fmt, bits, simulator, tmp_path):
    rng = np.random.default_rng(2)
    width = rng.integers(0, bits, 1000)
    integer = rng.integers(-(1 << 62), 1 << 62, 1000) >> (62 - width)
    integer[:4] = [0, 1, -1, -(1 << (bits - 1))]
    exponent = rng.integers(-200, 200, 1000)
    expected = small_float.convert(fmt, integer, exponent)
    unit = FloatConvert(fmt, integer_bits=bits, exponent_bits=10)
    stimulus = payloads(integer=integer, exponent=exponent)
    check(Streamed(unit), {"i": stimulus}, {"o": codes(fmt, expected)}, simulator, tmp_path)


@pytest.mark.parametrize("fmt", [FloatFormat(5, 10), FloatFormat(8, 7), FloatFormat(8, 23)])
def test_rounding_is_that_of_numpy(fmt):
    """float16, bfloat16 and float32 arithmetic agree wherever they are normal and finite."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    other = {10: np.float16, 7: ml_dtypes.bfloat16, 23: np.float32}[fmt.fraction_bits]
    values = np.random.default_rng(3).normal(size=(2, 10000)) * 3
    a, b = small_float.round_float(fmt, values)
    for golden, operator in ((small_float.add, np.add), (small_float.multiply, np.multiply)):
        theirs = operator(a.astype(other), b.astype(other)).astype(np.float64)
        normal = np.abs(theirs) >= fmt.smallest
        np.testing.assert_array_equal(golden(fmt, a, b)[normal], theirs[normal])


@pytest.mark.parametrize("fmt", [FloatFormat(), FloatFormat(5, 10)], ids=str)
def test_codes(fmt):
    every = np.arange(1 << fmt.bits)
    exponent = (every >> fmt.fraction_bits) & ((1 << fmt.exponent_bits) - 1)
    legal = every[(exponent > 0) & (exponent <= fmt.top)]
    np.testing.assert_array_equal(small_float.encode(fmt, small_float.decode(fmt, legal)), legal)


@pytest.mark.parametrize("fmt", [FloatFormat(), FloatFormat(8, 10), FloatFormat(8, 23)], ids=str)
def test_inverses_are_close(fmt):
    x = small_float.round_float(fmt, np.exp(np.random.default_rng(4).uniform(-30, 30, 20000)))
    bound = 2.0 ** (1 - fmt.precision)
    assert np.abs(small_float.reciprocal(fmt, x) * x - 1).max() < bound
    assert np.abs(small_float.reciprocal_root(fmt, x) * np.sqrt(x) - 1).max() < bound
