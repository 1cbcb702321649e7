"""Whole chips in Verilator, run without a Python call per cycle."""

import ctypes
import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from intaglio.golden import small_float
from intaglio.golden.etch import Etched
from intaglio.golden.images import images
from intaglio.hw.config import Design
from intaglio.hw.images import Images
from intaglio.hw.layouts import Layouts
from intaglio.hw.protocol import Counter
from intaglio.sim.cache import built, digest, run_tool, source_text, tool_versions, verilate
from intaglio.sim.tools import ToolError, verilator_root
from intaglio.sim.verilog import chip_text, memory_images

__all__ = ["Event", "SimulatedChip"]

Text = Callable[[Design, Images], str]
"""Makes the Verilog of a chip as module ``chip``."""

SILENCE = 50_000_000
"""Cycles without an event after which a chip is given up."""


@dataclass(frozen=True)
class Event:
    """What came of one row: the sampled token, or the fed one if none was wanted."""

    slot: int
    position: int
    token: int
    sampled: bool


def _compile(folder: Path, widths: dict[str, int], report: Callable[[str], None]) -> None:
    """Make ``libchip.so`` from ``chip.v``."""
    verilate(folder, "Vchip", ["--top-module", "chip", "chip.v"], report)
    root, shim = verilator_root(), Path(__file__).with_name("shim.cpp")
    defines = [f"-D{name}={bits}" for name, bits in widths.items()]
    run_tool(
        [
            "g++", "-O2", "-fPIC", "-shared", "-Ibuild", f"-I{root / 'include'}",
            f"-I{root / 'include' / 'vltstd'}", *defines, "-o", "build/libchip.so", str(shim),
            "build/Vchip__ALL.a", "build/libverilated.a", "-lpthread",
        ],
        folder,
    )  # fmt: skip
    (folder / "build" / "libchip.so").replace(folder / "libchip.so")
    shutil.rmtree(folder / "build")


def _library(
    etched: Etched, widths: dict[str, int], report: Callable[[str], None], text: Text
) -> tuple[Path, Path]:
    """The library of the design, and the folder with the images of the model."""
    contents = images(etched)
    design = repr((etched.design, contents.inverse_dim, contents.eps, bool(contents.bias)))

    def make(folder: Path) -> None:
        report("generating the Verilog")
        (folder / "chip.v").write_text(text(etched.design, contents))
        _compile(folder, widths, report)

    key = digest(design, source_text(Path(inspect.getfile(text))), *tool_versions())
    return built(key, "libchip.so", memory_images(etched.design, contents), make)


def _pointer(words: np.ndarray):
    return words.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32))


