"""The command line, ``intaglio``."""

import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from intaglio.fpga.boards import Board, model_of
from intaglio.fpga.boards import board as board_named
from intaglio.fpga.cli import Link, connect, register
from intaglio.golden.etch import Etched, etch
from intaglio.golden.load import load
from intaglio.hw.config import ChipConfig, Design
from intaglio.hw.formats import ConfigError
from intaglio.sim import compare as comparison
from intaglio.sim import doctor as tools
from intaglio.sim import info as information
from intaglio.sim import performance
from intaglio.sim.generate import Chip, Generation, generate, prompt_tokens, tokenizer_of
from intaglio.sim.options import (
    AnyBoardOption,
    Json,
    ModelArgument,
    PortOption,
    SimulateOption,
    console,
    one_sentence,
    stages,
    with_chip,
)

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Etch one transformer into one chip: RTL, its golden model, and its simulation.",
)


class Backend(StrEnum):
    """What computes the tokens."""

    verilator = "verilator"
    golden = "golden"


@contextmanager
def chip_of(backend: Backend | Link, etched: Etched) -> Iterator[Chip]:
    """The chip that computes; stages are shown as they run."""
    if isinstance(backend, Link):
        with connect(backend, etched) as chip:
            yield chip
        return
    if backend is Backend.golden:
        from intaglio.golden.chip import GoldenChip

        yield GoldenChip(etched)
        return
    from intaglio.sim.simulator import SimulatedChip

    with stages("preparing the simulation") as show:
        chip = SimulatedChip(etched, show)
    yield chip


def speed(backend: Backend | Link, generation: Generation, seconds: float) -> dict[str, Any]:
    """Cycles where they are counted, tokens/s where they mean something."""
    if backend is Backend.golden:
        return {}
    if isinstance(backend, Link):
        rate = round(len(generation.cycles) / seconds, 1)
        return {} if backend.simulate else {"tokens_per_second": rate}
    made = generation.cycles[generation.prompt - 1 :]
    return {
        "cycles": sum(generation.cycles),
        "cycles_per_token": round(sum(made) / len(made), 1) if made else 0.0,
        "first_step_cycles": generation.cycles[0] if generation.cycles else 0,
        "last_step_cycles": generation.cycles[-1] if generation.cycles else 0,
    }


def summary(
    name: str, backend: Backend | Link, design: Design, generation: Generation, seconds: float
) -> dict[str, Any]:
    """What a run did, ready for JSON."""
    c = design.chip
    return {
        "model": name,
        "backend": str(backend),
        "formats": f"{c.weights.name}, {c.activations.name}, {c.kv.name}, {c.small_float}",
        "array": c.array,
        "prompt_tokens": generation.prompt,
        "generated_tokens": len(generation.generated),
        **speed(backend, generation, seconds),
    }


@app.command()
@with_chip
def run(
    chip: ChipConfig,
    model: ModelArgument = None,
    prompt: Annotated[str, typer.Option(help="Text to continue.")] = "",
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", "-n", min=1, help="Steps; as many as fit if left out."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.0,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer, if not the one beside the model.")
    ] = None,
    backend: Annotated[
        Backend | None, typer.Option(help="What computes, without a board: verilator if left out.")
    ] = None,
    board: AnyBoardOption = None,
    port: PortOption = None,
    simulate: SimulateOption = False,
    as_json: Json = False,
) -> None:
    """Generate text on the simulated chip, or on a board.

    The text goes to stdout as it is made; everything else goes to stderr.
    """
    if temperature != 0:
        raise ConfigError(f"Only --temperature 0 can be etched so far, not {temperature:g}")
    if board is not None and backend is not None:
        raise ConfigError("Either --board or --backend computes, not both")
    if board is None and (port is not None or simulate):
        raise ConfigError("--port and --simulate belong to a board: name it with --board")
    link = None if board is None else Link(board_named(board), port, simulate)
    checkpoint = load(model if link is None else model or model_of(link.board))
    design = Design(checkpoint.config, chip)
    steps = design.context if tokens is None else tokens
    if steps > design.context:
        raise ConfigError(f"{steps} tokens do not fit the context of {design.context} positions")
    words = tokenizer_of(checkpoint, tokenizer)
    ids = prompt_tokens(checkpoint, words, prompt, steps)
    computes = link or backend or Backend.verilator
    generation = Generation(ids, len(ids))
    text = ""
    with chip_of(computes, etch(checkpoint, design)) as chip_backend:
        start = perf_counter()
        for piece in generate(chip_backend, checkpoint, words, generation, steps):
            text += piece
            if not as_json:
                sys.stdout.write(piece)
                sys.stdout.flush()
        seconds = perf_counter() - start
    report = summary(checkpoint.name, computes, design, generation, seconds)
    if as_json:
        print(json.dumps({**report, "text": text, "token_ids": generation.tokens}))
        return
    print()
    console.print(information.as_table("", report))


