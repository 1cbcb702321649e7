"""What to expect of a chip on a board: cycles counted in simulation, at the board's clock."""

from collections.abc import Callable
from dataclasses import dataclass

from intaglio.fpga.boards import Board
from intaglio.fpga.etch import in_flash
from intaglio.fpga.simulate import PATIENCE, SimulatedBoard
from intaglio.golden.etch import Etched
from intaglio.sim.simulator import SimulatedChip

__all__ = ["Expected", "expect"]

POSITIONS = 128
"""Positions that are counted, from the first on; attention makes later ones longer."""


@dataclass(frozen=True)
class Expected:
    """Clock cycles of a token, averaged over the first `positions` of each sequence."""

    positions: int
    one: float
    """One sequence alone."""
    all: float
    """All that fit, together: cycles divided by the tokens of all of them."""
    slots: int

    def tokens_per_second(self, hz: float) -> tuple[float, float]:
        """One sequence alone, and all together; the host's link is not in it."""
        return hz / self.one, hz / self.all


def _run(chip: SimulatedChip, slots: int, rows: int, positions: int) -> float:
    """Cycles per token of `slots` sequences side by side, `rows` in each step."""
    steps = [list(range(slots))[n : n + rows] for n in range(0, slots, rows)]

    def command(step: list[int], position: int, tokens: dict[int, int]) -> None:
        for slot in step:
            chip.command(slot, position, tokens.get(slot, 1), True, last=slot == step[-1])

    before = chip.cycles
    for step in steps:
        command(step, 0, {})
    for position in range(positions):
        for step in steps:
            tokens = {event.slot: event.token for event in (chip.event() for _ in step)}
            if position + 1 < positions:
                command(step, position + 1, tokens)
    return (chip.cycles - before) / (slots * positions)


def _alone_on_board(
    board: Board, etched: Etched, positions: int, show: Callable[[str], None]
) -> float:
    """Cycles per token of one sequence on the simulated board."""
    from intaglio.fpga.link import BoardChip  # needs pyserial, which others can do without

    with (
        SimulatedBoard(board, etched, show) as simulated,
        BoardChip(simulated.port, board.baud, etched.design, timeout=PATIENCE) as chip,
    ):
        show("counting cycles")
        for last in (0, positions - 1):  # the first token waits until the flash has been copied
            for _ in chip.generate(0, 0, 1, last):
                pass
    return simulated.busy_cycles / positions


def expect(board: Board, etched: Etched, show: Callable[[str], None]) -> Expected:
    """Count the cycles of `etched`; its weights change them only where attention rescales.

    If the weights come from the board's flash, the board is simulated.
    """
    design = etched.design
    positions = min(POSITIONS, design.context)
    if in_flash(board, design):
        one = round(_alone_on_board(board, etched, positions, show), 1)
        return Expected(positions=positions, one=one, all=one, slots=design.slots)
    chip = SimulatedChip(etched, show)
    show("counting cycles")
    return Expected(
        positions=positions,
        one=round(_run(chip, 1, 1, positions), 1),
        all=round(_run(chip, design.slots, design.chip.rows, positions), 1),
        slots=design.slots,
    )
