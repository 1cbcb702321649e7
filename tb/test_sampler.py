"""The sampler against numpy's argmax: ties, signs, zeros, an odd vocabulary."""

import numpy as np
import pytest
from amaranth.lib import data

from intaglio.golden import small_float
from intaglio.hw.formats import FloatFormat
from intaglio.hw.layouts import index
from intaglio.hw.sampler import Sampler
from intaglio.tb.bench import ON_BOTH, check


@ON_BOTH
@pytest.mark.parametrize("vocab", [16, 9])
def test_sampler(vocab, simulator, tmp_path):
    fmt, rows, count = FloatFormat(), 2, 60
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(count, rows, vocab)) * 10.0 ** rng.integers(-9, 9, (count, rows, 1))
    logits[0] = 0
    logits[1] = -np.abs(logits[1])
    logits[2:20] = np.rint(logits[2:20] / np.abs(logits[2:20]).max() * 2)  # many ties
    logits[20] = [fmt.largest, -fmt.largest] * (vocab // 2) + [0.0] * (vocab % 2)
    logits[21] = -fmt.smallest
    logits = small_float.round_float(fmt, logits)
    # What comes as the partner of the last of an odd number must not count.
    padded = np.full((count, rows, vocab + vocab % 2), fmt.largest)
    padded[..., :vocab] = logits
    codes = small_float.encode(fmt, padded).reshape(count, rows, -1, 2)
    pairs = codes.shape[2]
    inputs = [
        {"pairs": codes[n, :, p].tolist(), "last": int(p == pairs - 1), "group": n % 3}
        for n in range(count)
        for p in range(pairs)
    ]
    best = logits.argmax(axis=-1)
    outputs = [{"group": n % 3, "tokens": best[n].tolist()} for n in range(count)]
    tokens = data.ArrayLayout(index(vocab), rows)
    unit = Sampler(fmt, rows=rows, vocab=vocab, group=index(3), tokens=tokens)
    check(unit, {"i": inputs}, {"o": outputs}, simulator, tmp_path)
