"""Memory images: the weights in the order in which the array reads them, and the tables."""

import numpy as np

from intaglio.golden import small_float
from intaglio.golden.etch import Etched
from intaglio.golden.main_memory import main_memory
from intaglio.hw.config import LAYER_LINEARS, Design, Linear
from intaglio.hw.formats import ElementFormat
from intaglio.hw.images import Images

__all__ = ["encode", "images", "pack_words", "weight_fields", "weight_words"]


def encode(element: ElementFormat, integers: np.ndarray) -> np.ndarray:
    """Codes of the integers that stand for elements: what is stored of them."""
    if element.is_integer:
        return integers & ((1 << element.bits) - 1)
    sign, magnitude = (integers < 0).astype(np.int64), np.abs(integers)
    hidden = 1 << element.fraction_bits
    exponent = np.where(magnitude < hidden, 0, np.frexp(magnitude / hidden)[1].astype(np.int64))
    fraction = np.where(exponent == 0, magnitude, (magnitude << 1 >> exponent) - hidden)
    return (sign << (element.bits - 1)) | (exponent << element.fraction_bits) | fraction


def pack_words(*fields: tuple[np.ndarray, int]) -> list[int]:
    """One integer for each row of the arrays (words, ...), the first element in the lowest bits.

    Each field is an array of codes and the width of one.
    """
    bits = [
        ((codes.reshape(len(codes), -1, 1) >> np.arange(width)) & 1).reshape(len(codes), -1)
        for codes, width in fields
    ]
    packed = np.packbits(np.concatenate(bits, axis=1).astype(np.uint8), axis=1, bitorder="little")
    return [int.from_bytes(word.tobytes(), "little") for word in packed]


def weight_fields(
    design: Design, linear: Linear, integers: np.ndarray, exponents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the words of one linear layer hold: tile by tile, block by block, slice by slice.

    integers (outputs, blocks, 32), exponents (outputs, blocks) -> (words, outputs * depth) of the
    array, (words, exponents per word); padded outputs are zero.
    """
    chip, shape, words = design.chip, design.linear(linear), design.words_per_block
    missing = shape.tiles * chip.outputs - shape.outputs
    elements = np.pad(integers, ((0, missing), (0, 0), (0, 0)))
    elements = elements.reshape(shape.tiles, chip.outputs, shape.blocks, words, chip.depth)
    elements = elements.transpose(0, 2, 3, 1, 4).reshape(shape.words, -1)

    per_word = design.exponents_per_word
    scales = np.pad(exponents, ((0, missing), (0, 0)))
    scales = scales.reshape(shape.tiles, chip.outputs, shape.blocks).transpose(0, 2, 1)
    scales = np.pad(scales, ((0, 0), (0, 0), (0, per_word * words - chip.outputs)))
    return elements, scales.reshape(shape.words, per_word)


def weight_words(
    design: Design, linear: Linear, integers: np.ndarray, exponents: np.ndarray
) -> list[int]:
    """Words of one linear layer, as :func:`weight_fields` arranges them."""
    chip = design.chip
    elements, scales = weight_fields(design, linear, integers, exponents)
    return pack_words((encode(chip.weights, elements), chip.weights.bits), (scales, 8))


def _weights(etched: Etched) -> list[int]:
    """The weight memory: the linear layers of each layer, then the head."""
    design = etched.design
    order = [(linear, n) for n in range(design.model.layers) for linear in LAYER_LINEARS]
    words = []
    for linear, layer in [*order, (Linear.HEAD, 0)]:
        matrix = etched.matrices[linear]
        words += weight_words(design, linear, matrix.integers[layer], matrix.exponents[layer])
    return words


def _bias(etched: Etched) -> list[int]:
    """Two codes for each (layer, linear layer, pair), zero where a linear layer has no bias."""
    design = etched.design
    fmt = design.chip.small_float
    if not design.model.has_bias:
        return []
    layers = []
    for linear in LAYER_LINEARS:
        bias = etched.matrices[linear].bias
        shape = design.model.layers, design.linear(linear).outputs
        layers.append(np.zeros(shape) if bias is None else bias)
    codes = small_float.encode(fmt, np.concatenate(layers, axis=1)).reshape(-1, 2)
    return pack_words((codes, fmt.bits))


def images(etched: Etched) -> Images:
    """Contents of all etched memories."""
    design = etched.design
    fmt, element = design.chip.small_float, design.chip.weights
    dim, vocab = design.model.dim, design.model.vocab
    table = etched.embedding.integers[0].reshape(vocab, -1)[:, :dim].reshape(-1, 2)
    constants = small_float.encode(fmt, np.array([etched.inverse_dim, etched.eps]))
    inverse_dim, eps = map(int, constants)
    if design.shared:
        return Images([], [], [], [], [], inverse_dim, eps, memory=main_memory(etched))
    return Images(
        weights=_weights(etched),
        embedding=pack_words((encode(element, table), element.bits)),
        embedding_exponents=etched.embedding.exponents[0].ravel().tolist(),
        rope=pack_words((small_float.encode(fmt, etched.rope).reshape(-1, 2), fmt.bits)),
        bias=_bias(etched),
        inverse_dim=inverse_dim,
        eps=eps,
    )
