"""The host link: commands to steps, finished steps to events."""

import numpy as np
import pytest

from intaglio.hw.config import ChipConfig
from intaglio.hw.host import HostLink
from intaglio.hw.layouts import Layouts
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import random_etched

EMPTY = {"valid": 0, "slot": 0, "position": 0, "token": 0, "sample": 0}


def random_steps(rows: int, count: int) -> list[list[dict]]:
    """Rows of steps, some full, some closed early."""
    rng = np.random.default_rng(1)
    return [
        [
            {
                "slot": int(rng.integers(5)),
                "position": int(rng.integers(24)),
                "token": int(rng.integers(30)),
                "sample": int(rng.integers(2)),
            }
            for _ in range(rng.integers(1, rows + 1))
        ]
        for _ in range(count)
    ]


@ON_BOTH
@pytest.mark.parametrize("rows", [1, 3])
def test_host(rows, simulator, tmp_path):
    rng = np.random.default_rng(2)
    unit = HostLink(Layouts(random_etched(ChipConfig(rows=rows, slots=5)).design))
    commands, steps, finished, events = [], [], [], []
    for step in random_steps(rows, 40):
        # A full step needs no `last`, and may have it.
        last = [0] * (len(step) - 1) + [1 if len(step) < rows else int(rng.integers(2))]
        commands += [{**row, "last": flag} for row, flag in zip(step, last, strict=True)]
        steps.append([{"valid": 1, **row} for row in step] + [EMPTY] * (rows - len(step)))
        tokens = rng.integers(0, 30, rows).tolist()
        finished.append({"rows": steps[-1], "tokens": tokens})
        events += [
            {
                "slot": row["slot"],
                "position": row["position"],
                "token": tokens[n] if row["sample"] else row["token"],
                "sampled": row["sample"],
            }
            for n, row in enumerate(step)
        ]
    check(
        unit,
        {"commands": commands, "finished": finished},
        {"steps": steps, "events": events},
        simulator,
        tmp_path,
    )
