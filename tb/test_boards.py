# amaranth: UnusedElaboratable=no
"""The boards' data: clocks that can be, bits of the right length, pins that are there."""

import json
import re
from collections import Counter
from fnmatch import fnmatch

import pytest
from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.fpga.boards import BOARDS, ECP5PLL, board
from intaglio.fpga.place import place
from intaglio.fpga.results import table, with_table
from intaglio.fpga.top import BoardTop, core_of
from intaglio.golden.images import images
from intaglio.hw.formats import ConfigError
from intaglio.tb.models import random_etched
from intaglio.tb.roms import ROMs

EACH = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
CLOCKS = {
    "ulx3s-85f": 90e6, "ulx3s-25f": 60e6, "ecpix5-85f": 90e6, "icepi-zero": 60e6,
    "icebreaker": 21e6, "icebreaker-large": 21e6,
}  # fmt: skip


@EACH
def test_clock(board):
    """The oscillator is the board's, the PLL may do what is asked, the frequency is a whole one."""
    pll = board.pll
    platform = board.make_platform()
    assert pll.pin_hz == platform.default_clk_frequency
    assert pll.hz == CLOCKS[board.name]
    if isinstance(pll, ECP5PLL):
        assert pll.hz * pll.input_divider == pll.pin_hz * pll.feedback_divider
        assert 400e6 <= pll.vco_hz <= 800e6
        assert pll.pin_hz / pll.input_divider >= 3.125e6
    else:
        assert pll.hz == pll.pin_hz * (pll.divf + 1) / (pll.divr + 1) / 2**pll.divq
        assert 533e6 <= pll.vco_hz <= 1066e6


@EACH
def test_baud_rate(board):
    assert board.cycles_per_bit >= 4
    assert abs(board.pll.hz / board.cycles_per_bit / board.baud - 1) < 0.02


@EACH
def test_device_is_the_platform_s(board):
    platform = board.make_platform()
    assert (platform.device, platform.family.lower()) == (board.device.name, board.device.family)


@EACH
def test_top_has_all_pins(board):
    """The top finds the UART and each LED, and constrains the clock."""
    plan = board.make_platform().prepare(BoardTop(board, ROMs({"rom": (8, 512)}, seed=1)), "top")
    suffix = {"ecp5": "lpf", "ice40": "pcf"}[board.device.family]
    pins = plan.files[f"top.{suffix}"]
    assert "uart_0__rx__io" in pins
    assert "uart_0__tx__io" in pins
    assert pins.lower().count("led") // (2 if suffix == "lpf" else 1) == len(board.leds)
    assert "spi_flash" not in pins
    assert "frequency" in pins.lower()


def test_unknown_board_is_one_sentence():
    with pytest.raises(ConfigError, match=r"'ulx4s': choose one of ulx3s-85f, .*icebreaker"):
        board("ulx4s")


def test_table_of_results():
    """What `make boards` writes into the README, in place of what was there."""
    chip = {
        "rows": 1, "outputs": 16, "depth": 8, "weights": "int8", "activations": "int8",
        "kv": "int8", "small_float": "E8M15",
    }  # fmt: skip
    used = {"lut": 20910, "ff": 10, "dsp": 78, "block_ram": 104}
    result = {
        "board": "ulx3s-85f", "model": "stories", "chip": chip, "used": used,
        "available": {"lut": 83640, "ff": 83640, "dsp": 156, "block_ram": 208},
        "fmax_mhz": 93.4, "clock_mhz": 90.0, "date": "2026-01-02", "tools": {"yosys": "yosys 1"},
        "expected": {"one": 2000.4, "all": 600.2, "slots": 4, "tokens_per_second_one": 44991,
                     "tokens_per_second_all": 149950},
    }  # fmt: skip
    failed = {"board": "icebreaker", "failed": "It is too large."}
    readme = "# A\n\n<!-- boards -->\nold\n<!-- end of boards -->\n\n## B\n"
    written = with_table(readme, table([result, failed]))
    assert "old" not in written
    assert written.startswith("# A\n\n<!-- boards -->\n| board | model |")
    assert written.endswith("<!-- end of boards -->\n\n## B\n")
    assert (
        "| ULX3S with LFE5U-85F | stories | 1 x 16 x 8; int8, int8, int8, E8M15 | 20,910 (25 %) | "
        "10 (0 %) | 78 (50 %) | 104 (50 %) | 93.4 of 90 | 2,000; 600 (4) | 44,991; 149,950 |"
    ) in written
    assert "icebreaker: not built. It is too large." in written
    assert "Built on 2026-01-02 with yosys 1." in written
    with pytest.raises(ConfigError, match="no place for the boards"):
        with_table("# A\n", "table")


def test_scripts_select_something(tmp_path, monkeypatch):
    """A unit or memory of another name would be built otherwise, without a word."""
    board = BOARDS["ulx3s-85f"]
    etched = random_etched(board.chip, context=128)

    def stop(*step) -> None:
        raise InterruptedError

    monkeypatch.setattr("intaglio.fpga.place._step", stop)
    with pytest.raises(InterruptedError):
        place(board, core_of(board, etched.design, images(etched)), tmp_path, lambda stage: None)
    modules = re.findall(
        r"^module (\S+)$(.*?)^end$", (tmp_path / "top.il").read_text(), re.M | re.S
    )
    memories = {
        (module, name)
        for module, body in modules
        for name in re.findall(r"^  memory .*\\(\S+)$", body, re.M)
    }
    script = (tmp_path / "top.ys").read_text()
    selections = re.findall(r"setattr (?:-mod )?-set \w+ \S+ ([^;\n]+)", script)
    patterns = [pattern for selection in selections for pattern in selection.split()]
    assert len(patterns) == 4
    for pattern in patterns:
        module, _, memory = pattern.partition("/m:")
        assert any(
            fnmatch(found, module) and (not memory or (found, memory) in memories)
            for found, _ in modules
        ), pattern


def test_small_enables_are_lookup_tables(tmp_path):
    """In an ECP5, whose slices share them: see `FEW_CONTROL_SETS`."""

    class Core(wiring.Component):
        """Seven flip-flops with an enable, and eight with another."""

        rx: Signal
        tx: Signal
        busy: Signal
        dropped: Signal

        def __init__(self):
            super().__init__({"rx": In(1), "tx": Out(1), "busy": Out(1), "dropped": Out(1)})

        def elaborate(self, platform):
            m = Module()
            ends = []
            for count in (7, 8):
                held, enable = Signal(count), Signal()
                m.d.sync += enable.eq(self.rx ^ Cat(*ends).any())
                with m.If(enable):
                    m.d.sync += held.eq(Cat(self.rx, held))
                ends.append(held[-1])
            m.d.sync += self.tx.eq(Cat(*ends).xor())
            return m

    place(BOARDS["ulx3s-25f"], Core(), tmp_path, lambda stage: None)
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"]
    enables = Counter(
        cell["connections"]["CE"][0]
        for cell in cells.values()
        if cell["type"] == "TRELLIS_FF" and cell["parameters"]["CEMUX"] == "CE"
    )
    assert min(enables.values()) == 8
