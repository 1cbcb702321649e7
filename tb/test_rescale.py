"""Running maxima of attention, and how often each window shifts the sums of those before it."""

import numpy as np
from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.formats import FloatFormat, mxint
from intaglio.hw.rescale import Rescale
from intaglio.hw.tables import SCORE_BITS, SCORE_FRACTION
from intaglio.tb.bench import ON_BOTH, check

SHAPE = AttentionShape(
    fmt=FloatFormat(), queries=mxint(8), cache=mxint(8), q_lanes=4, kv_lanes=2, head_dim=8,
    blocks=2, window=8, context=64, address_bits=4, tag=1,
)  # fmt: skip
MOST = SHAPE.total_bits
"""Shifts after which nothing but the sign is left of a sum."""
SUMS = SHAPE.q_lanes * (1 + SHAPE.blocks)
"""The sum of the weights and those of the blocks of values, of each head."""


class Counted(wiring.Component):
    """`Rescale` with a stream of windows; what it says of each, and how often each sum shifts."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self):
        self.rescale = Rescale(SHAPE)
        said = data.StructLayout({
            "maxima": self.rescale.maxima.shape(),
            "codes": SHAPE.codes,
            "shifts": data.ArrayLayout(range(MOST + 1), SUMS),
        })
        super().__init__({
            "i": In(stream.Signature(SHAPE.window_record)), "o": Out(stream.Signature(said)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.rescale = rescale = self.rescale
        taken = Signal()
        shifts = Signal.like(self.o.p.shifts)
        m.d.comb += [
            rescale.window.eq(self.i.p),
            rescale.valid.eq(self.i.valid),
            rescale.take.eq(self.i.valid & self.i.ready),
            self.i.ready.eq(rescale.ready & ~taken),
            self.o.valid.eq(taken & ~rescale.shifting),
            self.o.p.maxima.eq(rescale.maxima),
            self.o.p.codes.eq(rescale.codes),
            self.o.p.shifts.eq(shifts),
        ]
        for count, shifted in zip(shifts, rescale.shifts.as_value(), strict=True):
            m.d.sync += count.eq(count + shifted)
        with m.If(rescale.take):
            m.d.sync += taken.eq(1)
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [taken.eq(0), shifts.as_value().eq(0)]
        return m


def job(scores: np.ndarray, codes: np.ndarray) -> tuple[list[dict], list[dict]]:
    """Windows of a job, and what is to be said of each: as ``golden.attention.merge_windows``.

    scores (windows, heads); codes (windows, key/value heads, blocks).
    """
    count = len(scores)
    maxima = np.maximum.accumulate(-(-scores >> SCORE_FRACTION))
    largest = np.maximum.accumulate(codes)
    rises = np.diff(maxima, axis=0, prepend=maxima[:1])
    folds = np.diff(largest, axis=0, prepend=largest[:1])
    share = [SHAPE.kv_lane(lane) for lane in range(SHAPE.q_lanes)]
    totals = (rises[..., None] + folds[:, share]).reshape(count, -1)
    shifts = np.minimum(np.concatenate([rises, totals], axis=1), MOST)
    rest = {"address": 0, "bank": 0, "last_index": 0, "tag": 0}
    windows = [
        {"maxima": s, "codes": c, "first": int(n == 0), "last": int(n == count - 1), **rest}
        for n, (s, c) in enumerate(zip(scores.tolist(), codes.tolist(), strict=True))
    ]
    said = [
        {"maxima": m, "codes": c, "shifts": s}
        for m, c, s in zip(maxima.tolist(), largest.tolist(), shifts.tolist(), strict=True)
    ]
    return windows, said


@ON_BOTH
def test_rescale(simulator, tmp_path):
    """Jobs in which little, much, or nothing rises, by fractions and from end to end."""
    rng = np.random.default_rng(1)
    limit = (1 << SCORE_BITS - 1) - 1
    windows, said = [], []
    for n in range(60):
        count = int(rng.integers(1, 6))
        spread = (limit, 1 << SCORE_FRACTION, 8 << SCORE_FRACTION)[n % 3]
        scores = rng.integers(-spread, spread + 1, (count, SHAPE.q_lanes))
        codes = rng.integers(0, (256, 6)[n % 2], (count, SHAPE.kv_lanes, SHAPE.blocks))
        scores[0, 0], scores[-1, 0], codes[0, 0], codes[-1, 0] = -limit, limit, 0, 255
        one_window, one_said = job(scores, codes)
        windows += one_window
        said += one_said
    check(Counted(), {"i": windows}, {"o": said}, simulator, tmp_path)
