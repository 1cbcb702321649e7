"""The program of a shared chip: the order of ``GoldenChip.forward``, a step at a time."""

from collections.abc import Callable

from intaglio.hw.config import Linear
from intaglio.hw.formats import BLOCK, E8M0_BIAS
from intaglio.hw.protocol import Tap
from intaglio.hw.shared.assembler import Assembler, Label, Place, Program, Region
from intaglio.hw.shared.memory_map import ELEMENTS, MemoryMap
from intaglio.hw.shared.operations import LOGIT, Field, Index, Mask, Operation
from intaglio.hw.tables import (
    SCORE_BITS,
    SCORE_FRACTION,
    SIGMOID,
    SIGMOID_FRACTION,
    SIGMOID_INPUT_FRACTION,
)

__all__ = ["program"]

I, J, K = Index.I, Index.J, Index.K  # noqa: E741
BLOCK_WORDS = BLOCK // ELEMENTS
LOWEST = -(1 << (SCORE_BITS - 1))
"""Less than every score."""


class _Writer(Assembler):
    """Writes the program of a design; each method is a part of the life of a token."""

    def __init__(self, places: MemoryMap, inverse_dim: int, eps: int):
        super().__init__()
        self.map, self.design = places, (design := places.design)
        self.inverse_dim, self.eps = inverse_dim, eps
        model, chip = design.model, design.chip
        fmt = chip.small_float
        self.fraction_bits = fmt.fraction_bits
        # What a block's exponent needs on top, so that its elements have the activations' bits.
        self.coarser = fmt.fraction_bits - chip.activations.fraction_bits
        padded = {n: -(-n // BLOCK) * BLOCK for n in (model.dim, model.q_dim, model.hidden)}
        self.residual = self.region(padded[model.dim])
        self.hidden = self.region(padded[model.hidden])
        self.context = self.region(padded[model.q_dim])
        self.heads = self.region(model.q_dim + 2 * model.kv_dim)
        self.elements = self.region(max(padded.values()) // ELEMENTS)
        self.exponents = self.region(max(padded.values()) // BLOCK)
        self.queries = self.region(model.q_dim // ELEMENTS)
        self.query_exponents = self.region(model.heads * design.head_blocks)
        self.rope = self.region(model.head_dim)
        self.scores = self.region(chip.window)
        self.value_exponents = [self.region(chip.window) for _ in range(design.head_blocks)]
        self.total = self.region(model.head_dim)
        self.position, self.token = self.word(), self.word()
        self.inverse, self.sum = self.word(), self.word()
        self.first, self.second, self.third = self.word(), self.word(), self.word()
        self.layer, self.keys = self.word(), self.word()
        self.head_start, self.sharing = self.word(), self.word()
        self.key_address, self.value_address = self.word(), self.word()
        self.unscored, self.unweighed = self.word(), self.word()
        self.maximum, self.norm = self.word(), self.word()
        self.largest, self.seen = (self.region(design.head_blocks) for _ in range(2))

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

    def factor(self, source: Place | int) -> None:
        """Set the factor; the accumulator has it too."""
        self.step(Operation.LOAD, source)
        self.step(Operation.SET_FACTOR, 0)

    def count_down(self, word: Place, end: Label) -> None:
        """Take one from `word`; when it was zero, go to `end`."""
        self.step(Operation.LOAD, word)
        self.step(Operation.SUBTRACT, 1, to=word)
        self.go(Operation.JUMP_NEGATIVE, end)

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
        self.signed(Tap.EMBEDDING, self.residual, self.design.model.dim)
        self.signed(Tap.DRAIN, self.residual, self.design.model.dim)

    def signed(self, tap: Tap, values: Region, count: int, start: int = 0) -> None:
        """The words go past a tap."""
        self.set_index(K, start)
        again = self.here()
        self.step(Operation.LOAD, values.at(K), tap=tap)
        self.advance(K, 1, again, until=count)

    def largest_exponent(self, values: Region, size: int, mask: Mask) -> None:
        """The exponent of the block of `values` that begins at J, which goes on to its end."""
        stride = min(size, ELEMENTS)
        self.step(Operation.LOAD, 0)
        again = self.here()
        for n in range(stride):
            self.step(Operation.LARGER_EXPONENT, values.at(J, n))
        self.advance(J, stride, again, mask=mask)

    def quantise_block(self, values: Region, mask: Mask, keep: Callable[[], None]) -> None:
        """Elements of the block of `values` at I; `keep` takes each word from the buffer."""
        again = self.here()
        for n in range(ELEMENTS):
            self.step(Operation.QUANTISE, values.at(I, n))
        keep()
        self.advance(I, ELEMENTS, again, mask=mask)

    def quantise(self, values: Region, count: int, squares: bool = False) -> None:
        """All blocks of `values`, as the array takes them; with `squares` also ``inverse``."""
        blocks = -(-count // BLOCK)
        self.set_index(I, 0)
        self.set_index(J, 0)
        if squares:
            self.set_index(K, 0)
            self.step(Operation.LOAD, 0, to=self.sum)
        block = self.here()
        self.largest_exponent(values, BLOCK, Mask.BLOCK)
        self.step(Operation.ADD, 0, to=self.exponents.at(Index.I_BLOCK))
        if squares:
            self.sum_squares(values)
            self.step(Operation.LOAD, self.exponents.at(Index.I_BLOCK))
        self.step(Operation.SET_FACTOR, self.coarser)
        self.quantise_block(
            values, Mask.BLOCK,
            lambda: self.step(Operation.BUFFER, to=self.elements.at(Index.I_WORD)),
        )  # fmt: skip
        self.advance(I, 0, block, until=blocks * BLOCK)

    def sum_squares(self, values: Region) -> None:
        """Add the squares of the block at K, whose exponent is in the accumulator, to the sum."""
        self.step(Operation.SET_FACTOR, 0)
        self.step(Operation.SUBTRACT, 2 * (E8M0_BIAS + self.fraction_bits), to=self.first)
        self.step(Operation.LOAD, 0)
        again = self.here()
        for n in range(ELEMENTS):
            self.step(Operation.SQUARE, values.at(K, n))
        self.advance(K, ELEMENTS, again, mask=Mask.BLOCK)
        self.step(Operation.CONVERT, self.first)
        self.step(Operation.FLOAT_ADD, self.sum, to=self.sum)

    def normalise(self) -> None:
        """Quantise the residual, and find the inverse of its root mean square."""
        self.quantise(self.residual, self.design.model.dim, squares=True)
        self.step(Operation.LOAD, self.sum)
        self.step(Operation.FLOAT_MULTIPLY, self.inverse_dim)
        self.step(Operation.FLOAT_ADD, self.eps)
        self.step(Operation.RECIPROCAL_ROOT, to=self.inverse)

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
        self.signed(Tap.DRAIN, self.heads, rotated + model.kv_dim, start=rotated)
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

    def attention(self) -> None:
        """Context of every query head, over all positions; `keys` goes on to the next layer."""
        model = self.design.model
        self.step(Operation.LOAD, self.keys, to=self.head_start)
        self.set_index(I, 0)
        key_head, head, next_key_head = self.here(), Label(), Label()
        self.step(Operation.LOAD, model.heads // model.kv_heads - 1, to=self.sharing)
        self.place(head)
        self.begin_head()
        finish, window = Label(), self.here()
        self.score_window()
        self.merge_window()
        self.weigh_window(finish)
        self.go(Operation.JUMP, window)
        self.place(finish)
        self.finish_head()
        self.count_down(self.sharing, next_key_head)
        self.go(Operation.JUMP, head)
        self.place(next_key_head)
        self.step(Operation.LOAD, self.head_start)
        self.step(Operation.ADD, self.map.head_words, to=self.head_start)
        self.advance(I, 0, key_head, until=model.q_dim)
        self.step(Operation.LOAD, self.head_start, to=self.keys)

    def begin_head(self) -> None:
        """Nothing has been seen of the positions."""
        self.step(Operation.LOAD, self.head_start, to=self.key_address)
        self.step(Operation.ADD, self.design.context * self.map.key_words, to=self.value_address)
        self.step(Operation.LOAD, self.position, to=self.unscored)
        self.step(Operation.LOAD, self.position, to=self.unweighed)
        self.step(Operation.LOAD, LOWEST, to=self.maximum)
        self.step(Operation.LOAD, -1)
        for block in range(self.design.head_blocks):
            self.step(Operation.ADD, 0, to=self.seen[block])
            self.step(Operation.ADD, 0, to=self.largest[block])
        self.step(Operation.LOAD, 0, to=self.norm)
        for element in range(self.total.words):
            self.step(Operation.ADD, 0, to=self.total[element])

    def score_window(self) -> None:
        """Scores of a window, or of what is left, by J; their maximum; exponents of the values."""
        design, top, part = self.design, self.first, self.second
        fraction_bits = design.chip.activations.fraction_bits + design.chip.kv.fraction_bits
        words = design.model.head_block // ELEMENTS
        done = Label()
        self.step(Operation.LOAD, LOWEST, to=top)
        self.step(Operation.LOAD, self.key_address)
        self.step(Operation.SET_ADDRESS)
        self.set_index(J, 0)
        again = self.here()
        for block in range(design.head_blocks):
            exponent = self.query_exponents.at(Index.I_HEAD_BLOCK, block)
            self.step(Operation.SET_FACTOR_CACHE, exponent)
            self.step(
                Operation.DOT_CACHE, self.queries.at(Index.I_WORD, block * words), count=words
            )
            self.step(Operation.ROUND_SHIFT, SCORE_FRACTION - 2 * E8M0_BIAS - fraction_bits)
            if block:
                self.step(Operation.ADD, part)
            if block + 1 < design.head_blocks:
                self.step(Operation.ADD, 0, to=part)
        if design.head_blocks > 1:
            self.step(Operation.MINIMUM, -1 - LOWEST)
            self.step(Operation.MAXIMUM, 1 + LOWEST)
        self.step(Operation.ADD, 0, to=self.scores.at(J))
        self.step(Operation.MAXIMUM, top, to=top)
        for exponents, seen in zip(self.value_exponents, self.seen.all, strict=True):
            self.step(Operation.READ, to=exponents.at(J))
            self.step(Operation.MAXIMUM, seen, to=seen)
        self.count_down(self.unscored, done)
        self.advance(J, 1, again, until=design.chip.window)
        self.place(done)
        self.step(Operation.ADDRESS, to=self.key_address)

    def merge_window(self) -> None:
        """What came before, by the new maximum and exponents."""
        top, new, fall, shift = self.first, self.second, self.third, self.sum
        size = self.design.model.head_block
        one = 1 << SCORE_FRACTION
        self.step(Operation.LOAD, top)
        self.step(Operation.ADD, one - 1)
        self.step(Operation.AND, -one)
        self.step(Operation.MAXIMUM, self.maximum, to=new)
        self.factor(0)
        self.step(Operation.LOAD, self.maximum)
        self.step(Operation.SUBTRACT, new)
        self.step(Operation.INTEGER_PART, to=fall)
        self.step(Operation.LOAD, new, to=self.maximum)
        self.step(Operation.LOAD, self.norm)
        self.step(Operation.FLOOR_SHIFT, fall, to=self.norm)
        self.set_index(K, 0)
        for block in range(self.design.head_blocks):
            self.step(Operation.LOAD, self.largest[block])
            self.step(Operation.SUBTRACT, self.seen[block])
            self.step(Operation.ADD, fall, to=shift)
            self.step(Operation.LOAD, self.seen[block], to=self.largest[block])
            again = self.here()
            self.step(Operation.LOAD, self.total.at(K))
            self.step(Operation.FLOOR_SHIFT, shift, to=self.total.at(K))
            self.advance(K, 1, again, until=(block + 1) * size)

    def weigh_window(self, finish: Label) -> None:
        """Add the values of a window; goes to `finish` after the last position."""
        design, x, power, down = self.design, self.first, self.second, self.third
        element = 0
        self.step(Operation.LOAD, self.value_address)
        self.step(Operation.SET_ADDRESS)
        self.set_index(J, 0)
        again = self.here()
        self.step(Operation.LOAD, self.scores.at(J))
        self.step(Operation.SUBTRACT, self.maximum, to=x)
        self.step(Operation.INTEGER_PART, to=down)
        self.step(Operation.SET_FACTOR, 0)
        self.step(Operation.LOAD, x)
        self.step(Operation.EXP2, to=power)
        self.step(Operation.ROUND_SHIFT, 0)
        self.step(Operation.ADD, self.norm, to=self.norm)
        for exponents, largest in zip(self.value_exponents, self.largest.all, strict=True):
            self.step(Operation.LOAD, exponents.at(J))
            self.step(Operation.SUBTRACT, largest)
            self.step(Operation.ADD, down)
            self.step(Operation.SET_FACTOR, 0)
            self.step(Operation.LOAD, power)
            self.step(Operation.ROUND_SHIFT, 0)
            self.step(Operation.SET_FACTOR, 0)
            for _ in range(design.model.head_block // ELEMENTS):
                self.step(Operation.SET_BUFFER)
                for _ in range(ELEMENTS):
                    self.step(Operation.ACCUMULATE, self.total[element], to=self.total[element])
                    element += 1
        self.count_down(self.unweighed, finish)
        self.advance(J, 1, again, until=design.chip.window)
        self.step(Operation.ADDRESS, to=self.value_address)

    def finish_head(self) -> None:
        """The context of the head at I, which goes on to the next."""
        size, inverse = self.design.model.head_block, self.first
        self.factor(0)
        self.step(Operation.LOAD, self.norm)
        self.step(Operation.CONVERT, 0)
        self.step(Operation.RECIPROCAL, to=inverse)
        self.set_index(K, 0)
        for block in range(self.design.head_blocks):
            self.step(Operation.LOAD, self.largest[block])
            self.step(Operation.SET_FACTOR, -E8M0_BIAS - self.design.chip.kv.fraction_bits)
            again = self.here()
            self.step(Operation.LOAD, self.total.at(K))
            self.step(Operation.CONVERT, 0)
            self.step(Operation.FLOAT_MULTIPLY, inverse, to=self.context.at(I), tap=Tap.ATTENTION)
            self.advance(I, 1)
            self.advance(K, 1, again, until=(block + 1) * size)


def program(places: MemoryMap, inverse_dim: int, eps: int) -> Program:
    """The program that computes a token of a design; the constants are small-float codes."""
    return _Writer(places, inverse_dim, eps).write()
