"""The top of every board: clock and reset, the core between the UART's pins, and LEDs."""

from typing import Any, Protocol

from amaranth import Elaboratable, Module, Signal
from amaranth.lib import io

from intaglio.fpga.boards import Board
from intaglio.fpga.clock import ClockGenerator
from intaglio.hw.config import Design
from intaglio.hw.images import Images
from intaglio.hw.shared.flashed import flashed_memory
from intaglio.hw.uart_chip import UARTChip

__all__ = ["BoardTop", "Core", "core_of"]


class Core(Protocol):
    """What a board's top takes: a component of the domain ``sync`` that talks over a UART.

    It synchronises ``rx`` itself. ``busy`` and ``dropped`` are for LEDs. It may have a ``flash``.
    """

    rx: Signal
    tx: Signal
    busy: Signal
    dropped: Signal

    def elaborate(self, platform: Any) -> Module:
        """As Amaranth's."""
        ...


class BoardTop(Elaboratable):
    """`core` on `board`.

    Parameters
    ----------
    board :
        Where.
    core :
        What.
    """

    def __init__(self, board: Board, core: Core):
        self.board, self.core = board, core

    def elaborate(self, platform):
        m = Module()
        m.submodules.clock = clock = ClockGenerator(self.board.pll)
        m.domains.sync = clock.sync
        m.submodules.core = core = self.core
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx_pin = rx = io.Buffer(io.Direction.Input, uart.rx)
        m.submodules.tx_pin = tx = io.Buffer(io.Direction.Output, uart.tx)
        m.d.comb += [core.rx.eq(rx.i), tx.o.eq(core.tx)]

        states = {"alive": clock.ready, "busy": core.busy, "dropped": core.dropped}
        for state, (resource, number, part) in self.board.leds.items():
            pins = platform.request(resource, number, dir="-")
            m.submodules[f"{state}_led"] = led = io.Buffer(
                io.Direction.Output, getattr(pins, part) if part else pins
            )
            m.d.comb += led.o.eq(states[state])
        if self.board.flash is not None and hasattr(core, "flash"):
            self._flash(m, platform, core.flash)
        return m

    def _flash(self, m: Module, platform: Any, pins: Any) -> None:
        """Pins of the flash, each with a register; its clock rises in the middle of a cycle."""
        flash = platform.request("spi_flash_4x", 0, dir={"cs": "-", "clk": "-", "dq": "-"})
        m.submodules.flash_select = select = io.FFBuffer(io.Direction.Output, flash.cs)
        m.submodules.flash_clock = clock = io.DDRBuffer(io.Direction.Output, flash.clk)
        m.d.comb += [select.o.eq(pins.select), clock.o[0].eq(0), clock.o[1].eq(pins.pulse)]
        for n in range(4):
            pin = io.FFBuffer(io.Direction.Bidir, flash.dq[n])
            m.submodules[f"flash_{n}"] = pin
            m.d.comb += [pin.o.eq(pins.o[n]), pin.oe.eq(pins.oe[n]), pins.i[n].eq(pin.i)]


def core_of(board: Board, design: Design, contents: Images) -> UARTChip:
    """The chip of `design` as `board` gets it.

    Raises :exc:`~intaglio.hw.formats.ConfigError` if its memory does not fit the board's.
    """
    memory = None
    if board.flash is not None and design.shared:
        memory = flashed_memory(design, board.flash)
    return UARTChip(design, contents, cycles_per_bit=board.cycles_per_bit, memory=memory)
