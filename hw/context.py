"""The second pass of attention: softmax-weighted sums of the cached values."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.lookup import Lookup
from intaglio.hw.pipeline import delay
from intaglio.hw.tables import EXP2, PROBABILITY_FRACTION, SCORE_BITS, SCORE_FRACTION

__all__ = ["ContextPass"]


MAXIMUM_BITS = SCORE_BITS - SCORE_FRACTION + 1
"""Width of the ceiling of a score."""


class ContextPass(wiring.Component):
    """Softmax-weighted sums of values; equals ``golden.attention.merge_windows``.

    One position per cycle, and one cycle more for each window, in which what came before is
    rescaled: maxima are integers, so that is a shift.

    Members
    -------
    i : ``In(stream.Signature(shape.window_record))``
        Taken when the window before has been read.
    read : ``Out(stream.Signature({bank, index}))``, ``entry : In(shape.window_entry)``
        The window memory: `entry` is what `read` named in the cycle before.
    value_reads, values :
        To and from the cache.
    o : ``Out(stream.Signature(shape.result))``
        The sums of a job, straight from the adders.
    """

    i: stream.Interface
    read: data.View
    entry: data.View
    value_reads: stream.Interface
    values: stream.Interface
    o: stream.Interface

    def __init__(self, shape: AttentionShape):
        self.shape = shape
        super().__init__({
            "i": In(stream.Signature(shape.window_record)),
            "read": Out(data.StructLayout({"bank": 1, "index": ceil_log2(shape.window)})),
            "entry": In(shape.window_entry),
            "value_reads": Out(stream.Signature(unsigned(shape.address_bits))),
            "values": In(stream.Signature(shape.values)),
            "o": Out(stream.Signature(shape.result)),
        })

    def elaborate(self, platform):
        m = Module()
        s = self.shape
        enable = Signal()
        window = Signal(s.window_record)
        active = Signal()
        opened = Signal()  # the cycle after a window was taken, in which its scale is known
        index = Signal(ceil_log2(s.window))
        asked = Signal(ceil_log2(s.window))
        asking = Signal()

        take = self.values.valid & self.values.ready
        m.d.comb += [
            self.i.ready.eq(~active & ~asking),
            self.value_reads.valid.eq(asking),
            self.value_reads.payload.eq(window.address + asked),
            self.values.ready.eq(enable & active & ~opened),
            # The entry that will be needed in the next cycle.
            self.read.bank.eq(Mux(active, window.bank, self.i.p.bank)),
            self.read.index.eq(Mux(active, index + take, 0)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                window.eq(self.i.p), active.eq(1), opened.eq(1), asking.eq(1), asked.eq(0),
                index.eq(0),
            ]  # fmt: skip
        with m.If(asking & self.value_reads.ready):
            m.d.sync += [asked.eq(asked + 1), asking.eq(asked != window.last_index)]
        with m.If(opened & enable):
            m.d.sync += opened.eq(0)
        with m.If(take):
            m.d.sync += [index.eq(index + 1), active.eq(index != window.last_index)]

        beat = data.StructLayout({"valid": 1, "open": 1, "first": 1, "last": 1})
        incoming = Signal(beat)
        m.d.comb += [
            incoming.valid.eq(take),
            incoming.open.eq(opened & enable),
            incoming.first.eq(window.first),
            incoming.last.eq(take & window.last & (index == window.last_index)),
        ]
        self._accumulate(m, window, incoming, enable)
        return m

    def _accumulate(self, m: Module, window, incoming, enable) -> None:
        """Weights of the values at hand, products, sums."""
        s = self.shape
        maxima, codes, rise, rescale = self._scale(m, window, incoming)
        # Cycles from an entry to its powers of two (hold, subtract, look up), to its weights
        # (shift, round), and to the sums (multiply).
        to_powers = 2 + Lookup.LATENCY
        to_weights = to_powers + 2
        to_sums = to_weights + 1
        entry = delay(m, enable, self.entry, 1, "entry")
        summing = delay(m, enable, incoming, to_sums, "beat")
        values = delay(m, enable, self.values.p, to_weights, "values")
        rising = delay(m, enable, rise, to_sums, "rise")
        rescaling = delay(m, enable, rescale, to_sums, "rescale")
        closing = summing.valid & summing.last
        m.d.comb += [
            enable.eq(~closing | self.o.ready),
            self.o.valid.eq(closing),
            self.o.p.codes.eq(delay(m, enable, codes, to_sums, "codes")),
            self.o.p.tag.eq(delay(m, enable, window.tag, to_sums, "tag")),
        ]
        for lane in range(s.q_lanes):
            kv_lane = s.kv_lane(lane)
            power, down = self._exp2(m, lane, entry.scores[lane], maxima[lane], enable)
            weight = self._weigh(m, power, down, enable, f"weight_{lane}")
            term = delay(m, enable, weight, 1, f"norm_term_{lane}")
            norm = self._sum(m, s.norm_bits, term, rising[lane], summing, enable, f"norm_{lane}")
            m.d.comb += self.o.p.norms[lane].eq(norm)
            for b in range(s.blocks):
                fold = Signal(8, name=f"fold_{lane}_{b}")
                with m.If(enable):
                    m.d.sync += fold.eq(codes[kv_lane][b] - entry.codes[kv_lane][b])
                folded = self._weigh(m, power, down + fold, enable, f"folded_{lane}_{b}")
                for d in range(b * s.block, (b + 1) * s.block):
                    product = Signal(
                        signed(PROBABILITY_FRACTION + s.cache.bits), name=f"product_{lane}_{d}"
                    )
                    with m.If(enable):
                        m.d.sync += product.eq(folded * values[kv_lane][d])
                    total = self._sum(
                        m, signed(s.total_bits), product, rescaling[lane][b], summing, enable,
                        f"total_{lane}_{d}",
                    )  # fmt: skip
                    m.d.comb += self.o.p.totals[lane][d].eq(total)

    def _scale(self, m: Module, window, incoming):
        """Running maxima and value exponents, and how far each new window raises them."""
        s = self.shape
        maxima = Signal(data.ArrayLayout(signed(MAXIMUM_BITS), s.q_lanes))
        codes = Signal(s.codes)
        rise = Signal(data.ArrayLayout(6, s.q_lanes))
        rescale = Signal(data.ArrayLayout(data.ArrayLayout(6, s.blocks), s.q_lanes))
        for lane in range(s.q_lanes):
            kv_lane = s.kv_lane(lane)
            ceiling = Signal(signed(MAXIMUM_BITS), name=f"ceiling_{lane}")
            higher = Signal(signed(MAXIMUM_BITS + 1), name=f"higher_{lane}")
            up = Signal(MAXIMUM_BITS, name=f"up_{lane}")
            m.d.comb += [
                ceiling.eq((window.maxima[lane] + ((1 << SCORE_FRACTION) - 1)) >> SCORE_FRACTION),
                higher.eq(ceiling - maxima[lane]),
                up.eq(Mux(higher > 0, higher, 0)),
                rise[lane].eq(Mux(up > 63, 63, up)),
            ]
            with m.If(incoming.open & (window.first | (higher > 0))):
                m.d.sync += maxima[lane].eq(ceiling)
            for b in range(s.blocks):
                code, old = window.codes[kv_lane][b], codes[kv_lane][b]
                both = Signal(MAXIMUM_BITS + 1, name=f"both_{lane}_{b}")
                m.d.comb += [
                    both.eq(up + Mux(code > old, code - old, 0)),
                    rescale[lane][b].eq(Mux(both > 63, 63, both)),
                ]
        for lane in range(s.kv_lanes):
            for b in range(s.blocks):
                code, old = window.codes[lane][b], codes[lane][b]
                with m.If(incoming.open & (window.first | (code > old))):
                    m.d.sync += codes[lane][b].eq(code)
        return maxima, codes, rise, rescale

    def _exp2(self, m: Module, lane: int, score, maximum, enable) -> tuple[Value, Value]:
        """Fraction's power of two from the table; and, before it, the shift that completes it."""
        x = Signal(signed(SCORE_BITS + 2), name=f"x_{lane}")
        with m.If(enable):
            m.d.sync += x.eq(score - (maximum << SCORE_FRACTION))
        m.submodules[f"exp2_{lane}"] = table = Lookup(EXP2)
        m.d.comb += [table.enable.eq(enable), table.x.eq(x[:SCORE_FRACTION])]
        down = Signal(MAXIMUM_BITS + 1, name=f"down_{lane}")
        m.d.comb += down.eq(-(x >> SCORE_FRACTION))
        return table.o, down

    def _weigh(self, m: Module, power: Value, down: Value, enable, name: str) -> Signal:
        """Softmax weight ``power / 2**down``, rounded half up; `down` comes before `power`."""
        clipped = Mux(down > 31, 31, down[:5])
        distance = delay(m, enable, clipped, Lookup.LATENCY, f"{name}_distance")
        shifted = delay(m, enable, Cat(Const(0, 1), power) >> distance, 1, f"{name}_shifted")
        weight = Signal(PROBABILITY_FRACTION + 1, name=name)
        with m.If(enable):
            m.d.sync += weight.eq((shifted + 1) >> 1)
        return weight

    def _sum(self, m: Module, shape, term, distance, summing, enable, name: str) -> Value:
        """Running sum with `term`; rescaled at a window's opening."""
        total = Signal(shape, name=name)
        added = Signal(shape, name=f"{name}_added")
        m.d.comb += added.eq(total + term)
        with m.If(enable):
            with m.If(summing.open):
                m.d.sync += total.eq(Mux(summing.first, 0, total >> distance))
            with m.Elif(summing.valid):
                m.d.sync += total.eq(added)
        return added
