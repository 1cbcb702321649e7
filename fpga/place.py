"""From a board's top to a placed and routed design, and on to a bitstream."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio.fpga.boards import Board
from intaglio.fpga.tools import Program, find, run
from intaglio.fpga.top import BoardTop, Core
from intaglio.hw.formats import ConfigError
from intaglio.sim.tools import ToolError

__all__ = [
    "BITSTREAM",
    "HIDE_NAMES",
    "PLACED",
    "Timing",
    "bitstream_of",
    "clear",
    "commands",
    "met_timing",
    "pack",
    "place",
    "reading",
    "timing",
]

PLACED = {"ecp5": "config", "ice40": "asc"}
"""Suffix of the placed design, by family."""
BITSTREAM = {"ecp5": "bit", "ice40": "bin"}
"""Suffix of the bitstream, by family."""

DIGEST = "top.sha256"
"""Names what the placed design was made of, and the design itself."""

MADE = (
    DIGEST, "top.config", "top.asc", "top.report.json", "top.tim", "top.bit", "top.bin", "top.svf",
    "columns.json", "chip.*", "memory.bin", "report.json",
)  # fmt: skip
"""What a build that fails must not leave from one before."""

HIDE_NAMES = "rename -hide w:*]"
"""Yosys command before synthesis: a netlist comes back from ABC with ``a[1]`` for a bit of ``a``,
which is also the name that Amaranth gives to an element."""

FEW_CONTROL_SETS = (
    "dfflegalize -mince 8 -minsrst 8 -cell $_DFF_?_ 01 -cell $_DFF_?P?_ r -cell $_SDFF_?P?_ r "
    "-cell $_DFFE_??_ 01 -cell $_DFFE_?P??_ r -cell $_SDFFE_?P??_ r"
)
"""Yosys command that makes an enable or a reset of less than eight flip-flops from lookup tables,
and leaves the others to an ECP5's flip-flops. Those of a slice share an enable and a reset, and
nextpnr finds no place in a full device for one that has its own."""

Show = Callable[[str], None]
"""Is told each stage as it begins."""


@dataclass(frozen=True)
class Timing:
    """How fast a placed design is, and its slowest path between two of its registers."""

    fmax_mhz: float
    wanted_mhz: float
    start: str
    end: str
    delay_ns: float

    @property
    def met(self) -> bool:
        """Whether the clock that is wanted is reached."""
        return self.fmax_mhz >= self.wanted_mhz

    def __str__(self):
        return (
            f"{self.fmax_mhz:.1f} MHz of the {self.wanted_mhz:.1f} MHz wanted; the worst path "
            f"goes from {self.start} to {self.end} and takes {self.delay_ns:.1f} ns"
        )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises :exc:`ConfigError` if what is read of `path` meanwhile is not what a build writes."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise ConfigError(
            f"{path} is damaged or of another version ({error!r}): build it again"
        ) from error


def clear(folder: Path) -> None:
    """Remove what a build has made in `folder`; what it was made of, and other files, stay."""
    for pattern in MADE:
        for path in folder.glob(pattern):
            path.unlink()


def bitstream_of(folder: Path, family: str) -> Path:
    """Where the bitstream of the build in `folder` is, if it has been made."""
    return folder / f"chip.{BITSTREAM[family]}"


def timing(folder: Path) -> Timing:
    """What nextpnr reports of the design placed in `folder`, for its slowest clock."""
    with reading(file := folder / "top.report.json"):
        report = json.loads(file.read_text())
        clock, fmax = min(
            report["fmax"].items(), key=lambda item: item[1]["achieved"] / item[1]["constraint"]
        )
        edge = f"posedge {clock}"
        path = next(
            path["path"]
            for path in report["critical_paths"]
            if path["from"] == edge and path["to"] == edge
        )
        return Timing(
            fmax_mhz=fmax["achieved"],
            wanted_mhz=fmax["constraint"],
            start=path[0]["from"]["cell"],
            end=path[-1]["to"]["cell"],
            delay_ns=sum(arc["delay"] for arc in path),
        )


def met_timing(board: Board, folder: Path) -> Timing:
    """The timing of the design placed in `folder`; raises :exc:`ToolError` if it is missed."""
    met = timing(folder)
    if not met.met:
        raise ToolError(f"{board.title} misses its timing: {met}; another --seed may do")
    return met


def commands(folder: Path) -> list[tuple[Program, list[str]]]:
    """Program and arguments of each step of the build in `folder`: synthesis, place, pack."""
    with reading(file := folder / "build_top.json"):
        steps = json.loads(file.read_text())["commands"]
    return [(find(name), arguments) for name, *arguments in steps]


def place(board: Board, core: Core, folder: Path, show: Show) -> Timing:
    """Synthesise, place and route `core` on `board`; files ``top.*`` in `folder`.

    A design that `folder` holds already, made of the same files by the same programs, stays: it
    does not depend on the weights. `folder` can be handed to native tools: ``build_top.sh`` does
    the same and packs a bitstream.
    Raises :exc:`ToolError` if a program fails, or if the timing is not met: then no placed design
    is left.
    """
    family = board.device.family
    platform = board.make_platform()
    script, options = _synthesis(board)
    show("generating the RTL")
    plan = platform.prepare(
        BoardTop(board, core),
        "top",
        emit_src=False,
        synth_opts=options,
        nextpnr_opts=f"--report top.report.json --seed {board.seed} {board.place_options}".strip(),
        script_after_read=script,
    )
    plan.extract(folder)
    placed = folder / f"top.{PLACED[family]}"
    synthesis, placement, _ = commands(folder)
    made_of = _digest(plan.files, [str(program) for program, _ in (synthesis, placement)])
    digest = folder / DIGEST
    if placed.exists() and digest.exists() and digest.read_text() == _names(made_of, placed):
        show("the same design is placed there")
        return met_timing(board, folder)
    clear(folder)
    _step("synthesis", *synthesis, folder, show)
    try:
        _step("place and route", *placement, folder, show)
    except ToolError:
        _refuse_too_large(board, folder)
        # nextpnr fails when timing is missed, but writes its report.
        if not (folder / "top.report.json").exists() or timing(folder).met:
            raise
    try:
        met = met_timing(board, folder)
    except ToolError:
        placed.unlink(missing_ok=True)
        raise
    digest.write_text(_names(made_of, placed))
    return met


def _synthesis(board: Board) -> tuple[str, str]:
    """Yosys commands between reading the RTL and Amaranth's synthesis, and options of the latter.

    ``synth_ecp5`` cannot be told `FEW_CONTROL_SETS`: its first half goes before, and Amaranth's
    script runs the second.
    """
    script, options = [HIDE_NAMES, board.script_after_read], board.synth_options
    if board.device.family == "ecp5":
        script += [f"synth_ecp5 -top top {options} -run begin:map_ffs", FEW_CONTROL_SETS]
        options = f"{options} -run map_ffs:"
    return "; ".join(filter(None, script)), options.strip()


def _step(stage: str, program: Program, arguments: list[str], folder: Path, show: Show) -> None:
    """Say what begins, and run it."""
    show(f"{stage}: {program}{'' if program.native else '; its first use takes longer'}")
    run(program, arguments, folder)


def _names(made_of: str, placed: Path) -> str:
    """Contents of `DIGEST`: what the design is made of, and the design."""
    return f"{made_of} {hashlib.sha256(placed.read_bytes()).hexdigest()}\n"


def _digest(files: dict[str, Any], programs: list[str]) -> str:
    """A name for what is made of `files` by `programs`."""
    parts = [f"{name}\0{files[name]!r}" for name in sorted(files)]
    return hashlib.sha256("\0".join([*parts, *programs]).encode()).hexdigest()


def _refuse_too_large(board: Board, folder: Path) -> None:
    """Raise :exc:`ToolError` if nextpnr's log says that the design needs more than there is."""
    log = folder / "top.tim"
    counts = re.findall(r"(\w+): +(\d+)/ *(\d+) ", log.read_text()) if log.exists() else []
    beyond = [f"{used} {cell} of {most}" for cell, used, most in counts if int(used) > int(most)]
    if beyond:
        raise ToolError(f"The design is too large for {board.title}: {', '.join(beyond)}")


def pack(folder: Path, name: str) -> None:
    """Make the bitstream of the placed design ``name.config`` or ``name.asc`` in `folder`."""
    program, arguments = commands(folder)[-1]
    run(program, [a.replace("top.", f"{name}.") for a in arguments], folder)
