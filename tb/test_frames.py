"""Frames: golden against itself, and both directions of the RTL against golden."""

import numpy as np
import pytest
from amaranth import Cat, Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from intaglio.golden.frames import FrameError, Reader, decode, enclose, encode
from intaglio.hw.frames import Deframer, Enframer
from intaglio.hw.protocol import Kind
from intaglio.tb.bench import ON_BOTH, check

SIZES = {Kind.COMMAND: 5, Kind.QUERY: 0, Kind.EVENT: 2}
MOST = max(SIZES.values())
SPARSE = bytes(n if n > 200 else 0 for n in range(256))
"""Translates most bytes to zeros."""


def random_message(rng) -> tuple[Kind, bytes]:
    """One of SIZES, rich in zeros."""
    kind = list(SIZES)[rng.integers(len(SIZES))]
    return kind, rng.bytes(SIZES[kind]).translate(None if rng.random() < 0.5 else SPARSE)


def damaged(frame: bytes, rng) -> bytes:
    """What a bad line may make of a frame."""
    at = int(rng.integers(len(frame)))
    match rng.integers(8):
        case 0:
            return frame[:at] + bytes([frame[at] ^ 1 << rng.integers(8)]) + frame[at + 1 :]
        case 1:
            return frame[:at]
        case 2:
            return frame[at:]
        case 3:
            return frame[:at] + frame[at + 1 :]
        case 4:
            return frame[:at] + rng.bytes(rng.integers(1, 300)) + frame[at:]
        case 5:  # intact, but of no use to this reader
            length, kind, size = [(3, 4, 3), (5, 77, 5), (4, 1, 4), (4, 1, 5), (0, 1, 5)][
                rng.integers(5)
            ]
            return enclose(bytes([length, kind]) + rng.bytes(size))
        case 6:
            return b"\0" * int(rng.integers(1, 4))
        case _:
            return rng.bytes(rng.integers(1, 40))


def bad_line(count: int, seed: int) -> bytes:
    """Frames, half of them damaged, and one that comes through at the end."""
    rng = np.random.default_rng(seed)
    frames = [encode(*random_message(rng)) for _ in range(count)]
    line = b"".join(damaged(frame, rng) if rng.random() < 0.5 else frame for frame in frames)
    return line + b"\0" + encode(Kind.QUERY, b"")


def test_frames_come_back():
    rng = np.random.default_rng(1)
    for size in (0, 1, 2, 9, 29, 200):
        for payload in (bytes(size), b"\1" * size, rng.bytes(size).translate(SPARSE)):
            frame = encode(Kind.EVENT, payload)
            assert frame.index(0) == len(frame) - 1
            assert decode(frame[:-1], {Kind.EVENT: size}) == (Kind.EVENT, payload)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (encode(Kind.COMMAND, bytes(5))[:-2], "wrong CRC|cut"),
        (encode(Kind.COMMAND, b"12345")[:-3], "cut"),
        (encode(Kind.COMMAND, b"12345").replace(b"3", b"4")[:-1], "wrong CRC"),
        (encode(Kind.COMMAND, b"1234")[:-1], "wrong length"),
        (enclose(b"\4\0012345")[:-1], "wrong length"),
        (encode(Kind.STATUS, b"1234")[:-1], "unknown kind"),
        (b"\3ab", "too short"),
        (b"\1" * 300, "too long"),
        (b"\xff" * 4, "cut"),
    ],
)
def test_what_is_wrong_is_said(frame, why):
    with pytest.raises(FrameError, match=why):
        decode(frame, SIZES)


