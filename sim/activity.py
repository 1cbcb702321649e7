"""What was recorded of a chip's activity, taken apart, and counted as the chip counts it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from amaranth.lib import data

from intaglio.hw.config import Design
from intaglio.hw.layouts import Layouts, Operation
from intaglio.hw.protocol import Counter

__all__ = ["Stretch", "count", "stretches", "waits_for"]


@dataclass(frozen=True)
class Stretch:
    """Cycles in which everybody did the same."""

    begin: int
    end: int
    activity: data.Const
    """Of ``Layouts.activity``."""

    @property
    def cycles(self) -> int:
        """Its length."""
        return self.end - self.begin


def stretches(design: Design, recorded: list[tuple[int, int]], end: int) -> Iterator[Stretch]:
    """What :meth:`SimulatedChip.recorded` gave, up to the cycle `end`."""
    layout = Layouts(design).activity
    for (begin, bits), (until, _) in pairwise([*recorded, (end, 0)]):
        yield Stretch(begin, until, layout.from_bits(bits & ((1 << layout.size) - 1)))


def waits_for(activity: data.Const) -> Counter | None:
    """Why the array takes no word, if it is not for want of work."""
    array, doing = activity.array, {Operation(group.operation) for group in activity.groups}
    match (array.weights, array.activations):
        case (1, 1):
            return Counter.DRAIN
        case (0, 1):
            return Counter.WEIGHTS
        case (1, 0):
            return Counter.ACTIVATIONS
    if Operation.ATTEND in doing:
        return Counter.ATTENTION
    return Counter.RESULTS if doing - {Operation.IDLE} else None


def count(recorded: Iterator[Stretch]) -> dict[Counter, int]:
    """What ``hw.counters`` must have counted meanwhile."""
    counted = dict.fromkeys(Counter, 0)
    for stretch in recorded:
        activity, cycles = stretch.activity, stretch.cycles
        counted[Counter.CYCLES] += cycles
        if activity.array.moved:
            counted[Counter.WORDS] += cycles
        elif cause := waits_for(activity):
            counted[cause] += cycles
        if activity.feed.moved:
            group = activity.groups[activity.feed.group]
            operation = Operation(group.operation)
            rows = group.sampled if operation is Operation.HEAD else group.rows
            counted[Counter[operation.name]] += rows * cycles
        for engine in activity.engines:
            counted[Counter.SCORING] += engine.scores.active * cycles
            counted[Counter.KEYS] += engine.scores.moved * cycles
        counted[Counter.TOKENS] += activity.finished.moved * activity.finished.rows * cycles
    return counted
