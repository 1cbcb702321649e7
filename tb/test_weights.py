"""The etched ROM, and the codes of every format through it."""

import numpy as np
import pytest

from intaglio.golden.images import encode, pack_words
from intaglio.hw import images, weights
from intaglio.hw.formats import element_format
from intaglio.hw.layouts import Layouts
from intaglio.hw.weights import EtchedROM
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import random_etched


def all_integers(name: str) -> np.ndarray:
    """Every integer that an element of the format stands for."""
    if name == "e2m1":
        magnitudes = np.array([0, 1, 2, 3, 4, 6, 8, 12])
    elif name == "e2m3":
        magnitudes = np.array([*range(16), *range(16, 32, 2), *range(32, 64, 4)])
    else:
        magnitudes = np.arange(element_format(name).largest + 1)
    return np.concatenate([magnitudes, -magnitudes[1:]])


@pytest.mark.parametrize("name", ["int4", "int8", "e2m1", "e2m3"])
def test_codes_differ(name):
    integers = all_integers(name)
    codes = encode(element_format(name), integers)
    assert len(set(codes.tolist())) == len(integers)
    assert codes.max() < 1 << element_format(name).bits


@ON_BOTH
@pytest.mark.parametrize(("name", "bank"), [("int6", 2048), ("e2m1", 2048), ("e2m3", 16)], ids=str)
def test_rom(name, bank, simulator, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "BANK", bank)
    monkeypatch.setattr(weights, "SLICE", 50)
    element, outputs, depth, exponents = element_format(name), 4, 2, 3
    rng = np.random.default_rng(1)
    words = 40
    integers = rng.choice(all_integers(name), (words, outputs, depth))
    scales = rng.integers(0, 255, (words, exponents))
    image = pack_words((encode(element, integers), element.bits), (scales, 8))
    jobs = [(3, 5), (0, 40), (39, 1), (10, 1), (10, 2)]
    expected = [
        {"elements": integers[w].tolist(), "exponents": scales[w].tolist()}
        for start, count in jobs
        for w in range(start, start + count)
    ]
    layouts = Layouts(random_etched().design)
    unit = EtchedROM(
        element, outputs=outputs, depth=depth, exponents=exponents, image=image,
        job=layouts.weight_job,
    )  # fmt: skip
    inputs = [{"address": start, "words": count} for start, count in jobs]
    check(unit, {"jobs": inputs}, {"o": expected}, simulator, tmp_path)