def test_one_flipped_bit_is_always_found():
    frame = encode(Kind.COMMAND, b"\0\1\2\0\xff")
    for bit in range(8 * len(frame)):
        line = bytearray(frame)
        line[bit // 8] ^= 1 << bit % 8
        reader = Reader(SIZES)
        assert not reader.read(bytes(line) + b"\0")
        assert reader.dropped


def test_reader_does_not_mind_how_bytes_come():
    line = bad_line(300, seed=3)
    whole, single = Reader(SIZES), Reader(SIZES)
    expected = whole.read(line)
    got = [frame for byte in line for frame in single.read(bytes([byte]))]
    assert got == expected
    assert (single.good, single.dropped) == (whole.good, whole.dropped)
    assert whole.good > 100
    assert whole.dropped > 100


class Buffered(wiring.Component):
    """A deframer whose output is always taken; each frame comes with the counters beside it."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self):
        self.deframer = Deframer(SIZES)
        self.beat = data.StructLayout({
            "kind": 8, "payload": 8 * MOST, "good": 16, "dropped": 16
        })  # fmt: skip
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(self.beat))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.deframer = deframer = self.deframer
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=self.beat.size, depth=16)
        frame = deframer.o
        payload = Signal(8 * MOST)
        with m.Switch(frame.p.kind):
            for kind, size in SIZES.items():
                with m.Case(kind):
                    m.d.comb += payload.eq(frame.p.payload >> 8 * (MOST - size))
        m.d.comb += [
            deframer.i.payload.eq(self.i.payload),
            deframer.i.valid.eq(self.i.valid & queue.w_rdy),
            self.i.ready.eq(deframer.i.ready & queue.w_rdy),
            frame.ready.eq(1),
            queue.w_en.eq(frame.valid),
            queue.w_data.eq(Cat(frame.p.kind, payload, deframer.good, deframer.dropped)),
            self.o.payload.eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
        ]
        return m


def read_by_golden(line: bytes) -> list[dict]:
    """Frames of the line, with the counters at each."""
    reader, frames = Reader(SIZES), []
    for byte in line:
        frames += [
            {"kind": int(kind), "payload": int.from_bytes(payload, "little"), "good": reader.good,
             "dropped": reader.dropped}
            for kind, payload in reader.read(bytes([byte]))
        ]  # fmt: skip
    return frames


@ON_BOTH
def test_deframer(simulator, tmp_path):
    line = bad_line(300, seed=1)
    frames = read_by_golden(line)
    assert 100 < len(frames) < 250
    check(Buffered(), {"i": list(line)}, {"o": frames}, simulator, tmp_path)


def test_deframer_among_random_bytes(tmp_path):
    """10^5 random bytes, half of them with no zero: nothing is passed on, and it lives."""
    rng = np.random.default_rng(2)
    line = rng.bytes(50_000) + rng.bytes(50_200).replace(b"\0", b"")
    line += b"\0" + encode(Kind.QUERY, b"") + encode(Kind.COMMAND, b"\0\1\2\3\4")
    frames = read_by_golden(line)
    assert [frame["kind"] for frame in frames[-2:]] == [Kind.QUERY, Kind.COMMAND]
    check(Buffered(), {"i": list(line)}, {"o": frames}, "verilator", tmp_path, patience=1000)


def test_a_frame_that_is_not_taken_lasts():
    """A frame that begins meanwhile is dropped, even if its end looks like a query."""
    unit = Deframer(SIZES)
    payloads = [b"first", b"\1\1\1\0\2", b"third"]
    first, second, third = (encode(Kind.COMMAND, payload) for payload in payloads)
    taken = []

    async def drive(ctx):
        ctx.set(unit.i.valid, 1)
        for n, byte in enumerate(first + second + third):
            ctx.set(unit.i.payload, byte)
            ctx.set(unit.o.ready, int(n >= len(first) + 6))
            await ctx.tick()
        ctx.set(unit.i.valid, 0)
        await ctx.tick().repeat(3)
        assert (ctx.get(unit.good), ctx.get(unit.dropped)) == (2, 1)

    async def watch(ctx):
        async for _, _, valid, ready, payload in ctx.tick().sample(
            unit.o.valid, unit.o.ready, unit.o.p.payload
        ):
            if valid and ready:
                taken.append(payload.to_bytes(5, "little"))

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    assert taken == [b"first", b"third"]


def test_frames_are_taken_whole_or_not_at_all():
    """Bytes with gaps, frames taken whenever: none is another's end, and all are counted.

    The second of every two is bad, but would be a query without its first byte.
    """
    unit, rng = Deframer(SIZES), np.random.default_rng(1)
    payloads = [bytes([n, *b"\1\1\0\2"]) for n in range(200)]
    bad = enclose(bytes([9, 0, Kind.QUERY]))
    line = b"".join(encode(Kind.COMMAND, payload) + bad for payload in payloads)
    taken = []

    async def drive(ctx):
        for byte in line:
            ctx.set(unit.i.valid, 0)
            for _ in range(rng.integers(3)):
                await ctx.tick()
            ctx.set(unit.i.valid, 1)
            ctx.set(unit.i.payload, byte)
            await ctx.tick()
        ctx.set(unit.i.valid, 0)
        await ctx.tick().repeat(3)
        assert ctx.get(unit.good) + ctx.get(unit.dropped) == 2 * len(payloads)

    async def take(ctx):
        while True:
            ctx.set(unit.o.ready, 0)
            for _ in range(rng.integers(rng.choice([3, 40]))):
                await ctx.tick()
            ctx.set(unit.o.ready, 1)
            _, _, valid, beat = await ctx.tick().sample(unit.o.valid, unit.o.p)
            if valid:
                taken.append((beat.kind, beat.payload.to_bytes(5, "little")))

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.add_testbench(take, background=True)
    simulator.run()
    assert 50 < len(taken) < 200
    assert all(kind == Kind.COMMAND for kind, _ in taken)
    numbers = [payloads.index(payload) for _, payload in taken]
    assert numbers == sorted(set(numbers))


@ON_BOTH
def test_enframer(simulator, tmp_path):
    rng = np.random.default_rng(1)
    messages, line = [], b""
    for _ in range(60):
        kind, payload = random_message(rng)
        messages.append({"kind": int(kind), "payload": int.from_bytes(payload, "little")})
        line += encode(kind, payload)
    check(Enframer(SIZES), {"i": messages}, {"o": list(line)}, simulator, tmp_path)
