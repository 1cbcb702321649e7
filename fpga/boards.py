"""The boards, as data: how each is clocked, wired and programmed, and the chip that it gets.

A new board is a new entry of `BOARDS`.
"""

import importlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from intaglio.hw.config import CHIPS, ChipConfig
from intaglio.hw.formats import ConfigError, FloatFormat
from intaglio.sim.tools import ToolError

__all__ = ["BOARDS", "ECP5PLL", "ICE40PLL", "Board", "Device", "board", "model_of"]


@dataclass(frozen=True)
class ECP5PLL:
    """EHXPLLL whose feedback is its output; source: Lattice TN-02200."""

    pin_hz: int
    """Frequency of the board's oscillator."""
    input_divider: int
    feedback_divider: int
    output_divider: int

    @property
    def hz(self) -> int:
        """Frequency of the chip's clock."""
        return self.pin_hz * self.feedback_divider // self.input_divider

    @property
    def vco_hz(self) -> int:
        """Frequency of the oscillator inside; 400 to 800 MHz are allowed."""
        return self.hz * self.output_divider


@dataclass(frozen=True)
class ICE40PLL:
    """SB_PLL40 with simple feedback; source: Lattice TN-02052 and icepll of Project IceStorm."""

    pin_hz: int
    """Frequency of the board's oscillator."""
    divr: int
    """Divider of the input, minus one."""
    divf: int
    """Divider of the feedback, minus one."""
    divq: int
    """Logarithm of the divider of the output."""
    filter_range: int

    @property
    def hz(self) -> int:
        """Frequency of the chip's clock."""
        return self.vco_hz >> self.divq

    @property
    def vco_hz(self) -> int:
        """Frequency of the oscillator inside; 533 to 1066 MHz are allowed."""
        return self.pin_hz * (self.divf + 1) // (self.divr + 1)


@dataclass(frozen=True, kw_only=True)
class Device:
    """What an FPGA has, as nextpnr counts it."""

    name: str
    family: str
    """``ecp5`` or ``ice40``."""
    logic: int
    """Lookup tables, each with a flip-flop."""
    dsp: int
    block_rams: int


LFE5U_25F = Device(name="LFE5U-25F", family="ecp5", logic=24288, dsp=28, block_rams=56)
LFE5U_85F = Device(name="LFE5U-85F", family="ecp5", logic=83640, dsp=156, block_rams=208)
LFE5UM5G_85F = Device(name="LFE5UM5G-85F", family="ecp5", logic=83640, dsp=156, block_rams=208)
UP5K = Device(name="iCE40UP5K", family="ice40", logic=5280, dsp=8, block_rams=30)

FT231X = (0x0403, 0x6015)
FT2232H = (0x0403, 0x6010)


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board that can be bought."""

    name: str
    title: str
    """Its name in prose."""
    platform: str
    """Class of amaranth-boards, as ``module:class``."""
    device: Device
    pll: ECP5PLL | ICE40PLL
    usb: tuple[int, int]
    """Vendor and product id of the USB bridge."""
    interface: int = 0
    """Which of the bridge's interfaces is the UART."""
    baud: int = 3_000_000
    leds: dict[str, tuple[str, int, str]]
    """Resource, number and signal (or empty) of the LED for ``alive``, ``busy`` and ``dropped``;
    boards with fewer LEDs leave some out."""
    programmer: tuple[str, ...]
    """Options of openFPGALoader that name the board."""
    persist: tuple[str, ...] = ("--write-flash",)
    """Options that write the flash, where it is not written anyway."""
    flash: int | None = None
    """Address in the board's flash, in bytes, of what fills the large RAMs that have no contents of
    their own; None where block RAM holds everything."""
    chip: ChipConfig = field(default_factory=ChipConfig)
    """What is etched unless the user says otherwise."""
    model: str | None = None
    """The checkpoint that is etched; None is the one that comes along."""
    synth_options: str = ""
    """Options of Yosys's ``synth_ecp5`` or ``synth_ice40``."""
    seed: int = 1
    """Of nextpnr, which places the same netlist otherwise with another."""
    place_options: str = ""
    """Options of nextpnr, but for the seed."""
    script_after_read: str = ""
    """Yosys commands between reading the RTL and synthesis; none may change what it does."""

    @property
    def cycles_per_bit(self) -> int:
        """Clock cycles of one bit on the UART."""
        return round(self.pll.hz / self.baud)

    def make_platform(self) -> Any:
        """A new platform of amaranth-boards; it can build once.

        Raises :exc:`~intaglio.sim.tools.ToolError` if amaranth-boards is not installed.
        """
        module, name = self.platform.split(":")
        try:
            return getattr(importlib.import_module(module), name)()
        except ImportError as error:
            raise ToolError("amaranth-boards is missing: pip install -e '.[fpga]'") from error


PLACE_LARGE = (
    "--placer heap --placer-heap-beta 0.5 --placer-heap-timingweight 20 "
    "--placer-heap-critexp 4 --router router2 --tmg-ripup"
)
"""Where there is room: nextpnr's placer is told to spread what it places and to look at the timing,
and the router goes back to wires that are late."""
PLACE_FULL = "--router router2"
"""Where there is none, its placer is left alone."""

