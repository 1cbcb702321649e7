"""RMSNorm's one scalar for each row, taken from the residual stream while it is written."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.dsp import LATENCY as DSP_LATENCY
from intaglio.hw.dsp import dsp_product
from intaglio.hw.formats import BLOCK, E8M0_BIAS, FloatFormat, mxint
from intaglio.hw.lookup import ReciprocalRoot
from intaglio.hw.pipeline import delay
from intaglio.hw.quantiser import TO_ELEMENT_UNITS, pairs_layout, to_element_units
from intaglio.hw.small_float import FloatAdd, FloatConvert, FloatMultiply, float_layout

__all__ = ["Norm"]

SQUARES = TO_ELEMENT_UNITS + DSP_LATENCY + 1
"""Cycles from a pair to the sum of its two squares."""

ACCUMULATED = FloatConvert.LATENCY + FloatAdd.LATENCY
"""Cycles from the sum of a block to the running sum with it."""

SPACING = ACCUMULATED
"""Cycles from a block to the next: the running sum is there, and the adder free of the mean."""

SCALED = ACCUMULATED + FloatMultiply.LATENCY
"""Cycles from the sum of a vector's last block to the mean of all."""

ROOTED = SCALED + FloatAdd.LATENCY + ReciprocalRoot.LATENCY
"""Cycles from there to the result."""


