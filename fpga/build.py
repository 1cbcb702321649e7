"""Bitstreams: a model on a board, placed once, etched in as often as one likes.

The folder of a build holds

- ``top.*`` and ``build_top.sh``: from RTL to a placed design whose etched memories are random,
- ``design.json``: which board, which design,
- ``columns.json``: where in the placed design each bit of the etched memories is,
- ``chip.*``: the same with a model in it, and the bitstream,
- ``memory.bin``: what is not in the bitstream but beside it in the board's flash, if anything,
- ``report.json``.
"""

import json
import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from intaglio.fpga.boards import Board, board
from intaglio.fpga.etch import (
    bits,
    block_ram_images,
    etch_into,
    in_flash,
    is_mapped,
    map_columns,
    random_contents,
    write_memory,
)
from intaglio.fpga.expect import Expected, expect
from intaglio.fpga.place import PLACED, Show, clear, met_timing, place, reading
from intaglio.fpga.report import Report, report_on
from intaglio.fpga.top import core_of
from intaglio.golden.checkpoint import Checkpoint, CheckpointError
from intaglio.golden.etch import Etched, etch
from intaglio.hw.config import ChipConfig, Design, ModelConfig
from intaglio.hw.formats import ConfigError, element_format, float_format

__all__ = ["build", "design_of", "etch_anew", "write_design"]

SEED = 1
"""Of the random words."""


def _design_as_json(design: Design) -> dict[str, Any]:
    chip = {k: getattr(design.chip, k) for k in asdict(design.chip)}
    for role in ("weights", "activations", "kv"):
        chip[role] = chip[role].name
    return {
        "model": asdict(design.model),
        "chip": chip | {"small_float": str(design.chip.small_float)},
    }


def write_design(board: Board, design: Design, folder: Path) -> None:
    """Write ``design.json``."""
    known = {"board": board.name, **_design_as_json(design)}
    (folder / "design.json").write_text(json.dumps(known, indent=2) + "\n")


def design_of(folder: Path) -> tuple[Board, Design]:
    """Board and design of the build in `folder`; raises :exc:`ConfigError` if there is none."""
    file = folder / "design.json"
    if not file.exists():
        raise ConfigError(
            f"{folder} holds no build: make one with intaglio bitstream --board NAME -o {folder}"
        )
    with reading(file):
        known = json.loads(file.read_text())
        chip = known["chip"]
        for role in ("weights", "activations", "kv"):
            chip[role] = element_format(chip[role])
        chip["small_float"] = float_format(chip["small_float"])
        design = Design(ModelConfig(**known["model"]), ChipConfig(**chip))
        return board(known["board"]), design


def _holds(folder: Path, board: Board, design: Design) -> bool:
    """Whether the build in `folder` is of this design."""
    try:
        there, known = design_of(folder)
    except ConfigError:
        return False
    return (there.name, known) == (board.name, design)


def build(board: Board, etched: Etched, folder: Path, show: Show) -> Report:
    """Make a bitstream of `etched` for `board`; `show` is told each stage.

    Raises :exc:`~intaglio.sim.tools.ToolError` if a tool is missing or fails, or if the timing is
    not met; then `folder` holds no bitstream.
    """
    design, family = etched.design, board.device.family
    placeholder = random_contents(design, block_ram_images(board, etched), SEED)
    core = core_of(board, design, placeholder)
    folder.mkdir(parents=True, exist_ok=True)
    if not _holds(folder, board, design):
        clear(folder)
    write_design(board, design, folder)
    place(board, core, folder, show)
    show("looking for the etched memories in the placed design")
    map_columns(folder, family, bits(design, placeholder))
    return _finish(board, etched, folder, show, expect(board, etched, show))


def _finish(board: Board, etched: Etched, folder: Path, show: Show, expected: Expected) -> Report:
    """Etch, verify, report; raises :exc:`ToolError` if the timing is missed."""
    met_timing(board, folder)
    design, family = etched.design, board.device.family
    show(f"etching {etched.name}, packing, reading back")
    words = etch_into(folder, family, bits(design, block_ram_images(board, etched)))
    if in_flash(board, design):
        words += write_memory(folder, etched)
    chip = _design_as_json(design)["chip"]
    report = report_on(board, etched.name, chip, folder, words, expected)
    report.save(folder)
    return report


def _refuse_other_shape(checkpoint: Checkpoint, design: Design, folder: Path) -> None:
    """Raise :exc:`CheckpointError` unless the model is as the design's in all but its weights."""
    there, here = asdict(design.model), asdict(checkpoint.config)
    if there == here:
        return
    shape = ("dim", "hidden", "layers", "heads", "kv_heads", "head_dim", "vocab", "context")
    names = [n for n in there if n in shape or there[n] != here[n]]

    def told(config: dict[str, Any]) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {config[name]}" for name in names)

    raise CheckpointError(
        f"{checkpoint.name} does not fit the build in {folder}: the model has {told(here)}, the "
        f"build has {told(there)}"
    )


def _expected(folder: Path) -> Expected | None:
    """What the report of the build in `folder` expects, if it has one that can be read."""
    if not (folder / "report.json").exists():
        return None
    try:
        known = Report.load(folder).expected
        return Expected(**{field.name: known[field.name] for field in fields(Expected)})
    except (ValueError, KeyError, TypeError):  # damaged, or of another version
        return None


def etch_anew(folder: Path, checkpoint: Checkpoint, new: Path, show: Show) -> Report:
    """Another model of the same shape into the build in `folder`; the result goes to `new`.

    Raises :exc:`CheckpointError` for a model of another shape, :exc:`ConfigError` if there is no
    build.
    """
    board, design = design_of(folder)
    family = board.device.family
    _refuse_other_shape(checkpoint, design, folder)
    etched = etch(checkpoint, design)
    if not (folder / f"top.{PLACED[family]}").exists():
        raise ConfigError(f"{folder} holds no placed design: build it again")
    if not is_mapped(folder, family):  # placed by hand, with build_top.sh
        placeholder = random_contents(design, block_ram_images(board, etched), SEED)
        map_columns(folder, family, bits(design, placeholder))
    if new.resolve() != folder.resolve():
        files = ("design.json", "columns.json", "build_top.json", "top.report.json", "top.rpt",
                 f"top.{PLACED[family]}")  # fmt: skip
        for name in files:
            if not (folder / name).exists():
                raise ConfigError(f"{folder / name} is missing: build it again")
        new.mkdir(parents=True, exist_ok=True)
        clear(new)
        for name in files:
            shutil.copy(folder / name, new / name)
    return _finish(board, etched, new, show, _expected(folder) or expect(board, etched, show))