KEEP_COPIES = "setattr -mod -set keep_hierarchy 1 *.copy_*"
"""Keeps registers apart that hold the same, each near what it feeds: see `hw.pipeline.copy`."""

SOFT_MEMORIES = "; ".join((
    'setattr -set rom_style "logic" *.reciprocal.*/m:entries *.norm.*/m:entries',
    'setattr -set ram_style "distributed" */m:residual',
))
"""Makes some tables and a small memory from lookup tables, where block RAMs are scarcer."""

LEDS = {name: ("led", number, "") for number, name in enumerate(("alive", "busy", "dropped"))}
"""The first three of a row."""

LARGE = ChipConfig(groups=3, kv_lanes=1, context=100, small_float=FloatFormat(8, 10))
"""For 156 multipliers and 208 block RAMs, with `SOFT_MEMORIES`."""
SMALL = ChipConfig(
    outputs=4, depth=2, kv_lanes=1, window=16, context=128, small_float=FloatFormat(8, 10)
)
"""For 28 multipliers and 24,288 lookup tables."""

ICEBREAKER = Board(
    name="icebreaker",
    title="iCEBreaker with iCE40UP5K",
    platform="amaranth_boards.icebreaker:ICEBreakerPlatform",
    device=UP5K,
    pll=ICE40PLL(12_000_000, 0, 55, 5, 1),
    usb=FT2232H,
    interface=1,
    leds={"busy": ("led_g", 0, ""), "dropped": ("led_r", 0, "")},
    programmer=("--board", "ice40_generic"),
    persist=(),
    flash=0x100000,
    chip=replace(CHIPS["shared"], context=128),
    model="golden/small_model",
    synth_options="-dsp",
)

BOARDS = {
    board.name: board
    for board in (
        Board(
            name="ulx3s-85f",
            title="ULX3S with LFE5U-85F",
            platform="amaranth_boards.ulx3s:ULX3S_85F_Platform",
            device=LFE5U_85F,
            pll=ECP5PLL(25_000_000, 5, 18, 8),
            usb=FT231X,
            leds=LEDS,
            programmer=("--board", "ulx3s"),
            chip=LARGE,
            seed=2,
            script_after_read=f"{KEEP_COPIES}; {SOFT_MEMORIES}",
            place_options=PLACE_LARGE,
        ),
        Board(
            name="ulx3s-25f",
            title="ULX3S with LFE5U-25F",
            platform="amaranth_boards.ulx3s:ULX3S_25F_Platform",
            device=LFE5U_25F,
            pll=ECP5PLL(25_000_000, 5, 12, 10),
            usb=FT231X,
            leds=LEDS,
            programmer=("--board", "ulx3s"),
            chip=SMALL,
            model="golden/small_model",
            place_options=PLACE_FULL,
        ),
        Board(
            name="ecpix5-85f",
            title="ECPIX-5 with LFE5UM5G-85F",
            platform="amaranth_boards.ecpix5:ECPIX585Platform",
            device=LFE5UM5G_85F,
            pll=ECP5PLL(100_000_000, 10, 9, 8),
            usb=FT2232H,
            interface=1,
            leds={"alive": ("rgb_led", 0, "g"), "busy": ("rgb_led", 1, "b"),
                  "dropped": ("rgb_led", 2, "r")},
            programmer=("--board", "ecpix5"),
            chip=LARGE,
            script_after_read=f"{KEEP_COPIES}; {SOFT_MEMORIES}",
            place_options=PLACE_LARGE,
        ),
        Board(
            name="icepi-zero",
            title="Icepi Zero with LFE5U-25F",
            platform="amaranth_boards.icepi_zero:IcepiZero1_3Platform",
            device=LFE5U_25F,
            pll=ECP5PLL(50_000_000, 5, 6, 10),
            usb=FT231X,
            leds=LEDS,
            programmer=("--board", "icepi-zero"),
            chip=SMALL,
            model="golden/small_model",
            seed=2,
            place_options=PLACE_FULL,
        ),
        ICEBREAKER,
        # Its weights do not fit the RAMs, and stay in the flash.
        replace(
            ICEBREAKER,
            name="icebreaker-large",
            title="iCEBreaker with a larger model",
            model=None,
            seed=5,
        ),
    )
}  # fmt: skip
"""By the name that ``--board`` takes."""


def board(name: str) -> Board:
    """The board of this name; raises :exc:`ConfigError` with the list of those that there are."""
    if name not in BOARDS:
        raise ConfigError(f"Unknown board {name!r}: choose one of {', '.join(BOARDS)}")
    return BOARDS[name]


def model_of(board: Board) -> Path | None:
    """The checkpoint that `board` gets unless another is named; None is the one that comes along.

    A board names it as a path from this project's folder.
    """
    return None if board.model is None else Path(__file__).parent.parent / board.model
