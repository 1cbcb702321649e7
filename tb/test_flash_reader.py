"""Words out of a flash that is played: woken, told to use four pins, read in order, any time."""

from collections.abc import Callable

import numpy as np
import pytest
from amaranth.sim import Simulator

from intaglio.hw.flash import FlashReader

START = 0x1000
MEMORY = np.random.default_rng(1).integers(0, 256, 0x2000, np.uint8)


class Flash:
    """A Winbond flash behind registered pins, as far as the reader goes; asleep at first.

    It does not like to be spoken to within 3 us of being woken, or 50 ns of being let go.
    """

    def __init__(self):
        self.awake = self.may_write = self.quad = False
        self.bits: list[int] = []
        self.nibble, self.fetched = 0, [0, 0]
        self.rest, self.needed = 0, 0

    def cycle(self, select: int, pulse: int, o: int, oe: int) -> int:
        """What the pins show of a cycle; what they read, two cycles after the pulse's own."""
        if select:
            assert self.rest >= self.needed, "spoken to too early"
            self.rest = self.needed = 0
        else:
            self.rest += 1
        self.fetched.append(self._pulse(o, oe) if select and pulse else self.fetched[-1])
        if not select and self.bits:
            self._end()
        return self.fetched.pop(0)

    def _pulse(self, o: int, oe: int) -> int:
        command = self._number(0, 8)
        if len(self.bits) >= 39 and command == 0x6B and self.awake and self.quad:
            assert oe == 0, "both drive the pins"
            byte = MEMORY[self._number(8, 32) + self.nibble // 2]
            self.nibble += 1
            return int(byte >> 4 if self.nibble % 2 else byte & 15)
        assert (oe & 0b1101, o >> 1) == (0b1101, 0b111) or len(self.bits) >= 32
        self.bits.append(o & 1)
        return 0

    def _number(self, first: int, last: int) -> int:
        return int("".join(map(str, self.bits[first:last])) or "0", 2)

    def _end(self) -> None:
        command, length = self._number(0, 8), len(self.bits)
        self.needed = 240 if command == 0xAB else 4  # 3 us and 50 ns, at 80 MHz
        if (command, length) == (0xAB, 8):
            self.awake = True
        self.quad |= (self._number(0, 16), length) == (0x3102, 16) and self.may_write
        self.may_write = (command, length) == (0x50, 8)
        self.bits, self.nibble = [], 0


def run_with_flash(reader: FlashReader, play_host: Callable) -> None:
    """Simulate the reader between a flash and a host."""
    flash = Flash()

    async def play_flash(ctx):
        while True:
            pins = [ctx.get(getattr(reader.pins, name)) for name in ("select", "pulse", "o", "oe")]
            read = flash.cycle(*pins)
            await ctx.tick()
            ctx.set(reader.pins.i, read)

    simulator = Simulator(reader)
    simulator.add_clock(1e-6)
    simulator.add_testbench(play_host)
    simulator.add_testbench(play_flash, background=True)
    simulator.run()


@pytest.mark.parametrize("patience", [1.0, 0.2], ids=["eager", "slow"])
def test_words_in_order(patience):
    """From three places, each left in the middle, taken at once or at times."""
    reader, rng = FlashReader(START), np.random.default_rng(2)
    taken: list[list[int]] = []

    async def play_host(ctx):
        for first, count in ((0, 40), (700, 9), (3, 100)):
            await ctx.tick().until(reader.ready)
            ctx.set(reader.word, first)
            ctx.set(reader.begin, 1)
            await ctx.tick()
            ctx.set(reader.begin, 0)
            taken.append([])
            while len(taken[-1]) < count:
                ctx.set(reader.o.ready, int(rng.random() < patience))
                _, _, valid, ready, word = await ctx.tick().sample(
                    reader.o.valid, reader.o.ready, reader.o.payload
                )
                if valid and ready:
                    taken[-1].append(word)
            ctx.set(reader.o.ready, 0)

    run_with_flash(reader, play_host)
    words = MEMORY.view("<u4")[START // 4 :]
    for got, first in zip(taken, (0, 700, 3), strict=True):
        assert got == words[first : first + len(got)].tolist()


def test_a_word_every_eight_cycles():
    """One byte in two cycles, as long as the words are taken."""
    reader, times = FlashReader(START), []

    async def play_host(ctx):
        await ctx.tick().until(reader.ready)
        ctx.set(reader.begin, 1)
        await ctx.tick()
        ctx.set(reader.begin, 0)
        ctx.set(reader.o.ready, 1)
        for cycle in range(600):
            _, _, valid = await ctx.tick().sample(reader.o.valid)
            if valid:
                times.append(cycle)

    run_with_flash(reader, play_host)
    assert times[0] < 70
    assert set(np.diff(times)) == {8}
