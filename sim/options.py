"""What the commands have in common: options, the chip that they describe, stages."""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from intaglio.fpga.boards import BOARDS, board
from intaglio.golden.checkpoint import CheckpointError
from intaglio.hw.config import CHIPS, ChipConfig
from intaglio.hw.formats import ConfigError, element_format, float_format
from intaglio.sim.tools import ToolError

__all__ = [
    "AnyBoardOption",
    "BoardOption",
    "Json",
    "ModelArgument",
    "PortOption",
    "SimulateOption",
    "chip_config",
    "console",
    "one_sentence",
    "stages",
    "with_chip",
]

console = Console(stderr=True)

ModelArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[MODEL]",
        help="A llama2.c .bin or a Hugging Face folder; the board's, or the story model that "
        "comes along, if left out.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FORMATS = "int4 .. int16"
BOARD_NAMES = f"One of {', '.join(BOARDS)}."
BoardOption = Annotated[str, typer.Option(help=BOARD_NAMES)]
AnyBoardOption = Annotated[str | None, typer.Option(help=BOARD_NAMES)]
PortOption = Annotated[
    str | None, typer.Option(help="The board's serial port; found on USB if left out.")
]
SimulateOption = Annotated[
    bool, typer.Option("--simulate", help="Simulate the board, its UART included.")
]


@contextmanager
def one_sentence() -> Iterator[None]:
    """Make a user's mistake one sentence on stderr and exit code 2."""
    try:
        yield
        return
    except (CheckpointError, ConfigError, ToolError) as error:
        told = str(error)
    except OSError as error:
        told = f"{error.filename}: " if error.filename else ""
        told += str(error.strerror or error)
    console.print(f"intaglio: {told}", style="red", markup=False, soft_wrap=True)
    sys.exit(2)


@contextmanager
def stages(title: str) -> Iterator[Callable[[str], None]]:
    """Show stages as they begin: gives the function that is told each."""
    with console.status(title) as status:

        def show(stage: str) -> None:
            console.print(f"[dim]{stage}[/]")
            status.update(stage)

        yield show


def chip_config(
    preset: ChipConfig,
    chip: Annotated[
        str | None,
        typer.Option(help=f"Preset: {', '.join(CHIPS)}; if left out, the board's or single."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help=f"Format of the weights: {FORMATS}, e2m1, e2m3.")
    ] = None,
    activations: Annotated[
        str | None, typer.Option(help=f"Format of the activations: {FORMATS}.")
    ] = None,
    kv: Annotated[str | None, typer.Option(help=f"Format of the KV cache: {FORMATS}.")] = None,
    small_float: Annotated[
        str | None, typer.Option("--float", help="Small float, such as E8M15.")
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Tokens side by side.")] = None,
    outputs: Annotated[
        int | None, typer.Option(help="Outputs of the array, N; 1: no array.")
    ] = None,
    depth: Annotated[int | None, typer.Option(help="Products summed per output, D.")] = None,
    groups: Annotated[int | None, typer.Option(help="Groups of rows in flight.")] = None,
    engines: Annotated[
        int | None, typer.Option(help="Attention engines, each with its bank of the cache.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Sequences held.")] = None,
    context: Annotated[int | None, typer.Option(help="Positions held per sequence.")] = None,
    window: Annotated[int | None, typer.Option(help="Positions between rescalings.")] = None,
    kv_lanes: Annotated[
        int | None, typer.Option(help="Key/value heads side by side in the cache.")
    ] = None,
) -> ChipConfig:
    """The chip that the options make of `preset`; raises :exc:`ConfigError`."""
    if chip is not None and chip not in CHIPS:
        raise ConfigError(f"Unknown chip {chip!r}: choose one of {', '.join(CHIPS)}")
    formats = {"weights": weights, "activations": activations, "kv": kv}
    numbers = {
        "rows": rows, "outputs": outputs, "depth": depth, "groups": groups, "engines": engines,
        "slots": slots, "context": context, "window": window, "kv_lanes": kv_lanes,
    }  # fmt: skip
    given: dict[str, Any] = {k: element_format(v) for k, v in formats.items() if v is not None}
    given |= {k: v for k, v in numbers.items() if v is not None}
    if small_float is not None:
        given["small_float"] = float_format(small_float)
    return replace(preset if chip is None else CHIPS[chip], **given)


def with_chip(command: Callable) -> Callable:
    """Give `command` the options of `chip_config`, and what comes of them as its first argument.

    They change the preset of the board, if `command` has an option of this name and it is given.
    """
    options = dict(list(inspect.signature(chip_config).parameters.items())[1:])
    own = list(inspect.signature(command).parameters.values())[1:]

    @functools.wraps(command)
    def wrapped(**arguments: Any) -> None:
        name = arguments.get("board")
        preset = CHIPS["single"] if name is None else board(name).chip
        chip = chip_config(preset, **{name: arguments.pop(name) for name in options})
        command(chip, **arguments)

    parameters = [*own, *options.values()]
    keyword = inspect.Parameter.KEYWORD_ONLY
    wrapped.__signature__ = inspect.Signature([p.replace(kind=keyword) for p in parameters])  # type: ignore[attr-defined]
    return wrapped
