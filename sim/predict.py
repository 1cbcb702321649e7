"""What the performance model says of a design, in tables."""

from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from intaglio.hw.config import Design, Linear
from intaglio.sim.bench import LONGEST_PROMPT, ladder
from intaglio.sim.estimate import Estimate, estimate_decode, estimate_prompt, roof
from intaglio.sim.terms import TERMS, linear_terms

__all__ = ["Prediction", "as_table", "predict", "terms_table"]


@dataclass(frozen=True)
class Prediction:
    """A load and what is expected of it."""

    kind: str
    sequences: int
    context: int
    expected: Estimate
    roof: float | None = None
    """Cycles per token if the busier engine never waited; of decoding."""

    def as_json(self, mhz: float) -> dict[str, Any]:
        """Everything, with the rate at this clock."""
        e = self.expected
        return {
            "kind": self.kind,
            "sequences": self.sequences,
            "context": self.context,
            "cycles_per_token": round(e.cycles_per_token, 1),
            "tokens_per_second": round(mhz * 1e6 / e.cycles_per_token, 1),
            "roof_cycles_per_token": self.roof and round(self.roof, 1),
            "first_token_cycles": round(e.first_token),
            "array_utilisation": round(e.useful, 4),
            "attention_utilisation": round(e.attention, 4),
        }


def predict(design: Design, contexts: list[int]) -> list[Prediction]:
    """The loads of ``intaglio bench``."""
    points = []
    for context in contexts:
        for n in ladder(design.slots):
            expected = estimate_decode(design, n, context)
            points.append(Prediction("decode", n, context, expected, roof(design, n, context)))
    length = min(contexts[-1], LONGEST_PROMPT)
    for others in sorted({0, design.slots - 1}):
        expected = estimate_prompt(design, length, others, 0)
        kind = "mixed" if others else "prefill"
        points.append(Prediction(kind, others + 1, length // 2, expected))
    return points


def terms_table(name: str, design: Design) -> Table:
    """Each term with its cycles and its reason."""
    table = Table(title=Text(name), title_justify="left")
    table.add_column("term")
    table.add_column("cycles", justify="right")
    table.add_column("reason")
    for linear in Linear:
        terms, shape = linear_terms(design, linear), design.linear(linear)
        table.add_row(
            linear.name.lower(), f"{terms.words:,}",
            f"{shape.tiles:,} tiles of {shape.blocks:,} blocks, a word per cycle; the drain takes "
            f"{terms.pairs:,} pairs meanwhile.",
        )  # fmt: skip
    for term, cycles in TERMS.items():
        table.add_row(term.replace("_", " "), str(int(cycles)), cycles.reason)
    return table


def _short(number: float) -> str:
    """A number in at most eight characters: with decimals, or in millions."""
    if number >= 1e6:
        return f"{number / 1e6:,.1f} M"
    return f"{number:.3g}" if number < 10 else f"{number:,.1f}"


def as_table(points: list[Prediction], mhz: float) -> Table:
    """A table for the terminal."""
    title = f"cycles per token; what no engine can go below; tokens/s at {mhz:g} MHz"
    table = Table(
        title=Text(title),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("load", no_wrap=True)
    for name in ("seqs", "at", "cycles", "roof", "tokens/s", "first", "array", "attn"):
        table.add_column(name, justify="right", no_wrap=True)
    for p in points:
        e = p.expected
        table.add_row(
            p.kind, str(p.sequences), str(p.context), _short(e.cycles_per_token),
            _short(p.roof) if p.roof else "", _short(mhz * 1e6 / e.cycles_per_token),
            _short(e.first_token), f"{e.useful:.1%}", f"{e.attention:.1%}",
        )  # fmt: skip
    return table