class Norm(wiring.Component):
    """``o = 1 / sqrt(sum(x**2) / dim + eps)``; equals ``golden.norm.inverse_rms``.

    The squares of a block are summed as exact integers; the sums of the blocks are added, scaled
    and rooted by one adder and one multiplier for each row. Takes one pair per cycle and gives `o`
    40 cycles after the last pair. Pauses only where a block ends less than `SPACING` = 14 cycles
    after the one before, and where a vector ends while the one before is still being rooted.

    Parameters
    ----------
    fmt, rows :
        Small float, and the number of rows side by side.
    inverse_dim, eps :
        Codes of the two constants.
    tag :
        Shape of what is passed on from the last pair of a vector.

    Members
    -------
    i : ``In(stream.Signature({pairs, exponents, last, end, tag}))``
        Pairs of a vector with the exponents of their blocks; `last` closes a block, `end` (with
        `last`) the vector.
    o : ``Out(stream.Signature({inverse, tag}))``
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, fmt: FloatFormat, *, rows: int, inverse_dim: int, eps: int, tag):
        self.fmt, self.rows = fmt, rows
        self.inverse_dim, self.eps = inverse_dim, eps
        layout = float_layout(fmt)
        super().__init__({
            "i": In(
                stream.Signature(
                    data.StructLayout({
                        "pairs": pairs_layout(fmt, rows),
                        "exponents": data.ArrayLayout(8, rows),
                        "last": 1,
                        "end": 1,
                        "tag": tag,
                    })
                )
            ),
            "o": Out(
                stream.Signature(
                    data.StructLayout({"inverse": data.ArrayLayout(layout, rows), "tag": tag})
                )
            ),
        })

    def _sum_of_squares(self, m: Module, platform, row: int, enable, count, first) -> Signal:
        """Integer sum over a block; a pair counts in stage `SQUARES`, if `count` is set there."""
        element = mxint(self.fmt.precision + 1)
        squares = []
        for k in range(2):
            x, exponent = self.i.p.pairs[row][k], self.i.p.exponents[row]
            magnitude = to_element_units(
                m, self.fmt, enable, x, exponent, element.fraction_bits, f"x_{row}_{k}",
                most=element.fraction_bits,
            )[: self.fmt.precision]  # fmt: skip
            root = Cat(magnitude, 0).as_signed()
            square = dsp_product(m, platform, enable, root, root, f"square_{row}_{k}")
            squares.append(square[: 2 * self.fmt.precision])
        both = delay(m, enable, squares[0] + squares[1], 1, f"both_{row}")
        total = Signal(2 * self.fmt.precision + BLOCK.bit_length(), name=f"sum_{row}")
        with m.If(enable & count):
            m.d.sync += total.eq(Mux(first, 0, total) + both)
        return total

    def _finish(self, m: Module, row: int, total, exponent, first, accumulated, scaling):
        """Convert, accumulate, scale, root: a pipeline that never stops; the result.

        `total` and `exponent` are those of a block. `first` says, when its sum is converted,
        whether it is a vector's first; `accumulated` that it was added, `scaling` that a mean is
        there.
        """
        fmt = self.fmt
        units = {
            "convert": FloatConvert(fmt, integer_bits=len(total) + 1, exponent_bits=11),
            "add": FloatAdd(fmt),
            "multiply": FloatMultiply(fmt),
            "root": ReciprocalRoot(fmt),
        }
        for name, unit in units.items():
            m.submodules[f"{name}_{row}"] = unit
            m.d.comb += unit.enable.eq(1)
        convert, add, multiply, root = units.values()
        running = Signal(float_layout(fmt), name=f"running_{row}")
        m.d.comb += [
            convert.integer.eq(total),
            convert.exponent.eq((exponent << 1) - 2 * (E8M0_BIAS + fmt.fraction_bits)),
            multiply.a.eq(add.o),
            multiply.b.eq(self.inverse_dim),
            root.a.eq(add.o),
        ]
        with m.If(accumulated):
            m.d.sync += running.eq(add.o)
        with m.If(scaling):
            m.d.comb += [add.a.eq(multiply.o), add.b.eq(self.eps)]
        with m.Else():
            m.d.comb += [add.alone.eq(first), add.a.eq(running), add.b.eq(convert.o)]
        return root.o

    def elaborate(self, platform):
        m = Module()
        beat = Signal(
            data.StructLayout({
                "valid": 1,
                "last": 1,
                "end": 1,
                "exponents": data.ArrayLayout(8, self.rows),
                "tag": self.o.p.tag.shape(),
            })
        )
        enable = Signal()
        m.d.comb += [
            beat.valid.eq(self.i.valid),
            beat.last.eq(self.i.p.last),
            beat.end.eq(self.i.p.end),
            beat.exponents.eq(self.i.p.exponents),
            beat.tag.eq(self.i.p.tag),
        ]
        squares = delay(m, enable, beat, SQUARES, "beat")
        sums = delay(m, enable, squares, 1, "sums")
        block_start = Signal(init=1)
        with m.If(enable & squares.valid):
            m.d.sync += block_start.eq(squares.last)

        # A block's sum enters the pipeline behind it in the one cycle in which it stands at `sums`.
        ending = sums.valid & sums.last
        since = Signal(range(SPACING), init=SPACING - 1)
        rooting = Signal()
        vector_start = Signal(init=1)
        enter = Signal()
        m.d.comb += [
            enable.eq(~ending | ((since == SPACING - 1) & ~(sums.end & rooting))),
            enter.eq(ending & enable),
            self.i.ready.eq(enable),
        ]
        with m.If(enter):
            m.d.sync += [since.eq(0), vector_start.eq(sums.end)]
        with m.Elif(since != SPACING - 1):
            m.d.sync += since.eq(since + 1)

        first = delay(m, 1, vector_start, FloatConvert.LATENCY, "first")
        accumulated = delay(m, 1, enter, ACCUMULATED, "accumulated")
        ended = delay(m, 1, enter & sums.end, SCALED, "ended")
        done = delay(m, 1, ended, ROOTED - SCALED, "done")
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [self.o.valid.eq(0), rooting.eq(0)]
        with m.If(done):
            m.d.sync += self.o.valid.eq(1)
        with m.If(enter & sums.end):
            m.d.sync += [rooting.eq(1), self.o.p.tag.eq(sums.tag)]
        for row in range(self.rows):
            total = self._sum_of_squares(m, platform, row, enable, squares.valid, block_start)
            root = self._finish(m, row, total, sums.exponents[row], first, accumulated, ended)
            with m.If(done):
                m.d.sync += self.o.p.inverse[row].eq(root)
        return m
