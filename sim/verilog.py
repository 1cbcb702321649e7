"""Verilog of Amaranth components, and a chip as a folder of Verilog and memory images."""

import os
import re
from pathlib import Path

from amaranth.back import verilog
from amaranth.lib import wiring

from intaglio.golden.etch import Etched
from intaglio.golden.images import images
from intaglio.hw.chip import make_chip
from intaglio.hw.config import Design
from intaglio.hw.images import Images
from intaglio.hw.weights import banks, slices

__all__ = [
    "FILE",
    "IMAGES",
    "chip_text",
    "image_widths",
    "memory_images",
    "read_from_files",
    "use_bundled_yosys",
    "verilog_text",
    "write",
]

IMAGES = ("weights", "embedding", "embedding_exponents", "rope", "bias", "memory")
"""What is etched, by the fields of `Images`; the memories are ``weights_<bank>_<slice>`` and
``embedding_<bank>``, the others have these names."""

MEMORY = "weights_[0-9]+_[0-9]+|embedding_[0-9]+|embedding_exponents|rope|bias|memory"
"""Names of the memories whose contents are read from files of these names, with ``.hex``."""

FILE = rf"chip\.v|({MEMORY})\.hex"
"""Names of what :func:`write` may write."""


def use_bundled_yosys() -> None:
    """Have Amaranth take the Yosys that pip installed, so that text is the same everywhere."""
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"


def verilog_text(component: wiring.Component, name: str) -> str:
    """Verilog of `component` as module `name`; the same text on every run."""
    use_bundled_yosys()
    text = verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
    # `always @*` waits for a change, so that constants would stay undefined in Icarus. Yosys has
    # every such block read a register for that, but initialises it before anything waits.
    text = re.sub(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ", "awake", text)
    return text.replace("  reg awake = 0;\n", "  reg awake;\n  initial awake <= 0;\n")


def read_from_files(text: str) -> str:
    """`text` with its etched memories initialised by ``$readmemh`` of ``<name>.hex``."""
    block = rf"(  reg \[\d+:0\] ({MEMORY}) \[\d+:0\];\n)  initial begin\n(?:    \2\[.*\n)*  end\n"
    return re.sub(block, r'\1  initial $readmemh("\2.hex", \2);\n', text)


def chip_text(design: Design, contents: Images) -> str:
    """Verilog of a chip as module ``chip``, its etched memories initialised by ``$readmemh``.

    The text depends on the weights by nothing but the names of these files.
    """
    return read_from_files(verilog_text(make_chip(design, contents), "chip"))


def image_widths(design: Design) -> dict[str, int]:
    """Bits of a word of each etched memory."""
    chip = design.chip
    if design.shared:
        return {"memory": 32}
    word = chip.outputs * chip.depth * chip.weights.bits + 8 * design.exponents_per_word
    return {
        "weights": word,
        "embedding": 2 * chip.weights.bits,
        "embedding_exponents": 8,
        "rope": 2 * chip.small_float.bits,
        "bias": 2 * chip.small_float.bits,
    }


def _hex(name: str, words: list[int], start: int, width: int) -> dict[str, str]:
    """The ``.hex`` file of a memory that holds `width` bits of words, if there are any."""
    digits, mask = -(-width // 4), (1 << width) - 1
    text = "".join(f"{word >> start & mask:0{digits}x}\n" for word in words)
    return {f"{name}.hex": text} if words else {}


def memory_images(design: Design, contents: Images) -> dict[str, str]:
    """Text of each ``.hex`` file: a word per line, as wide as its memory."""
    files = {}
    for name, width in image_widths(design).items():
        image = getattr(contents, name)
        if name == "weights":
            for bank, words in enumerate(banks(image)):
                for n, (start, bits) in enumerate(slices(width)):
                    files |= _hex(f"{name}_{bank}_{n}", words, start, bits)
        elif name == "embedding":
            for bank, words in enumerate(banks(image)):
                files |= _hex(f"{name}_{bank}", words, 0, width)
        else:
            files |= _hex(name, image, 0, width)
    return files


def write(etched: Etched, directory: Path) -> None:
    """Write ``chip.v`` and the memory images of an etched model to an existing folder."""
    contents = images(etched)
    (directory / "chip.v").write_text(chip_text(etched.design, contents))
    for name, text in memory_images(etched.design, contents).items():
        (directory / name).write_text(text)
