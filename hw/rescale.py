"""How far a window of attention shifts the sums of the windows before it."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.tables import SCORE_BITS, SCORE_FRACTION

__all__ = ["MAXIMUM_BITS", "Rescale"]

MAXIMUM_BITS = SCORE_BITS - SCORE_FRACTION + 1
"""Width of the ceiling of a score."""

PREPARATION = 3
"""Cycles from a window to its shifts: ceilings, what they rise by, distances."""


class Rescale(wiring.Component):
    """Running maxima and value exponents of a job, and the shifts when a window raises them.

    Maxima are integers, so that merging a window is a shift; ``golden.attention.merge_windows``. It
    is seldom far, and done one bit per cycle. The distances are worked out before the window is
    taken, while the one before it is summed.

    Members
    -------
    window, valid : ``In(shape.window_record)``, ``In(1)``
        The next window.
    ready : ``Out(1)``
        Its distances are known.
    take : ``In(1)``
        It becomes the current one; only while `ready`.
    maxima, codes : ``Out(signed(MAXIMUM_BITS) x q_lanes)``, ``Out(shape.codes)``
        Ceilings of the largest score, and largest E8M0 codes of the values, up to the current one.
    shifting : ``Out(1)``
        Sums are being shifted, from the cycle after `take` on.
    shifts : ``Out({norms: q_lanes, totals: q_lanes x blocks})``
        Which of them are, by one bit.
    """

    window: data.View
    valid: Signal
    ready: Signal
    take: Signal
    maxima: data.View
    codes: data.View
    shifting: Signal
    shifts: data.View

    def __init__(self, shape: AttentionShape):
        self.shape = shape
        per_block = data.ArrayLayout(data.ArrayLayout(1, shape.blocks), shape.q_lanes)
        super().__init__({
            "window": In(shape.window_record),
            "valid": In(1),
            "ready": Out(1),
            "take": In(1),
            "maxima": Out(data.ArrayLayout(signed(MAXIMUM_BITS), shape.q_lanes)),
            "codes": Out(shape.codes),
            "shifting": Out(1),
            "shifts": Out(data.StructLayout({"norms": shape.q_lanes, "totals": per_block})),
        })

    def elaborate(self, platform):
        m = Module()
        s = self.shape
        rises = [self._maximum(m, lane) for lane in range(s.q_lanes)]
        folds = [[self._code(m, lane, b) for b in range(s.blocks)] for lane in range(s.kv_lanes)]
        again = []
        for lane, rise in enumerate(rises):
            m.d.comb += self.shifts.norms[lane].eq(self._count(m, f"norm_{lane}", rise, again))
            for b, fold in enumerate(folds[s.kv_lane(lane)]):
                shift = self._count(m, f"total_{lane}_{b}", rise + fold, again)
                m.d.comb += self.shifts.totals[lane][b].eq(shift)
        age = Signal(range(PREPARATION + 1))
        m.d.comb += self.ready.eq(age == PREPARATION)
        m.d.sync += self.shifting.eq(Cat(*again).any())
        with m.If(self.take | ~self.valid):
            m.d.sync += age.eq(0)
        with m.Elif(~self.ready):
            m.d.sync += age.eq(age + 1)
        return m

    def _maximum(self, m: Module, lane: int) -> Signal:
        """Keep a maximum; how far the next window raises it, two cycles after it came."""
        ceiling = Signal(signed(MAXIMUM_BITS), name=f"ceiling_{lane}")
        higher = Signal(signed(MAXIMUM_BITS + 1), name=f"higher_{lane}")
        rise = Signal(MAXIMUM_BITS, name=f"rise_{lane}")
        first, maximum = self.window.first, self.maxima[lane]
        round_up = (1 << SCORE_FRACTION) - 1
        m.d.comb += higher.eq(ceiling - maximum)
        m.d.sync += [
            ceiling.eq((self.window.maxima[lane] + round_up) >> SCORE_FRACTION),
            rise.eq(Mux(~first & (higher > 0), higher, 0)),
        ]
        with m.If(self.take & (first | (higher > 0))):
            m.d.sync += maximum.eq(ceiling)
        return rise

    def _code(self, m: Module, lane: int, b: int) -> Signal:
        """Keep the largest code of a block; how far the next window raises it."""
        fold = Signal(8, name=f"fold_{lane}_{b}")
        first, code, old = self.window.first, self.window.codes[lane][b], self.codes[lane][b]
        m.d.sync += fold.eq(Mux(~first & (code > old), code - old, 0))
        with m.If(self.take & (first | (code > old))):
            m.d.sync += old.eq(code)
        return fold

    def _count(self, m: Module, name: str, distance: Value, again: list) -> Value:
        """Count down the distance of a sum: whether it is shifted now; and, to `again`, next."""
        most = self.shape.total_bits  # nothing but the sign is left then
        prepared = Signal(range(most + 1), name=f"{name}_prepared")
        left = Signal(range(most + 1), name=f"{name}_left")
        m.d.sync += prepared.eq(Mux(distance > most, most, distance))
        with m.If(self.take):
            m.d.sync += left.eq(prepared)
        with m.Elif(left.any()):
            m.d.sync += left.eq(left - 1)
        again.append(Mux(self.take, prepared.any(), left > 1))
        return left.any()
