"""The UART: what golden bits say on the wire, and a wire between the two ends."""

import numpy as np
import pytest
from amaranth import EnableInserter, Module
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.sim import Simulator

from intaglio.hw.uart import UARTReceiver, UARTTransmitter
from intaglio.tb.bench import ON_BOTH, check


class OnALine(wiring.Component):
    """A receiver whose clock advances with each level that it is given."""

    levels: stream.Interface
    o: stream.Interface

    def __init__(self, cycles_per_bit: int):
        self.cycles_per_bit = cycles_per_bit
        super().__init__({"levels": In(stream.Signature(1)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        receiver = UARTReceiver(self.cycles_per_bit)
        m.submodules.receiver = EnableInserter(self.levels.valid)(receiver)
        m.submodules.received = received = fifo.SyncFIFOBuffered(width=8, depth=4)
        m.d.comb += [
            self.o.payload.eq(received.r_data),
            self.o.valid.eq(received.r_rdy),
            received.r_en.eq(self.o.ready),
            self.levels.ready.eq(1),
            receiver.rx.eq(self.levels.payload),
            receiver.o.ready.eq(1),
            received.w_en.eq(receiver.o.valid & self.levels.valid),
            received.w_data.eq(receiver.o.payload),
        ]
        return m


class Wire(wiring.Component):
    """A transmitter into a receiver."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self, cycles_per_bit: int):
        self.cycles_per_bit = cycles_per_bit
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.transmitter = transmitter = UARTTransmitter(self.cycles_per_bit)
        m.submodules.receiver = receiver = UARTReceiver(self.cycles_per_bit)
        connect(m, flipped(self.i), transmitter.i)
        connect(m, receiver.o, flipped(self.o))
        m.d.comb += receiver.rx.eq(transmitter.tx)
        return m


def bits(byte: int, stop: int = 1) -> list[int]:
    """Start bit, eight bits, the lowest first, and stop bit."""
    return [0, *(byte >> n & 1 for n in range(8)), stop]


def sampled(levels: list[int], cycles_per_bit: float) -> list[int]:
    """A level for each clock cycle; bits need not be a whole number of cycles."""
    edges = np.round(np.arange(len(levels) + 1) * cycles_per_bit).astype(int)
    return np.repeat(levels, np.diff(edges)).tolist()


@ON_BOTH
@pytest.mark.parametrize(
    ("cycles_per_bit", "wire"),
    [(4, 4), (16, 16.6), (16, 15.4)],
    ids=["fastest", "4 % slow", "4 % fast"],
)
def test_receiver(cycles_per_bit, wire, simulator, tmp_path):
    """Bytes back to back and apart, with glitches, bad stop bits and a break between them."""
    rng = np.random.default_rng(1)
    levels, expected = [1] * 20, []
    for byte in [0, 255, 0x55, 0xAA, *rng.integers(0, 256, 60).tolist()]:
        good = rng.random() < 0.8
        levels += sampled(bits(byte, int(good)), wire)
        if good:
            expected.append(byte)
        else:
            levels += [1] * 12 * cycles_per_bit
        if rng.random() < 0.3:
            levels += [1] * int(rng.integers(1, 40))
        if rng.random() < 0.2:
            levels += [1] * 3 + [0] * (cycles_per_bit // 2 - 1) + [1] * 2 * cycles_per_bit
    levels += [0] * 45 * cycles_per_bit + [1] * 12 * cycles_per_bit  # a break
    levels += sampled(bits(0xC3), wire) + [1] * 20
    check(
        OnALine(cycles_per_bit),
        {"levels": levels},
        {"o": [*expected, 0xC3]},
        simulator,
        tmp_path,
    )


@ON_BOTH
@pytest.mark.parametrize("cycles_per_bit", [4, 7])
def test_wire(cycles_per_bit, simulator, tmp_path):
    sent = np.random.default_rng(1).integers(0, 256, 100).tolist()
    check(Wire(cycles_per_bit), {"i": sent}, {"o": sent}, simulator, tmp_path, patience=200)


@pytest.mark.parametrize("cycles_per_bit", [4, 9])
def test_transmitter_keeps_time(cycles_per_bit):
    """Every bit lasts exactly as long as it should; bytes follow each other without a pause."""
    sent = [0x00, 0xFF, 0x5A, 0x81]
    unit = UARTTransmitter(cycles_per_bit)
    levels = []

    async def drive(ctx):
        for byte in sent:
            ctx.set(unit.i.payload, byte)
            ctx.set(unit.i.valid, 1)
            await ctx.tick().until(unit.i.ready)
        ctx.set(unit.i.valid, 0)
        await ctx.tick().repeat(12 * cycles_per_bit)

    async def watch(ctx):
        async for _, _, tx in ctx.tick().sample(unit.tx):
            levels.append(tx)

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    first = levels.index(0)
    expected = sampled([bit for byte in sent for bit in bits(byte)], cycles_per_bit)
    assert levels[first : first + len(expected)] == expected
    assert all(levels[:first] + levels[first + len(expected) :])
