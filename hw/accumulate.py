"""Block accumulate: the float adders between the array and the drain."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from intaglio.hw.array import exponents_per_word, sums_layout
from intaglio.hw.formats import BLOCK, E8M0_BIAS, FloatFormat
from intaglio.hw.pipeline import copy, delay
from intaglio.hw.quantiser import pairs_layout
from intaglio.hw.small_float import FloatAdd, FloatConvert, float_layout

__all__ = ["BlockAccumulate"]

TILES = 4
"""Tiles of results that may wait for the drain, so that the array runs on meanwhile."""


SHARED_BY = 8
"""Sums that share a register for what they are to do."""


class BlockAccumulate(wiring.Component):
    """Scale the sums of each block, round them, add up the blocks of each output.

    Equals ``golden.matmul.block_accumulate``. An adder serves ``32 / depth`` outputs in turns. A
    running sum comes out of the adder in time for the same output's turn in the next block, so the
    sums circulate through the adder (plus registers) and need no memory: with nothing to add, zero
    is added. Takes a block every ``32 / depth`` cycles and gives one pair of results per cycle for
    each row, the first about 17 cycles after the last block of its tile was taken.

    Parameters
    ----------
    fmt, rows, outputs, depth, sum_bits :
        Small float, shape of the array and width of its sums.
    fraction_bits :
        Fraction bits of a product of elements.

    Members
    -------
    i : ``In(stream.Signature(sums_layout(...)))``
    o : ``Out(stream.Signature(pairs_layout(...)))``
        Results of a tile: outputs 0 and 1, then 2 and 3, ...
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(
        self,
        fmt: FloatFormat,
        *,
        rows: int,
        outputs: int,
        depth: int,
        sum_bits: int,
        fraction_bits: int,
    ):
        self.fmt, self.rows, self.outputs = fmt, rows, outputs
        self.sum_bits, self.fraction_bits = sum_bits, fraction_bits
        self.turns = BLOCK // depth
        self.adders = exponents_per_word(outputs, depth)
        super().__init__({
            "i": In(stream.Signature(sums_layout(rows, outputs, sum_bits))),
            "o": Out(stream.Signature(pairs_layout(fmt, rows))),
        })

    def _adder(self, m: Module, name: str, total, exponent, turn, first):
        """One adder with its ring: the running sum of the output whose turn it is."""
        fmt = self.fmt
        convert = FloatConvert(fmt, integer_bits=self.sum_bits, exponent_bits=11)
        add = FloatAdd(fmt)
        m.submodules[f"convert_{name}"], m.submodules[f"add_{name}"] = convert, add
        ring = delay(m, 1, add.o, self.turns - FloatAdd.LATENCY, f"ring_{name}")
        m.d.comb += [
            convert.enable.eq(1),
            add.enable.eq(1),
            convert.integer.eq(Mux(turn, total, 0)),
            convert.exponent.eq(exponent),
            add.alone.eq(first),
            add.a.eq(ring),
            add.b.eq(convert.o),
        ]
        return add.o

    def elaborate(self, platform):
        m = Module()
        turns, adders = self.turns, self.adders
        phase = Signal(range(turns))
        m.d.sync += phase.eq(phase + 1)

        # A block is taken when its turns can begin; the last of a tile only if there is room.
        held = Signal(self.i.p.shape())
        busy = Signal()
        tiles = Signal(range(TILES + 1))
        next_tiles = Signal.like(tiles)
        opening = Signal()
        room = Signal(init=1)
        accept = Signal()
        tile_in = Signal()
        tile_out = Signal()
        m.d.comb += [
            self.i.ready.eq(opening & (~self.i.p.last | room)),
            accept.eq(self.i.valid & self.i.ready),
            tile_in.eq(accept & self.i.p.last),
        ]
        # Where the array waits for this, it is in a hurry.
        m.d.comb += next_tiles.eq(tiles + tile_in - tile_out)
        m.d.sync += [
            tiles.eq(next_tiles), room.eq(next_tiles != TILES), opening.eq(phase == turns - 2),
        ]  # fmt: skip
        with m.If(opening):
            m.d.sync += [
                busy.eq(accept), held.first.eq(self.i.p.first), held.last.eq(self.i.p.last),
                held.row_exponents.eq(self.i.p.row_exponents),
                held.weight_exponents.eq(self.i.p.weight_exponents),
            ]  # fmt: skip
        with m.Else():  # the next outputs' turn
            m.d.sync += held.weight_exponents.eq(held.weight_exponents.as_value() >> 8 * adders)
        for row in range(self.rows):
            loads = [
                copy(m, 1, phase == turns - 2, f"load_{row}_{n}")
                for n in range(0, self.outputs, SHARED_BY)
            ]
            for n, total in enumerate(held.sums[row]):
                later = held.sums[row][n + adders] if n + adders < self.outputs else 0
                m.d.sync += total.eq(Mux(loads[n // SHARED_BY], self.i.p.sums[row][n], later))

        first = delay(m, 1, busy & held.first, FloatConvert.LATENCY, "first")
        written = busy & held.last & (phase * adders < self.outputs)
        written = delay(m, 1, written, FloatConvert.LATENCY + FloatAdd.LATENCY, "written")
        offset = 2 * E8M0_BIAS + self.fraction_bits
        results = []
        for row in range(self.rows):
            for a in range(adders):
                exponent = held.row_exponents[row] + held.weight_exponents[a] - offset
                total = held.sums[row][a]
                results.append(self._adder(m, f"{row}_{a}", total, exponent, busy, first))
        tile_out = self._drain(m, written, results, tile_out)
        return m

    def _drain(self, m: Module, written, results: list, tile_out):
        """Queue what the adders give, and hand it out in pairs."""
        fmt, rows, adders = self.fmt, self.rows, self.adders
        width = max(adders, 2)
        entry = data.ArrayLayout(data.ArrayLayout(float_layout(fmt), width), rows)
        depth = TILES * max(self.outputs // width, 1)
        m.submodules.results = fifo = SyncFIFOBuffered(width=entry.size, depth=depth)
        if adders == 1:  # the first of a pair waits for the second
            waiting = Signal(data.ArrayLayout(float_layout(fmt), rows))
            odd = Signal()
            with m.If(written):
                m.d.sync += [odd.eq(~odd), waiting.eq(Cat(*results))]
            values = Cat(*(Cat(waiting[row], results[row]) for row in range(rows)))
            m.d.comb += [fifo.w_data.eq(values), fifo.w_en.eq(written & odd)]
        else:
            m.d.comb += [fifo.w_data.eq(Cat(*results)), fifo.w_en.eq(written)]

        head = data.View(entry, fifo.r_data)
        pair = Signal(range(max(width // 2, 2)))
        done = Signal(range(max(self.outputs // 2, 2)))
        accept = self.o.valid & self.o.ready
        m.d.comb += [
            self.o.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(accept & (pair == width // 2 - 1)),
            tile_out.eq(accept & (done == self.outputs // 2 - 1)),
        ]
        for row in range(rows):
            for k in range(2):
                choices = Cat(*(head[row][n].as_value() for n in range(k, width, 2)))
                m.d.comb += self.o.p[row][k].as_value().eq(choices.word_select(pair, fmt.bits))
        with m.If(accept):
            m.d.sync += [
                pair.eq(Mux(pair == width // 2 - 1, 0, pair + 1)),
                done.eq(Mux(tile_out, 0, done + 1)),
            ]
        return tile_out
