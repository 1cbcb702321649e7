"""Block RAM contents inside a placed and routed design: found by what they are, and exchanged.

nextpnr's text and the text that a bitstream unpacks to hold the contents of each block RAM, in the
blocks' own order of bits. Whatever the width and depth of a memory and however synthesis has split
it, one bit of consecutive words (512 in an ECP5, 256 in an iCE40) ends up as one *column* of one
block. A memory that was placed with random words is therefore found again column by column, and
nothing else in the design depends on the words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from intaglio.sim.tools import ToolError

__all__ = ["ROWS", "Column", "Placed", "bits_of", "locate", "read", "swap"]


@dataclass(frozen=True)
class Text:
    """How a family writes the contents of a block, and where its columns are."""

    header: str
    """Line ahead of a block; the group is the block's name."""
    lines: int
    words: int
    """Words in each of the lines."""
    bits: int
    """Bits of each word."""
    columns: np.ndarray
    """(columns, rows): positions among all bits of the block, the lowest bit of each word first."""

    @property
    def rows(self) -> int:
        """Rows of a column."""
        return self.columns.shape[1]


def _columns(bits: int, width: int, rows: int) -> np.ndarray:
    """(columns, rows) of a block of `bits`, used as words of `width` one after the other."""
    words = np.arange(bits // width).reshape(-1, rows, 1)
    return (words * width + np.arange(width)).transpose(0, 2, 1).reshape(-1, rows)


def _ecp5_columns() -> np.ndarray:
    """Columns of a DP16KD in each of its widths; source: Project Trellis.

    There are 2048 words of 9 bits; the widths of a power of two leave the ninth unused.
    """
    narrow = [_columns(2048 * 8, width, rows=512) for width in (1, 2, 4)]
    wide = [_columns(2048 * 9, width, rows=512) for width in (9, 18, 36)]
    return np.concatenate([*(bit // 8 * 9 + bit % 8 for bit in narrow), *wide])


def _ice40_columns() -> np.ndarray:
    """Columns of an SB_RAM40_4K in each of its widths; source: ``ice40/brams_map.v`` of Yosys.

    Narrow words lie in the 16 bits of a row in an order that Yosys undoes: bits are reversed.
    """
    reverse = np.array([int(f"{n:04b}"[::-1], 2) for n in range(16)])
    bits = np.concatenate([_columns(4096, width, rows=256) for width in (2, 4, 8, 16)])
    return bits // 16 * 16 + reverse[bits % 16]


TEXTS = {
    "ecp5": Text(r"\.bram_init (\d+)", 256, 8, 9, _ecp5_columns()),
    "ice40": Text(r"\.ram_data (\d+ \d+)", 16, 1, 256, _ice40_columns()),
}

ROWS = {family: text.rows for family, text in TEXTS.items()}
"""Rows of a column by family; memories are padded to whole columns, so that each can be found."""


class Placed:
    """A design as text, with the contents of its block RAMs.

    Attributes
    ----------
    blocks :
        Bits (uint8) of each block, by name.
    """

    def __init__(self, family: str, text: str):
        self.form = form = TEXTS[family]
        self._lines = text.split("\n")
        self._first: dict[str, int] = {}
        self.blocks: dict[str, np.ndarray] = {}
        digits = -(-form.bits // 4)
        for n, line in enumerate(self._lines):
            if not (match := re.fullmatch(form.header, line)):
                continue
            words = " ".join(self._lines[n + 1 : n + 1 + form.lines]).split()
            # Each word as bytes, and from them as bits.
            raw = bytes.fromhex("".join(word.zfill(digits + digits % 2) for word in words))
            octets = np.frombuffer(raw, np.uint8).reshape(len(words), -1)[:, ::-1]
            bits = np.unpackbits(octets, axis=1, bitorder="little")[:, : form.bits]
            self._first[match[1]] = n + 1
            self.blocks[match[1]] = bits.reshape(-1).copy()

    def text(self) -> str:
        """The design with the blocks as they are now."""
        form, lines = self.form, list(self._lines)
        digits = -(-form.bits // 4)
        for name, first in self._first.items():
            bits = self.blocks[name].reshape(-1, form.bits)
            octets = np.packbits(bits, axis=1, bitorder="little")[:, ::-1]
            words = [word.tobytes().hex()[-digits:] for word in octets]
            for n in range(form.lines):
                line = words[n * form.words : (n + 1) * form.words]
                lines[first + n] = " ".join(line)
        return "\n".join(lines)


@dataclass(frozen=True)
class Column:
    """A column that was found: where it is, and what it holds."""

    block: str
    column: int
    memory: str
    chunk: int
    """It holds rows from ``chunk`` times the rows of a column."""
    bit: int
    """Bit of the memory's words."""


def bits_of(words: list[int], width: int) -> np.ndarray:
    """Bits (words, width) of integers, the lowest first."""
    octets = -(-width // 8)
    raw = b"".join(word.to_bytes(octets, "little") for word in words)
    array = np.frombuffer(raw, np.uint8).reshape(len(words), octets)
    return np.unpackbits(array, axis=1, bitorder="little")[:, :width]


def _chunks(bits: np.ndarray, rows: int) -> np.ndarray:
    """(chunks, width, rows) of a memory whose words are whole chunks."""
    return bits.reshape(-1, rows, bits.shape[1]).transpose(0, 2, 1)


def locate(placed: Placed, memories: Mapping[str, np.ndarray]) -> list[Column]:
    """Find every column of the memories, whose bits are those that were placed.

    Raises :exc:`ToolError` if one is not there.
    """
    form, wanted = placed.form, {}
    for name, bits in memories.items():
        for chunk, columns in enumerate(_chunks(bits, form.rows)):
            for bit, key in enumerate(np.packbits(columns, axis=1)):
                wanted[key.tobytes()] = (name, chunk, bit)
    found = []
    for block, contents in placed.blocks.items():
        for column, key in enumerate(np.packbits(contents[form.columns], axis=1)):
            if place := wanted.get(key.tobytes()):
                found.append(Column(block, column, *place))
    missing = set(wanted.values()) - {(c.memory, c.chunk, c.bit) for c in found}
    if missing:
        name, chunk, bit = min(missing)
        raise ToolError(
            f"{len(missing)} of {len(wanted)} columns of etched memories are not in the placed "
            f"design, the first is bit {bit} of {name} from word {chunk * form.rows}"
        )
    return found


def swap(placed: Placed, columns: list[Column], memories: Mapping[str, np.ndarray]) -> None:
    """Put the memories' bits into the columns that were located."""
    form = placed.form
    chunks = {name: _chunks(bits, form.rows) for name, bits in memories.items()}
    for c in columns:
        placed.blocks[c.block][form.columns[c.column]] = chunks[c.memory][c.chunk, c.bit]


def read(
    placed: Placed, columns: list[Column], shapes: Mapping[str, tuple[int, int]]
) -> dict[str, np.ndarray]:
    """The memories (words, width) of these shapes, as they stand in the design.

    Raises :exc:`ToolError` if a block is not there, or if two copies of a column differ.
    """
    form = placed.form
    chunks = {
        name: np.full((words // form.rows, width, form.rows), 2, np.uint8)
        for name, (words, width) in shapes.items()
    }
    for c in columns:
        if c.block not in placed.blocks:
            raise ToolError(f"Block RAM {c.block} is not in the design")
        bits, place = placed.blocks[c.block][form.columns[c.column]], chunks[c.memory]
        before = place[c.chunk, c.bit]
        if before[0] != 2 and (before != bits).any():
            raise ToolError(f"Two copies of bit {c.bit} of {c.memory} differ")
        place[c.chunk, c.bit] = bits
    return {
        name: array.transpose(0, 2, 1).reshape(-1, array.shape[1]) for name, array in chunks.items()
    }
