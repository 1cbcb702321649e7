"""The commands that measure a chip's time, show it, and predict it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from intaglio.golden.checkpoint import Checkpoint
from intaglio.golden.etch import etch
from intaglio.golden.load import load, load_config
from intaglio.hw.config import ChipConfig, Design
from intaglio.hw.formats import ConfigError
from intaglio.sim import bench as benchmark
from intaglio.sim import gemm as products
from intaglio.sim import predict
from intaglio.sim.options import Json, ModelArgument, console, stages, with_chip
from intaglio.sim.picture import require
from intaglio.sim.simulator import SimulatedChip
from intaglio.sim.trace import as_perfetto, record

__all__ = ["register"]

Clock = Annotated[float, typer.Option(help="Clock in MHz, for tokens/s.", min=0.001, max=1e6)]
Contexts = Annotated[
    str | None, typer.Option(help="Positions to be at, such as 16,64,120; three if left out.")
]


def drawing():
    """What draws; raises :exc:`ToolError` if matplotlib is missing."""
    from intaglio.sim import plots

    return plots


def _need_array(chip: ChipConfig) -> None:
    """Raise :exc:`ConfigError` if `chip` has none."""
    if chip.outputs == 1:
        raise ConfigError(
            "A chip with one output has no array to measure: intaglio run counts its cycles, or "
            "choose more --outputs"
        )


def _simulated(checkpoint: Checkpoint, design: Design) -> SimulatedChip:
    with stages("preparing the simulation") as show:
        return SimulatedChip(etch(checkpoint, design), show)


@with_chip
def bench(
    chip: ChipConfig,
    model: ModelArgument = None,
    mhz: Clock = 100.0,
    contexts: Contexts = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for three plots.")] = None,
    as_json: Json = False,
) -> None:
    """Measure the simulated chip: decode of 1, 2, 4, ... sequences, a prompt, both."""
    _need_array(chip)
    checkpoint = load(model)
    design = Design(checkpoint.config, chip)
    places = benchmark.contexts_of(design, contexts)
    if plots is not None:
        drawing()  # before the long work
        if plots.exists() and not plots.is_dir():
            raise ConfigError(f"{plots} is a file, not a folder for plots")
    simulated = _simulated(checkpoint, design)
    with stages("measuring") as show:
        points = list(benchmark.bench(simulated, places, show))
    if plots is not None:
        drawing().plot_bench(plots, design, points)
    if as_json:
        rows = [point.as_json(mhz) for point in points]
        print(json.dumps({"name": checkpoint.name, "mhz": mhz, "points": rows}))
    else:
        Console().print(benchmark.as_table(checkpoint.name, points, mhz))


@with_chip
def gemm(chip: ChipConfig, as_json: Json = False) -> None:
    """Measure the array alone on matrix products, one after the other; no model is needed."""
    _need_array(chip)
    with stages("preparing the simulation") as show:
        measured = products.multiply(chip, show)
    if as_json:
        print(json.dumps(asdict(measured)))
    else:
        Console().print(products.as_table(measured))


@with_chip
def trace(
    chip: ChipConfig,
    model: ModelArgument = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Trace file, for ui.perfetto.dev.")
    ] = Path("trace.json"),
    picture: Annotated[Path | None, typer.Option(help="Draw it: an .svg or .png.")] = None,
    sequences: Annotated[
        int | None, typer.Option(help="Sequences; as many as fit if left out.", min=1)
    ] = None,
    after: Annotated[int, typer.Option(help="Positions before the trace.", min=0)] = 16,
    tokens: Annotated[int, typer.Option("--tokens", "-n", help="Of each.", min=1)] = 2,
) -> None:
    """Record what every group and engine does over a few tokens."""
    _need_array(chip)
    checkpoint = load(model)
    design = Design(checkpoint.config, chip)
    count = design.slots if sequences is None else sequences
    if count > design.slots:
        raise ConfigError(f"{count} sequences do not fit the chip's {design.slots} slots")
    if after + tokens > design.context:
        raise ConfigError(
            f"{after} positions and {tokens} tokens do not fit the context of {design.context}"
        )
    if not output.parent.is_dir():
        raise ConfigError(f"There is no folder {output.parent} for the trace {output.name}")
    if picture is not None:
        require(picture)
    simulated = _simulated(checkpoint, design)
    with stages("recording"):
        shown = record(simulated, count, after, tokens)
    output.write_text(json.dumps(as_perfetto(design, shown)))
    console.print(f"{output}: {len(shown):,} slices; open it at https://ui.perfetto.dev")
    if picture is not None:
        drawing().plot_timeline(picture, design, shown)


@with_chip
def estimate(
    chip: ChipConfig,
    model: ModelArgument = None,
    mhz: Clock = 100.0,
    contexts: Contexts = None,
    as_json: Json = False,
) -> None:
    """Predict cycles per token without simulation, of a model or of its config.json alone."""
    _need_array(chip)
    name, config = load_config(model)
    design = Design(config, chip)
    points = predict.predict(design, benchmark.contexts_of(design, contexts))
    if as_json:
        rows = [point.as_json(mhz) for point in points]
        print(json.dumps({"name": name, "mhz": mhz, "points": rows}))
        return
    screen = Console()
    screen.print(predict.terms_table(name, design))
    screen.print(predict.as_table(points, mhz))


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (bench, gemm, trace, estimate):
        app.command()(command)
