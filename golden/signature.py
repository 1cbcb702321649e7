"""Signatures of what passes the taps of a chip while it computes."""

from collections.abc import Iterable

import numpy as np

from intaglio.golden import main_memory, small_float
from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import Etched
from intaglio.golden.images import weight_fields
from intaglio.hw.config import LAYER_LINEARS, Linear
from intaglio.hw.formats import BLOCK
from intaglio.hw.protocol import Tap

__all__ = ["fold", "signature", "signatures"]

POLYNOMIAL = 0x04C11DB7
"""Of CRC-32, without its leading term."""

CHUNK = 1 << 14
"""Beats that are taken together, for the sake of memory."""


def fold(*fields: tuple[np.ndarray, int]) -> np.ndarray:
    """Beats (n,) of 32 bits: bit k of a payload is added, modulo 2, to bit ``k % 32``.

    Each field is an array of codes (n, ...) and the width of one, the lowest bits first.
    """
    words, offset = np.zeros(len(fields[0][0]), np.uint64), 0
    for codes, width in fields:
        codes = codes.reshape(len(codes), -1).astype(np.int64) & ((1 << width) - 1)
        codes = ((codes & 0xFFFFFFFF) ^ (codes >> 32)).astype(np.uint64)
        places = (offset + width * np.arange(codes.shape[1])) % 32
        words ^= np.bitwise_xor.reduce(codes << places.astype(np.uint64), axis=1)
        offset += width * codes.shape[1]
    return ((words & 0xFFFFFFFF) ^ (words >> 32)).astype(np.uint32)


def _multiply(columns: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Words (n,) times a power of x, given as its products with the 32 powers below x**32."""
    bits = words[:, None] >> np.arange(32, dtype=np.uint32) & 1
    return np.bitwise_xor.reduce(bits * columns, axis=1)


def signature(beats: np.ndarray, start: int = 0) -> int:
    """``((start * x + beats[0]) * x + beats[1]) ...``: polynomials over GF(2), modulo POLYNOMIAL.

    Computed in pairs, pairs of pairs, and so on.
    """
    state = np.array([start], np.uint32)
    for at in range(0, len(beats), CHUNK):
        words = np.concatenate([state, beats[at : at + CHUNK]])
        columns = np.array([*(1 << n for n in range(1, 32)), POLYNOMIAL], np.uint32)
        while len(words) > 1:
            words = np.concatenate([np.zeros(len(words) % 2, np.uint32), words])
            words = _multiply(columns, words[0::2]) ^ words[1::2]
            columns = _multiply(columns, columns)
        state = words
    return int(state[0])


class _Beats:
    """Collects what :class:`GoldenChip` shows of a forward pass: folded beats at each tap."""

    def __init__(self, etched: Etched):
        self.chip, self.shared = etched.design.chip, etched.design.shared
        self.seen: dict[Tap, list[np.ndarray]] = {tap: [] for tap in Tap}

    def observe(self, tap: Tap, values: np.ndarray) -> None:
        if tap is Tap.ARRAY:
            codes, width = self._tiles(values), self._sum_bits
        else:
            codes, width = self._values(values), self.chip.small_float.bits
        tokens, beats = codes.shape[:2]
        folded = fold((codes.reshape(tokens * beats, -1), width))
        self.seen[tap].append(folded.reshape(tokens, beats))

    @property
    def _sum_bits(self) -> int:
        return self.chip.weights.integer_bits + self.chip.activations.bits + BLOCK.bit_length() - 2

    def _tiles(self, sums: np.ndarray) -> np.ndarray:
        """Sums (blocks, tokens, outputs) -> (tokens, beats, outputs of the array)."""
        width = self.chip.outputs
        padded = np.pad(sums, ((0, 0), (0, 0), (0, -sums.shape[2] % width)))
        tiles = padded.reshape(*sums.shape[:2], -1, width).transpose(1, 2, 0, 3)
        return tiles.reshape(sums.shape[1], -1, width)

    def _values(self, values: np.ndarray) -> np.ndarray:
        """Small floats (tokens, ...) -> codes (tokens, beats, 2), or one in a beat if shared."""
        together = 1 if self.shared else 2
        values = values.reshape(len(values), -1)
        padded = np.pad(values, ((0, 0), (0, -values.shape[1] % together)))
        codes = small_float.encode(self.chip.small_float, padded)
        return codes.reshape(len(values), -1, together)

    def of_steps(self, tap: Tap) -> np.ndarray:
        """All beats at a tap, token after token."""
        return np.concatenate(self.seen[tap], axis=1).ravel()


def _weight_beats(etched: Etched) -> np.ndarray:
    """Beats of the weight stream in a step."""
    design = etched.design
    if design.shared:
        return main_memory.weights(etched).astype(np.uint32)
    order = [(linear, n) for n in range(design.model.layers) for linear in LAYER_LINEARS]
    beats = []
    for linear, layer in [*order, (Linear.HEAD, 0)]:
        matrix = etched.matrices[linear]
        elements, scales = weight_fields(
            design, linear, matrix.integers[layer], matrix.exponents[layer]
        )
        beats.append(fold((elements, design.chip.weights.integer_bits), (scales, 8)))
    return np.concatenate(beats)


def signatures(
    etched: Etched, sequences: Iterable[np.ndarray], start: dict[Tap, int]
) -> dict[Tap, int]:
    """Signatures of all taps, begun with those of `start`, after `sequences` of tokens.

    Each sequence is fed from position 0 of slot 0, a token in a step alone and sampled: in row 0,
    which is the one that the taps of array, embedding and drain see.
    """
    state, weights = dict(start), _weight_beats(etched)
    for tokens in sequences:
        beats = _Beats(etched)
        GoldenChip(etched, beats.observe).logits(tokens)
        for tap in Tap:
            if tap is not Tap.WEIGHTS:
                state[tap] = signature(beats.of_steps(tap), state[tap])
        for _ in tokens:
            state[Tap.WEIGHTS] = signature(weights, state[Tap.WEIGHTS])
    return state
