"""A component through Yosys with its hierarchy kept: the cells of each module, and its memories."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.lib import wiring

from intaglio.fpga.etch import random_contents
from intaglio.fpga.tools import find, run
from intaglio.golden.etch import Etched
from intaglio.golden.images import images
from intaglio.hw.chip import Chip
from intaglio.sim.cache import built, digest, source_text, tool_versions

__all__ = ["CMOS", "MULTIPLY", "Memory", "Netlist", "chip_netlist", "fpga_script", "synthesise"]

SEED = 1
"""Of the words that stand for the model's, so that no bit of a memory is constant."""

MULTIPLY = "_multiply"
"""What is appended to the name of a module for the products and sums taken out of it."""

CMOS = f"""
hierarchy -check -top chip
proc; opt_expr; opt_clean

# Registers of the products and sums of attention, and the logic in front of them.
select -set held *.scores/w:key_*_1 *.scores/w:query_* *.scores/w:product_* *.scores/w:dot_*
select -set held @held *.context/w:folded_*_once_* *.context/w:folded_*_thrice_*
select -set held @held *.context/w:folded_*_minus_* *.context/w:product_* *.context/w:total_*
select -set products @held %ci2 %ci*:+$add,$sub,$neg,$mux,$pmux,$and,$or,$not t:$* %i
setattr -set submod "{MULTIPLY[1:]}" @products
submod

memory -nomap
dump -o memories.txt t:$mem_v2
synth -run coarse:fine
opt -fast -full; techmap; opt -fast
dfflegalize -cell $_DFF_P_ 0
abc -g cmos4
opt_clean
"""
"""Static CMOS gates of up to four inputs and plain flip-flops; memories stay whole."""


def fpga_script(family: str, options: str = "", after_read: str = "") -> str:
    """Script for ``ecp5`` or ``ice40``; `options` and `after_read` are a board's."""
    return f"{after_read}\nsynth_{family} -noflatten -top chip {options}\n"


@dataclass(frozen=True)
class Memory:
    """A memory, as large as it is addressed."""

    module: str
    name: str
    words: int
    width: int
    """Bits of a word."""
    writable: bool

    @property
    def bits(self) -> int:
        """Bits of all words."""
        return self.words * self.width


@dataclass(frozen=True)
class Netlist:
    """What Yosys made of a component."""

    tool: str
    cells: dict[str, dict[str, int]]
    """For each module, how many cells of each type stand in it; a submodule is not a cell."""
    memories: list[Memory]
    """Those that were kept whole; in an FPGA's cells there are none."""


def _cells(text: str) -> dict[str, dict[str, int]]:
    """Cells by module, of the output of ``stat -json``."""
    known = json.loads(text)
    modules = {name.removeprefix("\\"): module for name, module in known["modules"].items()}

    def cells(counted: dict[str, Any]) -> dict[str, int]:
        kinds = counted["num_cells_by_type"].items()
        return {kind: n for kind, n in kinds if kind not in modules and kind != "$mem_v2"}

    by_module = {name: cells(module) for name, module in modules.items()}
    assert sum(map(Counter, by_module.values()), Counter()) == cells(known["design"]), (
        "every module stands once in the design"
    )
    return by_module


def _memories(text: str) -> list[Memory]:
    """Memories, of the output of ``dump``."""
    memories = []
    for module, cells in re.findall(r"^module \\(\S+)\n(.*?)^end", text, re.M | re.S):
        for name, cell in re.findall(r"^  cell \$mem_v2 (\S+)\n(.*?)^  end", cells, re.M | re.S):
            parameters = dict(re.findall(r"parameter \\(SIZE|WIDTH|WR_PORTS) (\d+)$", cell, re.M))
            words, width, writers = (int(parameters[k]) for k in ("SIZE", "WIDTH", "WR_PORTS"))
            memories.append(Memory(module, name.removeprefix("\\"), words, width, writers > 0))
    return memories


def synthesise(
    component: wiring.Component, script: str, show: Callable[[str], None] = lambda stage: None
) -> Netlist:
    """Run Yosys's `script` on `component`, whose module is ``chip``; `show` is told each stage.

    Raises :exc:`~intaglio.sim.tools.ToolError` if Yosys is missing or fails.
    """
    yosys = find("yosys")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        show("generating the RTL: minutes for a large array")
        (folder / "chip.il").write_text(rtlil.convert(component, name="chip", emit_src=False))
        (folder / "chip.ys").write_text(
            # A module whose results nobody needs is no longer part of the hierarchy.
            f"read_rtlil chip.il\n{script}\nhierarchy -top chip\ntee -q -o cells.json stat -json\n"
        )
        show(f"mapping it to cells: {yosys}; minutes to an hour, once for each design")
        run(yosys, ["-q", "-s", "chip.ys"], folder)
        dumped = folder / "memories.txt"
        memories = _memories(dumped.read_text()) if dumped.exists() else []
        return Netlist(str(yosys), _cells((folder / "cells.json").read_text()), memories)


def chip_netlist(etched: Etched, script: str, show: Callable[[str], None]) -> Netlist:
    """The chip through `script`; kept in the cache, as it does not depend on the weights."""
    design, sources = etched.design, source_text(Path(__file__))
    key = digest(repr(design), script, str(find("yosys")), sources, *tool_versions())

    def make(folder: Path) -> None:
        chip = Chip(design, random_contents(design, images(etched), SEED))
        text = json.dumps(asdict(synthesise(chip, script, show)))
        (folder / "partial.json").write_text(text)
        (folder / "partial.json").replace(folder / "netlist.json")

    product, _ = built(key, "netlist.json", {}, make)
    known = json.loads(product.read_text())
    return Netlist(known["tool"], known["cells"], [Memory(**m) for m in known["memories"]])
