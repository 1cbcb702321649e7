"""Boards on USB: which bridges are there, and whether we may use them."""

import os
from dataclasses import dataclass
from pathlib import Path

from intaglio.fpga.boards import BOARDS, Board
from intaglio.sim.tools import ToolError

__all__ = ["Bridge", "bridges", "serial_port", "udev_rule"]

DEVICES = Path("/sys/bus/usb/devices")
NODES = Path("/dev/bus/usb")
RULES = "/etc/udev/rules.d/60-intaglio.rules"


@dataclass(frozen=True)
class Bridge:
    """A USB bridge that some of our boards have."""

    usb: tuple[int, int]
    """Vendor and product id."""
    node: Path
    """The device as programs open it."""

    @property
    def allowed(self) -> bool:
        """Whether we may write to it."""
        return os.access(self.node, os.R_OK | os.W_OK)

    @property
    def boards(self) -> list[str]:
        """Names of the boards that have such a bridge."""
        return [board.name for board in BOARDS.values() if board.usb == self.usb]


def bridges() -> list[Bridge]:
    """What is plugged in (on Linux; elsewhere nothing is found)."""
    known = {board.usb for board in BOARDS.values()}
    found = []
    for device in sorted(DEVICES.glob("*/idVendor")):
        folder = device.parent
        vendor, product = (
            int((folder / name).read_text(), 16) for name in ("idVendor", "idProduct")
        )
        if (vendor, product) in known:
            bus, number = (int((folder / name).read_text()) for name in ("busnum", "devnum"))
            found.append(Bridge((vendor, product), NODES / f"{bus:03}" / f"{number:03}"))
    return found


def udev_rule(usb: tuple[int, int]) -> str:
    """What to do so that a user may open the bridge."""
    rule = (
        f'ATTRS{{idVendor}}=="{usb[0]:04x}", ATTRS{{idProduct}}=="{usb[1]:04x}", MODE="664", '
        'GROUP="plugdev", TAG+="uaccess"'
    )
    return f"put this line into {RULES}, then plug the board in again: {rule}"


def serial_port(board: Board) -> str:
    """Name of the serial port of the one `board` that is plugged in.

    Raises :exc:`ToolError` if there is none or more than one.
    """
    try:
        from serial.tools.list_ports import comports
    except ImportError as error:
        raise ToolError("pyserial is missing: pip install -e '.[fpga]'") from error
    ports = [port for port in comports() if (port.vid, port.pid) == board.usb]
    if board.interface:
        # Bridges with more than one interface show a port for each.
        ports = [port for port in ports if (port.location or "").endswith(f".{board.interface}")]
    names = [port.device for port in ports]
    if not names:
        raise ToolError(
            f"No {board.title} is on USB ({board.usb[0]:04x}:{board.usb[1]:04x}): plug it in, or "
            "name its serial port with --port"
        )
    if len(names) > 1:
        raise ToolError(f"There is more than one {board.title}: choose with --port {names[0]}")
    return names[0]
