"""A board's own examination: link, memory images, units, and a short story."""

from collections.abc import Iterator

import numpy as np

from intaglio.fpga.link import BoardChip, LinkError, Status
from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import Etched
from intaglio.golden.signature import signatures
from intaglio.hw.config import Design
from intaglio.hw.protocol import Tap, identity
from intaglio.hw.shared.memory_map import weight_words

__all__ = ["selftest"]

Line = tuple[str, bool, str]
"""What was examined, whether it passed, and in what words."""

QUERIES = 10
RUNS = 3
"""How often the whole run is begun anew, because frames were lost meanwhile."""
STORY = 16
"""Tokens that are generated."""


def selftest(chip: BoardChip, etched: Etched, tokens: int | None = None) -> Iterator[Line]:
    """Examine a board that should hold `etched`; raises :exc:`LinkError` if it stops answering.

    Feeds every token of the vocabulary, over all positions of slot 0, and compares the signatures
    of what passed the chip's taps with golden's: each memory image is read wholly, and the units
    compute with all of it. `tokens` makes that shorter: then so many tokens and positions are fed.
    """
    yield _link(chip, etched.design)
    sequences = _sequences(etched.design, tokens)
    before, after = _run(chip, sequences)
    expected = signatures(etched, sequences, before.signatures)
    passed = {tap: after.signatures[tap] == expected[tap] for tap in Tap}

    def line(name: str, tap: Tap, what: str) -> Line:
        got = after.signatures[tap]
        differs = "" if passed[tap] else f", not {expected[tap]:08x}"
        return name, passed[tap], f"{what}: signature {got:08x}{differs}"

    fed = sum(map(len, sequences))
    different = len({*np.concatenate(sequences).tolist()})
    design = etched.design
    yield line("weight image", Tap.WEIGHTS, f"{weight_words(design)} words, {fed} times")
    yield line("embedding image", Tap.EMBEDDING, f"{different} of {design.model.vocab} tokens")
    reached = max(map(len, sequences))
    yield line("RoPE image", Tap.DRAIN, f"{reached} of {design.context} positions, by the drain")
    if design.model.has_bias:
        yield line("bias image", Tap.DRAIN, "all layers, by the drain")
    yield line("array", Tap.ARRAY, "sums of all blocks")
    yield line("drain", Tap.DRAIN, "results of all layers, and logits")
    yield line("attention", Tap.ATTENTION, f"contexts over up to {reached} positions")
    yield _story(chip, etched)


def _link(chip: BoardChip, design: Design) -> Line:
    """Ask for the status a few times; each query counts as one good frame."""
    first, retries = chip.status(), chip.retries
    last = [chip.status() for _ in range(QUERIES)][-1]
    lost = chip.retries - retries
    counted = min(first.good + QUERIES, 0xFFFF) == last.good
    detail = f"design {last.identity:08x}, {last.good} good frames, {last.dropped} dropped"
    if lost:
        detail += f", {lost} of {QUERIES} questions repeated"
    return "link", last.identity == identity(design) and counted and not lost, detail


def _sequences(design: Design, tokens: int | None) -> list[np.ndarray]:
    """Tokens in sequences that fit a slot: all of the vocabulary, over all positions."""
    count = max(design.model.vocab, design.context) if tokens is None else tokens
    fed = np.arange(count) % design.model.vocab
    return [fed[at : at + design.context] for at in range(0, count, design.context)]


def _run(chip: BoardChip, sequences: list[np.ndarray]) -> tuple[Status, Status]:
    """Feed the sequences; the status before and after a run in which no frame was lost."""
    for _ in range(RUNS):
        before, retries = chip.status(), chip.retries
        for tokens in sequences:
            for position, token in enumerate(tokens.tolist()):
                chip.feed(0, position, token, True)
        after = chip.status()
        if chip.retries == retries:
            return before, after
    raise LinkError(
        f"The link to {chip.port} loses so many frames that no run of the self test was whole"
    )


def _story(chip: BoardChip, etched: Etched) -> Line:
    """Generate on board and golden, from the first token of a story."""
    first, count = etched.bos or 0, min(STORY, etched.design.context)
    expected = GoldenChip(etched).generate(0, 0, first, count - 1)
    for n, got in enumerate(chip.generate(0, 0, first, count - 1), 1):
        if got != (right := next(expected)):
            return "story", False, f"token {n} is {got}, not {right}"
    return "story", True, f"{count} tokens as golden has them"
