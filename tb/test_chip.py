"""The whole chip against golden: tokens and all logits, whatever else the chip is doing."""

import json

import numpy as np
import pytest

from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import Etched, etch
from intaglio.golden.images import images
from intaglio.golden.load import load
from intaglio.hw.chip import Chip
from intaglio.hw.config import ChipConfig, Design
from intaglio.hw.formats import FloatFormat, element_format
from intaglio.sim.simulator import SimulatedChip
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import SHARED, needs_shared, random_etched

Place = tuple[int, int]
"""Slot and position."""

SMALL = ChipConfig(rows=2, outputs=4, depth=4, window=4, kv_lanes=1)
SHAPES = {
    "two rows, biases": (SMALL, {"attention_bias": True, "mlp_bias": True}),
    "odd sizes, float weights": (
        ChipConfig(
            weights=element_format("e2m3"),
            kv=element_format("int6"),
            small_float=FloatFormat(8, 10),
            outputs=8,
            depth=2,
            window=4,
            slots=2,
        ),
        {"dim": 40, "hidden": 34, "heads": 3, "kv_heads": 3, "head_dim": 12, "vocab": 31,
         "layers": 1},
    ),
}  # fmt: skip


def schedule(lengths: list[int], rows: int, seed: int) -> list[list[Place]]:
    """Steps that feed sequences of these lengths, a slot each, mixed at random."""
    rng = np.random.default_rng(seed)
    done, steps = [0] * len(lengths), []
    while any(d < n for d, n in zip(done, lengths, strict=True)):
        step = []
        for _ in range(rng.integers(1, rows + 1)):
            open_slots = [s for s, n in enumerate(lengths) if done[s] < n]
            if not open_slots:
                break
            slot = int(rng.choice(open_slots))
            step.append((slot, done[slot]))
            done[slot] += 1
        steps.append(step)
    return steps


def commands(steps: list[list[Place]], tokens: list[np.ndarray], rows: int) -> list[dict]:
    """Host commands of the steps, every row sampled."""
    return [
        {"slot": slot, "position": position, "token": int(tokens[slot][position]), "sample": 1,
         "last": int(n == len(step) - 1 and len(step) < rows)}
        for step in steps
        for n, (slot, position) in enumerate(step)
    ]  # fmt: skip


def assert_equals_golden(etched: Etched, tokens: list[np.ndarray], seed: int) -> None:
    """Feed the sequences mixed at random, all at once; compare each row's token and logits."""
    rows = etched.design.chip.rows
    expected = [GoldenChip(etched).logits(sequence) for sequence in tokens]
    steps = schedule([len(t) for t in tokens], rows, seed)
    chip = SimulatedChip(etched)
    for command in commands(steps, tokens, rows):
        chip.command(*command.values())
    events = [chip.event() for step in steps for _ in step]
    logits = chip.logits()
    assert len(logits) == len(steps)
    order = {step[0]: step for step in steps}
    seen = 0
    for step_logits in logits:
        first = events[seen]
        for row, (slot, position) in enumerate(order[first.slot, first.position]):
            event = events[seen]
            seen += 1
            assert (event.slot, event.position, event.sampled) == (slot, position, True)
            np.testing.assert_array_equal(step_logits[row], expected[slot][position])
            assert event.token == expected[slot][position].argmax()
    assert seen == len(events)


@ON_BOTH
@pytest.mark.parametrize("name", SHAPES)
def test_small_chip(name, simulator, tmp_path):
    """The generated Verilog in both simulators, with stalls on the host's side."""
    chip, shape = SHAPES[name]
    etched = random_etched(chip, **shape)
    rng = np.random.default_rng(1)
    tokens = [rng.integers(0, etched.design.model.vocab, n) for n in (2, 3)]
    best = [GoldenChip(etched).logits(sequence).argmax(axis=1) for sequence in tokens]
    steps = schedule([2, 3], chip.rows, seed=2)
    events = [
        {"slot": slot, "position": position, "token": int(best[slot][position]), "sampled": 1}
        for step in steps
        for slot, position in step
    ]
    unit = Chip(etched.design, images(etched))
    commanded = commands(steps, tokens, chip.rows)
    check(unit, {"commands": commanded}, {"events": events}, simulator, tmp_path, patience=4000)


@pytest.mark.parametrize(
    "chip",
    [ChipConfig(rows=3, groups=3, outputs=8, depth=4, window=8, slots=5), ChipConfig(groups=2)],
    ids=["3 rows x 3 groups", "1 row x 2 groups"],
)
def test_rows_and_groups(chip):
    """Many sequences at once, several steps in flight, each sequence as if it were alone."""
    etched = random_etched(chip)
    rng = np.random.default_rng(1)
    tokens = [rng.integers(0, 30, n) for n in (24, 11, 1, 17, 5)[: etched.design.slots]]
    assert_equals_golden(etched, tokens, seed=3)


def test_rows_that_want_no_token_get_an_event():
    """A prompt's rows are acknowledged; a slot can be used again."""
    chip = SimulatedChip(random_etched(ChipConfig(groups=2)))
    first = [chip.feed(0, n, token, n == 2) for n, token in enumerate((3, 5, 7))]
    again = [chip.feed(0, n, token, n == 2) for n, token in enumerate((3, 5, 7))]
    assert first[:2] == [None, None]
    assert first == again


@needs_shared
@pytest.mark.parametrize(("rows", "groups", "outputs"), [(1, 1, 32), (4, 2, 8)])
def test_stories(rows, groups, outputs):
    """stories260K, int8: three sequences of 64 tokens, logit for logit."""
    checkpoint = load(SHARED / "models" / "stories260K" / "stories260K.bin")
    chip = ChipConfig(rows=rows, groups=groups, outputs=outputs, slots=3, context=96)
    reference = json.loads((SHARED / "models" / "stories260K" / "reference.json").read_text())
    tokens = [np.array(case["output_ids"][:64]) for case in reference["cases"][1:4]]
    assert_equals_golden(etch(checkpoint, Design(checkpoint.config, chip)), tokens, seed=4)
