"""The end of attention: sums divided by their weights, pair by pair."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.formats import E8M0_BIAS
from intaglio.hw.lookup import Reciprocal
from intaglio.hw.pipeline import SkidBuffer, copy, delay
from intaglio.hw.small_float import FloatConvert, FloatMultiply

__all__ = ["ContextOutput"]


SHARED_BY = 8
"""Sums that share registers for what they are to do."""


class ContextOutput(wiring.Component):
    """Divide a job's sums by its weights and hand them out in pairs; ``golden.attention.attend``.

    One pair per cycle: to small float, times the reciprocal of the head's sum of weights.

    Members
    -------
    i : ``In(stream.Signature(shape.result))``
        Ready until a result comes; its payload has to stay for the cycle after.
    o : ``Out(stream.Signature(shape.context_pair))``
        Pairs of the first head, then of the second, ...; `last` marks the last one of a job.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: AttentionShape):
        self.shape = shape
        super().__init__({
            "i": In(stream.Signature(shape.result)),
            "o": Out(stream.Signature(shape.context_pair)),
        })

    def elaborate(self, platform):
        m = Module()
        s = self.shape
        pairs = s.head_dim // 2
        busy = Signal()
        next_busy = Signal()
        lane = Signal(range(max(s.q_lanes, 2)))
        pair = Signal(range(max(pairs, 2)))
        # Of the pair at hand, known a cycle before.
        last_pair = Signal(init=pairs == 1)
        end_of_block = Signal(init=s.block == 2)
        next_pair = Mux(last_pair, 0, pair + 1)
        ending = (lane == s.q_lanes - 1) & last_pair
        parts = range(0, s.q_lanes * s.head_dim, SHARED_BY)
        m.submodules.end = self.end = end = SkidBuffer(self.o.p.shape(), enables=7 + len(parts))
        connect(m, end.o, flipped(self.o))
        self.enables = iter(end.enables)
        enable = end.i.ready

        # A result is taken in the cycle after it is announced.
        load = delay(m, 1, self.i.valid, 1, "load")
        m.d.comb += [
            self.i.ready.eq(~busy & ~load),
            next_busy.eq(load | (busy & ~(enable & ending))),
        ]
        m.d.sync += busy.eq(next_busy)

        # What is next stands lowest; the rest moves down by pairs, blocks and heads.
        norms = Signal(s.q_lanes * s.norm_bits)
        codes = Signal(s.q_lanes * s.blocks * 8)
        tag = Signal(s.result["tag"].shape)
        totals = self._totals(m, parts, next_busy)
        with m.If(enable & busy):
            m.d.sync += [
                pair.eq(next_pair),
                last_pair.eq(next_pair == pairs - 1),
                end_of_block.eq((next_pair & (s.block // 2 - 1)) == s.block // 2 - 1),
            ]
            with m.If(last_pair):
                m.d.sync += lane.eq(Mux(ending, 0, lane + 1))
        taken = copy(m, 1, self.i.valid, "load_divisors")
        with m.If(copy(m, 1, next_busy, "busy_divisors") & next(self.enables)):
            with m.If(end_of_block):
                m.d.sync += codes.eq(codes >> 8)
            with m.If(last_pair):
                m.d.sync += norms.eq(norms >> s.norm_bits)
        with m.If(taken):
            shared = [self.i.p.codes[s.kv_lane(q)] for q in range(s.q_lanes)]
            m.d.sync += [
                tag.eq(self.i.p.tag), norms.eq(self.i.p.norms.as_value()), codes.eq(Cat(*shared)),
            ]  # fmt: skip

        latency = self._divide(m, totals, norms, codes, enable)
        m.d.comb += [
            end.i.valid.eq(delay(m, enable, busy, latency, "valid")),
            end.i.p.last.eq(delay(m, enable, ending, latency, "last")),
            end.i.p.tag.eq(delay(m, enable, tag, latency, "tag")),
        ]
        return m

    def _totals(self, m: Module, parts: range, next_busy) -> Value:
        """The sums, moving down by pairs; a few at a time have their own flags."""
        bits = self.shape.total_bits
        whole = Cat(*self.i.p.totals)
        totals = [
            Signal(len(whole[n * bits : (n + SHARED_BY) * bits]), name=f"totals_{n}") for n in parts
        ]
        moved = Cat(*totals) >> 2 * bits
        for n, part in zip(parts, totals, strict=True):
            load = copy(m, 1, self.i.valid, f"load_{n}")
            busy = copy(m, 1, next_busy, f"busy_{n}")
            at = n * bits
            with m.If(load):
                m.d.sync += part.eq(whole[at : at + len(part)])
            with m.Elif(busy & next(self.enables)):
                m.d.sync += part.eq(moved[at : at + len(part)])
        return Cat(*totals)

    def _divide(self, m: Module, totals, norms, codes, enable) -> int:
        """The lowest pair of totals by the lowest norm, to `o`; returns the latency."""
        s, fmt = self.shape, self.shape.fmt
        m.submodules.norm = norm = FloatConvert(fmt, integer_bits=s.norm_bits + 1, exponent_bits=2)
        m.submodules.reciprocal = reciprocal = Reciprocal(fmt)
        m.d.comb += [
            norm.enable.eq(next(self.enables)),
            norm.integer.eq(norms[: s.norm_bits]),
            norm.exponent.eq(0),
            reciprocal.enable.eq(next(self.enables)),
            reciprocal.a.eq(norm.o),
        ]
        wait = Reciprocal.LATENCY  # both conversions take the same time
        for k in range(2):
            m.submodules[f"total_{k}"] = total = FloatConvert(
                fmt, integer_bits=s.total_bits, exponent_bits=10
            )
            m.submodules[f"divide_{k}"] = divide = FloatMultiply(fmt)
            integer = totals.word_select(k, s.total_bits).as_signed()
            exponent = Signal(signed(10), name=f"exponent_{k}")
            m.d.comb += [
                exponent.eq(codes[:8] - (E8M0_BIAS + s.cache.fraction_bits)),
                total.enable.eq(next(self.enables)),
                total.integer.eq(delay(m, enable, integer, wait, f"integer_{k}")),
                total.exponent.eq(delay(m, enable, exponent, wait, f"exponent_{k}")),
                divide.enable.eq(next(self.enables)),
                divide.a.eq(total.o),
                divide.b.eq(reciprocal.o),
                self.end.i.p.pair[k].eq(divide.o),
            ]
        return FloatConvert.LATENCY + Reciprocal.LATENCY + FloatMultiply.LATENCY
