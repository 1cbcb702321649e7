"""Addresses of what is next, asked for while what is now is still being worked on."""

from amaranth import Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RunAhead"]


class RunAhead(wiring.Component):
    """Ask a memory for consecutive words of each item of a stream, once, before it is taken.

    The first address comes two cycles after the item was offered, or after the last address of the
    item before. The words that come wait in the memory's pipeline until the item is taken.

    Parameters
    ----------
    address_bits, last_bits :
        Widths of an address, and of the number of the last word.

    Members
    -------
    valid, taken : ``In(1)``
        An item is offered; it is taken in this cycle, not before `begun`.
    begun : ``Out(1)``
        Its words are being asked for.
    base, last : ``In(address_bits)``, ``In(last_bits)``
        Its first address, and the number of its words less one.
    reads : ``Out(stream.Signature(address_bits))``
    """

    valid: Signal
    taken: Signal
    begun: Signal
    base: Signal
    last: Signal
    reads: stream.Interface

    def __init__(self, address_bits: int, last_bits: int):
        super().__init__({
            "valid": In(1),
            "taken": In(1),
            "begun": Out(1),
            "base": In(address_bits),
            "last": In(last_bits),
            "reads": Out(stream.Signature(unsigned(address_bits))),
        })

    def elaborate(self, platform):
        m = Module()
        left = Signal.like(self.last)
        begin = self.valid & ~self.begun & ~self.reads.valid
        with m.If(begin):
            m.d.sync += [
                self.reads.valid.eq(1),
                self.reads.payload.eq(self.base),
                left.eq(self.last),
            ]
        with m.Elif(self.reads.valid & self.reads.ready):
            m.d.sync += [
                self.reads.valid.eq(left.any()),
                self.reads.payload.eq(self.reads.payload + 1),
                left.eq(left - 1),
            ]
        m.d.sync += self.begun.eq((self.begun | begin) & ~self.taken)
        return m
