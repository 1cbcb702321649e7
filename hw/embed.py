"""The embedding: rows of the embedding table, as small floats, for all rows of a group."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intaglio.hw.banks import choose_word
from intaglio.hw.formats import BLOCK, E8M0_BIAS, ElementFormat, FloatFormat
from intaglio.hw.images import ETCHED
from intaglio.hw.multiply import times
from intaglio.hw.pipeline import SkidBuffer, copy, delay
from intaglio.hw.quantiser import pairs_layout
from intaglio.hw.small_float import FloatConvert, float_layout
from intaglio.hw.weights import banks, decode

__all__ = ["Embed"]


class Embed(wiring.Component):
    """Give the embedding of each row's token, pair by pair.

    The table is an MX matrix in the weights' format; there is one, so a pair for all rows takes as
    many cycles as there are rows. With more than one row a whole vector is kept until it is taken,
    so that the drain need not wait for its pairs. The first comes about ``rows + 10`` cycles after
    the job, one more if the table is in several banks.

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
        pairs_per_token, blocks = self.dim // 2, -(-self.dim // BLOCK)
        tokens = Signal.like(self.jobs.p)
        active = Signal()
        row = Signal(range(max(self.rows, 2)))
        pair = Signal(range(max(pairs_per_token, 2)))
        end = self._keep(m, pairs_per_token)
        # All the same, but each goes to few: what collects the rows, the memories, a converter.
        enable, collect, read, *convert = end.i.ready, *end.enables
        last_row = row == self.rows - 1
        last = last_row & (pair == pairs_per_token - 1)
        m.d.comb += self.jobs.ready.eq(~active)
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [tokens.eq(self.jobs.p), active.eq(1)]
        with m.If(enable & active):
            # The tokens go round: the first is that of the row at hand.
            m.d.sync += [tokens.eq(Cat(*tokens[1:], tokens[0])), row.eq(Mux(last_row, 0, row + 1))]
            with m.If(last_row):
                m.d.sync += pair.eq(Mux(last, 0, pair + 1))
            with m.If(last):
                m.d.sync += active.eq(0)
        block = pair >> ceil_log2(BLOCK // 2)
        codes, exponent, latency = self._read(
            m, read, times(tokens[0], pairs_per_token) + pair, times(tokens[0], blocks) + block
        )

        # One row at a time is converted; the pairs of the rows before wait for the last.
        converted = [
            self._convert(m, convert[k], k, codes.word_select(k, self.element.bits), exponent)
            for k in range(2)
        ]
        waiting = Signal(data.ArrayLayout(data.ArrayLayout(float_layout(self.fmt), 2), self.rows))
        valid = delay(m, enable, active & last_row, latency + FloatConvert.LATENCY + 1, "valid")
        m.d.comb += [end.i.valid.eq(valid), end.i.p.eq(waiting)]
        with m.If(collect):
            for r in range(self.rows - 1):
                m.d.sync += waiting[r].eq(waiting[r + 1])
            m.d.sync += [waiting[self.rows - 1][k].eq(converted[k]) for k in range(2)]
        return m

    def _read(
        self, m: Module, enable: Value, pair_address: Value, exponent_address: Value
    ) -> tuple[Value, Value, int]:
        """The codes of a pair, the exponent of its block, and how many enabled cycles later.

        Nothing is computed between a register and the address of a memory.
        """
        address = Signal(range(max(len(self.pairs), 2)))
        m.d.comb += address.eq(pair_address)
        words = []
        for bank, image in enumerate(banks(self.pairs)):
            rom = memory.Memory(
                shape=2 * self.element.bits, depth=len(image), init=image, attrs=ETCHED
            )
            m.submodules[f"embedding_{bank}"] = rom
            port = rom.read_port()
            m.d.comb += [
                port.addr.eq(copy(m, enable, address[: len(port.addr)], f"address_{bank}")),
                port.en.eq(enable),
            ]
            words.append(port.data)
        held_address = delay(m, enable, address, 1, "address")
        codes, latency = choose_word(m, enable, words, held_address, "codes")

        m.submodules.embedding_exponents = exponents = memory.Memory(
            shape=8, depth=len(self.exponents), init=self.exponents, attrs=ETCHED
        )
        port = exponents.read_port()
        m.d.comb += [
            port.addr.eq(delay(m, enable, exponent_address, 1, "exponent_address")),
            port.en.eq(enable),
        ]
        return codes, delay(m, enable, port.data, latency - 1, "exponent"), 1 + latency

    def _convert(self, m: Module, enable: Value, k: int, code: Value, exponent: Value):
        """A code with the exponent of its block as a small float."""
        element = self.element
        m.submodules[f"convert_{k}"] = convert = FloatConvert(
            self.fmt, integer_bits=element.integer_bits, exponent_bits=10
        )
        m.d.comb += [
            convert.enable.eq(enable),
            convert.integer.eq(decode(element, code)),
            convert.exponent.eq(exponent - (E8M0_BIAS + element.fraction_bits)),
        ]
        return convert.o

    def _keep(self, m: Module, pairs: int) -> SkidBuffer:
        """Where the pairs go; it says whether the pipeline before it may move."""
        shape = self.o.p.shape()
        m.submodules.end = end = SkidBuffer(shape, enables=4)
        if self.rows == 1:
            connect(m, end.o, flipped(self.o))
            m.d.comb += self.complete.eq(self.o.valid)
            return end
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
        return end
