"""The main memory of a shared chip: etched words, the KV cache, and two places in them."""

from amaranth import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.hw.images import ETCHED

__all__ = ["MainMemory", "memory_ports", "place_of_request"]


def memory_ports(bits: int) -> dict[str, wiring.Member]:
    """Ports of a main memory with addresses of `bits` bits.

    request, weights, write : ``In(1)``
        For the next word of the weights, or of what is at `address`, or to write the latter.
    granted : ``Out(1)``
        The request is taken. What is read is there in the next cycle, and stays.
    i, o : ``In(32)``, ``Out(32)``
    address, move, to :
        The address goes to the next word by itself, or where it is moved to.
    restart : ``In(1)``
        The weights begin anew.
    ready : ``Out(1)``
        The etched words are there.
    """
    return {
        "request": In(1),
        "weights": In(1),
        "write": In(1),
        "granted": Out(1),
        "i": In(32),
        "o": Out(32),
        "address": Out(bits),
        "move": In(1),
        "to": In(bits),
        "restart": In(1),
        "ready": Out(1),
    }


def place_of_request(m: Module, main: "wiring.Component") -> Signal:
    """The address of what is requested of `main`, whose places go on when it is granted."""
    weight, place = Signal.like(main.address), Signal.like(main.address)
    taken = main.request & main.granted
    m.d.comb += place.eq(Mux(main.weights, weight, main.address))
    with m.If(main.restart):
        m.d.sync += weight.eq(0)
    with m.Elif(taken & main.weights):
        m.d.sync += weight.eq(weight + 1)
    with m.If(main.move):
        m.d.sync += main.address.eq(main.to)
    with m.Elif(taken & ~main.weights):
        m.d.sync += main.address.eq(main.address + 1)
    return place


class MainMemory(wiring.Component):
    """All words in a memory that has them from the beginning, and grants every request.

    Parameters
    ----------
    words :
        The etched ones, and zeros for the cache.

    Members
    -------
    See :func:`memory_ports`.
    """

    request: Signal
    weights: Signal
    write: Signal
    granted: Signal
    i: Signal
    o: Signal
    address: Signal
    move: Signal
    to: Signal
    restart: Signal
    ready: Signal

    def __init__(self, words: list[int]):
        self.words = words
        super().__init__(memory_ports(ceil_log2(len(words))))

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = words = memory.Memory(
            shape=32, depth=len(self.words), init=self.words, attrs=ETCHED
        )
        read, write = words.read_port(), words.write_port()
        place = place_of_request(m, self)
        m.d.comb += [
            self.granted.eq(1),
            self.ready.eq(1),
            read.addr.eq(place),
            read.en.eq(self.request & ~self.write),
            write.addr.eq(place),
            write.data.eq(self.i),
            write.en.eq(self.request & self.write),
            self.o.eq(read.data),
        ]
        return m