@app.command()
@with_chip
def verilog(
    chip: ChipConfig,
    model: ModelArgument = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("chip"),
) -> None:
    """Write Verilog, memory images and a report of what was etched."""
    checkpoint = load(model)
    design = Design(checkpoint.config, chip)
    from intaglio.sim.verilog import FILE, write

    output = output.resolve()
    if output.exists():
        if not output.is_dir():
            raise ConfigError(f"{output} is a file: name a folder that is new or empty")
        names = sorted(path.name for path in output.iterdir())
        foreign = [name for name in names if not re.fullmatch(rf"{FILE}|report\.json", name)]
        if foreign:
            raise ConfigError(
                f"{output} holds other files ({foreign[0]}): name a folder that is new or empty"
            )
    output.parent.mkdir(parents=True, exist_ok=True)
    # All or nothing: what is there is replaced when the new is complete.
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        made = Path(scratch) / "chip"
        made.mkdir()
        with console.status("generating the Verilog"):
            write(etch(checkpoint, design), made)
        description = information.describe(checkpoint, design)
        (made / "report.json").write_text(json.dumps(description, indent=2) + "\n")
        if output.exists():
            output.replace(Path(scratch) / "before")
        made.replace(output)
    console.print(information.as_table(f"{checkpoint.name} in {output}", description))


@app.command()
@with_chip
def info(chip: ChipConfig, model: ModelArgument = None, as_json: Json = False) -> None:
    """Show what would be etched: shapes, parameters, multipliers, memories."""
    checkpoint = load(model)
    description = information.describe(checkpoint, Design(checkpoint.config, chip))
    if as_json:
        print(json.dumps({"name": checkpoint.name, **description}))
    else:
        Console().print(information.as_table(checkpoint.name, description))


@app.command()
@with_chip
def compare(
    chip: ChipConfig, ctx: typer.Context, model: ModelArgument = None, as_json: Json = False
) -> None:
    """Compare the chip's arithmetic with the float reference, over formats or for the given one."""
    checkpoint = load(model)
    named = any(ctx.params[option] for option in ("weights", "activations", "kv"))
    given = (chip.weights.name, chip.activations.name, chip.kv.name)
    # Without an array there are no other formats of activations and cache.
    chosen = [given] if named or chip.outputs == 1 else list(comparison.FORMATS)
    with Progress(console=console, transient=True) as progress:
        rows = list(comparison.compare(checkpoint, chip, chosen, progress))
    if as_json:
        # JSON has no infinity.
        finite = [
            {k: None if v in (inf, -inf) else v for k, v in asdict(row).items()} for row in rows
        ]
        print(json.dumps({"name": checkpoint.name, "rows": finite}))
    else:
        Console().print(comparison.as_table(checkpoint.name, rows))


class Cells(StrEnum):
    """What a chip is made of."""

    cmos = "cmos"
    ecp5 = "ecp5"
    ice40 = "ice40"


def cells_of(cells: Cells | None, board: Board | None, curve: Path | None) -> str:
    """What to map to; raises :exc:`ConfigError` if it does not fit the other options."""
    family = str(cells or (board.device.family if board else Cells.cmos))
    if board is not None and family != board.device.family:
        raise ConfigError(f"The {board.title} is made of {board.device.family}, not {family}")
    if curve is not None and family != Cells.cmos:
        raise ConfigError(f"--curve counts transistors: it needs --cells cmos, not {family}")
    return family


@app.command()
@with_chip
def area(
    chip: ChipConfig,
    model: ModelArgument = None,
    cells: Annotated[
        Cells | None, typer.Option(help="Cells to map to: the board's, or cmos if left out.")
    ] = None,
    board: AnyBoardOption = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the units by their size: an .svg or .png.")
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(help="Draw the share that multiplies, for arrays up to the chip's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count the cells or transistors of each unit, and the share that multiplies (needs Yosys)."""
    from intaglio.sim import area as areas
    from intaglio.sim import picture as drawing

    target = None if board is None else board_named(board)
    family = cells_of(cells, target, curve)
    for path in (picture, curve):
        if path is not None:
            drawing.require(path)
    checkpoint = load(model if target is None else model or model_of(target))
    with stages("counting") as show:
        found = areas.measure(checkpoint, chip, family, show, target)
        points = list(areas.curve(checkpoint, chip, show)) if curve is not None else []
    title = f"{checkpoint.name}, array: {chip.array}, in {family} by {found.tool}"
    if picture is not None:
        drawing.draw_map(title, found, picture)
    if curve is not None:
        drawing.draw_curve(title, points, curve)
    if as_json:
        described = {"name": checkpoint.name, "cells": family, **areas.describe(found)}
        described["curve"] = {n: areas.describe(point) for n, point in points}
        print(json.dumps(described))
        return
    Console().print(areas.as_table(title, found))
    if family == Cells.cmos:
        Console().print(areas.memories_table(found))
        print(areas.summary(found))
    if target is not None:
        print(areas.against(found, target.device))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look for every program that is needed, and say what to do about what is missing."""
    found = tools.examine()
    if as_json:
        print(json.dumps([asdict(tool) for tool in found]))
    else:
        Console().print(tools.as_table(found))
    if any(tool.required and not tool.found for tool in found):
        raise typer.Exit(2)


register(app)
performance.register(app)


def main() -> None:
    """Run the command line; a user's mistake is one sentence on stderr and exit code 2."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # leave nothing half-written then either
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (until the end)
    with one_sentence():
        app()
