"""Words out of a quad SPI flash, a nibble in every clock cycle."""

from amaranth import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.pipeline import delay

__all__ = ["FLASH_BYTES", "PIN_LATENCY", "FlashPins", "FlashReader"]

FLASH_BYTES = 1 << 24
"""What three bytes of address reach."""

PIN_LATENCY = 3
"""Cycles from a pulse of the flash's clock until the nibble that it fetches is there: a register at
the pins for each way, and half a cycle each until the pulse has ended and the nibble is read."""

WAKE = 0xAB
VOLATILE_WRITE = 0x50
WRITE_STATUS_2, QUAD_ENABLE = 0x31, 0x02
READ_QUAD, DUMMIES = 0x6B, 8
"""Release from deep power-down, in which the configuration of an iCE40 leaves the flash; make the
next write volatile; allow four data pins; read by them. Source: Winbond W25Q128JV, section 8.2."""

WAKING = 1 << 8
"""Cycles until the flash is awake, 3 us after it is told, at clocks below 80 MHz."""

DESELECTED = 4
"""Cycles between two commands: 50 ns at the least, at such clocks."""

NIBBLES = 8
"""Of a word."""

QUEUED = 8
"""Words that are read ahead."""

FlashPins = wiring.Signature({
    "select": Out(1),
    "pulse": Out(1),
    "o": Out(4),
    "oe": Out(4),
    "i": In(4),
})
"""Pins of a flash, seen from the chip, each with a register. `pulse` is a pulse of its clock in the
second half of the next cycle."""


class FlashReader(wiring.Component):
    """Streams words from an address on, from a Winbond flash or one that has its commands.

    Parameters
    ----------
    start :
        Address of the first byte of all.

    Members
    -------
    begin : ``In(1)``
        Forget what is queued, and go on at `word`. The first word comes some 60 cycles later, each
        of the next after 8.
    word : ``In(22)``
        Number of a word, counted from `start`.
    o : ``Out(stream.Signature(32))``
        Four bytes, the first in the lowest bits. After reset nothing comes before `begin`.
    ready : ``Out(1)``
        The flash is awake, and `begin` is heard. Earlier it may come only if it stays until then,
        with the same `word`.
    pins : ``Out(FlashPins)``
    """

    begin: Signal
    word: Signal
    o: stream.Interface
    ready: Signal
    pins: wiring.PureInterface

    def __init__(self, start: int):
        self.start = start
        super().__init__({
            "begin": In(1),
            "word": In(22),
            "o": Out(stream.Signature(32)),
            "ready": Out(1),
            "pins": Out(FlashPins),
        })

    def elaborate(self, platform):
        m = Module()
        pins = self.pins
        commands = (
            (WAKE << 24, 8),
            (VOLATILE_WRITE << 24, 8),
            (WRITE_STATUS_2 << 24 | QUAD_ENABLE << 16, 16),
            (Cat(self._address(m), Const(READ_QUAD, 8)), 32),
        )
        reading = len(commands) - 1
        number = Signal(range(len(commands)))  # of the command
        asked = Signal()
        sent = Signal(32)  # bits that go out, the highest first
        timer = Signal(range(max(WAKING, 32)), init=WAKING - 1)
        fetches = Signal()  # a pulse at whose end a nibble comes
        room = self._collect(m, fetches, forget=asked)
        # Pins that are not spoken through hold a level at which the flash goes on.
        m.d.comb += [
            pins.o.eq(Cat(sent[-1], Const(-1, 3))),
            pins.oe.eq(0b1101),
            self.ready.eq((number == reading) & ~asked),
        ]
        m.d.sync += timer.eq(timer - 1)
        with m.FSM():
            with m.State("pause"), m.If(timer == 0):
                m.d.sync += timer.eq(0)
                with m.If((number != reading) | asked):
                    m.next = "send"
                    with m.Switch(number):
                        for n, (bits, length) in enumerate(commands):
                            with m.Case(n):
                                m.d.sync += [sent.eq(bits), timer.eq(length - 1)]
            with m.State("send"):
                m.d.comb += [pins.select.eq(1), pins.pulse.eq(1)]
                m.d.sync += sent.eq(sent << 1)
                with m.If(timer == 0):
                    rest = Mux(number == 0, WAKING - 1, DESELECTED - 1)
                    m.d.sync += [number.eq(number + 1), timer.eq(rest)]
                    m.next = "pause"
                    with m.If(number == reading):
                        m.d.sync += [number.eq(reading), timer.eq(DUMMIES - 2)]
                        m.next = "dummies"
            with m.State("dummies"):
                m.d.comb += [pins.select.eq(1), pins.pulse.eq(1), pins.oe.eq(0)]
                with m.If(timer == 0):
                    m.d.sync += [asked.eq(0), timer.eq(NIBBLES - 1)]
                    m.next = "read"
            with m.State("read"):
                first = timer == NIBBLES - 1
                m.d.comb += [
                    pins.select.eq(1),
                    pins.pulse.eq(~first | room),
                    pins.oe.eq(0),
                    fetches.eq(pins.pulse),
                ]
                with m.If(~fetches):
                    m.d.sync += timer.eq(timer)
                with m.Elif(timer == 0):
                    m.d.sync += timer.eq(NIBBLES - 1)
                with m.If(asked):
                    m.d.sync += timer.eq(DESELECTED - 1)
                    m.next = "pause"
        with m.If(self.begin & self.ready):
            m.d.sync += asked.eq(1)
        return m

    def _address(self, m: Module) -> Signal:
        """Of the word that was asked for last."""
        address = Signal(24)
        with m.If(self.begin):
            m.d.sync += address.eq(self.start + (self.word << 2))
        return address

    def _collect(self, m: Module, fetches: Signal, forget: Signal) -> Value:
        """Words of nibbles, the high one of a byte first; whether there is room for one more."""
        m.submodules.queue = queue = ResetInserter(forget)(
            fifo.SyncFIFOBuffered(width=32, depth=QUEUED)
        )
        arrives = delay(m, 1, fetches & ~forget, PIN_LATENCY, "fetched")
        number, high, word = Signal(range(NIBBLES)), Signal(4), Signal(24)
        whole = Cat(word, self.pins.i, high)
        m.d.comb += [
            queue.w_data.eq(whole),
            queue.w_en.eq(arrives & (number == NIBBLES - 1)),
            self.o.payload.eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy & ~forget),
            queue.r_en.eq(self.o.ready),
        ]
        with m.If(arrives):
            m.d.sync += number.eq(number + 1)
            with m.If(number[0]):
                m.d.sync += word.eq(whole[8:])
            with m.Else():
                m.d.sync += high.eq(self.pins.i)
        with m.If(forget):
            m.d.sync += number.eq(0)
        # One more may be on its way.
        return queue.level <= QUEUED - 2
