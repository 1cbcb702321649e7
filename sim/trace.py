"""The timeline of a chip: what every group and engine did, as a Perfetto trace and as a picture."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from intaglio.hw.config import Design, Linear
from intaglio.hw.layouts import Operation
from intaglio.sim.activity import Stretch, stretches, waits_for
from intaglio.sim.simulator import SimulatedChip
from intaglio.sim.traffic import advance, batches

__all__ = ["Slice", "as_perfetto", "record", "slices", "tracks"]

WAIT = 10
"""Cycles after which an idle chip is idle everywhere."""


@dataclass
class Slice:
    """Something that a track shows from one cycle to another."""

    track: str
    name: str
    begin: int
    end: int


def tracks(design: Design) -> list[str]:
    """Names of the tracks, from the top: groups, then engines."""
    groups = [f"group {g}" for g in range(design.chip.groups)]
    engines = [f"{kind} {e}" for e in range(design.chip.engines) for kind in ("scores", "context")]
    return [*groups, "array", "drain", *engines]


class ArrayLabels:
    """Names the words of the array: an operation's follow each other, in the order of feeding."""

    def __init__(self, design: Design):
        self.words = {linear.name: design.linear(linear).words for linear in Linear}
        self.fed: deque[list] = deque()

    def feed(self, group: int, operation: str, layer: int) -> None:
        """An operation begins to be fed."""
        self.fed.append([f"{operation} {layer} of group {group}", self.words[operation]])

    def take(self, words: int) -> Iterator[tuple[str, int]]:
        """The operations that the next words belong to, and how many to each."""
        while words:
            name, left = self.fed[0]
            taken = min(left, words)
            words -= taken
            self.fed[0][1] -= taken
            if left == taken:
                self.fed.popleft()
            yield name, taken


def _array(stretch: Stretch, labels: ArrayLabels) -> Iterator[tuple[str, int]]:
    """What the array does in a stretch, and for how many cycles."""
    if stretch.activity.array.moved:
        yield from labels.take(stretch.cycles)
    elif cause := waits_for(stretch.activity):
        yield f"waiting: {cause.name.lower()}", stretch.cycles


def _others(stretch: Stretch) -> Iterator[tuple[str, str]]:
    """Track and name of all else that goes on in a stretch."""
    activity = stretch.activity
    for g, group in enumerate(activity.groups):
        operation = Operation(group.operation)
        if operation is not Operation.IDLE:
            yield f"group {g}", f"{operation.name} {group.layer}"
    if activity.drain.active:
        yield "drain", f"group {activity.drain.group}"
    for e, engine in enumerate(activity.engines):
        for kind in ("scores", "context"):
            at_work = getattr(engine, kind)
            if at_work.active:
                yield f"{kind} {e}", f"group {at_work.tag.group}, row {at_work.tag.row}"


def slices(design: Design, recorded: Iterable[Stretch]) -> list[Slice]:
    """What was recorded from an idle chip on, joined to the longest slices."""
    labels = ArrayLabels(design)
    done: list[Slice] = []
    running: dict[str, Slice] = {}

    def show(track: str, name: str, begin: int, end: int) -> None:
        now = running.get(track)
        if now is None or now.name != name or now.end != begin:
            running[track] = now = Slice(track, name, begin, begin)
            done.append(now)
        now.end = end

    for stretch in recorded:
        feed, groups = stretch.activity.feed, stretch.activity.groups
        if feed.moved:
            fed = groups[feed.group]
            labels.feed(feed.group, Operation(fed.operation).name, fed.layer)
        begin = stretch.begin
        for name, cycles in _array(stretch, labels):
            show("array", name, begin, begin + cycles)
            begin += cycles
        for track, name in _others(stretch):
            show(track, name, stretch.begin, stretch.end)
    return done


def record(chip: SimulatedChip, sequences: int, context: int, tokens: int) -> list[Slice]:
    """Let sequences make some tokens after `context` others; what everybody did meanwhile."""
    running = batches(chip, sequences)
    for _ in advance(chip, running, context):
        pass
    chip.wait(WAIT)
    chip.record(True)
    for _ in advance(chip, running, tokens):
        pass
    chip.record(False)
    return slices(chip.design, stretches(chip.design, chip.recorded(), chip.cycles))


def as_perfetto(design: Design, shown: list[Slice]) -> dict[str, Any]:
    """The trace in Chrome's format, which Perfetto opens; a cycle is shown as a microsecond."""
    numbers = {name: n for n, name in enumerate(tracks(design), start=1)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "chip, in cycles"}}
    ]
    for name, number in numbers.items():
        events += [
            {"ph": "M", "pid": 1, "tid": number, "name": "thread_name", "args": {"name": name}},
            {"ph": "M", "pid": 1, "tid": number, "name": "thread_sort_index",
             "args": {"sort_index": number}},
        ]  # fmt: skip
    events += [
        {"ph": "X", "pid": 1, "tid": numbers[s.track], "name": s.name, "ts": s.begin,
         "dur": s.end - s.begin}
        for s in shown
    ]  # fmt: skip
    return {"traceEvents": events, "displayTimeUnit": "ms"}
