"""The top of every board: clock and reset, the core between the UART's pins, and LEDs."""

from amaranth import Elaboratable, Module
from amaranth.lib import io, wiring

from intaglio.fpga.boards import Board
from intaglio.fpga.clock import ClockGenerator

__all__ = ["BoardTop"]


class BoardTop(Elaboratable):
    """`core` on `board`.

    Parameters
    ----------
    board :
        Where.
    core :
        A component with ``rx: In(1)``, ``tx: Out(1)``, ``busy: Out(1)`` and ``dropped: Out(1)``,
        in the domain ``sync``; it synchronises ``rx`` itself.
    """

    def __init__(self, board: Board, core: wiring.Component):
        self.board, self.core = board, core

    def elaborate(self, platform):
        m = Module()
        m.submodules.clock = clock = ClockGenerator(self.board.pll)
        m.submodules.core = core = self.core
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx_pin = rx = io.Buffer("i", uart.rx)
        m.submodules.tx_pin = tx = io.Buffer("o", uart.tx)
        m.d.comb += [core.rx.eq(rx.i), tx.o.eq(core.tx)]

        states = {"alive": clock.ready, "busy": core.busy, "dropped": core.dropped}
        for state, (resource, number, part) in self.board.leds.items():
            pins = platform.request(resource, number, dir="-")
            m.submodules[f"{state}_led"] = led = io.Buffer(
                "o", getattr(pins, part) if part else pins
            )
            m.d.comb += led.o.eq(states[state])
        return m
