"""The sampler: the token with the largest logit of each row."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.formats import FloatFormat
from intaglio.hw.pipeline import delay
from intaglio.hw.quantiser import pairs_layout

__all__ = ["Sampler"]


def ordered(code) -> Cat:
    """An unsigned integer that is ordered as the small floats are."""
    magnitude = Cat(code.fraction, code.exponent)
    return Cat(Mux(code.sign, ~magnitude, magnitude), ~code.sign)


class Sampler(wiring.Component):
    """``argmax`` of the logits of each row; of equal ones, the first.

    Takes one pair per cycle for each row; the tokens come two cycles after the last pair.

    Parameters
    ----------
    fmt, rows, vocab :
        Small float, rows side by side, number of logits.
    group, tokens :
        Shape of what is passed on, and layout of the tokens of all rows.

    Members
    -------
    i : ``In(stream.Signature({pairs, last, group}))``
    o : ``Out(stream.Signature({group, tokens}))``
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, fmt: FloatFormat, *, rows: int, vocab: int, group, tokens):
        self.fmt, self.rows, self.vocab = fmt, rows, vocab
        super().__init__({
            "i": In(
                stream.Signature(
                    data.StructLayout({"pairs": pairs_layout(fmt, rows), "last": 1, "group": group})
                )
            ),
            "o": Out(stream.Signature(data.StructLayout({"group": group, "tokens": tokens}))),
        })

    def elaborate(self, platform):
        m = Module()
        enable = Signal()
        number = Signal(range(self.vocab // 2 + 1))
        accept = self.i.valid & self.i.ready
        m.d.comb += [enable.eq(~self.o.valid | self.o.ready), self.i.ready.eq(enable)]
        with m.If(accept):
            m.d.sync += number.eq(Mux(self.i.p.last, 0, number + 1))

        # Compared a cycle after they came, all at once: the way here is long enough.
        valid = delay(m, enable, accept, 1, "valid")
        pair = delay(m, enable, number, 1, "pair")
        last = delay(m, enable, self.i.p.last, 1, "last")
        group = delay(m, enable, self.i.p.group, 1, "group")
        begins = ~pair.any()
        with m.If(enable):
            m.d.sync += [self.o.valid.eq(valid & last), self.o.p.group.eq(group)]
        for row in range(self.rows):
            first, second = (
                delay(m, enable, ordered(self.i.p.pairs[row][k]), 1, f"logit_{row}_{k}")
                for k in range(2)
            )
            best = Signal(self.fmt.bits, name=f"best_{row}")
            # An odd vocabulary leaves the second of the last pair without meaning.
            second_wins = (second > first) & ~(last & (self.vocab % 2))
            beaten = begins | Mux(second_wins, second > best, first > best)
            with m.If(enable & valid & beaten):
                m.d.sync += [
                    best.eq(Mux(second_wins, second, first)),
                    self.o.p.tokens[row].eq(Cat(second_wins, pair)),
                ]
        return m
