"""A model into a placed and routed design: seconds, where placing takes minutes.

A design is placed with random words in its etched memories, so that every bit of them is there and
can be found. `columns.json` in the folder of a build says where; a model's words are put there, and
the bitstream is packed, unpacked again and compared.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from intaglio.fpga import bram
from intaglio.fpga.boards import Board
from intaglio.fpga.place import BITSTREAM, PLACED, pack, reading
from intaglio.fpga.tools import find, run
from intaglio.golden.etch import Etched
from intaglio.golden.images import images
from intaglio.golden.main_memory import flash_image, main_memory
from intaglio.hw.config import Design
from intaglio.hw.images import Images
from intaglio.sim.tools import ToolError
from intaglio.sim.verilog import IMAGES, image_widths

__all__ = [
    "MEMORY",
    "bits",
    "block_ram_images",
    "etch_into",
    "in_flash",
    "is_mapped",
    "map_columns",
    "padded",
    "random_contents",
    "write_memory",
]

MEMORY = "memory.bin"
"""What a board's flash holds beside the bitstream."""

UNPACK = {"ecp5": "ecpunpack", "ice40": "iceunpack"}

Memories = Mapping[str, np.ndarray]
"""Bits (words, width) of each etched memory, by name."""


def in_flash(board: Board, design: Design) -> bool:
    """Whether the memory of `design` is filled from the flash of `board`."""
    return design.shared and board.flash is not None


def block_ram_images(board: Board, etched: Etched) -> Images:
    """What is etched into block RAMs: whole columns of them."""
    contents = images(etched)
    if in_flash(board, etched.design):
        contents = replace(contents, memory=[])
    return padded(contents, board.device.family)


def write_memory(folder: Path, etched: Etched) -> int:
    """Write what goes to the flash beside the bitstream; the number of words that are there then.

    Raises :exc:`ToolError` if they are not those of the model.
    """
    (folder / MEMORY).write_bytes(flash_image(etched))
    words = np.frombuffer((folder / MEMORY).read_bytes(), "<u4")
    if words.tolist() != main_memory(etched)[: len(words)]:
        raise ToolError(f"{folder / MEMORY} does not hold what was written: is the disk full?")
    return len(words)


def padded(contents: Images, family: str) -> Images:
    """`contents` with zeros added to each memory, up to whole columns of its block RAMs."""
    rows = bram.ROWS[family]
    words = {name: getattr(contents, name) for name in IMAGES}
    return replace(contents, **{n: [*w, *[0] * (-len(w) % rows)] for n, w in words.items()})


def random_contents(design: Design, contents: Images, seed: int) -> Images:
    """`contents` with random words; its constants stay."""
    random = np.random.default_rng(seed)
    made = {}
    for name, width in image_widths(design).items():
        octets, mask = -(-width // 8), (1 << width) - 1
        count = len(getattr(contents, name))
        made[name] = [int.from_bytes(random.bytes(octets), "little") & mask for _ in range(count)]
    return replace(contents, **made)


def bits(design: Design, contents: Images) -> Memories:
    """The memories of `contents`."""
    widths = image_widths(design)
    words = {name: getattr(contents, name) for name in IMAGES}
    return {name: bram.bits_of(w, widths[name]) for name, w in words.items() if w}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _placed(folder: Path, family: str) -> tuple[str, bram.Placed]:
    """The design placed in `folder`, as text and as blocks."""
    with reading(file := folder / f"top.{PLACED[family]}"):
        text = file.read_text()
        return text, bram.Placed(family, text)


def is_mapped(folder: Path, family: str) -> bool:
    """Whether ``columns.json`` is there and belongs to the design placed in `folder`."""
    if not (file := folder / "columns.json").exists():
        return False
    text, _ = _placed(folder, family)
    with reading(file):
        return json.loads(file.read_text())["placed"] == _digest(text)


def map_columns(folder: Path, family: str, memories: Memories) -> None:
    """Find the memories in the design placed in `folder`; writes ``columns.json``.

    Raises :exc:`ToolError` if a column of them is not there.
    """
    text, placed = _placed(folder, family)
    columns = bram.locate(placed, memories)
    (folder / "columns.json").write_text(
        json.dumps({
            "placed": _digest(text),
            "memories": {name: memory.shape for name, memory in memories.items()},
            "columns": [list(asdict(column).values()) for column in columns],
        })
    )


def etch_into(folder: Path, family: str, memories: Memories) -> int:
    """Put `memories` into the design placed in `folder` and make ``chip.bit`` or ``chip.bin``.

    Gives the number of words that were read back from the bitstream and found right. Raises
    :exc:`ToolError` if the map belongs to another placement or to other memories, or if the
    bitstream does not hold the words; then there is no bitstream.
    """
    for old in folder.glob("chip.*"):
        old.unlink()
    text, placed = _placed(folder, family)
    with reading(file := folder / "columns.json"):
        known = json.loads(file.read_text())
        shapes = {name: (words, width) for name, (words, width) in known["memories"].items()}
        columns = [bram.Column(*column) for column in known["columns"]]
        belongs = known["placed"] == _digest(text)
    if not belongs:
        raise ToolError(f"{file} does not belong to the design that is placed: build it again")
    if shapes != {name: memory.shape for name, memory in memories.items()}:
        raise ToolError(f"{file} belongs to memories of other shapes: build it again")
    with reading(file):
        bram.swap(placed, columns, memories)
    # Under another name until every word has been compared.
    try:
        (folder / f"unverified.{PLACED[family]}").write_text(placed.text())
        pack(folder, "unverified")
        words = _verify(folder, family, columns, memories)
        for made in sorted(folder.glob("unverified.*")):
            made.rename(made.with_stem("chip"))
    finally:
        for left in folder.glob("unverified.*"):
            left.unlink()
    return words


def _verify(folder: Path, family: str, columns: list[bram.Column], memories: Memories) -> int:
    """Unpack the bitstream and compare every word; the number of words."""
    unpacked = folder / f"unpacked.{PLACED[family]}"
    bitstream = f"unverified.{BITSTREAM[family]}"
    output = {"ecp5": ["--input", bitstream, "--textcfg"], "ice40": [bitstream]}[family]
    run(find(UNPACK[family]), [*output, unpacked.name], folder)
    back = bram.Placed(family, unpacked.read_text())
    unpacked.unlink()
    shapes = {name: memory.shape for name, memory in memories.items()}
    for name, found in bram.read(back, columns, shapes).items():
        if wrong := int((found != memories[name]).any(axis=1).sum()):
            raise ToolError(f"{wrong} of {len(found)} words of {name} are wrong in the bitstream")
    return sum(map(len, memories.values()))
