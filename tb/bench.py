"""Units against golden on both simulators: build (cached by content), stimulate, compare."""

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from amaranth.lib import wiring
from cocotb_tools import config
from cocotb_tools.runner import get_runner

from intaglio.sim.cache import digest, tool_versions, verilate
from intaglio.sim.verilog import verilog_text
from intaglio.tb.streams import pack

__all__ = ["ON_BOTH", "check"]

ON_BOTH = pytest.mark.parametrize(
    "simulator",
    [
        "verilator",
        pytest.param(
            "icarus",
            marks=pytest.mark.skipif(
                shutil.which("iverilog") is None,
                reason="Icarus is not installed: apt-get install iverilog",
            ),
        ),
    ],
)
"""Runs a test that takes `simulator` once with each."""

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / "build" / "bench"
VERILATOR_ARGS = [
    *("--exe", "--vpi", "--top-module", "unit", "-o", "unit", "--timescale", "1ns/1ps"),
    *("--x-assign", "unique", "--x-initial", "unique"),
    # Compiling takes longer than running: one file, of signals that may vanish.
    *("--output-split", "0", str(HERE / "ports.vlt"), "unit.v"),
    *("-LDFLAGS", f"-Wl,-rpath,{config.libs_dir} -L{config.libs_dir} -lcocotbvpi_verilator"),
    str(config.share_dir / "lib" / "verilator" / "verilator.cpp"),
]


def _build(unit: wiring.Component, simulator: str, models: str) -> Path:
    """Folder of the built simulation of `unit` as module ``unit``."""
    text = verilog_text(unit, "unit") + models
    ports = (HERE / "ports.vlt").read_text()
    folder = CACHE / digest(text, simulator, ports, *VERILATOR_ARGS, *tool_versions())
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            (folder / "unit.v").write_text(text)
            if simulator == "verilator":
                verilate(folder, "Vtop", VERILATOR_ARGS, flags="-O0")
            else:
                get_runner(simulator).build(
                    sources=[folder / "unit.v"],
                    hdl_toplevel="unit",
                    build_dir=folder / "build",
                    timescale=("1ns", "1ps"),
                    log_file=folder / "build.log",
                )
            (folder / "built").touch()
    return folder / "build"


def _payload(unit: wiring.Component, name: str):
    """Shape of the payload of a stream; ``writes__0`` is the first of an array of streams."""
    port, _, number = name.partition("__")
    stream = getattr(unit, port)
    return (stream[int(number)] if number else stream).payload.shape()


def check(
    unit: wiring.Component,
    inputs: dict[str, list],
    outputs: dict[str, list],
    simulator: str,
    tmp_path: Path,
    patience: int = 100,
    models: str = "",
) -> None:
    """Send `inputs` (payloads by port) and require `outputs`, with and without random stalls.

    What is None among the outputs may be anything. Gives up after `patience` cycles for each
    payload. `models` is the Verilog of a vendor's cells in the unit.
    """
    folder = _build(unit, simulator, models)

    def packed(ports: dict[str, list]) -> dict[str, list[int | None]]:
        return {
            name: [p if p is None else pack(_payload(unit, name), p) for p in ports[name]]
            for name in ports
        }

    beats = sum(map(len, [*inputs.values(), *outputs.values()]))
    stimulus = tmp_path / "stimulus.json"
    stimulus.write_text(
        json.dumps({
            "inputs": packed(inputs),
            "outputs": packed(outputs),
            "timeout_us": 50 + beats * patience // 100,  # of 100 cycles each
        })
    )
    log = tmp_path / "test.log"
    try:
        get_runner(simulator).test(
            hdl_toplevel="unit",
            hdl_toplevel_lang="verilog",
            test_module="intaglio.tb.cocotb_streams",
            build_dir=folder,
            test_dir=tmp_path,
            results_xml=str(tmp_path / "results.xml"),
            seed=1,
            extra_env={"INTAGLIO_STIMULUS": str(stimulus), "PATH": os.environ["PATH"]},
            log_file=log,
        )
    except SystemExit:
        said = [line for line in log.read_text().splitlines() if "Error" in line]
        pytest.fail("\n".join(said[:4]) or f"the simulation failed; see {log}", pytrace=False)
