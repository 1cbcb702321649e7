"""The steps of attention, in the order of ``golden.attention``: a head, window by window."""

from intaglio.hw.formats import E8M0_BIAS
from intaglio.hw.protocol import Tap
from intaglio.hw.shared.assembler import Label
from intaglio.hw.shared.memory_map import ELEMENTS
from intaglio.hw.shared.operations import Index, Operation
from intaglio.hw.shared.writer import I, J, K, Writer
from intaglio.hw.tables import SCORE_BITS, SCORE_FRACTION

__all__ = ["AttentionWriter"]

LOWEST = -(1 << (SCORE_BITS - 1))
"""Less than every score."""


class AttentionWriter(Writer):
    """Writes how queries meet the keys and values in the cache."""

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
