"""The embedding: rows of the embedding table, as small floats, for all rows of a group."""

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intaglio.hw.formats import BLOCK, E8M0_BIAS, ElementFormat, FloatFormat
from intaglio.hw.images import ETCHED
from intaglio.hw.pipeline import SkidBuffer, delay
from intaglio.hw.quantiser import pairs_layout
from intaglio.hw.small_float import FloatConvert, float_layout
from intaglio.hw.weights import decode

__all__ = ["Embed"]


class Embed(wiring.Component):
    """Give the embedding of each row's token, pair by pair.

    The table is an MX matrix in the weights' format; there is one memory, so a pair for all rows
    takes as many cycles as there are rows. With more than one row a whole vector is kept until it
    is taken, so that the drain need not wait for its pairs. The first comes about ``rows + 9``
    cycles after the job.

    Parameters
    ----------
    fmt, element, rows, dim :
        Small float, format of the table, rows of a group, elements of a vector.
    pairs, exponents :
        Images: two codes for each (token, pair), one E8M0 code for each (token, block).
    tokens :
        Layout of a job: a token for each row.

    Members
    -------
    jobs : ``In(stream.Signature(tokens))``
    o : ``Out(stream.Signature(pairs_layout(fmt, rows)))``
    complete : ``Out(1)``
        The pairs of a vector will come one per cycle.
    """

    jobs: stream.Interface
    o: stream.Interface
    complete: Signal

    def __init__(
        self, fmt: FloatFormat, element: ElementFormat, *, rows: int, dim: int,
        pairs: list[int], exponents: list[int], tokens,
    ):  # fmt: skip
        self.fmt, self.element, self.rows, self.dim = fmt, element, rows, dim
        self.pairs, self.exponents = pairs, exponents
        super().__init__({
            "jobs": In(stream.Signature(tokens)),
            "o": Out(stream.Signature(pairs_layout(fmt, rows))),
            "complete": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        element = self.element
        pairs_per_token, blocks = self.dim // 2, -(-self.dim // BLOCK)
        m.submodules.embedding = pairs = memory.Memory(
            shape=2 * element.bits, depth=len(self.pairs), init=self.pairs, attrs=ETCHED
        )
        m.submodules.embedding_exponents = exponents = memory.Memory(
            shape=8, depth=len(self.exponents), init=self.exponents, attrs=ETCHED
        )
        pair_port, exponent_port = pairs.read_port(), exponents.read_port()

        tokens = Signal.like(self.jobs.p)
        active = Signal()
        row = Signal(range(max(self.rows, 2)))
        pair = Signal(range(max(pairs_per_token, 2)))
        pairs_out, enable = self._keep(m, pairs_per_token)
        last_row = row == self.rows - 1
        last = last_row & (pair == pairs_per_token - 1)
        m.d.comb += [
            self.jobs.ready.eq(~active),
            pair_port.addr.eq(tokens[row] * pairs_per_token + pair),
            exponent_port.addr.eq(tokens[row] * blocks + (pair >> ceil_log2(BLOCK // 2))),
            pair_port.en.eq(enable),
            exponent_port.en.eq(enable),
        ]
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [tokens.eq(self.jobs.p), active.eq(1)]
        with m.If(enable & active):
            m.d.sync += row.eq(Mux(last_row, 0, row + 1))
            with m.If(last_row):
                m.d.sync += pair.eq(Mux(last, 0, pair + 1))
            with m.If(last):
                m.d.sync += active.eq(0)

        # One row at a time is converted; the pairs of the rows before wait for the last.
        converted = []
        held_pair = delay(m, enable, pair_port.data, 1, "pair")
        held_exponent = delay(m, enable, exponent_port.data, 1, "exponent")
        for k in range(2):
            m.submodules[f"convert_{k}"] = convert = FloatConvert(
                self.fmt, integer_bits=element.integer_bits, exponent_bits=10
            )
            code = held_pair.word_select(k, element.bits)
            m.d.comb += [
                convert.enable.eq(enable),
                convert.integer.eq(decode(element, code)),
                convert.exponent.eq(held_exponent - (E8M0_BIAS + element.fraction_bits)),
            ]
            converted.append(convert.o)
        waiting = Signal(data.ArrayLayout(data.ArrayLayout(float_layout(self.fmt), 2), self.rows))
        valid = delay(m, enable, active & last_row, 2 + FloatConvert.LATENCY, "valid")
        with m.If(enable):
            for r in range(self.rows - 1):
                m.d.sync += waiting[r].eq(waiting[r + 1])
            m.d.sync += [waiting[self.rows - 1][k].eq(converted[k]) for k in range(2)]
            m.d.sync += pairs_out.valid.eq(valid)
        m.d.comb += pairs_out.p.eq(waiting)
        return m

    def _keep(self, m: Module, pairs: int) -> tuple[stream.Interface, Value]:
        """Where the pairs go, and whether the pipeline before it may move."""
        shape = self.o.p.shape()
        m.submodules.end = end = SkidBuffer(shape)
        if self.rows == 1:
            connect(m, end.o, flipped(self.o))
            m.d.comb += self.complete.eq(self.o.valid)
            return end.i, end.i.ready
        m.submodules.kept = kept = SyncFIFOBuffered(width=shape.size, depth=pairs)
        m.d.comb += [
            kept.w_data.eq(end.o.p),
            kept.w_en.eq(end.o.valid),
            end.o.ready.eq(kept.w_rdy),
            self.o.p.eq(kept.r_data),
            self.o.valid.eq(kept.r_rdy),
            kept.r_en.eq(self.o.ready),
            self.complete.eq(kept.level == pairs),
        ]
        return end.i, end.i.ready
