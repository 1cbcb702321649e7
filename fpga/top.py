"""The top of every board: clock and reset, the core between the UART's pins, and LEDs."""

from typing import Any, Protocol

from amaranth import Elaboratable, Module, Signal
from amaranth.lib import io

from intaglio.fpga.boards import Board
from intaglio.fpga.clock import ClockGenerator

__all__ = ["BoardTop", "Core"]


class Core(Protocol):
    """What a board's top takes: a component of the domain ``sync`` that talks over a UART.

    It synchronises ``rx`` itself. ``busy`` and ``dropped`` are for LEDs.
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
        return m
