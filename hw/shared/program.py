"""The program of a shared chip: the order of ``GoldenChip.forward``, a step at a time."""

from collections.abc import Callable

from intaglio.hw.config import Linear
from intaglio.hw.formats import BLOCK, E8M0_BIAS
from intaglio.hw.protocol import Tap
from intaglio.hw.shared.assembler import Label, Place, Program
from intaglio.hw.shared.attention import AttentionWriter
from intaglio.hw.shared.memory_map import ELEMENTS, MemoryMap
from intaglio.hw.shared.operations import LOGIT, Field, Index, Mask, Operation
from intaglio.hw.shared.writer import I, J, K
from intaglio.hw.tables import (
    SIGMOID,
    SIGMOID_FRACTION,
    SIGMOID_INPUT_FRACTION,
)

__all__ = ["program"]

BLOCK_WORDS = BLOCK // ELEMENTS


class _ProgramWriter(AttentionWriter):
    """Writes the life of a token; each method is a part of it."""

    def write(self) -> Program:
        """The whole program."""
        model, done = self.design.model, Label()
        begin = self.here()
        self.begin()
        self.embed()
        self.step(Operation.LOAD, model.layers - 1, to=self.layer)
        layer = self.here()
        self.normalise()
        self.project()
        self.attention()
        self.quantise(self.context, model.q_dim)
        self.linear(Linear.O, self.add_residual)
        self.normalise()
        self.gated()
        self.quantise(self.hidden, model.hidden)
        self.linear(Linear.DOWN, self.add_residual)
        self.count_down(self.layer, done)
        self.go(Operation.JUMP, layer)
        self.place(done)
        self.head()
        self.go(Operation.JUMP, begin)
        return self.program()

    def begin(self) -> None:
        """Take a command: its place in the cache, and the angles of its position."""
        model, memory = self.design.model, self.map
        self.step(Operation.BEGIN)
        self.factor(memory.slot_words)
        self.command(Field.SLOT)
        self.step(Operation.MULTIPLY)
        self.step(Operation.ADD, memory.cache, to=self.keys)
        self.factor(model.head_dim)
        self.command(Field.POSITION, to=self.position)
        self.step(Operation.MULTIPLY)
        self.step(Operation.ADD, memory.rope)
        self.step(Operation.SET_ADDRESS)
        self.set_index(I, 0)
        again = self.here()
        self.step(Operation.READ, to=self.rope.at(I))
        self.advance(I, 1, again, until=model.head_dim)

    def embed(self) -> None:
        """The residual, from the table."""
        weights = self.design.chip.weights
        self.factor(self.map.token_words)
        self.command(Field.TOKEN, to=self.token)
        self.step(Operation.MULTIPLY)
        self.step(Operation.ADD, self.map.embedding)
        self.step(Operation.SET_ADDRESS)
        self.set_index(I, 0)
        block = self.here()
        self.step(Operation.SET_FACTOR_CACHE, -E8M0_BIAS - weights.fraction_bits)
        word = self.here()
        self.step(Operation.SET_BUFFER)
        for n in range(ELEMENTS):
            self.step(Operation.UNPACK)
            self.step(Operation.CONVERT, 0, to=self.residual.at(I, n))
        self.advance(I, ELEMENTS, word, mask=Mask.BLOCK)
        self.advance(I, 0, block, until=self.residual.words)
        self.show(Tap.EMBEDDING, self.residual, self.design.model.dim)
        self.show(Tap.DRAIN, self.residual, self.design.model.dim)

    def result(self, linear: Linear) -> None:
        """The next output of a linear layer, in the accumulator."""
        chip = self.design.chip
        bias = 2 * E8M0_BIAS + chip.activations.fraction_bits + chip.weights.fraction_bits
        blocks = self.design.linear(linear).blocks
        for block in range(blocks):
            self.step(Operation.SET_FACTOR_WEIGHTS, self.exponents[block])
            self.step(
                Operation.DOT, self.elements[block * BLOCK_WORDS], count=BLOCK_WORDS, tap=Tap.ARRAY
            )
            self.step(Operation.CONVERT, -bias, to=self.sum if blocks > 1 and not block else None)
            if block:
                self.step(
                    Operation.FLOAT_ADD, self.sum, to=self.sum if block + 1 < blocks else None
                )

    def linear(self, linear: Linear, finish: Callable[[], None]) -> None:
        """All outputs of a linear layer, counted by I; `finish` puts each in its place."""
        self.set_index(I, 0)
        again = self.here()
        self.result(linear)
        finish()
        self.advance(I, 1, again, until=self.design.linear(linear).outputs)

    def add_residual(self) -> None:
        """An output of O or down."""
        place = self.residual.at(I)
        self.step(Operation.FLOAT_ADD, place, to=place, tap=Tap.DRAIN)

    def project(self) -> None:
        """Queries, keys, values; rotated, quantised, appended to the cache."""
        model = self.design.model
        self.linear(
            Linear.QKV,
            lambda: self.step(Operation.FLOAT_MULTIPLY, self.inverse, to=self.heads.at(I)),
        )
        self.rotate()
        rotated = model.q_dim + model.kv_dim
        self.show(Tap.DRAIN, self.heads, rotated + model.kv_dim, start=rotated)
        self.quantise_queries()
        self.append()

    def rotate(self) -> None:
        """RoPE of all query and key heads."""
        model = self.design.model
        a, b = self.heads.at(I), self.heads.at(I, 1)
        cosine, sine = self.rope.at(K), self.rope.at(K, 1)
        self.set_index(I, 0)
        head = self.here()
        self.set_index(K, 0)
        pair = self.here()
        self.step(Operation.LOAD, b)
        self.step(Operation.FLOAT_MULTIPLY, sine, to=self.first)
        self.step(Operation.LOAD, a)
        self.step(Operation.FLOAT_MULTIPLY, cosine)
        self.step(Operation.FLOAT_SUBTRACT, self.first, to=self.second)
        self.step(Operation.LOAD, a)
        self.step(Operation.FLOAT_MULTIPLY, sine, to=self.first)
        self.step(Operation.LOAD, b)
        self.step(Operation.FLOAT_MULTIPLY, cosine)
        self.step(Operation.FLOAT_ADD, self.first, to=b)
        self.step(Operation.LOAD, self.second, to=a, tap=Tap.DRAIN)
        self.step(Operation.LOAD, b, tap=Tap.DRAIN)
        self.advance(I, 2)
        self.advance(K, 2, pair, until=model.head_dim)
        self.advance(I, 0, head, until=model.q_dim + model.kv_dim)

    def quantise_queries(self) -> None:
        """Blocks of the query heads."""
        self.set_index(I, 0)
        self.set_index(J, 0)
        block = self.here()
        self.largest_exponent(self.heads, self.design.model.head_block, Mask.HEAD_BLOCK)
        self.step(Operation.ADD, 0, to=self.query_exponents.at(Index.I_HEAD_BLOCK))
        self.step(Operation.SET_FACTOR, self.coarser)
        self.quantise_block(
            self.heads, Mask.HEAD_BLOCK,
            lambda: self.step(Operation.BUFFER, to=self.queries.at(Index.I_WORD)),
        )  # fmt: skip
        self.advance(I, 0, block, until=self.design.model.q_dim)

    def append(self) -> None:
        """Keys and values of this position; `keys` is where the layer's cache begins."""
        model, memory = self.design.model, self.map
        address, values = self.first, self.design.context * memory.key_words
        self.factor(memory.key_words)
        self.step(Operation.LOAD, self.position)
        self.step(Operation.MULTIPLY)
        self.step(Operation.ADD, self.keys, to=address)
        self.set_index(I, model.q_dim)
        self.set_index(J, model.q_dim)
        self.set_index(K, model.q_dim + model.kv_dim)
        self._append_heads(address, with_values=True)
        self.factor(memory.value_words)
        self.step(Operation.LOAD, self.position)
        self.step(Operation.MULTIPLY)
        self.step(Operation.ADD, values)
        self.step(Operation.ADD, self.keys, to=address)
        self._append_heads(address, with_values=False)

    def _append_heads(self, address: Place, with_values: bool) -> None:
        """Key heads, each with the exponents of its value head; or the elements of value heads."""
        model = self.design.model
        head = self.here()
        self.step(Operation.LOAD, address)
        self.step(Operation.SET_ADDRESS)
        self.step(Operation.ADD, self.map.head_words, to=address)
        for _ in range(self.design.head_blocks):
            self.largest_exponent(self.heads, model.head_block, Mask.HEAD_BLOCK)
            if with_values:
                self.step(Operation.WRITE)
            self.step(Operation.SET_FACTOR, self.coarser)
            self.quantise_block(self.heads, Mask.HEAD_BLOCK, self._write_buffer)
        if with_values:
            self._write_value_exponents()
        end = model.q_dim + model.kv_dim * (1 if with_values else 2)
        self.advance(I, 0, head, until=end)

    def _write_buffer(self) -> None:
        self.step(Operation.BUFFER)
        self.step(Operation.WRITE)

    def _write_value_exponents(self) -> None:
        """Exponents of the value head at K, which goes on to the next."""
        for _ in range(self.design.head_blocks):
            self.step(Operation.LOAD, 0)
            again = self.here()
            self.step(Operation.LARGER_EXPONENT, self.heads.at(K))
            self.advance(K, 1, again, mask=Mask.HEAD_BLOCK)
            self.step(Operation.WRITE)

    def gated(self) -> None:
        """The hidden vector: ``(gate * up) * sigmoid(gate)`` of each pair of outputs."""
        gate, product, value = self.first, self.second, self.third
        self.set_index(I, 0)
        again = self.here()
        self.result(Linear.GATE_UP)
        self.step(Operation.FLOAT_MULTIPLY, self.inverse, to=gate)
        self.result(Linear.GATE_UP)
        self.step(Operation.FLOAT_MULTIPLY, self.inverse)
        self.step(Operation.FLOAT_MULTIPLY, gate, to=product)
        self.sigmoid(gate, value)
        self.step(Operation.FLOAT_MULTIPLY, product, to=self.hidden.at(I), tap=Tap.DRAIN)
        self.advance(I, 1, again, until=self.design.model.hidden)

    def sigmoid(self, x: Place, value: Place) -> None:
        """The sigmoid of a small float, in the accumulator; `value` is used on the way."""
        negative, end = Label(), Label()
        point = E8M0_BIAS + self.fraction_bits - SIGMOID_INPUT_FRACTION
        self.step(Operation.LOAD, x)
        self.step(Operation.EXPONENT)
        self.step(Operation.SET_FACTOR, -point)
        self.step(Operation.LOAD, x)
        self.step(Operation.SIGNIFICAND)
        self.step(Operation.ROUND_SHIFT, 0)
        self.step(Operation.MINIMUM, (1 << SIGMOID.input_bits) - 1)
        self.step(Operation.SIGMOID, to=value)
        self.factor(0)
        self.step(Operation.LOAD, x)
        self.step(Operation.ORDER)
        self.go(Operation.JUMP_NEGATIVE, negative)
        self.step(Operation.LOAD, value)
        self.go(Operation.JUMP, end)
        self.place(negative)
        self.step(Operation.LOAD, 1 << SIGMOID_FRACTION)
        self.step(Operation.SUBTRACT, value)
        self.place(end)
        self.step(Operation.CONVERT, -SIGMOID_FRACTION)

    def head(self) -> None:
        """Logits, if a token is wanted; the first of the largest wins."""
        best, order = self.first, self.second
        end, worse, better = Label(), Label(), Label()
        self.command(Field.SAMPLE)
        self.step(Operation.SUBTRACT, 1)
        self.go(Operation.JUMP_NEGATIVE, end)
        self.normalise()
        self.step(Operation.LOAD, -(1 << self.design.chip.small_float.bits), to=best)
        self.set_index(I, 0)
        again = self.here()
        self.result(Linear.HEAD)
        self.step(Operation.FLOAT_MULTIPLY, self.inverse, tap=LOGIT)
        self.step(Operation.ORDER, to=order)
        self.step(Operation.LOAD, best)
        self.step(Operation.SUBTRACT, order)
        self.go(Operation.JUMP_NEGATIVE, better)
        self.go(Operation.JUMP, worse)
        self.place(better)
        self.step(Operation.LOAD, order, to=best)
        self.step(Operation.INDEX, Place(0, I), to=self.token)
        self.place(worse)
        self.advance(I, 1, again, until=self.design.model.vocab)
        self.place(end)
        self.step(Operation.LOAD, self.token)
        self.step(Operation.END)


def program(places: MemoryMap, inverse_dim: int, eps: int) -> Program:
    """The program that computes a token of a design; the constants are small-float codes."""
    return _ProgramWriter(places, inverse_dim, eps).write()