class SimulatedChip:
    """The generated Verilog of an etched model, Verilated.

    Building takes a minute or so the first time; `report` is told what is being done. Raises
    :exc:`~intaglio.sim.tools.ToolError` if a program is missing or fails. `text` makes the Verilog
    of the chip, of which there may be other forms than the RTL.
    """

    def __init__(
        self,
        etched: Etched,
        report: Callable[[str], None] = lambda stage: None,
        text: Text = chip_text,
    ):
        self.design = etched.design
        self._layouts = Layouts(etched.design)
        chip = etched.design.chip
        pairs = 2 * chip.rows * chip.small_float.bits
        self._widths = {
            "LOGITS_BITS": pairs + 1 + self._layouts.group.width,
            "ACTIVITY_BITS": self._layouts.activity.size,
            "COUNTER_BITS": 32 * len(Counter),
        }
        library, contents = _library(etched, self._widths, report, text)
        try:
            self._lib = lib = ctypes.CDLL(str(library))
        except OSError as error:
            library.unlink(missing_ok=True)
            raise ToolError(
                f"{library} is damaged ({error}); the next run builds it anew"
            ) from None
        lib.chip_new.restype = ctypes.c_void_p
        lib.chip_event.restype = lib.chip_cycles.restype = ctypes.c_uint64
        lib.chip_logits.restype = lib.chip_changes.restype = ctypes.c_uint64
        self._chip = ctypes.c_void_p(lib.chip_new(os.fsencode(contents)))
        if not self._chip:
            raise ToolError(f"The memory images in {contents} cannot be read")

    def __del__(self):
        if getattr(self, "_chip", None):
            self._lib.chip_delete(self._chip)

    @property
    def cycles(self) -> int:
        """Clock cycles since reset."""
        return self._lib.chip_cycles(self._chip)

    @property
    def counters(self) -> dict[Counter, int]:
        """What the chip has counted; three cycles late."""
        words = np.zeros(len(Counter), np.uint32)
        self._lib.chip_counters(self._chip, _pointer(words))
        return dict(zip(Counter, words.tolist(), strict=True))

    def record(self, on: bool) -> None:
        """Begin or end to record the chip's activity."""
        self._lib.chip_record(self._chip, int(on))

    def recorded(self) -> list[tuple[int, int]]:
        """Cycles in which the activity changed since the last call, and its bits from there on."""
        words = self._taken(self._lib.chip_changes)
        size = 2 + max(-(-self._widths["ACTIVITY_BITS"] // 32), 1)
        beats = [row.tobytes() for row in words.reshape(-1, size)]
        return [
            (int.from_bytes(beat[:8], "little"), int.from_bytes(beat[8:], "little"))
            for beat in beats
        ]

    def _taken(self, give: Callable) -> np.ndarray:
        """All words that a function of the library has kept."""
        words = np.zeros(give(self._chip, None), np.uint32)
        give(self._chip, _pointer(words))
        return words

    def command(
        self, slot: int, position: int, token: int, sample: bool, last: bool = True
    ) -> None:
        """Queue one row; `last` closes the step that it belongs to."""
        fields = {"slot": slot, "position": position, "token": token}
        flags = {"sample": int(sample), "last": int(last)}
        payload = self._layouts.command.const({**fields, **flags}).as_bits()
        self._lib.chip_command(self._chip, ctypes.c_uint64(payload))

    def event(self) -> Event:
        """Run until the next event."""
        if not self._lib.chip_run(self._chip, ctypes.c_uint64(SILENCE)):
            raise ToolError(f"The simulated chip gave no event in {SILENCE} cycles")
        event = self._layouts.event.from_bits(self._lib.chip_event(self._chip))
        return Event(event.slot, event.position, event.token, bool(event.sampled))

    def wait(self, cycles: int) -> None:
        """Let cycles pass while no event is due."""
        self._lib.chip_run(self._chip, ctypes.c_uint64(cycles))

    def feed(self, slot: int, position: int, token: int, sample: bool) -> int | None:
        """One token through the model, alone in its step; the next token if `sample`."""
        self.command(slot, position, token, sample)
        event = self.event()
        return event.token if sample else None

    def generate(self, slot: int, position: int, token: int, until: int) -> Iterator[int]:
        """The next token at each position from `position` to `until`, where it is fed back."""
        for place in range(position, until + 1):
            self.command(slot, place, token, True)
            token = self.event().token
            yield token

    def logits(self) -> np.ndarray:
        """Logits (steps with a head, rows, vocab) that were computed since the last call."""
        fmt, rows = self.design.chip.small_float, self.design.chip.rows
        words = self._taken(self._lib.chip_logits)
        beats = words.reshape(-1, -(-self._widths["LOGITS_BITS"] // 32))
        bits = np.unpackbits(beats.view(np.uint8), axis=1, bitorder="little")
        bits = bits[:, : 2 * rows * fmt.bits].reshape(len(beats), rows, 2, fmt.bits)
        codes = (bits.astype(np.int64) << np.arange(fmt.bits)).sum(axis=-1)
        vocab = self.design.model.vocab
        steps = codes.reshape(-1, -(-vocab // 2), rows, 2).transpose(0, 2, 1, 3)
        return small_float.decode(fmt, steps.reshape(len(steps), rows, -1)[..., :vocab])
