"""The sampler: the token with the largest logit of each row."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.formats import FloatFormat
from intaglio.hw.quantiser import pairs_layout

__all__ = ["Sampler"]


def ordered(code) -> Cat:
    """An unsigned integer that is ordered as the small floats are."""
    magnitude = Cat(code.fraction, code.exponent)
    return Cat(Mux(code.sign, ~magnitude, magnitude), ~code.sign)


class Sampler(wiring.Component):
    """``argmax`` of the logits of each row; of equal ones, the first.

    Takes one pair per cycle for each row; the tokens come in the cycle after the last pair.

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
        pair = Signal(range(self.vocab // 2 + 1))
        accept = self.i.valid & self.i.ready
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(accept):
            m.d.sync += [
                pair.eq(Mux(self.i.p.last, 0, pair + 1)),
                self.o.valid.eq(self.i.p.last),
                self.o.p.group.eq(self.i.p.group),
            ]
        for row in range(self.rows):
            best = Signal(self.fmt.bits, name=f"best_{row}")
            token = self.o.p.tokens[row]
            first, second = (ordered(self.i.p.pairs[row][k]) for k in range(2))
            # An odd vocabulary leaves the second of the last pair without meaning.
            second_wins = (second > first) & ~(self.i.p.last & (self.vocab % 2))
            winner = Mux(second_wins, second, first)
            with m.If(accept & (~pair.any() | (winner > best))):
                m.d.sync += [best.eq(winner), token.eq(Cat(second_wins, pair))]
        return m
