"""The chip's arithmetic against the float reference, on text that the reference wrote."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from intaglio.golden import reference
from intaglio.golden.checkpoint import Checkpoint, CheckpointError
from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import etch
from intaglio.hw.config import ChipConfig, Design
from intaglio.hw.formats import element_format

__all__ = ["FORMATS", "Quality", "as_table", "compare"]

FORMATS = (
    ("int8", "int8", "int8"),
    ("int8", "int16", "int16"),
    ("int10", "int16", "int10"),
    ("int12", "int12", "int12"),
    ("int12", "int16", "int12"),
    ("int16", "int16", "int16"),
    ("e2m3", "int8", "int8"),
    ("e2m1", "int8", "int8"),
)
"""Formats of weights, activations and KV cache that are compared when none is named."""

SEQUENCES, LENGTH = 8, 160


@dataclass(frozen=True)
class Quality:
    """How close the chip comes, over all positions of the text."""

    weights: str
    activations: str
    kv: str
    small_float: str
    kl: float
    """Mean KL divergence of the chip's next-token distribution from the reference's, in nats."""
    top1: float
    """Share of positions where both find the same token likeliest."""
    perplexity: float
    reference_perplexity: float


def texts(checkpoint: Checkpoint, context: int, progress: Progress) -> list[np.ndarray]:
    """Sequences of tokens, drawn from the reference's own distribution with fixed seeds."""
    if checkpoint.bos is None:
        raise CheckpointError(f"{checkpoint.name} has no BOS token, with which a text could begin")
    task = progress.add_task("writing text with the float reference", total=SEQUENCES)
    sequences = []
    for seed in range(SEQUENCES):
        rng = np.random.default_rng(seed)
        most = min(LENGTH, context)
        tokens = [checkpoint.bos, *reference.generate(checkpoint, [checkpoint.bos], most, rng)]
        sequences.append(np.array(tokens))
        progress.advance(task)
    if max(map(len, sequences)) < 2:
        raise CheckpointError(f"{checkpoint.name} writes nothing: every text ends with its BOS")
    return sequences


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Natural logarithm of the softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def quality(
    chip: ChipConfig, theirs: list[np.ndarray], ours: list[np.ndarray], text: list[np.ndarray]
) -> Quality:
    """Compare log-probabilities (positions, vocab) of the reference and of the chip."""
    p, q = np.concatenate(theirs), np.concatenate(ours)

    def perplexity(log_probabilities: list[np.ndarray]) -> float:
        losses = [
            -lp[np.arange(len(tokens) - 1), tokens[1:]]
            for lp, tokens in zip(log_probabilities, text, strict=True)
        ]
        with np.errstate(over="ignore"):  # a hopeless format has infinite perplexity
            return float(np.exp(np.concatenate(losses).mean()))

    return Quality(
        weights=chip.weights.name,
        activations=chip.activations.name,
        kv=chip.kv.name,
        small_float=str(chip.small_float),
        kl=float((np.exp(p) * (p - q)).sum(axis=-1).mean()),
        top1=float((p.argmax(axis=-1) == q.argmax(axis=-1)).mean()),
        perplexity=perplexity(ours),
        reference_perplexity=perplexity(theirs),
    )


def compare(
    checkpoint: Checkpoint, chip: ChipConfig, formats: list[tuple[str, str, str]],
    progress: Progress,
) -> Iterator[Quality]:  # fmt: skip
    """Quality of each choice of formats, the rest of `chip` being kept."""
    context = Design(checkpoint.config, chip).context
    text = texts(checkpoint, context, progress)
    theirs = [log_softmax(reference.forward(checkpoint, tokens)) for tokens in text]
    task = progress.add_task("computing as the chip does", total=len(formats) * len(text))
    for weights, activations, kv in formats:
        chosen = replace(
            chip,
            weights=element_format(weights),
            activations=element_format(activations),
            kv=element_format(kv),
        )
        golden = GoldenChip(etch(checkpoint, Design(checkpoint.config, chosen)))
        ours = []
        for tokens in text:
            ours.append(log_softmax(golden.logits(tokens)))
            progress.advance(task)
        yield quality(chosen, theirs, ours, text)


def as_table(name: str, rows: list[Quality]) -> Table:
    """A table for the terminal."""
    table = Table(title=Text(f"{name}: the chip's arithmetic against the float reference"))
    for column in ("weights", "activations", "KV", "small float", "KL (nats)", "top-1"):
        table.add_column(column, justify="right")
    table.add_column("perplexity", justify="right")
    table.add_column("reference", justify="right")
    for row in rows:
        values = asdict(row)
        table.add_row(
            *(values[k] for k in ("weights", "activations", "kv", "small_float")),
            f"{row.kl:.5f}",
            f"{100 * row.top1:.1f} %",
            f"{row.perplexity:.3f}",
            f"{row.reference_perplexity:.3f}",
        )
    return table
