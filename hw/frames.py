"""Frames of the host link: verified payloads out of bytes, and bytes out of payloads."""

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.crc.catalog import CRC16_IBM_3740
from amaranth.lib.wiring import In, Out

from intaglio.hw.layouts import Layouts
from intaglio.hw.pipeline import copy
from intaglio.hw.protocol import Counter, Kind, Tap

__all__ = [
    "COUNTERS",
    "STATUS",
    "Deframer",
    "Enframer",
    "command_layout",
    "sizes_to_chip",
    "sizes_to_host",
]

OVERHEAD = 4
"""Bytes of a frame beside its payload, before COBS: length, kind, and two of the CRC."""

STATUS = data.StructLayout({
    "identity": 32,
    "good": 16,
    "dropped": 16,
    "busy": 8,
    "signatures": data.ArrayLayout(32, len(Tap)),
})
"""Payload of a status: ``protocol.identity`` of the design, frames that were good and that were
dropped (neither counts beyond 65535), whether commands wait for their events, and the signatures,
which mean something only while none does."""

COUNTERS = data.ArrayLayout(32, len(Counter))
"""Payload of the counters."""


def _bytes(layout: data.Layout) -> int:
    return -(-Shape.cast(layout).width // 8)


def command_layout(layouts: Layouts) -> data.StructLayout:
    """A command for the chip, and the position up to which it goes on by itself."""
    return data.StructLayout({"command": layouts.command, "until": layouts.position})


def sizes_to_chip(layouts: Layouts) -> dict[Kind, int]:
    """Payload bytes of each kind of frame that a host sends."""
    return {Kind.COMMAND: _bytes(command_layout(layouts)), Kind.QUERY: 0, Kind.COUNT: 0}


def sizes_to_host(layouts: Layouts) -> dict[Kind, int]:
    """Payload bytes of each kind of frame that a chip sends."""
    return {
        Kind.EVENT: _bytes(layouts.event),
        Kind.STATUS: _bytes(STATUS),
        Kind.COUNTERS: _bytes(COUNTERS),
    }


def message_layout(sizes: dict[Kind, int]) -> data.StructLayout:
    """A kind, and payload bytes for the longest."""
    return data.StructLayout({"kind": 8, "payload": 8 * max(sizes.values())})


class Deframer(wiring.Component):
    """Verified payloads out of bytes; equals ``golden.frames.Reader``.

    A frame is passed on three cycles after its closing zero, if nothing is wrong with it: COBS,
    length, kind, and CRC. Whatever else stands between two zeros is dropped and counted, so it
    finds the next frame from any state. A frame that begins while the one before has not been
    taken is dropped as well.

    Parameters
    ----------
    sizes :
        Payload bytes of each kind that is accepted.

    Members
    -------
    i : ``In(stream.Signature(8))``
        Takes a byte every cycle.
    o : ``Out(stream.Signature({kind, payload}))``
        The payload of a shorter kind is in the last bytes.
    good, dropped : ``Out(16)``
        Frames since reset; they stop at 65535.
    """

    i: stream.Interface
    o: stream.Interface
    good: Signal
    dropped: Signal

    def __init__(self, sizes: dict[Kind, int]):
        self.sizes = sizes
        super().__init__({
            "i": In(stream.Signature(8)),
            "o": Out(stream.Signature(message_layout(sizes))),
            "good": Out(16),
            "dropped": Out(16),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC16_IBM_3740(data_width=8).create()
        most = max(self.sizes.values()) + OVERHEAD
        frame = Signal(data.ArrayLayout(8, most))  # the last bytes, the newest at the end
        count = Signal(range(most + 2))  # bytes of the frame; stops beyond the longest
        left = Signal(8)  # bytes until the next one is a code of COBS
        inside = Signal()
        byte = self.i.payload
        end = self.i.valid & (byte == 0)
        is_code = left == 0
        with m.If(end):
            m.d.sync += [left.eq(0), inside.eq(0)]
        with m.Elif(self.i.valid):
            m.d.sync += [inside.eq(1), left.eq(Mux(is_code, byte, left) - 1)]

        # What a byte means is known a cycle later; it then goes to the frame.
        came, decoded = Signal(), Signal()  # a byte of a frame, and one that is not a mere code
        value = Signal(8)
        ended, closing, complete = Signal(), Signal(), Signal()
        m.d.sync += [
            came.eq(self.i.valid & (byte != 0)),
            # A code but the first stands for a zero.
            decoded.eq(self.i.valid & (byte != 0) & (~is_code | inside)),
            value.eq(Mux(is_code, 0, byte)),
            ended.eq(end),
            closing.eq(end & inside),
            complete.eq(is_code),
        ]
        missed = Signal()
        waiting = self.o.valid & ~self.o.ready
        m.d.comb += [
            self.i.ready.eq(1),
            crc.data.eq(value),
            crc.valid.eq(decoded),
            crc.start.eq(ended),
        ]
        with m.If(ended):
            m.d.sync += [count.eq(0), missed.eq(0)]
        with m.If(came & waiting):
            m.d.sync += missed.eq(1)
        with m.If(decoded & ~waiting):
            m.d.sync += frame.eq(Cat(frame.as_value()[8:], value))
            with m.If(count != most + 1):
                m.d.sync += count.eq(count + 1)

        # What is wrong with the frame, another cycle later: it is found among many bits.
        is_kind = {kind: Signal(name=f"is_{kind.name.lower()}") for kind in self.sizes}
        closed, sound = Signal(), Signal()
        m.d.sync += [
            closed.eq(closing),
            sound.eq(complete & ~missed & crc.match_detected),  # pyright: ignore[reportArgumentType]
        ]
        for kind, size in self.sizes.items():
            m.d.sync += is_kind[kind].eq(
                (count == size + OVERHEAD)
                & (frame[most - size - OVERHEAD] == size)
                & (frame[most - size - OVERHEAD + 1] == kind)
            )
        good = closed & sound & Cat(*is_kind.values()).any()
        kind = Signal(8)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(good):
            m.d.sync += self.o.valid.eq(1)
            for named, is_it in is_kind.items():
                with m.If(is_it):
                    m.d.sync += kind.eq(named)
        m.d.comb += [
            self.o.p.kind.eq(kind),
            self.o.p.payload.eq(frame.as_value()[16:-16]),
        ]
        for counter, event in ((self.good, good), (self.dropped, closed & ~good)):
            with m.If(event & ~counter.all()):
                m.d.sync += counter.eq(counter + 1)
        return m


class Enframer(wiring.Component):
    """Bytes out of payloads; equals ``golden.frames.encode``.

    The frame is made in a memory at two cycles a byte, for a code of COBS comes before the bytes
    that it depends on; then it is sent from there.

    Parameters
    ----------
    sizes :
        Payload bytes of each kind.

    Members
    -------
    i : ``In(stream.Signature({kind, payload}))``
        The payload of a shorter kind is in the first bytes. Taken when it has been read.
    o : ``Out(stream.Signature(8))``
    reading : ``Out(1)``
        The payload is being read, from the cycle after it came, for ``2 * (size + 4) + 2`` cycles.
    """

    i: stream.Interface
    o: stream.Interface
    reading: Signal

    def __init__(self, sizes: dict[Kind, int]):
        self.sizes = sizes
        super().__init__({
            "i": In(stream.Signature(message_layout(sizes))),
            "o": Out(stream.Signature(8)),
            "reading": Out(1),
        })

    def _size(self, m: Module, most: int) -> Signal:
        """Bytes of the payload; less than `most`."""
        size = Signal(range(most))
        with m.Switch(self.i.p.kind):
            for kind, its_size in self.sizes.items():
                with m.Case(kind):
                    m.d.comb += size.eq(its_size)
        return size

    def _choose(self, m: Module, eight: Signal, plain: Value, number: Value) -> None:
        """The eight bytes `number`, each by its own copy of the few bits that tell which."""
        for first in range(0, 64, 8):
            which = copy(m, 1, number, f"which_{first // 8}")
            byte_of_eight = plain.word_select(which, 64)[first : first + 8]
            m.d.sync += eight[first : first + 8].eq(byte_of_eight)

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC16_IBM_3740(data_width=8).create()
        most = max(self.sizes.values()) + OVERHEAD
        m.submodules.frame = frame = memory.Memory(shape=8, depth=most + 2, init=[])
        write, read = frame.write_port(), frame.read_port()
        size = self._size(m, most)

        number = Signal(range(most))  # of the byte that is read next, before COBS
        next_number = Signal.like(number)
        eight = Signal(64)  # the bytes around it: not chosen among all of them in one cycle
        byte = Signal(8)
        place = Signal(range(most + 2), init=1)  # in the memory
        code = Signal.like(place, init=0)  # where the next code of COBS belongs
        plain = Cat(size | Const(0, 8), self.i.p.kind, self.i.p.payload)
        first_check, second_check = number == size + 2, number == size + 3
        summed = Signal()  # whether the byte counts for the check
        final = Signal()
        check = Signal(16)
        self._choose(m, eight, plain, next_number[3:])
        m.d.sync += number.eq(next_number)
        m.d.comb += [
            next_number.eq(number),
            check.eq(crc.crc),  # pyright: ignore[reportArgumentType] (no stubs of lib.crc)
            crc.data.eq(byte),
            write.addr.eq(place),
            write.data.eq(byte),
            read.addr.eq(place),
            self.o.payload.eq(read.data),
        ]
        with m.FSM():
            with m.State("wait"), m.If(self.i.valid):
                m.next = "read"
            with m.State("read"):
                m.d.comb += [self.reading.eq(1), next_number.eq(number + 1)]
                m.d.sync += [
                    byte.eq(eight.word_select(number[:3], 8)),
                    summed.eq(~first_check & ~second_check),
                    final.eq(second_check),
                ]
                with m.If(first_check):
                    m.d.sync += byte.eq(check[8:])
                with m.If(second_check):
                    m.d.sync += byte.eq(check[:8])
                m.next = "write"
            with m.State("write"):
                m.d.comb += [self.reading.eq(1), write.en.eq(1), crc.valid.eq(summed)]
                m.d.sync += place.eq(place + 1)
                with m.If(byte == 0):
                    m.d.comb += [write.addr.eq(code), write.data.eq(place - code)]
                    m.d.sync += code.eq(place)
                m.next = "read"
                with m.If(final):
                    m.next = "last code"
            with m.State("last code"):
                m.d.comb += [
                    self.reading.eq(1), write.en.eq(1), write.addr.eq(code),
                    write.data.eq(place - code),
                ]  # fmt: skip
                m.next = "close"
            with m.State("close"):
                m.d.comb += [
                    self.reading.eq(1), write.en.eq(1), write.data.eq(0), crc.start.eq(1),
                    self.i.ready.eq(1), next_number.eq(0),
                ]  # fmt: skip
                m.d.sync += [place.eq(0), code.eq(0)]
                m.next = "fetch"
            with m.State("fetch"):
                m.next = "send"
            with m.State("send"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += place.eq(place + 1)
                    m.next = "fetch"
                    with m.If(read.data == 0):
                        m.d.sync += place.eq(1)
                        m.next = "wait"
        return m
