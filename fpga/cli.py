"""The commands for boards: bitstream, etch, flash."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from intaglio.fpga.boards import board as board_named
from intaglio.fpga.boards import model_of
from intaglio.fpga.report import Report
from intaglio.golden.etch import etch as compile_model
from intaglio.golden.load import load
from intaglio.hw.config import ChipConfig, Design
from intaglio.hw.formats import ConfigError
from intaglio.sim.options import BoardOption, Json, ModelArgument, console, stages, with_chip

__all__ = ["register"]


def _show(report: Report, folder: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**asdict(report), "folder": str(folder)}))
        return
    Console().print(report.table())
    console.print(
        f"{report.words_read_back:,} words of {report.model} were read back from the bitstream in "
        f"{folder}"
    )


@with_chip
def bitstream(
    chip: ChipConfig,
    board: BoardOption,
    model: ModelArgument = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write; the board's name if left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the bitstream of a model for a board: synthesis, place and route, etching."""
    from intaglio.fpga.build import build

    target = board_named(board)
    checkpoint = load(model or model_of(target))
    folder = output or Path(target.name)
    if folder.exists() and not (folder / "design.json").exists():
        if not folder.is_dir():
            raise ConfigError(f"{folder} is a file: name a folder that is new or empty")
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} holds other files: name a folder that is new or empty")
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


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (bitstream, etch, flash):
        app.command()(command)
