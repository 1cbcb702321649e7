"""What a build has made: resources, timing, tools."""

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from intaglio.fpga.boards import Board
from intaglio.fpga.expect import Expected
from intaglio.fpga.place import commands, reading, timing

__all__ = ["Report", "report_on"]

CELLS = {
    "ecp5": {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D",
             "block_ram": "DP16KD"},
    "ice40": {"lut": "ICESTORM_LC", "dsp": "ICESTORM_DSP", "block_ram": "ICESTORM_RAM",
              "spram": "ICESTORM_SPRAM"},
}  # fmt: skip
"""Our names for what nextpnr counts."""


@dataclass(frozen=True)
class Report:
    """A design placed on a board, and what is etched into it."""

    board: str
    device: str
    model: str
    chip: dict[str, Any]
    """Its configuration."""
    used: dict[str, int]
    """``lut``, ``ff``, ``dsp``, ``block_ram`` (and ``spram``)."""
    available: dict[str, int]
    clock_mhz: float
    fmax_mhz: float
    worst_path: str
    tools: dict[str, str]
    date: str
    words_read_back: int
    """Words of etched memories that were found right in the bitstream, and in what goes to the
    flash beside it."""
    expected: dict[str, Any]
    """Cycles per token in simulation, and tokens/s of them at the clock; see `Expected`."""

    def save(self, folder: Path) -> None:
        """Write ``report.json``."""
        (folder / "report.json").write_text(json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def load(folder: Path) -> "Report":
        """Read ``report.json``."""
        return Report(**json.loads((folder / "report.json").read_text()))

    def table(self) -> Table:
        """A table for the terminal."""
        table = Table(title=f"{self.model} on {self.board}", title_justify="left")
        for column in ("", "used", "available", "%"):
            table.add_column(column, justify="left" if not column else "right")
        for name, used in self.used.items():
            all_of_them = self.available[name]
            share = f"{100 * used / all_of_them:.0f}"
            table.add_row(name.replace("_", " "), f"{used:,}", f"{all_of_them:,}", share)
        table.add_section()
        table.add_row("MHz, of those reached", f"{self.clock_mhz:.1f}", f"{self.fmax_mhz:.1f}", "")
        table.add_section()
        for which, title in (("one", "alone"), ("all", f"{self.expected['slots']} together")):
            speed = self.expected[f"tokens_per_second_{which}"]
            table.add_row(f"expected tokens/s, {title}", f"{speed:,}", "", "")
        return table


def _flip_flops(folder: Path) -> int:
    """Flip-flops of an iCE40 design, which nextpnr counts with their lookup tables."""
    log = folder / "top.rpt"
    text = log.read_text() if log.exists() else ""
    counts = re.findall(r"^ +(\d+) +SB_DFF\w*$", text[text.rfind("design hierarchy") :], re.M)
    return sum(map(int, counts))


def report_on(
    board: Board,
    model: str,
    chip: dict[str, Any],
    folder: Path,
    words_read_back: int,
    expected: Expected,
) -> Report:
    """Gather the report of the build in `folder`."""
    cells = CELLS[board.device.family]
    with reading(file := folder / "top.report.json"):
        counted = json.loads(file.read_text())["utilization"]
        used = {name: counted[cell]["used"] for name, cell in cells.items()}
        available = {name: counted[cell]["available"] for name, cell in cells.items()}
    if "ff" not in used:
        used["ff"] = _flip_flops(folder)
        available["ff"] = available["lut"]
    met = timing(folder)
    one, together = expected.tokens_per_second(board.pll.hz)
    return Report(
        board=board.name,
        device=board.device.name,
        model=model,
        chip=chip,
        used=used,
        available=available,
        clock_mhz=board.pll.hz / 1e6,
        fmax_mhz=round(met.fmax_mhz, 1),
        worst_path=f"{met.start} to {met.end}: {met.delay_ns:.1f} ns",
        tools={program.name: str(program) for program, _ in commands(folder)},
        date=datetime.now(UTC).date().isoformat(),
        words_read_back=words_read_back,
        expected={
            **asdict(expected),
            "tokens_per_second_one": round(one),
            "tokens_per_second_all": round(together),
        },
    )
