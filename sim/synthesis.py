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
from intaglio.hw.chip import make_chip
from intaglio.hw.shared.flashed import flashed_memory
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
    # A module's netlist comes back from ABC with names of its own, which may be those of wires.
    synth = f"synth_{family} -noflatten -top chip {options}"
    return f"{after_read}\n{synth} -run begin:map_luts\nrename -hide w:*\n{synth} -run map_luts:\n"


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


def _merge_alike(text: str) -> tuple[str, dict[str, str]]:
    """A design in RTLIL without the modules that are another but for numbers in their names.

    With the one that stands for each, by its name; a copy of a unit is then mapped only once.
    """
    modules = {
        name: (head, body)
        for head, name, body in re.findall(
            r"^((?:attribute [^\n]*\n)*module \\(\S+)\n)(.*?^end\n)", text, re.M | re.S
        )
    }
    renumbered: dict[str, dict[str, str]] = {}
    first: dict[str, str] = {}
    stands_for: dict[str, str] = {}
    merged = []

    def renumber(name: str, part: str) -> str:
        known = renumbered.setdefault(name, {})

        def new(found: re.Match[str]) -> str:
            cell, old = found[1], found[0]
            return cell or known.setdefault(old, f"@{len(known)}")

        return re.sub(r"(^  cell \S+ \S+)|(?<=\w)\$\d+", new, part, flags=re.M)

    def instance(cell: re.Match[str]) -> str:
        name, rest = cell.groups()
        if name not in modules:
            return cell[0]
        merge(name)
        ports = re.sub(
            r"(?<=^    connect \\)\S+", lambda port: renumber(name, port[0]), rest, flags=re.M
        )
        return f"  cell \\{stands_for[name]} {ports}"

    def merge(name: str) -> None:
        if name not in stands_for:
            head, body = modules[name]
            body = re.sub(r"^  cell \\(\S+) (.*?^  end)", instance, body, flags=re.M | re.S)
            body = renumber(name, body)
            stands_for[name] = first.setdefault(body, name)
            if stands_for[name] == name:
                merged.append(head + body)

    merge("chip")
    return "\n".join(merged), stands_for


def _used(stands_for: dict[str, str], instances: set[str]) -> dict[str, str]:
    """`stands_for` without modules whose results nobody needs, by what stands in which module."""
    used = {}
    for name in sorted(stands_for):
        parent, _, instance = name.rpartition(".")
        if not parent or (parent in used and f"{used[parent]}/{instance}" in instances):
            used[name] = stands_for[name]
    return used


def _cells(text: str, stands_for: dict[str, str]) -> dict[str, dict[str, int]]:
    """Cells by module, of the output of ``stat -json``."""
    known = json.loads(text)
    modules = {name.removeprefix("\\"): module for name, module in known["modules"].items()}

    def cells(counted: dict[str, Any]) -> dict[str, int]:
        kinds = counted["num_cells_by_type"].items()
        return {kind: n for kind, n in kinds if kind not in modules and kind != "$mem_v2"}

    by_module = {
        name + part: cells(modules[one + part])
        for name, one in stands_for.items()
        for part in ("", MULTIPLY)
        if one + part in modules
    }
    assert sum(map(Counter, by_module.values()), Counter()) == cells(known["design"]), (
        "every module of the design is there"
    )
    return by_module


def _memories(text: str, stands_for: dict[str, str]) -> list[Memory]:
    """Memories, of the output of ``dump``."""
    memories = []
    for module, cells in re.findall(r"^module \\(\S+)\n(.*?)^end", text, re.M | re.S):
        for name, cell in re.findall(r"^  cell \$mem_v2 (\S+)\n(.*?)^  end", cells, re.M | re.S):
            parameters = dict(re.findall(r"parameter \\(SIZE|WIDTH|WR_PORTS) (\d+)$", cell, re.M))
            words, width, writers = (int(parameters[k]) for k in ("SIZE", "WIDTH", "WR_PORTS"))
            name = name.removeprefix("\\")
            memories += [
                Memory(copy, name, words, width, writers > 0)
                for copy, one in stands_for.items()
                if one == module
            ]
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
        text, stands_for = _merge_alike(rtlil.convert(component, name="chip", emit_src=False))
        (folder / "chip.il").write_text(text)
        (folder / "chip.ys").write_text(
            # A module whose results nobody needs is no longer part of the hierarchy.
            f"read_rtlil chip.il\n{script}\nhierarchy -top chip\ntee -q -o cells.json stat -json\n"
            "tee -q -o instances.txt select -list t:chip.*\n"
        )
        show(f"mapping it to cells: {yosys}; minutes to an hour, once for each design")
        run(yosys, ["-q", "-s", "chip.ys"], folder)
        used = _used(stands_for, set((folder / "instances.txt").read_text().split()))
        dumped = folder / "memories.txt"
        memories = _memories(dumped.read_text(), used) if dumped.exists() else []
        cells = _cells((folder / "cells.json").read_text(), used)
        return Netlist(str(yosys), cells, memories)


def chip_netlist(
    etched: Etched, script: str, show: Callable[[str], None], flash: int | None = None
) -> Netlist:
    """The chip through `script`; kept in the cache, as it does not depend on the weights.

    The memory of a shared chip is filled from the byte `flash` of one, if that is given.
    """
    design, sources = etched.design, source_text(Path(__file__))
    key = digest(repr((design, flash)), script, str(find("yosys")), sources, *tool_versions())

    def make(folder: Path) -> None:
        memory = flashed_memory(design, flash) if design.shared and flash is not None else None
        chip = make_chip(design, random_contents(design, images(etched), SEED), memory)
        text = json.dumps(asdict(synthesise(chip, script, show)))
        (folder / "partial.json").write_text(text)
        (folder / "partial.json").replace(folder / "netlist.json")

    product, _ = built(key, "netlist.json", {}, make)
    known = json.loads(product.read_text())
    return Netlist(known["tool"], known["cells"], [Memory(**m) for m in known["memories"]])
