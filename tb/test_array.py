"""The matmul array against golden."""

import numpy as np
import pytest

from intaglio.golden.matmul import matmul_array
from intaglio.hw.array import MatmulArray
from intaglio.tb.bench import ON_BOTH, check

SHAPES = pytest.mark.parametrize(
    ("rows", "outputs", "depth", "bits"),
    [(1, 16, 8, (8, 8)), (3, 4, 2, (7, 4)), (1, 2, 4, (16, 16)), (2, 16, 8, (5, 8))],
    ids=str,
)


def stimulus(rows: int, outputs: int, bits: tuple[int, int], blocks=(2, 1, 6, 1, 1, 3)):
    """For each tile: elements and exponents of weights and rows, extremes included."""
    rng = np.random.default_rng(1)
    for n, count in enumerate(blocks * 3):
        top = [(1 << (b - 1)) - 1 for b in bits]
        low, high = ([-t for t in top], top) if n % 4 else (top, top)
        weights = rng.integers(low[0], high[0] + 1, (outputs, count, 32))
        x = rng.integers(low[1], high[1] + 1, (rows, count, 32))
        weight_exponents = rng.integers(110, 130, (outputs, count))
        row_exponents = rng.integers(*((0, 255) if n == 5 else (115, 140)), (rows, count))
        yield weights, weight_exponents, x, row_exponents


def sums_payloads(rows, outputs, bits):
    """Payloads between the array and the accumulation, tile by tile."""
    for weights, weight_exponents, x, row_exponents in stimulus(rows, outputs, bits):
        sums = matmul_array(x, weights).astype(np.int64)
        yield [
            {
                "sums": sums[b].tolist(),
                "row_exponents": row_exponents[:, b].tolist(),
                "weight_exponents": weight_exponents[:, b].tolist(),
                "first": int(b == 0),
                "last": int(b == len(sums) - 1),
            }
            for b in range(len(sums))
        ]


@ON_BOTH
@SHAPES
def test_array(rows, outputs, depth, bits, simulator, tmp_path):
    unit = MatmulArray(
        rows=rows, outputs=outputs, depth=depth, weight_bits=bits[0], activation_bits=bits[1]
    )
    words, per_word = 32 // depth, len(unit.weights.p.exponents.as_value()) // 8
    weight_words, activation_words = [], []
    for weights, weight_exponents, x, row_exponents in stimulus(rows, outputs, bits):
        count = x.shape[1]
        padded = np.zeros((per_word * words, count), int)
        padded[:outputs] = weight_exponents
        for block in range(count):
            for word in range(words):
                part = slice(word * depth, (word + 1) * depth)
                weight_words.append({
                    "elements": weights[:, block, part].tolist(),
                    "exponents": padded[word * per_word : (word + 1) * per_word, block].tolist(),
                })
                activation_words.append({
                    "elements": x[:, block, part].tolist(),
                    "exponents": row_exponents[:, block].tolist(),
                    "first": int(block == 0),
                    "last": int(block == count - 1),
                })
    outputs_payloads = [p for tile in sums_payloads(rows, outputs, bits) for p in tile]
    check(
        unit,
        {"weights": weight_words, "activations": activation_words},
        {"o": outputs_payloads},
        simulator,
        tmp_path,
    )
