"""The commands for boards: bitstream, etch, flash, selftest; and the way to a board's chip."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from intaglio.fpga.boards import Board, model_of
from intaglio.fpga.boards import board as board_named
from intaglio.fpga.etch import in_flash
from intaglio.fpga.report import Report
from intaglio.fpga.usb import serial_port
from intaglio.golden.etch import Etched
from intaglio.golden.etch import etch as compile_model
from intaglio.golden.load import load
from intaglio.hw.config import ChipConfig, Design
from intaglio.hw.formats import ConfigError
from intaglio.hw.shared.memory_map import weight_words
from intaglio.sim.options import (
    BoardOption,
    Json,
    ModelArgument,
    PortOption,
    SimulateOption,
    console,
    stages,
    with_chip,
)
from intaglio.sim.tools import ToolError

if TYPE_CHECKING:
    from intaglio.fpga.link import BoardChip

__all__ = ["Link", "connect", "register"]


@dataclass(frozen=True)
class Link:
    """Where a chip is: on which board, at which serial port (found if None), or simulated."""

    board: Board
    port: str | None
    simulate: bool

    def __post_init__(self):
        if self.simulate and self.port is not None:
            raise ConfigError("A simulated board has no --port")

    def __str__(self):
        return f"{self.board.name}, simulated" if self.simulate else self.board.name


@contextmanager
def connect(link: Link, etched: Etched) -> Iterator["BoardChip"]:
    """The chip at the other end of `link`; raises :exc:`~intaglio.sim.tools.ToolError`."""
    try:
        from intaglio.fpga.link import BoardChip
    except ImportError as error:
        raise ToolError("pyserial is missing: pip install -e '.[fpga]'") from error
    board, design = link.board, etched.design
    if not link.simulate:
        patience = 1.0
        if in_flash(board, design):  # read for each token
            patience += 32 * weight_words(design) / board.pll.hz
        port = link.port or serial_port(board)
        with BoardChip(port, board.baud, design, timeout=patience) as chip:
            yield chip
        return
    from intaglio.fpga.simulate import PATIENCE, SimulatedBoard

    with stages(f"preparing the simulation of {board.title}") as show:
        simulated = SimulatedBoard(board, etched, show)
    with simulated, BoardChip(simulated.port, board.baud, design, timeout=PATIENCE) as chip:
        yield chip


def _show(report: Report, folder: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**asdict(report), "folder": str(folder)}))
        return
    Console().print(report.table())
    console.print(
        f"{report.words_read_back:,} words of {report.model} were read back from what is now in "
        f"{folder}"
    )


def _refuse_foreign(folder: Path) -> None:
    """Raise :exc:`ConfigError` unless `folder` is new, empty, or that of a build."""
    from intaglio.fpga.build import design_of

    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: name a folder that is new or empty")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        design_of(folder)
    except ConfigError:
        text = f"{folder} holds other files: name a folder that is new or empty"
        raise ConfigError(text) from None


@with_chip
def bitstream(
    chip: ChipConfig,
    board: BoardOption,
    model: ModelArgument = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write; the board's name if left out."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the placement, the board's if left out: another may meet a timing."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the bitstream of a model for a board: synthesis, place and route, etching."""
    from intaglio.fpga.build import build

    target = board_named(board)
    if seed is not None:
        target = replace(target, seed=seed)
    checkpoint = load(model or model_of(target))
    folder = output or Path(target.name)
    _refuse_foreign(folder)
    etched = compile_model(checkpoint, Design(checkpoint.config, chip))
    with stages(f"building for {target.title}") as show:
        report = build(target, etched, folder, show)
    _show(report, folder, as_json)


def etch(
    folder: Annotated[Path, typer.Argument(help="Folder of a build.")],
    model: Annotated[Path, typer.Argument(help="Another checkpoint of the same shape.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    as_json: Json = False,
) -> None:
    """Put another model of the same shape into a build: seconds, without place and route."""
    from intaglio.fpga.build import etch_anew

    checkpoint = load(model)
    _refuse_foreign(output)
    with stages("etching") as show:
        report = etch_anew(folder, checkpoint, output, show)
    _show(report, output, as_json)


def flash(
    board: BoardOption,
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of a build; the board's name if left out.")
    ] = None,
    persist: Annotated[
        bool, typer.Option("--persist", help="Write the flash: the board keeps it without power.")
    ] = False,
) -> None:
    """Load a bitstream into a board."""
    from intaglio.fpga.flash import flash as load_into

    target = board_named(board)
    with stages(f"loading {target.title}"):
        load_into(target, folder or Path(target.name), persist)
    console.print(f"{target.title} is loaded; intaglio run --board {target.name} talks to it")


@with_chip
def selftest(
    chip: ChipConfig,
    board: BoardOption,
    model: ModelArgument = None,
    port: PortOption = None,
    simulate: SimulateOption = False,
) -> None:
    """Examine a board: link, memory images, array, drain, attention, and tokens of a story."""
    link = Link(board_named(board), port, simulate)
    checkpoint = load(model or model_of(link.board))
    etched = compile_model(checkpoint, Design(checkpoint.config, chip))
    passed_all = True
    with connect(link, etched) as chip_there:
        from intaglio.fpga.selftest import selftest as examine

        for name, passed, detail in examine(chip_there, etched):
            print(f"{'pass' if passed else 'FAIL'}  {name}: {detail}", flush=True)
            passed_all = passed_all and passed
    if not passed_all:
        raise ToolError(f"The {link.board.title} does not compute what golden does")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (bitstream, etch, flash, selftest):
        app.command()(command)
