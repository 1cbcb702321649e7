"""The chip under load: cycles per token and use of its engines, counted by the simulated RTL."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from intaglio.hw.config import Design
from intaglio.hw.formats import ConfigError
from intaglio.sim.estimate import estimate_decode, estimate_prompt
from intaglio.sim.simulator import SimulatedChip
from intaglio.sim.traffic import (
    WARM,
    Batch,
    Prompt,
    advance,
    again,
    batches,
    measure,
    measure_prompt,
)
from intaglio.sim.usage import Usage, usage

__all__ = ["LONGEST_PROMPT", "Point", "as_table", "bench", "contexts_of", "ladder"]

STEPS = 4
"""Steps of each sequence that are measured."""

LONGEST_PROMPT = 512
"""A longer prompt says nothing new, and takes its time."""

SPARE = 10
"""Positions that a measurement may use beyond its context."""


@dataclass(frozen=True)
class Point:
    """One measurement."""

    kind: str
    """``decode``, ``prefill``, or ``mixed``."""
    sequences: int
    context: int
    """Positions that a token attends to, about the middle of the measurement."""
    cycles_per_token: float
    estimated: float
    """What ``sim.estimate`` says of that."""
    first_token_cycles: int
    """From a prompt's first token, or from the token before, to the token that is sampled."""
    usage: Usage

    def as_json(self, mhz: float) -> dict[str, Any]:
        """Everything, with the rate at this clock."""
        return {
            "kind": self.kind,
            "sequences": self.sequences,
            "context": self.context,
            "cycles_per_token": round(self.cycles_per_token, 1),
            "estimated_cycles_per_token": round(self.estimated, 1),
            "tokens_per_second": round(mhz * 1e6 / self.cycles_per_token, 1),
            "first_token_cycles": self.first_token_cycles,
            "array": self._share(self.usage.array),
            "attention": self._share(self.usage.attention),
        }

    def _share(self, share) -> dict[str, Any]:
        return {
            "utilisation": round(share.utilisation, 4),
            "offered": share.offered,
            "used": share.used,
            "lost": share.lost,
        }


def ladder(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    counts = [1 << n for n in range(most.bit_length()) if 1 << n < most]
    return [*counts, most]


def _decode(chip: SimulatedChip, running: list[Batch]) -> Point:
    """Sequences that go on from where they are."""
    design = chip.design
    sequences = sum(len(batch.slots) for batch in running)
    context = running[0].position + WARM + STEPS // 2 + 1
    counted = usage(design, measure(chip, running, STEPS))
    return Point(
        kind="decode",
        sequences=sequences,
        context=context,
        cycles_per_token=counted.cycles / (STEPS * sequences),
        estimated=estimate_decode(design, sequences, context, STEPS).cycles_per_token,
        first_token_cycles=counted.cycles // STEPS,
        usage=counted,
    )


def _prefill(chip: SimulatedChip, length: int, running: list[Batch]) -> Point:
    """A prompt in the last slot, alone or while other sequences go on."""
    design = chip.design
    others = sum(len(batch.slots) for batch in running)
    first = min(3, design.model.vocab - 1)
    tokens = [first + n % (design.model.vocab - first) for n in range(length)]
    prompt = Prompt([design.slots - 1], tokens, design.chip.rows)
    ahead = 1 if others else design.chip.groups
    position = running[0].position if running else 0
    counted = usage(design, measure_prompt(chip, prompt, running, ahead))
    return Point(
        kind="mixed" if others else "prefill",
        sequences=others + 1,
        context=length // 2,
        cycles_per_token=counted.cycles / counted.tokens,
        estimated=estimate_prompt(design, length, others, position).cycles_per_token,
        first_token_cycles=counted.cycles,
        usage=counted,
    )


def bench(
    chip: SimulatedChip, contexts: list[int], report: Callable[[str], None] = lambda stage: None
) -> Iterator[Point]:
    """Decode of 1, 2, 4, ... sequences at each context; then a prompt alone and among others."""
    slots = chip.design.slots
    everybody = batches(chip, slots)
    for context in contexts:
        report(f"{slots} sequences up to {context} positions")
        for _ in advance(chip, everybody, context - everybody[0].position):
            pass
        for sequences in ladder(slots):
            report(f"decode of {sequences} at {context} positions")
            yield _decode(chip, again(chip, everybody, sequences))
    length = min(contexts[-1], LONGEST_PROMPT)
    report(f"a prompt of {length} tokens")
    yield _prefill(chip, length, [])
    if slots > 1:
        report(f"a prompt of {length} tokens among other sequences")
        yield _prefill(chip, length, again(chip, everybody, slots - 1, position=0))


def contexts_of(design: Design, given: str | None) -> list[int]:
    """The positions that were asked for, else an early, a middle and a late one of a slot.

    Raises :exc:`ConfigError` with one sentence if they are no numbers or beyond the slot.
    """
    most = design.context - SPARE
    if most < 1:
        raise ConfigError(
            f"A measurement takes {SPARE} positions beyond its context, and a slot has "
            f"{design.context}: raise --context"
        )
    if given is None:
        return sorted({max(most // 8, 1), max(most // 2, 1), most})
    try:
        places = sorted({int(number) for number in given.split(",")})
    except ValueError:
        raise ConfigError(f"--contexts are numbers such as 16,64, not {given!r}") from None
    if not 0 < places[0] <= places[-1] <= most:
        raise ConfigError(
            f"A context of {places[0] if places[0] < 1 else places[-1]} is not from 1 to {most}: "
            f"{SPARE} of a slot's {design.context} positions are for the measurement"
        )
    return places


def as_table(title: str, points: list[Point], mhz: float) -> Table:
    """A table for the terminal."""
    title = f"{title}: cycles per token, the model's error, tokens/s at {mhz:g} MHz"
    table = Table(
        title=Text(title),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("load", no_wrap=True)
    for name in ("seqs", "at", "cycles", "model", "tokens/s", "first", "array", "attn"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("lost to", no_wrap=True)
    for p in points:
        array = p.usage.array
        cause = max(array.lost, key=lambda name: array.lost[name])
        table.add_row(
            p.kind, str(p.sequences), str(p.context), f"{p.cycles_per_token:,.1f}",
            f"{p.estimated / p.cycles_per_token - 1:+.1%}",
            f"{mhz * 1e6 / p.cycles_per_token:,.0f}", f"{p.first_token_cycles:,}",
            f"{array.utilisation:.1%}", f"{p.usage.attention.utilisation:.1%}",
            cause.removeprefix("waiting for "),
        )  # fmt: skip
    return table
