"""The embedding against golden's."""

import numpy as np
import pytest

from intaglio.golden import small_float
from intaglio.golden.chip import GoldenChip
from intaglio.golden.images import images
from intaglio.hw import images as memories
from intaglio.hw.config import ChipConfig
from intaglio.hw.embed import Embed
from intaglio.hw.formats import FloatFormat, element_format
from intaglio.hw.layouts import Layouts
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import random_etched


@ON_BOTH
@pytest.mark.parametrize(
    ("rows", "weights", "fmt", "dim", "bank"),
    [(3, "int8", FloatFormat(), 34, 128), (1, "e2m1", FloatFormat(), 32, 2048),
     (1, "int16", FloatFormat(8, 10), 40, 256)],
    ids=str,
)  # fmt: skip
def test_embed(rows, weights, fmt, dim, bank, simulator, tmp_path, monkeypatch):
    monkeypatch.setattr(memories, "BANK", bank)
    chip = ChipConfig(rows=rows, weights=element_format(weights), small_float=fmt)
    etched = random_etched(chip, dim=dim)
    contents = images(etched)
    unit = Embed(
        fmt, chip.weights, rows=rows, dim=dim, pairs=contents.embedding,
        exponents=contents.embedding_exponents, tokens=Layouts(etched.design).tokens,
    )  # fmt: skip
    jobs = np.random.default_rng(1).integers(0, etched.design.model.vocab, (6, rows))
    jobs[0], jobs[1] = 0, etched.design.model.vocab - 1
    expected = []
    for tokens in jobs:
        codes = small_float.encode(fmt, GoldenChip(etched).embed(tokens))
        expected += codes.reshape(rows, -1, 2).swapaxes(0, 1).tolist()
    check(unit, {"jobs": jobs.tolist()}, {"o": expected}, simulator, tmp_path)
