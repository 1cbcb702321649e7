"""Sequences that keep a chip busy: what a host sends, and when."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from intaglio.hw.protocol import Counter
from intaglio.sim.simulator import SimulatedChip
from intaglio.sim.usage import difference

__all__ = [
    "WARM",
    "Batch",
    "Prompt",
    "advance",
    "again",
    "batches",
    "measure",
    "measure_prompt",
    "spread",
]

WARM = 2
"""Steps of each batch before and after those that are measured."""


@dataclass(frozen=True)
class Row:
    """A token for a chip: the fields of its command."""

    slot: int
    position: int
    token: int
    sample: bool


class Source(Protocol):
    """Where steps come from."""

    slots: Sequence[int]
    waiting: int
    """Events that have not come of the steps that were made."""

    def step(self) -> list[Row]:
        """The rows of the next step; none if there is no more."""
        ...

    def take(self, slot: int, token: int) -> bool:
        """Note an event; whether a step ended with it."""
        ...


@dataclass
class Batch:
    """Sequences that walk through the chip side by side, a row each, a token at a time.

    Each goes on with the token that the chip gave it.
    """

    slots: Sequence[int]
    tokens: list[int]
    """The next token of each."""
    position: int = 0
    """Where the next tokens stand."""
    waiting: int = field(default=0, init=False)

    def step(self) -> list[Row]:
        """The next token of every sequence."""
        self.waiting = len(self.slots)
        return [
            Row(s, self.position, t, True) for s, t in zip(self.slots, self.tokens, strict=True)
        ]

    def take(self, slot: int, token: int) -> bool:
        """Note a sampled token; whether it was the last that the step waited for."""
        self.tokens[self.slots.index(slot)] = token
        self.waiting -= 1
        self.position += self.waiting == 0
        return self.waiting == 0


@dataclass
class Prompt:
    """A prompt that is read into a slot, as many tokens in a step as there are rows."""

    slots: Sequence[int]
    tokens: list[int]
    rows: int
    position: int = 0
    waiting: int = field(default=0, init=False)

    def step(self) -> list[Row]:
        """The next tokens; the last one wants what follows it."""
        places = range(self.position, min(self.position + self.rows, len(self.tokens)))
        self.position = places.stop
        self.waiting += len(places)
        last = len(self.tokens) - 1
        return [Row(self.slots[0], n, self.tokens[n], n == last) for n in places]

    def take(self, slot: int, token: int) -> bool:
        """Note that a token was read; whether it was the last of its step."""
        self.waiting -= 1
        read = self.position - self.waiting
        return read % self.rows == 0 or read == len(self.tokens)


def spread(sequences: int, rows: int) -> list[range]:
    """The slots of as many steps as so many sequences need, about the same number in each."""
    count = -(-sequences // rows)
    return [range(n, sequences, count) for n in range(count)]


def batches(chip: SimulatedChip, sequences: int, seed: int = 1) -> list[Batch]:
    """That many new sequences."""
    rows, vocab = chip.design.chip.rows, chip.design.model.vocab
    first = np.random.default_rng(seed).integers(min(3, vocab - 1), vocab, sequences).tolist()
    return [Batch(slots, [first[slot] for slot in slots]) for slots in spread(sequences, rows)]


def again(
    chip: SimulatedChip, running: list[Batch], sequences: int, position: int | None = None
) -> list[Batch]:
    """The first of these sequences once more, from where they are, or from an earlier position."""
    tokens = {s: t for batch in running for s, t in zip(batch.slots, batch.tokens, strict=True)}
    place = running[0].position if position is None else position
    slots = spread(sequences, chip.design.chip.rows)
    return [Batch(mine, [tokens[slot] for slot in mine], place) for mine in slots]


def advance(
    chip: SimulatedChip,
    sources: Sequence[Source],
    steps: int,
    ahead: int = 1,
    until: Source | None = None,
) -> Iterator[Source]:
    """Let every source make its steps, with `ahead` in flight; yields one as its step ends.

    With `until`, only this source makes so many steps; the others go on as long as it does.
    """
    made = dict.fromkeys(map(id, sources), 0)
    of_slot = {slot: source for source in sources for slot in source.slots}

    def go_on(source: Source) -> None:
        counted = source if until is None else until
        if made[id(counted)] - (counted is not source and not counted.waiting) < steps:
            made[id(source)] += 1
            rows = source.step()
            for row in rows:
                chip.command(row.slot, row.position, row.token, row.sample, last=row is rows[-1])

    for _ in range(ahead):
        for source in sources:
            go_on(source)
    while any(source.waiting for source in sources):
        event = chip.event()
        source = of_slot[event.slot]
        if source.take(event.slot, event.token):
            yield source
            go_on(source)


def measure(chip: SimulatedChip, running: list[Batch], steps: int) -> dict[Counter, int]:
    """What is counted in `steps` steps of the first batch, amid those of all."""
    readings, ended = {}, 0
    for batch in advance(chip, running, steps + 2 * WARM):
        if batch is running[0]:
            ended += 1
            readings[ended] = chip.counters
    return difference(readings[WARM], readings[WARM + steps])


def measure_prompt(
    chip: SimulatedChip, prompt: Prompt, running: list[Batch], ahead: int
) -> dict[Counter, int]:
    """What is counted from the first token of a prompt to the one that follows it.

    Meanwhile the sequences that are `running` go on. Alone, a prompt has `ahead` steps in flight.
    """
    before = chip.counters
    steps = -(-len(prompt.tokens) // prompt.rows)
    counted = {}
    for source in advance(chip, [prompt, *running], steps, ahead):
        if source is prompt:
            counted = difference(before, chip.counters)
    return counted
