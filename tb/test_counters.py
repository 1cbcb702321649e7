"""What the chip counts of itself against what was recorded of its activity."""

import numpy as np
import pytest

from intaglio.golden.chip import GoldenChip
from intaglio.hw.config import ChipConfig, Linear
from intaglio.hw.protocol import Counter
from intaglio.sim.activity import count, stretches
from intaglio.sim.simulator import SimulatedChip
from intaglio.sim.traffic import Prompt, advance, batches
from intaglio.sim.usage import difference, usage
from intaglio.tb.models import random_etched

CHIP = ChipConfig(rows=2, groups=2, engines=2, outputs=8, depth=4, window=8, slots=5)


@pytest.fixture(scope="module")
def chip() -> SimulatedChip:
    return SimulatedChip(random_etched(CHIP))


def test_counters(chip):
    """Counters equal the count of the recorded activity; tokens and rows equal what was sent."""
    before = chip.counters
    chip.record(True)
    running = batches(chip, 4)
    prompt = Prompt([4], list(range(3, 16)), CHIP.rows)
    steps = sum(1 for _ in advance(chip, [prompt, *running], steps=7))
    chip.record(False)
    end = chip.cycles
    chip.wait(3)  # the counters are that late
    counted = difference(before, chip.counters)
    assert steps == 7 + 2 * 7
    recorded = list(stretches(chip.design, chip.recorded(), end))
    expected = count(iter(recorded))
    # Those of the reset and of the wait are not recorded.
    assert abs(expected.pop(Counter.CYCLES) - counted.pop(Counter.CYCLES)) <= 3
    assert counted == expected
    layers = chip.design.model.layers
    assert counted[Counter.TOKENS] == 4 * 7 + 13
    for name in ("QKV", "O", "GATE_UP", "DOWN"):
        assert counted[Counter[name]] == layers * (4 * 7 + 13)
    assert counted[Counter.HEAD] == 4 * 7 + 1
    positions = 4 * sum(range(1, 8)) + sum(range(1, 14))
    assert counted[Counter.KEYS] == layers * chip.design.lane_groups * positions


def test_usage(chip):
    """Slots used and lost are all that were offered; those used are the model's products."""
    before = chip.counters
    for _ in advance(chip, batches(chip, 4), steps=3):
        pass
    used = usage(chip.design, difference(before, chip.counters))
    for share in (used.array, used.attention):
        assert share.used + sum(share.lost.values()) == share.offered
        assert min(share.lost.values()) >= 0
        assert 0 < share.utilisation < 1
    model, design = chip.design.model, chip.design
    sizes = {
        linear: design.linear(linear).inputs * design.linear(linear).outputs for linear in Linear
    }
    per_token = model.layers * (sum(sizes.values()) - sizes[Linear.HEAD]) + sizes[Linear.HEAD]
    assert used.array.used == 12 * per_token


def test_engines_change_no_token(chip):
    """Sequences of both engines, fed at once, give golden's tokens."""
    running = batches(chip, 5)
    first = {slot: token for b in running for slot, token in zip(b.slots, b.tokens, strict=True)}
    for _ in advance(chip, running, steps=9):
        pass
    last = {slot: token for b in running for slot, token in zip(b.slots, b.tokens, strict=True)}
    etched = random_etched(CHIP)
    for slot, token in first.items():
        golden = GoldenChip(etched)
        for position in range(9):
            token = golden.feed(0, position, token, True) or 0
        assert last[slot] == token
    assert len(np.unique(list(last.values()))) > 1
