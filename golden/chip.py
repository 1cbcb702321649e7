"""The chip in numpy: the exact arithmetic of the RTL, independent of rows, groups and timing."""

from collections.abc import Callable, Iterator

import numpy as np

from intaglio.golden import attention, mx
from intaglio.golden.drain import gate, rotate, scale
from intaglio.golden.etch import Etched
from intaglio.golden.matmul import block_accumulate, matmul_array
from intaglio.golden.norm import inverse_rms
from intaglio.golden.small_float import add, convert
from intaglio.hw.config import Linear
from intaglio.hw.formats import E8M0_BIAS
from intaglio.hw.protocol import Tap

__all__ = ["GoldenChip"]

Quantised = tuple[np.ndarray, np.ndarray]
Observer = Callable[[Tap, np.ndarray], None]


class GoldenChip:
    """An etched model with its KV cache; tokens of a slot are fed in order of position.

    Every method that takes several tokens gives exactly what it would give for one at a time.

    `observe` is shown what passes each tap, in the order of the program: sums (blocks, tokens,
    outputs) at the array, small-float values (tokens, ...) elsewhere; weights are not shown.
    """

    cycles = 0
    """Golden arithmetic has no clock."""

    def __init__(self, etched: Etched, observe: Observer = lambda tap, values: None):
        self.etched, self._observe = etched, observe
        design = etched.design
        model = design.model
        cache = (model.layers, design.slots, design.context, model.kv_heads, design.head_blocks)
        self._integers = {kind: np.zeros((*cache, model.head_block), np.int32) for kind in "kv"}
        self._exponents = {kind: np.zeros(cache, np.int64) for kind in "kv"}

    def feed(self, slot: int, position: int, token: int, sample: bool) -> int | None:
        """One token through the model; the next token (greedy; ties to the lower) if `sample`."""
        logits = self.forward(slot, position, np.array([token]))
        return int(np.argmax(logits[0])) if sample else None

    def generate(self, slot: int, position: int, token: int, until: int) -> Iterator[int]:
        """The next token at each position from `position` to `until`, where it is fed back."""
        for place in range(position, until + 1):
            token = int(np.argmax(self.forward(slot, place, np.array([token]))[0]))
            yield token

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Logits (n, vocab) of a whole sequence (n,), in slot 0."""
        return self.forward(0, 0, tokens)

    def forward(self, slot: int, start: int, tokens: np.ndarray) -> np.ndarray:
        """Logits (n, vocab; small-float values) of tokens (n,) at positions start .. start+n-1."""
        e, chip = self.etched, self.etched.design.chip
        fmt = chip.small_float
        positions = start + np.arange(len(tokens))
        x = self._drained(self.embed(tokens))
        self._observe(Tap.EMBEDDING, x)
        for layer in range(e.design.model.layers):
            rms = inverse_rms(fmt, x, e.inverse_dim, e.eps)
            context = self._attention(layer, slot, positions, self._quantise(x), rms)
            x = self._drained(add(fmt, x, self._linear(Linear.O, layer, self._quantise(context))))
            rms = inverse_rms(fmt, x, e.inverse_dim, e.eps)
            pairs = self._linear(Linear.GATE_UP, layer, self._quantise(x), rms)
            hidden = self._drained(gate(fmt, pairs.reshape(len(x), -1, 2)))
            x = self._drained(add(fmt, x, self._linear(Linear.DOWN, layer, self._quantise(hidden))))
        rms = inverse_rms(fmt, x, e.inverse_dim, e.eps)
        return self._drained(self._linear(Linear.HEAD, 0, self._quantise(x), rms))

    def _drained(self, x: np.ndarray) -> np.ndarray:
        self._observe(Tap.DRAIN, x)
        return x

    def embed(self, tokens: np.ndarray) -> np.ndarray:
        """Residual stream (n, dim) that tokens (n,) begin with."""
        design, table = self.etched.design, self.etched.embedding
        exponent = table.exponents[0, tokens] - E8M0_BIAS - design.chip.weights.fraction_bits
        x = convert(design.chip.small_float, table.integers[0, tokens], exponent[..., None])
        return x.reshape(len(tokens), -1)[:, : design.model.dim]

    def _quantise(self, x: np.ndarray) -> Quantised:
        return mx.quantise(self.etched.design.chip.activations, mx.blocks(x))

    def _linear(
        self, linear: Linear, layer: int, x: Quantised, rms: np.ndarray | None = None
    ) -> np.ndarray:
        chip, matrix = self.etched.design.chip, self.etched.matrices[linear]
        sums = matmul_array(x[0], matrix.integers[layer])
        self._observe(Tap.ARRAY, sums)
        fraction_bits = chip.activations.fraction_bits + chip.weights.fraction_bits
        y = block_accumulate(chip.small_float, sums, x[1], matrix.exponents[layer], fraction_bits)
        bias = None if matrix.bias is None else matrix.bias[layer]
        inverse = np.ones((len(y), 1)) if rms is None else rms[:, None]
        return scale(chip.small_float, y, inverse, bias)

    def _attention(
        self, layer: int, slot: int, positions: np.ndarray, x: Quantised, rms: np.ndarray
    ) -> np.ndarray:
        """Project, rotate, append to the cache, attend: (n, heads * head_dim)."""
        design = self.etched.design
        model, chip = design.model, design.chip
        fmt = chip.small_float
        y = self._linear(Linear.QKV, layer, x, rms)
        words = y.reshape(len(y), design.lane_groups, -1, model.head_dim)
        q, k, v = np.split(words, [design.q_lanes, design.q_lanes + design.kv_lanes], axis=2)
        rope = self.etched.rope[positions][:, None, None]

        def head_blocks(heads: np.ndarray) -> np.ndarray:
            return heads.reshape(len(y), -1, design.head_blocks, model.head_block)

        def rotated(heads: np.ndarray) -> np.ndarray:
            pairs = heads.reshape(*heads.shape[:-1], -1, 2)
            return rotate(fmt, pairs, np.broadcast_to(rope, pairs.shape)).reshape(heads.shape)

        q, k = rotated(q), rotated(k)
        self._drained(np.concatenate([q, k, v], axis=2))
        queries = mx.quantise(chip.activations, head_blocks(q))
        for kind, heads in (("k", k), ("v", v)):
            integers, exponents = mx.quantise(chip.kv, head_blocks(heads))
            self._integers[kind][layer, slot, positions] = integers
            self._exponents[kind][layer, slot, positions] = exponents

        # Each query head beside the key/value head that it shares.
        share = np.arange(model.heads) // (model.heads // model.kv_heads)
        held = (layer, slot, slice(positions[-1] + 1))
        keys = self._integers["k"][held][:, share], self._exponents["k"][held][:, share]
        values = self._integers["v"][held][:, share], self._exponents["v"][held][:, share]
        s = attention.scores(chip.activations, *queries, chip.kv, *keys)
        masked = np.arange(s.shape[1]) > positions[:, None]
        s[masked] = attention.LOWEST
        context = attention.attend(fmt, s, chip.window, chip.kv, *values).reshape(len(y), -1)
        self._observe(Tap.ATTENTION, context)
        return context
