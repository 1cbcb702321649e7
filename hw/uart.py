"""UART: bytes to and from a wire, 8 bits, no parity, one stop bit."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import cdc, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["UARTReceiver", "UARTTransmitter"]


class UARTReceiver(wiring.Component):
    """Bytes from a wire. Each bit is sampled once, in its middle.

    A byte whose stop bit is low is dropped. A byte that has not been taken when the next is
    complete, 10 bits later, is lost: the wire cannot be made to wait.

    Parameters
    ----------
    cycles_per_bit :
        Clock cycles of a bit, at least 4.

    Members
    -------
    rx : ``In(1)``
        High when idle; need not be synchronous to the clock.
    o : ``Out(stream.Signature(8))``
        A byte comes 3 cycles after the middle of its stop bit.
    """

    rx: Signal
    o: stream.Interface

    def __init__(self, cycles_per_bit: int):
        assert cycles_per_bit >= 4
        self.cycles_per_bit = cycles_per_bit
        super().__init__({"rx": In(1), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        rx = Signal(init=1)
        before = Signal(init=1)  # so that a byte begins with an edge, not with a line held low
        m.submodules.synchroniser = cdc.FFSynchronizer(self.rx, rx, init=1)
        bit = self.cycles_per_bit
        timer = Signal(range(bit))
        left = Signal(range(11))  # bits that are still to be sampled
        bits = Signal(8)
        m.d.sync += before.eq(rx)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(left == 0):
            m.d.sync += timer.eq(bit // 2 - 1)
            with m.If(before & ~rx):
                m.d.sync += left.eq(10)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(bit - 1), left.eq(left - 1)]
            with m.If(left != 1):
                m.d.sync += bits.eq(Cat(bits[1:], rx))
            with m.Elif(rx):
                m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(bits)]
            with m.If((left == 10) & rx):  # too short for a start bit
                m.d.sync += left.eq(0)
        return m


class UARTTransmitter(wiring.Component):
    """Bytes to a wire; the next follows the stop bit without a pause.

    Parameters
    ----------
    cycles_per_bit :
        Clock cycles of a bit, at least 4.

    Members
    -------
    i : ``In(stream.Signature(8))``
    tx : ``Out(1)``
        High when idle.
    """

    i: stream.Interface
    tx: Signal

    def __init__(self, cycles_per_bit: int):
        assert cycles_per_bit >= 4
        self.cycles_per_bit = cycles_per_bit
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1)})

    def elaborate(self, platform):
        m = Module()
        bits = Signal(9, init=-1)
        timer = Signal(range(self.cycles_per_bit))
        left = Signal(range(11))
        next_bit = timer == 0
        m.d.comb += [
            self.tx.eq(bits[0]),
            self.i.ready.eq(next_bit & (left <= 1)),
        ]
        m.d.sync += timer.eq(Mux(next_bit, self.cycles_per_bit - 1, timer - 1))
        with m.If(next_bit):
            m.d.sync += bits.eq(Cat(bits[1:], Const(1, 1)))
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [bits.eq(Cat(Const(0, 1), self.i.payload)), left.eq(10)]
        return m
