"""What is etched into the main memory of a shared chip."""

import numpy as np

from intaglio.golden import small_float
from intaglio.golden.etch import Etched, Matrix
from intaglio.hw.config import LAYER_LINEARS, Linear
from intaglio.hw.shared.memory_map import ELEMENTS, MemoryMap

__all__ = ["flash_image", "main_memory", "weights"]


def _blocks(matrix: Matrix, layer: int) -> np.ndarray:
    """Words of the blocks of all rows: the exponent, then four elements in each."""
    elements = matrix.integers[layer].astype(np.int8).view(np.uint8)
    words = np.ascontiguousarray(elements).view("<u4")
    assert elements.shape[-1] // ELEMENTS == words.shape[-1]
    exponents = matrix.exponents[layer].astype(np.uint32)[..., None]
    return np.concatenate([exponents, words], axis=-1).ravel()


def weights(etched: Etched) -> np.ndarray:
    """Words of the linear layers, in the order in which they are read."""
    order = [(linear, n) for n in range(etched.design.model.layers) for linear in LAYER_LINEARS]
    return np.concatenate([
        _blocks(etched.matrices[linear], layer) for linear, layer in [*order, (Linear.HEAD, 0)]
    ])


def main_memory(etched: Etched) -> list[int]:
    """All words, as :class:`MemoryMap` has them; the cache is zero."""
    places = MemoryMap(etched.design)
    rope = small_float.encode(etched.design.chip.small_float, etched.rope)
    parts = weights(etched), _blocks(etched.embedding, 0), rope.ravel()
    assert [len(part) for part in parts] == [
        places.embedding, places.rope - places.embedding, places.cache - places.rope
    ]  # fmt: skip
    return np.concatenate([*parts, np.zeros(places.words - places.cache, int)]).tolist()


def flash_image(etched: Etched) -> bytes:
    """The etched words as a flash holds them, whether or not their weights are streamed."""
    words = main_memory(etched)[: MemoryMap(etched.design).cache]
    return np.array(words, "<u4").tobytes()
