# amaranth: UnusedElaboratable=no
"""Bitstreams: made, or refused and then not left behind."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intaglio.fpga import tools
from intaglio.fpga.boards import BOARDS, ICE40PLL
from intaglio.fpga.build import build, design_of, etch_anew, write_design
from intaglio.fpga.expect import Expected, expect
from intaglio.fpga.place import pack, place
from intaglio.fpga.report import Report, report_on
from intaglio.golden.etch import etch
from intaglio.golden.main_memory import main_memory
from intaglio.hw.config import ChipConfig, Design
from intaglio.hw.formats import ConfigError, FloatFormat, element_format
from intaglio.hw.shared.memory_map import MemoryMap
from intaglio.sim import cli
from intaglio.sim.simulator import SimulatedChip
from intaglio.sim.tools import ToolError
from intaglio.tb.models import random_checkpoint, random_etched
from intaglio.tb.roms import ROMs

BOARD = BOARDS["icebreaker"]
SMALL = {"rom": (16, 512)}
ONE, OTHER = (random_checkpoint(seed, layers=1, context=128) for seed in (1, 2))
DESIGN = Design(ONE.config, BOARD.chip)


def silent(stage: str) -> None:
    """Show nothing."""


def test_small_design_to_a_bitstream(tmp_path):
    """iCE40, through every stage; the report has what the tools say."""
    stages = []
    met = place(BOARD, ROMs(SMALL, seed=1), tmp_path, stages.append)
    assert [stage.split(":")[0] for stage in stages] == [
        "generating the RTL", "synthesis", "place and route",
    ]  # fmt: skip
    assert met.met
    pack(tmp_path, "top")
    assert (tmp_path / "top.bin").stat().st_size > 100_000

    expected = Expected(positions=8, one=900.0, all=300.0, slots=3)
    report_on(BOARD, "roms", {}, tmp_path, 512, expected).save(tmp_path)
    report = Report.load(tmp_path)
    assert report.used["block_ram"] == 2
    device = BOARD.device
    assert report.available == {
        "lut": device.logic, "dsp": device.dsp, "block_ram": device.block_rams, "spram": 4,
        "ff": device.logic,
    }  # fmt: skip
    assert 16 <= report.used["ff"] <= report.used["lut"] < 100
    assert report.fmax_mhz > report.clock_mhz == 21
    assert report.expected["tokens_per_second_one"] == round(21e6 / 900)
    assert report.expected["tokens_per_second_all"] == 70_000
    assert set(report.tools) == {"yosys", "nextpnr-ice40", "icepack"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Report]:
    """A whole decoder for the iCEBreaker."""
    folder = tmp_path_factory.mktemp("built")
    return folder, build(BOARD, etch(ONE, DESIGN), folder, silent)


def test_chip_to_a_bitstream(built, tmp_path):
    """And then another model beside the same bitstream."""
    folder, report = built
    words = MemoryMap(DESIGN).cache
    assert report.words_read_back == words
    assert report.used["spram"] == 4
    assert report.used["lut"] < BOARD.device.logic
    assert report.fmax_mhz >= report.clock_mhz == 21
    assert 10_000 < report.expected["one"] < 200_000
    assert (folder / "chip.bin").stat().st_size > 100_000

    # What another build has left there is not taken for this one's.
    for name in ("top.sha256", "chip.svf"):
        (tmp_path / name).write_text("another")
    again = etch_anew(folder, OTHER, tmp_path, silent)
    assert again.expected == report.expected
    assert (tmp_path / "chip.bin").read_bytes() == (folder / "chip.bin").read_bytes()
    assert not {"top.sha256", "chip.svf"} & {path.name for path in tmp_path.iterdir()}
    for place_of, checkpoint in ((folder, ONE), (tmp_path, OTHER)):
        held = np.frombuffer((place_of / "memory.bin").read_bytes(), "<u4")
        assert held.tolist() == main_memory(etch(checkpoint, DESIGN))[:words]


def test_placed_is_what_was_placed(built, tmp_path):
    """A build goes on from its placed design only if that is the one it made."""
    folder = shutil.copytree(built[0], tmp_path / "build")
    stages = []
    again = build(BOARD, etch(ONE, DESIGN), folder, stages.append)
    assert "the same design is placed there" in stages
    assert replace(again, date=built[1].date) == built[1]
    (folder / "top.asc").write_text("of another board")

    def placing(stage: str) -> None:
        if stage.startswith("synthesis"):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        build(BOARD, etch(ONE, DESIGN), folder, placing)
    assert not {"top.asc", "chip.bin", "report.json"} & {path.name for path in folder.iterdir()}


def test_map_of_another_placement_is_made_anew(built, tmp_path):
    """As after ``build_top.sh``."""
    folder = shutil.copytree(built[0], tmp_path / "build")
    known = (folder / "columns.json").read_text()
    (folder / "columns.json").write_text(json.dumps({**json.loads(known), "placed": "another"}))
    etch_anew(folder, OTHER, folder, silent)
    assert (folder / "columns.json").read_text() == known


def test_what_misses_its_timing_is_not_etched(built, tmp_path):
    folder = shutil.copytree(built[0], tmp_path / "build")
    report = json.loads((folder / "top.report.json").read_text())
    for clock in report["fmax"].values():
        clock["achieved"] = 5.0
    (folder / "top.report.json").write_text(json.dumps(report))
    with pytest.raises(ToolError, match=r"misses its timing: 5\.0 MHz of the 21\.0 MHz wanted"):
        etch_anew(folder, OTHER, tmp_path / "new", silent)
    assert not (tmp_path / "new" / "chip.bin").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("design.json", "{"),
        ("columns.json", "{"),
        ("columns.json", "{}"),
        ("build_top.json", "{}"),
        ("top.report.json", "{"),
        ("top.report.json", '{"fmax": {}}'),
        ("top.asc", ".ram_data 6 1\nxyz"),
    ],
)
def test_damaged_build_is_told(built, name, text, tmp_path):
    folder = shutil.copytree(built[0], tmp_path / "build")
    (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"^\S+/{name} is damaged or of another version"):
        etch_anew(folder, OTHER, tmp_path / "new", silent)


def test_what_a_board_cannot_hold_leaves_its_build_alone(built, tmp_path):
    folder = shutil.copytree(built[0], tmp_path / "build")
    design = Design(ONE.config, replace(BOARD.chip, slots=64))
    with pytest.raises(ConfigError):
        build(BOARD, etch(ONE, design), folder, silent)
    assert design_of(folder) == (BOARD, DESIGN)


def test_missed_timing_is_refused(tmp_path):
    """One sentence with the path; nothing of this build or the one before can be loaded."""
    fast = replace(BOARD, pll=ICE40PLL(12_000_000, 0, 63, 1, 1))
    for name in ("chip.bin", "top.bin", "chip.svf", "top.asc", "report.json", "thesis.txt"):
        (tmp_path / name).write_text("from before")
    with pytest.raises(ToolError) as refused:
        place(fast, ROMs(SMALL, seed=1), tmp_path, silent)
    assert "MHz of the 384.0 MHz wanted; the worst path goes from" in str(refused.value)
    assert str(refused.value).endswith("another --seed may do")
    left = {path.name for path in tmp_path.iterdir()}
    assert not left & {"chip.bin", "top.bin", "chip.svf", "top.asc", "report.json"}
    assert {"top.report.json", "thesis.txt"} <= left


def fake(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_native_tools_are_preferred_and_failures_are_told(tmp_path, monkeypatch):
    programs, build = tmp_path / "programs", tmp_path / "build"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    fake(programs, "yosys", 'echo "Yosys 0.99+12"; exit 0')
    fake(programs, "nextpnr-ice40", 'echo "ERROR: Failed to expand region" >&2; exit 255')
    found = tools.find("yosys")
    assert found.native
    assert str(found) == "yosys 0.99+12"
    assert not tools.find("icepack").native
    with pytest.raises(ToolError, match=r"exit code 255 in .*: Failed to expand region"):
        place(replace(BOARD, seed=7), ROMs(SMALL, seed=1), build, silent)
    # What native tools need is there; the script runs the same programs.
    assert {"top.il", "top.ys", "top.pcf"} <= {path.name for path in build.iterdir()}
    assert "--seed 7" in (build / "build_top.sh").read_text()

    needs = "Info: ICESTORM_LC: 19176/ 5280 363%"
    log = f'test "$1" = --version || echo "{needs}" > top.tim; exit 255'
    fake(programs, "nextpnr-ice40", log)
    with pytest.raises(ToolError, match=r"too large for iCEBreaker .*: 19176 ICESTORM_LC of 5280"):
        place(BOARD, ROMs(SMALL, seed=1), build, silent)


def test_design_is_kept_beside_the_build(tmp_path):
    chip = ChipConfig(weights=element_format("e2m3"), small_float=FloatFormat(8, 10), rows=2)
    design = random_etched(chip, mlp_bias=True).design
    write_design(BOARD, design, tmp_path)
    assert design_of(tmp_path) == (BOARD, design)


@pytest.mark.parametrize("name", ["thesis.txt", "design.json"])
def test_foreign_folder_is_left_alone(name, tmp_path, monkeypatch, capsys):
    (tmp_path / name).write_text("{}")
    arguments = ["intaglio", "bitstream", "--board", "icebreaker", "-o", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 2
    assert "holds other files" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("option", "seed"), [([], BOARD.seed), (["--seed", "5"], 5)])
def test_seed_of_the_placement(option, seed, tmp_path, monkeypatch):
    """The board's, or the one that is asked for."""
    seeds = []

    def placed(board, etched, folder, show):
        seeds.append(board.seed)
        raise ToolError("It was enough to know the seed.")

    monkeypatch.setattr("intaglio.fpga.build.build", placed)
    arguments = ["intaglio", "bitstream", "--board", "icebreaker", "-o", str(tmp_path), *option]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        cli.main()
    assert seeds == [seed]


def test_expected_cycles():
    """One sequence alone takes what its steps take; two in flight take less for each token."""
    etched = random_etched(ChipConfig(groups=2))
    expected = expect(BOARDS["ulx3s-85f"], etched, silent)
    chip, token = SimulatedChip(etched), 1
    before = chip.cycles
    for position in range(24):
        made = chip.feed(0, position, token, True)
        assert made is not None
        token = made
    assert (expected.positions, expected.slots) == (24, 2)
    assert expected.one == round((chip.cycles - before) / 24, 1)
    assert 0.5 * expected.one <= expected.all < 0.95 * expected.one
    assert expected.tokens_per_second(1e6) == (1e6 / expected.one, 1e6 / expected.all)
