"""The MX quantiser against golden, block by block."""

import numpy as np
import pytest

from intaglio.golden import mx, small_float
from intaglio.hw.formats import FloatFormat, mxint
from intaglio.hw.quantiser import BlockExponent, Quantiser
from intaglio.tb.bench import ON_BOTH, check

FORMATS = pytest.mark.parametrize("fmt", [FloatFormat(), FloatFormat(6, 10)], ids=str)


def blocks(fmt: FloatFormat, rows: int, count: int, pairs: int) -> np.ndarray:
    """Small floats (count, pairs, rows, 2): wide and narrow spreads, zeros, ties and saturation."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, pairs, rows, 2)) * np.exp(rng.normal(size=(count, 1, rows, 1)))
    x[::4] *= np.exp(3 * rng.normal(size=x[::4].shape))
    x[1::5] = np.rint(x[1::5] * 8) / 8 + 2.0**-7
    x[2] = 0
    x[3, 0] = 2 - 2.0**-fmt.fraction_bits
    x[4, -1] = fmt.largest
    x[5] = fmt.smallest
    return small_float.round_float(fmt, x)


def exponents(x: np.ndarray) -> np.ndarray:
    """E8M0 codes (count, rows) of blocks (count, pairs, rows, 2)."""
    return mx.quantise(mxint(8), x.transpose(0, 2, 1, 3).reshape(len(x), x.shape[2], -1))[1]


@ON_BOTH
@FORMATS
def test_block_exponent(fmt, simulator, tmp_path):
    inputs, outputs = [], []
    for pairs in (16, 4, 1):
        x = blocks(fmt, 2, 20, pairs)
        codes = small_float.encode(fmt, x).tolist()
        for n, exponent in enumerate(exponents(x).tolist()):
            for p in range(pairs):
                beat = {"pairs": codes[n][p], "last": int(p == pairs - 1), "tag": (n + p) % 8}
                inputs.append(beat)
                outputs.append({**beat, "exponents": exponent})
    check(BlockExponent(fmt, rows=2, tag=3), {"i": inputs}, {"o": outputs}, simulator, tmp_path)


@ON_BOTH
@FORMATS
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_quantiser(fmt, bits, simulator, tmp_path):
    element = mxint(bits)
    x = blocks(fmt, 2, 60, 4)
    integers, codes = mx.quantise(element, x.transpose(0, 2, 1, 3).reshape(len(x), 2, -1))
    integers = integers.reshape(len(x), 2, -1, 2).transpose(0, 2, 1, 3)
    inputs, outputs = [], []
    for n, block in enumerate(small_float.encode(fmt, x).tolist()):
        for p, pairs in enumerate(block):
            common = {"exponents": codes[n].tolist(), "last": int(p == 3), "tag": n % 4}
            inputs.append({"pairs": pairs, **common})
            outputs.append({"elements": integers[n, p].tolist(), **common})
    unit = Quantiser(fmt, [element], rows=2, tag=2)
    check(unit, {"i": inputs}, {"o": outputs}, simulator, tmp_path)
