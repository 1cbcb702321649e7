"""What every chip has to the outside, with an array or without."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.formats import FloatFormat
from intaglio.hw.layouts import Layouts
from intaglio.hw.protocol import Counter, Tap
from intaglio.hw.quantiser import pairs_layout

__all__ = ["chip_ports"]


def chip_ports(layouts: Layouts, fmt: FloatFormat, rows: int) -> dict[str, wiring.Member]:
    """Ports of a chip with these layouts.

    commands, events :
        See :class:`~intaglio.hw.host.HostLink`.
    logits :
        A tap on the way to the sampler, for measurements; it cannot be made to wait.
    signatures :
        What has passed each :class:`~intaglio.hw.protocol.Tap` since reset; of all rows' values,
        those of row 0.
    activity :
        A tap on what every unit is doing, for timelines.
    counters :
        See :class:`~intaglio.hw.protocol.Counter`.
    """
    logits = data.StructLayout({
        "pairs": pairs_layout(fmt, rows), "last": 1, "group": layouts.group
    })  # fmt: skip
    return {
        "commands": In(stream.Signature(layouts.command)),
        "events": Out(stream.Signature(layouts.event)),
        "logits": Out(wiring.Signature({"valid": Out(1), "payload": Out(logits)})),
        "signatures": Out(data.ArrayLayout(32, len(Tap))),
        "activity": Out(layouts.activity),
        "counters": Out(data.ArrayLayout(32, len(Counter))),
    }
