"""Loads of the performance model: where its steps come from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Decode", "Load", "Prompt"]


class Load(Protocol):
    """Where steps come from; as ``traffic.Source``, without the tokens."""

    ended: list[int]
    """When each of its steps ended."""

    def rows(self) -> tuple[list[tuple[int, int]], int]:
        """The rows of the next step, and how many are sampled; no rows if there is no more."""
        ...


@dataclass(eq=False)
class Decode:
    """Sequences that go on for ever, all about the same position."""

    slots: Sequence[int]
    positions: int
    engines: int
    ended: list[int] = field(default_factory=list)

    def rows(self) -> tuple[list[tuple[int, int]], int]:
        """A row of every sequence."""
        return [(slot % self.engines, self.positions) for slot in self.slots], len(self.slots)


@dataclass(eq=False)
class Prompt:
    """A prompt, as many tokens in a step as there are rows."""

    length: int
    width: int
    engine: int
    position: int = 0
    ended: list[int] = field(default_factory=list)

    def rows(self) -> tuple[list[tuple[int, int]], int]:
        """The next tokens."""
        places = range(self.position, min(self.position + self.width, self.length))
        self.position = places.stop
        return [(self.engine, n + 1) for n in places], int(places.stop == self.length)
