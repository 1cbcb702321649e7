"""Signatures: what passed a point of the chip, in 32 bits."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.pipeline import delay

__all__ = ["POLYNOMIAL", "StreamSignature"]

POLYNOMIAL = 0x04C11DB7
"""Feedback of the register: the polynomial of CRC-32, without its leading term."""


class StreamSignature(wiring.Component):
    """A multiple-input signature register beside a stream; equals ``golden.signature.signature``.

    Each beat is folded to 32 bits, bit n of the payload onto bit ``n % 32`` by exclusive or, and
    added to the register, which is multiplied by x modulo the polynomial. It only listens: the
    stream never waits for it, and a register keeps the way here apart from the folding. `o` counts
    a beat three cycles after it moved.

    Parameters
    ----------
    width :
        Bits of the payload.

    Members
    -------
    moved : ``In(1)``
        A beat moves: `valid` and `ready`.
    payload : ``In(width)``
    o : ``Out(32)``
    """

    moved: Signal
    payload: Signal
    o: Signal

    def __init__(self, width: int):
        super().__init__({"moved": In(1), "payload": In(width), "o": Out(32)})

    def elaborate(self, platform):
        m = Module()
        folded = Signal(32)
        payload = delay(m, 1, self.payload, 1, "payload")
        for bit in range(32):
            m.d.sync += folded[bit].eq(payload[bit::32].xor())
        with m.If(delay(m, 1, self.moved, 2, "moved")):
            shifted = Cat(Const(0, 1), self.o[:-1])
            m.d.sync += self.o.eq(shifted ^ Mux(self.o[-1], POLYNOMIAL, 0) ^ folded)
        return m
