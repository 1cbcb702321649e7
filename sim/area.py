"""Where the transistors are: the cells of a chip by unit, and the share that multiplies."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.table import Table
from rich.text import Text

from intaglio.fpga.boards import Board, Device
from intaglio.golden.checkpoint import Checkpoint
from intaglio.golden.etch import etch
from intaglio.hw.config import ChipConfig, Design
from intaglio.sim.synthesis import CMOS, MULTIPLY, Netlist, chip_netlist, fpga_script

__all__ = [
    "CELLS",
    "H100",
    "MULTIPLIERS",
    "Area",
    "Unit",
    "against",
    "as_table",
    "curve",
    "describe",
    "measure",
    "memories_table",
    "summary",
    "units",
]

H100 = 0.033
"""Etched's count: 528 tensor cores x 4 x 8 x 16 multiply-adds x 10,000 transistors, 2.7 of the
80 billion transistors of an H100, whose memories are among them."""

TRANSISTORS = {
    "$_NOT_": 2, "$_NAND_": 4, "$_NOR_": 4, "$_AOI3_": 6, "$_OAI3_": 6, "$_AOI4_": 8, "$_OAI4_": 8,
    "$_DFF_P_": 16,
}  # fmt: skip
"""Of static gates; of a flip-flop of four transmission gates and four inverters, its clock being
inverted elsewhere. Yosys's ``stat -tech cmos`` takes the same."""

RAM_BIT, ROM_BIT = 6, 1
"""Transistors of a bit: a static cell, and one that is there or not."""

DFF = ["SB_DFF" + enable + kind for enable in ("", "E") for kind in ("", "R", "S", "SR", "SS")]

CELLS = {
    "cmos": {"transistors": TRANSISTORS, "FF": {"$_DFF_P_": 1}},
    "ecp5": {
        "LUT": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4}, "FF": {"TRELLIS_FF": 1},
        "DSP": {"MULT18X18D": 1}, "block RAM": {"DP16KD": 1},
    },
    "ice40": {
        "LUT": {"SB_LUT4": 1}, "FF": dict.fromkeys(DFF, 1), "DSP": {"SB_MAC16": 1},
        "block RAM": {"SB_RAM40_4K": 1},
    },
}  # fmt: skip
"""What is counted, the shares being those of the first; and what each type of cell counts."""

ATTEND = r"(?:engines\.)?attend(?:_\d+)?"
ENGINE = rf"{ATTEND}\.engine\."
ARRAY, ACCUMULATE = "matmul array", "block accumulate"
SCORES, CONTEXT = "scores: products and sums", "context: products and sums"
UNITS = {
    "host link": "host", "sequencer": r"sequencer|\w+_jobs", "embed": "embed",
    "weight source": "weights", "activation store": "activations|packer",
    ARRAY: "array", ACCUMULATE: "accumulate", "drain": "drain", "norm": "norm",
    "block exponent": "block_exponent", "quantiser": "quantiser", "head words": "heads",
    "KV cache": r"(?:engines\.)?cache(?:_\d+)?",
    SCORES: f"{ENGINE}scores{MULTIPLY}", "scores: the rest": f"{ENGINE}scores",
    CONTEXT: f"{ENGINE}context{MULTIPLY}",
    "context: the rest": f"{ENGINE}context", "context output": f"{ENGINE}output",
    "attention: the rest": rf"engines|{ATTEND}", "sampler": "sampler",
    "signatures, counters": r"signature_\w+|counters", "connections": ".*",
}  # fmt: skip
"""The rows of the table, and the modules of each below the chip: the first pattern that fits a path
takes it. An engine's modules are those of attention wherever it stands."""

DOT = "dot product"
SHARED_UNITS = {
    "main memory": "main", DOT: "dot", "quantiser": "quantise", "shifter": "shifter",
    "tables": "tables", "float adder": "float_add", "float multiplier": "float_multiply",
    "converter": "convert", "signatures": r"signature_\w+", "steps, indices, integers": ".*",
}  # fmt: skip
"""Those of a shared chip."""

MULTIPLIERS = (ARRAY, ACCUMULATE, SCORES, CONTEXT, DOT)
"""Units that multiply and accumulate: like the tensor cores of a GPU they add products up to the
end, and do so for linear layers and for attention."""


@dataclass(frozen=True)
class Unit:
    """A row of the table."""

    name: str
    cells: int
    counts: dict[str, int]
    """By the names in `CELLS`."""
    share: float
    """Of the first count."""
    ram_bits: int
    rom_bits: int


@dataclass(frozen=True)
class Area:
    """Where the cells of a chip are."""

    tool: str
    units: list[Unit]
    total: dict[str, int]
    """Counts of all units."""

    def share(self, *names: str) -> float:
        """Share of the units of these names."""
        return sum(unit.share for unit in self.units if unit.name in names)

    @property
    def multiplying(self) -> float:
        """Share of the logic that multiplies and accumulates: the headline."""
        return self.share(*MULTIPLIERS)

    @property
    def with_memories(self) -> float:
        """The same share if transistors of memories are counted among all."""
        logic = self.total["transistors"]
        bits = sum(RAM_BIT * unit.ram_bits + ROM_BIT * unit.rom_bits for unit in self.units)
        return self.multiplying * logic / (logic + bits)


def unit_of(module: str, rows: dict[str, str] = UNITS) -> str:
    """The unit that a module belongs to, of those in `rows`."""
    path = module.partition(".")[2]
    return next(
        unit for unit, modules in rows.items() if re.match(rf"({modules})(_\d+)?(?!\w)", path)
    )


