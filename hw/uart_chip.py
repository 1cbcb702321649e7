"""A chip on a UART: its commands, events and status in frames."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.hw.chip import Chip, make_chip
from intaglio.hw.config import Design
from intaglio.hw.flash import FlashPins
from intaglio.hw.frames import (
    COUNTERS,
    STATUS,
    Deframer,
    Enframer,
    command_layout,
    sizes_to_chip,
    sizes_to_host,
)
from intaglio.hw.images import Images
from intaglio.hw.protocol import Kind, identity
from intaglio.hw.shared.chip import SharedChip
from intaglio.hw.shared.flashed import FlashedMemory
from intaglio.hw.uart import UARTReceiver, UARTTransmitter

__all__ = ["UARTChip"]


class UARTChip(wiring.Component):
    """A chip whose host is at the other end of a UART; ``protocol`` says how they talk.

    An event waits until the one before has been framed, and the chip waits with it. A command is
    held until the chip takes it. A status, or the counters, goes out when no event waits. It is
    what was asked for last before it began to go; questions that come while it goes are answered by
    it too, so a host asks one thing at a time. In a generation the chip takes the next command in
    the cycle in which an event has been framed: nothing else is in flight then.

    Parameters
    ----------
    design, images :
        The chip's.
    cycles_per_bit :
        Clock cycles of a bit on the wire, at least 4. With fewer than 7, a byte that comes while a
        status is being read may be lost, and its frame is dropped.
    memory :
        Of a shared chip, where block RAM does not hold it.

    Members
    -------
    rx : ``In(1)``
        High when idle; need not be synchronous to the clock.
    tx : ``Out(1)``
    busy : ``Out(1)``
        Commands have been taken whose events have not been framed.
    dropped : ``Out(1)``
        A frame was dropped since reset.
    flash : ``Out(FlashPins)``
        Only with a `memory`.
    """

    rx: Signal
    tx: Signal
    busy: Signal
    dropped: Signal

    def __init__(
        self, design: Design, images: Images, *, cycles_per_bit: int,
        memory: FlashedMemory | None = None,
    ):  # fmt: skip
        self.design, self.images, self.cycles_per_bit = design, images, cycles_per_bit
        self.memory = memory
        super().__init__({
            "rx": In(1),
            "tx": Out(1),
            "busy": Out(1),
            "dropped": Out(1),
            **({} if memory is None else {"flash": Out(FlashPins)}),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.chip = chip = make_chip(self.design, self.images, self.memory)
        if self.memory is not None:
            connect(m, self.memory.flash, flipped(self.flash))
        m.submodules.receiver = receiver = UARTReceiver(self.cycles_per_bit)
        m.submodules.deframer = deframer = Deframer(sizes_to_chip(chip.layouts))
        m.submodules.enframer = enframer = Enframer(sizes_to_host(chip.layouts))
        m.submodules.transmitter = transmitter = UARTTransmitter(self.cycles_per_bit)
        connect(m, enframer.o, transmitter.i)
        # The counters stand still while a status is read.
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            deframer.i.payload.eq(receiver.o.payload),
            deframer.i.valid.eq(receiver.o.valid & ~enframer.reading),
            receiver.o.ready.eq(deframer.i.ready & ~enframer.reading),
            self.dropped.eq(deframer.dropped.any()),
        ]
        queried = self._take(m, chip, deframer)
        self._answer(m, chip, deframer, enframer, queried)
        self._count(m, chip)
        return m

    def _take(self, m: Module, chip: Chip | SharedChip, deframer: Deframer):
        """Commands to the chip, the host's and those of a generation; whether a query is taken."""
        frame = Signal(command_layout(chip.layouts))
        event, command = chip.events.p, chip.commands.p
        is_command = deframer.o.p.kind == Kind.COMMAND
        taken = deframer.o.valid & deframer.o.ready
        until = Signal(chip.layouts.position)  # beyond the position of an event: a generation
        goes_on = chip.events.valid & chip.events.ready & event.sampled & (event.position < until)
        m.d.comb += [
            frame.as_value().eq(deframer.o.p.payload),
            command.eq(frame.command),
            chip.commands.valid.eq(goes_on | (deframer.o.valid & is_command)),
            deframer.o.ready.eq(~goes_on & (chip.commands.ready | ~is_command)),
        ]
        with m.If(goes_on):
            m.d.comb += [
                command.slot.eq(event.slot),
                command.position.eq(event.position + 1),
                command.token.eq(event.token),
                command.sample.eq(1),
                command.last.eq(1),
            ]
        with m.If(taken):
            m.d.sync += until.eq(Mux(is_command & ~self.busy, frame.until, 0))
        return taken & ~is_command

    def _answer(
        self, m: Module, chip: Chip | SharedChip, deframer: Deframer, enframer: Enframer, queried
    ):
        """Events and statuses to the host; one that was begun is not given up for the other."""
        wanted = Signal()
        reporting = Signal()
        counting = Signal()
        counters = Signal(COUNTERS)
        status = Signal(STATUS)
        report = Mux(counting, counters.as_value(), status.as_value())
        m.d.comb += [
            status.identity.eq(identity(self.design)),
            status.good.eq(deframer.good),
            status.dropped.eq(deframer.dropped),
            status.busy.eq(self.busy),
            status.signatures.eq(chip.signatures),
            enframer.i.valid.eq(reporting | chip.events.valid),
            enframer.i.p.kind.eq(
                Mux(reporting, Mux(counting, Kind.COUNTERS, Kind.STATUS), Kind.EVENT)
            ),
            enframer.i.p.payload.eq(Mux(reporting, report, chip.events.payload.as_value())),
            chip.events.ready.eq(enframer.i.ready & ~reporting),
        ]
        with m.If(reporting & enframer.i.ready):
            m.d.sync += [wanted.eq(0), reporting.eq(0)]
        with m.Elif(wanted & ~chip.events.valid):
            m.d.sync += reporting.eq(1)
        asked = Signal()  # a register, as it goes to all bits of the copy
        m.d.sync += asked.eq(queried & ~reporting)
        with m.If(queried & ~reporting):
            m.d.sync += counting.eq(deframer.o.p.kind == Kind.COUNT)
        with m.If(asked):
            m.d.sync += counters.eq(chip.counters)
        with m.If(queried):
            m.d.sync += wanted.eq(1)

    def _count(self, m: Module, chip: Chip | SharedChip) -> None:
        """Commands whose events have not been framed: in a step that fills, waits, or runs."""
        most = self.design.chip.rows * (self.design.chip.groups + 2)
        in_flight = Signal(range(most + 1))
        begins = chip.commands.valid & chip.commands.ready
        ends = chip.events.valid & chip.events.ready
        m.d.comb += self.busy.eq(in_flight != 0)
        with m.If(begins & ~ends):
            m.d.sync += in_flight.eq(in_flight + 1)
        with m.If(ends & ~begins):
            m.d.sync += in_flight.eq(in_flight - 1)
