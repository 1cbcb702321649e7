"""Bitstreams into boards, with openFPGALoader."""

import subprocess
from pathlib import Path

from intaglio.fpga.boards import Board
from intaglio.fpga.build import design_of
from intaglio.fpga.etch import MEMORY, in_flash
from intaglio.fpga.place import bitstream_of
from intaglio.fpga.tools import find
from intaglio.fpga.usb import bridges, udev_rule
from intaglio.hw.formats import ConfigError
from intaglio.sim.tools import ToolError

__all__ = ["LIBRARIES", "flash", "lacks_libraries"]

LIBRARIES = "apt-get install libusb-1.0-0 libftdi1-2"
"""What to do when the loader's libraries are missing."""


def lacks_libraries(code: int, said: str) -> bool:
    """Whether a program has ended so because libraries are missing."""
    return code == 127 or "error while loading shared libraries" in said


def flash(board: Board, folder: Path, persist: bool) -> None:
    """Load the bitstream of the build in `folder` into `board`; into its flash if `persist`.

    A memory that is filled from the flash is written there in any case.

    Raises :exc:`ConfigError` if there is no bitstream for this board, :exc:`ToolError` if it cannot
    be loaded.
    """
    built_for, design = design_of(folder)
    if built_for != board:
        raise ConfigError(f"The build in {folder} is for {built_for.name}, not for {board.name}")
    bitstream = bitstream_of(folder, board.device.family)
    if not bitstream.exists():
        raise ConfigError(
            f"{bitstream} is missing: the build in {folder} did not end well, build it again"
        )
    memory = folder / MEMORY
    if in_flash(board, design):  # first, for the bitstream begins to run when it is there
        if not memory.exists():
            raise ConfigError(f"{memory} is missing: build it again")
        _load(board, ["--offset", f"{board.flash:#x}", "--file-type", "bin", str(memory)])
    _load(board, [*(board.persist if persist else ()), str(bitstream)])


def _load(board: Board, arguments: list[str]) -> None:
    """Run openFPGALoader; raises :exc:`ToolError` with the reason why it has failed."""
    done = subprocess.run(
        [find("openFPGALoader").path, *board.programmer, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        raise ToolError(_reason(board, done.returncode, done.stdout))


def _reason(board: Board, code: int, said: str) -> str:
    """One sentence on why openFPGALoader has failed."""
    if lacks_libraries(code, said):
        return f"openFPGALoader needs two libraries of the system: {LIBRARIES}"
    plugged_in = [bridge for bridge in bridges() if bridge.usb == board.usb]
    if any(not bridge.allowed for bridge in plugged_in):
        return f"There is no permission to use the {board.title}: {udev_rule(board.usb)}"
    if not plugged_in and any(
        text in said for text in ("unable to open ftdi device", "Failed to claim cable")
    ):
        return (
            f"No {board.title} is on USB ({board.usb[0]:04x}:{board.usb[1]:04x}): is it plugged "
            "in, with a cable that carries data?"
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    return f"openFPGALoader failed with exit code {code}: {lines[-1]}"
