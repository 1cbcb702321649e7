"""The block accumulation against golden: random sums, extremes, blocks that cancel."""

import numpy as np
import pytest

from intaglio.golden import small_float
from intaglio.golden.matmul import block_accumulate
from intaglio.hw.accumulate import BlockAccumulate
from intaglio.hw.formats import FloatFormat
from intaglio.tb.bench import ON_BOTH, check


def tiles(rows: int, outputs: int, limit: int, lengths=(2, 1, 6, 1, 1, 3) * 3):
    """Sums (blocks, rows, outputs) of each tile, with the exponents of its rows and weights."""
    rng = np.random.default_rng(1)
    for n, count in enumerate(lengths):
        sums = rng.integers(-limit, limit + 1, (count, rows, outputs))
        row_exponents = rng.integers(115, 140, (rows, count))
        weight_exponents = rng.integers(110, 130, (outputs, count))
        if n % 6 == 0:
            sums = np.where(sums < 0, -limit, limit)
        elif n % 6 == 2:  # every block takes away what the one before gave, almost
            sums[1::2] = -sums[::2] + rng.integers(-1, 2, sums[::2].shape)
            sums = np.clip(sums, -limit, limit)
            row_exponents, weight_exponents = row_exponents[:, :1], weight_exponents[:, :1]
            row_exponents = np.repeat(row_exponents, count, axis=1)
            weight_exponents = np.repeat(weight_exponents, count, axis=1)
        elif n % 6 == 5:
            row_exponents = rng.integers(0, 255, (rows, count))
            weight_exponents = rng.integers(0, 255, (outputs, count))
        yield sums * (rng.random(sums.shape) > 0.1), row_exponents, weight_exponents


@ON_BOTH
@pytest.mark.parametrize(
    ("rows", "outputs", "depth", "bits", "fmt"),
    [
        (1, 16, 8, (8, 8), FloatFormat()),
        (3, 4, 2, (7, 4), FloatFormat(8, 10)),
        (1, 2, 4, (16, 16), FloatFormat()),
        (2, 16, 8, (5, 8), FloatFormat(5, 10)),
    ],
    ids=str,
)
def test_block_accumulate(rows, outputs, depth, bits, fmt, simulator, tmp_path):
    fraction_bits = sum(bits) - 4
    unit = BlockAccumulate(
        fmt, rows=rows, outputs=outputs, depth=depth, sum_bits=sum(bits) + 4,
        fraction_bits=fraction_bits,
    )  # fmt: skip
    largest = [(1 << (b - 1)) - 1 for b in bits]
    inputs, expected = [], []
    for sums, row_exponents, weight_exponents in tiles(rows, outputs, 32 * largest[0] * largest[1]):
        inputs += [
            {
                "sums": sums[b].tolist(),
                "row_exponents": row_exponents[:, b].tolist(),
                "weight_exponents": weight_exponents[:, b].tolist(),
                "first": int(b == 0),
                "last": int(b == len(sums) - 1),
            }
            for b in range(len(sums))
        ]
        y = block_accumulate(fmt, sums, row_exponents, weight_exponents, fraction_bits)
        expected += small_float.encode(fmt, y).reshape(rows, -1, 2).swapaxes(0, 1).tolist()
    check(unit, {"i": inputs}, {"o": expected}, simulator, tmp_path)
