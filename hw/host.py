"""The host link: a stream of commands in, a stream of events out."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.layouts import Layouts, index

__all__ = ["HostLink"]


class HostLink(wiring.Component):
    """Gather commands to steps, and report what came of each row.

    A step is closed by a command with `last`, or when all rows are filled. Every command leads to
    exactly one event; the events of a step come together, in the order of its commands.

    The host must feed the positions of a slot in order, and may start a slot again only after the
    events of all that it fed into it.

    Members
    -------
    commands : ``In(stream.Signature(layouts.command))``
    events : ``Out(stream.Signature(layouts.event))``
    steps : ``Out(stream.Signature(layouts.rows))``
    finished : ``In(stream.Signature(layouts.finished))``
    """

    commands: stream.Interface
    events: stream.Interface
    steps: stream.Interface
    finished: stream.Interface

    def __init__(self, layouts: Layouts):
        super().__init__({
            "commands": In(stream.Signature(layouts.command)),
            "events": Out(stream.Signature(layouts.event)),
            "steps": Out(stream.Signature(layouts.rows)),
            "finished": In(stream.Signature(layouts.finished)),
        })

    def elaborate(self, platform):
        m = Module()
        rows = len(self.steps.p)
        command, filling = self.commands.p, Signal(index(rows))
        full = filling == rows - 1
        m.d.comb += self.commands.ready.eq(~self.steps.valid)
        with m.If(self.steps.valid & self.steps.ready):
            m.d.sync += [self.steps.valid.eq(0), self.steps.payload.eq(0)]
        with m.If(self.commands.valid & self.commands.ready):
            row = self.steps.p[filling]
            m.d.sync += [
                row.valid.eq(1),
                row.slot.eq(command.slot),
                row.position.eq(command.position),
                row.token.eq(command.token),
                row.sample.eq(command.sample),
                self.steps.valid.eq(command.last | full),
                filling.eq(Mux(command.last | full, 0, filling + 1)),
            ]

        reporting = Signal(index(rows))
        row = self.finished.p.rows[reporting]
        event = self.events.p
        m.d.comb += [
            self.events.valid.eq(self.finished.valid & row.valid),
            event.slot.eq(row.slot),
            event.position.eq(row.position),
            event.sampled.eq(row.sample),
            event.token.eq(Mux(row.sample, self.finished.p.tokens[reporting], row.token)),
            self.finished.ready.eq(
                (reporting == rows - 1) & (~self.events.valid | self.events.ready)
            ),
        ]
        with m.If(self.finished.valid & (~self.events.valid | self.events.ready)):
            m.d.sync += reporting.eq(Mux(reporting == rows - 1, 0, reporting + 1))
        return m
