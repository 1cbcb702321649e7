"""The second pass of attention: softmax-weighted sums of the cached values."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.lookup import Lookup
from intaglio.hw.multiply import copies, multiples, product, product_latency
from intaglio.hw.pipeline import copy, delay
from intaglio.hw.rescale import MAXIMUM_BITS, Rescale
from intaglio.hw.run_ahead import RunAhead
from intaglio.hw.tables import EXP2, PROBABILITY_FRACTION, SCORE_BITS, SCORE_FRACTION

__all__ = ["ContextPass"]


SHARED_BY = 4
"""Sums that share registers for their weight and for what they are to do."""


class ContextPass(wiring.Component):
    """Softmax-weighted sums of values; equals ``golden.attention.merge_windows``.

    One position per cycle, and first a cycle for each bit by which a window shifts what came before
    (:class:`~intaglio.hw.rescale.Rescale`). One cycle passes between windows, two between jobs;
    values are asked for while those of the window before come.

    The pipeline never stalls: the last position of a job is taken when its result has a place.

    Members
    -------
    i : ``In(stream.Signature(shape.window_record))``
        Taken when the window before has been read.
    read : ``Out(stream.Signature({bank, index}))``, ``entry : In(shape.window_entry)``
        The window memory: `entry` is what `read` named in the cycle before.
    value_reads, values :
        To and from the cache.
    o : ``Out(stream.Signature(shape.result))``
        The sums of a job, which stay for the cycle after. Once ready, it has to stay so until a
        result has come.
    activity : ``Out(shape.activity["context"])``
    """

    i: stream.Interface
    read: data.View
    entry: data.View
    value_reads: stream.Interface
    values: stream.Interface
    o: stream.Interface
    activity: data.View

    def __init__(self, shape: AttentionShape):
        self.shape = shape
        super().__init__({
            "i": In(stream.Signature(shape.window_record)),
            "read": Out(data.StructLayout({"bank": 1, "index": ceil_log2(shape.window)})),
            "entry": In(shape.window_entry),
            "value_reads": Out(stream.Signature(unsigned(shape.address_bits))),
            "values": In(stream.Signature(shape.values)),
            "o": Out(stream.Signature(shape.result)),
            "activity": Out(shape.activity["context"].shape),
        })

    def elaborate(self, platform):
        m = Module()
        s = self.shape
        window = Signal(s.window_record)
        active = Signal()
        index = Signal(ceil_log2(s.window))
        following = Signal.like(index)  # index + 1
        awaited = Signal()  # a result is on its way to `o`
        ended = Signal()
        room = Signal()

        accept = self.i.valid & self.i.ready
        take = self.values.valid & self.values.ready
        m.submodules.rescale = rescale = Rescale(s)
        end_of_window, ending = Signal(), Signal()  # whether `index` is the last: of the job, too
        m.submodules.run_ahead = run_ahead = RunAhead(s.address_bits, len(window.last_index))
        connect(m, run_ahead.reads, flipped(self.value_reads))
        m.d.comb += [
            self.activity.active.eq(active),
            self.activity.moved.eq(take),
            self.activity.tag.eq(window.tag),
            run_ahead.valid.eq(self.i.valid),
            run_ahead.taken.eq(accept),
            run_ahead.base.eq(self.i.p.address),
            run_ahead.last.eq(self.i.p.last_index),
            rescale.window.eq(self.i.p),
            rescale.valid.eq(self.i.valid),
            rescale.take.eq(accept),
            # Sums are cleared two cycles after the last beat of a job.
            self.i.ready.eq(run_ahead.begun & rescale.ready & ~active & ~ended),
            self.values.ready.eq(active & ~rescale.shifting & (~ending | room)),
            # The entry that will be needed in the next cycle.
            self.read.bank.eq(Mux(active, window.bank, self.i.p.bank)),
            self.read.index.eq(Mux(active, Mux(take, following, index), 0)),
        ]
        m.d.sync += [
            ended.eq(take & ending),
            room.eq(self.o.ready & ~awaited & ~(take & ending)),
        ]
        with m.If(accept):
            single = self.i.p.last_index == 0
            m.d.sync += [
                window.eq(self.i.p), active.eq(1), index.eq(0), following.eq(1),
                end_of_window.eq(single), ending.eq(single & self.i.p.last),
            ]  # fmt: skip
        with m.If(self.o.valid):
            m.d.sync += awaited.eq(0)
        with m.If(take):
            last = following == window.last_index
            m.d.sync += [
                index.eq(following), following.eq(following + 1), active.eq(~end_of_window),
                end_of_window.eq(last), ending.eq(last & window.last),
            ]  # fmt: skip
            with m.If(ending):
                m.d.sync += awaited.eq(1)

        incoming = Signal(
            data.StructLayout({"valid": 1, "last": 1, "shifts": rescale.shifts.shape()})
        )
        m.d.comb += [
            incoming.valid.eq(take),
            incoming.last.eq(take & ending),
            incoming.shifts.eq(rescale.shifts),
        ]
        self._accumulate(m, window.tag, rescale.maxima, rescale.codes, incoming)
        return m

    def _accumulate(self, m: Module, tag, maxima, codes, incoming) -> None:
        """Weights of the values at hand, products, sums."""
        s = self.shape
        # Cycles from an entry to its powers of two (hold, subtract, look up), to its weights
        # (shift, round), and to the sums (multiples of the weights, their copies, products).
        to_powers = 2 + Lookup.LATENCY
        to_weights = to_powers + 2
        to_products = product_latency(s.cache.bits)
        to_sums = to_weights + 2 + to_products
        entry = delay(m, 1, self.entry, 1, "entry")
        arriving = delay(m, 1, incoming, to_sums - 1, "beat")
        last = delay(m, 1, arriving.last, 2, "last")
        values = delay(m, 1, self.values.p, to_weights + 2, "values")
        m.d.comb += [
            self.o.valid.eq(last),
            self.o.p.codes.eq(delay(m, 1, codes, to_sums, "codes")),
            self.o.p.tag.eq(delay(m, 1, tag, to_sums, "tag")),
        ]
        for lane in range(s.q_lanes):
            kv_lane = s.kv_lane(lane)
            power, down = self._exp2(m, lane, entry.scores[lane], maxima[lane])
            weight = self._weigh(m, power, down, f"weight_{lane}")
            term = delay(m, 1, weight, 2 + to_products, f"term_{lane}")
            flags = Cat(arriving.valid, arriving.shifts.norms[lane], last)
            flags = copy(m, 1, flags, f"norm_flags_{lane}")
            norm = self._sum(m, s.norm_bits, term, flags, f"norm_{lane}")
            m.d.comb += self.o.p.norms[lane].eq(norm)
            for b in range(s.blocks):
                fold = Signal(8, name=f"fold_{lane}_{b}")
                m.d.sync += fold.eq(codes[kv_lane][b] - entry.codes[kv_lane][b])
                folded = self._weigh(m, power, down + fold, f"folded_{lane}_{b}")
                weights = multiples(m, 1, folded, f"folded_{lane}_{b}")
                flags = Cat(arriving.valid, arriving.shifts.totals[lane][b], last)
                end = (b + 1) * s.block
                for first in range(b * s.block, end, SHARED_BY):
                    few = range(first, min(first + SHARED_BY, end))
                    sums = self._totals(m, lane, few, weights, flags, values[kv_lane])
                    for d, total in zip(few, sums, strict=True):
                        m.d.comb += self.o.p.totals[lane][d].eq(total)

    def _totals(self, m: Module, lane: int, few: range, weights, flags, values) -> list[Value]:
        """Sums of a few elements of a head, with their own registers for what they share."""
        name = f"{lane}_{few.start}"
        weights = copies(m, 1, weights, f"folded_{name}")
        flags = copy(m, 1, flags, f"flags_{name}")
        shape = signed(self.shape.total_bits)
        terms = [product(m, 1, weights, values[d], f"product_{lane}_{d}") for d in few]
        return [
            self._sum(m, shape, term, flags, f"total_{lane}_{d}")
            for d, term in zip(few, terms, strict=True)
        ]

    def _exp2(self, m: Module, lane: int, score, maximum) -> tuple[Value, Value]:
        """Fraction's power of two from the table; and, before it, the shift that completes it."""
        x = Signal(signed(SCORE_BITS + 2), name=f"x_{lane}")
        m.d.sync += x.eq(score - (maximum << SCORE_FRACTION))
        m.submodules[f"exp2_{lane}"] = table = Lookup(EXP2)
        m.d.comb += [table.enable.eq(1), table.x.eq(x[:SCORE_FRACTION])]
        down = Signal(MAXIMUM_BITS + 1, name=f"down_{lane}")
        m.d.comb += down.eq(-(x >> SCORE_FRACTION))
        return table.o, down

    def _weigh(self, m: Module, power: Value, down: Value, name: str) -> Signal:
        """Softmax weight ``power / 2**down``, rounded half up; `down` comes before `power`."""
        clipped = Mux(down > 31, 31, down[:5])
        distance = delay(m, 1, clipped, Lookup.LATENCY, f"{name}_distance")
        shifted = delay(m, 1, Cat(Const(0, 1), power) >> distance, 1, f"{name}_shifted")
        weight = Signal(PROBABILITY_FRACTION + 1, name=name)
        m.d.sync += weight.eq((shifted + 1) >> 1)
        return weight

    def _sum(self, m: Module, shape, term, flags, name: str) -> Value:
        """Running sum with `term`; `flags` are to add it, to shift the sum, to clear it."""
        total = Signal(shape, name=name)
        valid, shift, clear = flags
        with m.If(clear):
            m.d.sync += total.eq(0)
        with m.Elif(shift):
            m.d.sync += total.eq(total >> 1)
        with m.Elif(valid):
            m.d.sync += total.eq(total + term)
        return total
