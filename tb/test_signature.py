"""Signatures: the register against golden, golden against its definition."""

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.golden.signature import POLYNOMIAL, fold, signature
from intaglio.hw.signature import StreamSignature
from intaglio.tb.bench import ON_BOTH, check


def by_definition(beats: list[int], state: int = 0) -> int:
    for beat in beats:
        state = (state << 1 & 0xFFFFFFFF) ^ (POLYNOMIAL if state >> 31 else 0) ^ beat
    return state


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000, 40_000])
def test_signature_is_what_it_says(count):
    beats = np.random.default_rng(count).integers(0, 1 << 32, count).astype(np.uint32)
    for start in (0, 0x12345678):
        assert signature(beats, start) == by_definition(beats.tolist(), start)


def test_signature_goes_on():
    beats = np.random.default_rng(1).integers(0, 1 << 32, 50).astype(np.uint32)
    assert signature(beats[20:], signature(beats[:20])) == signature(beats)


@pytest.mark.parametrize("widths", [(8,), (20,), (36,), (3, 50, 1)])
def test_fold_is_what_it_says(widths):
    rng = np.random.default_rng(1)
    fields = [(rng.integers(-(1 << w - 1), 1 << w - 1, (20, 7)), w) for w in widths]
    for beat, got in enumerate(fold(*fields)):
        bits, offset = 0, 0
        for codes, width in fields:
            for code in codes[beat].tolist():
                bits |= (code & (1 << width) - 1) << offset
                offset += width
        expected = 0
        while bits:
            expected, bits = expected ^ bits & 0xFFFFFFFF, bits >> 32
        assert got == expected


class Burst(wiring.Component):
    """Beats as they come; the signature after each that is marked."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int):
        self.width = width
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"value": width, "mark": 1}))),
            "o": Out(stream.Signature(32)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.signature = unit = StreamSignature(self.width)
        moved = self.i.valid & self.i.ready
        m.d.comb += [
            unit.moved.eq(moved),
            unit.payload.eq(self.i.p.value),
            self.o.payload.eq(unit.o),
        ]
        with m.FSM():
            with m.State("beats"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(moved & self.i.p.mark):
                    m.next = "settle"
            with m.State("settle"):
                m.next = "settled"
            with m.State("settled"):
                m.next = "show"
            with m.State("show"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "beats"
        return m


@ON_BOTH
@pytest.mark.parametrize("width", [7, 32, 77])
def test_register(width, simulator, tmp_path):
    rng = np.random.default_rng(1)
    values = [int.from_bytes(rng.bytes(10), "little") >> (80 - width) for _ in range(300)]
    marks = (rng.random(300) < 0.1).astype(int).tolist()
    bits = np.array([[v >> n & 1 for n in range(width)] for v in values])
    beats = fold((bits, 1))
    expected = [signature(beats[: n + 1]) for n, mark in enumerate(marks) if mark]
    sent = [{"value": v, "mark": mark} for v, mark in zip(values, marks, strict=True)]
    check(Burst(width), {"i": sent}, {"o": expected}, simulator, tmp_path)
