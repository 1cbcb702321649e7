"""How well the chip's engines were used, from its counters."""

from collections.abc import Mapping
from dataclasses import dataclass

from intaglio.hw.config import LAYER_LINEARS, Design, Linear
from intaglio.hw.protocol import Counter

__all__ = ["Share", "Usage", "difference", "usage"]

CAUSES = {
    Counter.ATTENTION: "waiting for attention",
    Counter.RESULTS: "waiting for results",
    Counter.DRAIN: "waiting for the drain",
    Counter.WEIGHTS: "waiting for weights",
    Counter.ACTIVATIONS: "waiting for activations",
}
"""Why the array took no word in a cycle, if there was work at all."""


@dataclass(frozen=True)
class Share:
    """What became of the slots that an engine offered: one for each multiplier and cycle."""

    offered: int
    used: int
    """Useful multiplications of the model."""
    lost: dict[str, int]
    """The rest, by cause."""

    @property
    def utilisation(self) -> float:
        """Used of offered, from 0 to 1."""
        return self.used / self.offered if self.offered else 0.0


@dataclass(frozen=True)
class Usage:
    """What the chip did in a stretch of time."""

    cycles: int
    tokens: float
    """Rows that went through the layers, prompt tokens among them: products of the layers over
    those of a row, so that parts of the way count."""
    array: Share
    attention: Share


def difference(before: Mapping[Counter, int], after: Mapping[Counter, int]) -> dict[Counter, int]:
    """What was counted between two readings, which are less than 2**32 cycles apart."""
    return {counter: (after[counter] - before[counter]) % (1 << 32) for counter in Counter}


def usage(design: Design, counted: Mapping[Counter, int]) -> Usage:
    """Slots of the multipliers offered, used and lost.

    Exact over whole operations: the multiplications of an operation count when it begins, its words
    as they are taken.
    """
    chip = design.chip
    cycles = counted[Counter.CYCLES]
    multipliers = chip.rows * chip.outputs * chip.depth
    shapes = {linear: design.linear(linear) for linear in Linear}
    sizes = {linear: shape.inputs * shape.outputs for linear, shape in shapes.items()}
    products = {linear: counted[Counter[linear.name]] * size for linear, size in sizes.items()}
    used = sum(products.values())
    lost = {cause: counted[counter] * multipliers for counter, cause in CAUSES.items()}
    lost["padding"] = counted[Counter.WORDS] * multipliers - used
    idle = cycles - counted[Counter.WORDS] - sum(counted[counter] for counter in CAUSES)
    lost["no work"] = idle * multipliers

    per_key = 2 * design.q_lanes * design.model.head_dim  # the key's and the value's
    engines = cycles * chip.engines
    attention = Share(
        engines * per_key,
        counted[Counter.KEYS] * per_key,
        {
            "waiting within a row": (counted[Counter.SCORING] - counted[Counter.KEYS]) * per_key,
            "no work": (engines - counted[Counter.SCORING]) * per_key,
        },
    )
    array = Share(cycles * multipliers, used, lost)
    in_layers = sum(products[linear] for linear in LAYER_LINEARS)
    of_a_row = design.model.layers * sum(sizes[linear] for linear in LAYER_LINEARS)
    return Usage(cycles, in_layers / of_a_row, array, attention)