def units(netlist: Netlist, cells: str, rows: dict[str, str] = UNITS) -> Area:
    """Add up `netlist`, made of the cells of this name, by the units in `rows`."""
    counted = CELLS[cells]
    every, counts = Counter(), {name: Counter() for name in counted}
    for module, kinds in netlist.cells.items():
        assert cells != "cmos" or kinds.keys() <= TRANSISTORS.keys(), (module, kinds)
        unit = unit_of(module, rows)
        every[unit] += sum(kinds.values())
        for name, of_kind in counted.items():
            counts[name][unit] += sum(of_kind.get(kind, 0) * n for kind, n in kinds.items())
    ram, rom = Counter(), Counter()
    for memory in netlist.memories:
        (ram if memory.writable else rom)[unit_of(memory.module, rows)] += memory.bits
    total = {name: count.total() for name, count in counts.items()}
    first = next(iter(counted))
    return Area(
        netlist.tool,
        [
            Unit(
                unit if cells == "cmos" else unit.removesuffix(": the rest"),
                every[unit],
                {name: count[unit] for name, count in counts.items()},
                counts[first][unit] / max(total[first], 1),
                ram[unit],
                rom[unit],
            )
            for unit in rows
            if every[unit] or ram[unit] or rom[unit]
        ],
        total,
    )


def measure(
    checkpoint: Checkpoint,
    chip: ChipConfig,
    cells: str,
    show: Callable[[str], None],
    board: Board | None = None,
) -> Area:
    """Synthesise the chip of `checkpoint`, as for `board` if there is one, and add up its units.

    They are mapped one by one, so that `~intaglio.fpga.place.FEW_CONTROL_SETS` does not apply.

    Raises :exc:`~intaglio.sim.tools.ToolError` if Yosys is missing or fails.
    """
    options, after_read = (board.synth_options, board.script_after_read) if board else ("", "")
    script = CMOS if cells == "cmos" else fpga_script(cells, options, after_read)
    etched = etch(checkpoint, Design(checkpoint.config, chip))
    start = None if board is None else board.flash
    rows = SHARED_UNITS if etched.design.shared else UNITS
    return units(chip_netlist(etched, script, show, start), cells, rows)


def curve(
    checkpoint: Checkpoint, chip: ChipConfig, show: Callable[[str], None]
) -> Iterator[tuple[int, Area]]:
    """Multipliers and area of the arrays with as many rows as `chip` has, 4 outputs to its own."""
    outputs = min(4, chip.outputs)
    while outputs <= chip.outputs:
        show(f"array of {chip.rows} x {outputs} x {chip.depth}")
        smaller = replace(chip, outputs=outputs)
        yield chip.rows * outputs * chip.depth, measure(checkpoint, smaller, "cmos", show)
        outputs *= 2


def describe(area: Area) -> dict[str, Any]:
    """Everything that was counted, ready for JSON."""
    described: dict[str, Any] = asdict(area)
    if "transistors" in area.total:
        described["multiply_accumulate"] = {
            "array": area.share(ARRAY),
            "share": area.multiplying,
            "share_with_memories": area.with_memories,
            "h100": H100,
        }
    return described


def summary(area: Area) -> str:
    """The share of the logic that multiplies and accumulates, and what is counted for it."""
    return (
        f"{area.multiplying:.1%} of the logic's transistors multiply and accumulate: the array "
        f"({area.share(ARRAY):.1%}), block accumulate, and the products and sums of attention. "
        f"Of an H100's transistors {H100:.1%} do, by Etched's count, in which memories are among "
        f"all transistors; with {RAM_BIT} for each bit of RAM and {ROM_BIT} for each of ROM this "
        f"chip has {area.with_memories:.1%}."
    )


def against(area: Area, device: Device) -> str:
    """What the chip needs of what a device has."""
    there = {"LUT": device.logic, "DSP": device.dsp, "block RAM": device.block_rams}
    needs = ", ".join(f"{area.total[name]:,} {name} of {most:,}" for name, most in there.items())
    return (
        f"Needs {needs} of the {device.name}; the link is not counted, nor what synthesis saves "
        "across modules."
    )


def as_table(title: str, area: Area) -> Table:
    """The logic, for the terminal; what multiplies is bold."""
    table = Table(title=Text(title), title_justify="left", show_footer=True)
    table.add_column("unit", "all", no_wrap=True)
    table.add_column("cells", f"{sum(unit.cells for unit in area.units):,}", justify="right")
    for name, count in area.total.items():
        table.add_column(name, f"{count:,}", justify="right")
    table.add_column("share", justify="right")
    for unit in area.units:
        numbers = [f"{number:,}" for number in (unit.cells, *unit.counts.values())]
        style = "bold" if unit.name in MULTIPLIERS else None
        table.add_row(unit.name, *numbers, f"{unit.share:.1%}", style=style)
    return table


def memories_table(area: Area) -> Table:
    """The memories, for the terminal: no part of the logic above."""
    table = Table(title="memories, apart", title_justify="left", show_footer=True)
    table.add_column("unit", "all", no_wrap=True)
    table.add_column("RAM bits", f"{sum(u.ram_bits for u in area.units):,}", justify="right")
    table.add_column("ROM bits", f"{sum(u.rom_bits for u in area.units):,}", justify="right")
    for unit in area.units:
        if unit.ram_bits or unit.rom_bits:
            table.add_row(unit.name, f"{unit.ram_bits:,}", f"{unit.rom_bits:,}")
    return table
