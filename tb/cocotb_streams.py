"""cocotb test of any unit whose ports are streams: stimulus in, expected payloads out.

Run by :func:`intaglio.tb.bench.check`, which writes the stimulus to the file that the
environment names.
"""

import json
import os
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout

from intaglio.tb.streams import collect, drive


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_golden(dut, stall):
    """Every output stream gives exactly what golden gives, in order and no more."""
    bench = json.loads(Path(os.environ["INTAGLIO_STIMULUS"]).read_text())
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    for port in bench["inputs"]:
        getattr(dut, f"{port}__valid").value = 0
        getattr(dut, f"{port}__payload").value = 0
    for port in bench["outputs"]:
        getattr(dut, f"{port}__ready").value = 0
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0

    for port, items in bench["inputs"].items():
        cocotb.start_soon(drive(dut, port, items, rng, stall))
    sinks = {
        port: cocotb.start_soon(collect(dut, port, len(items), rng, stall))
        for port, items in bench["outputs"].items()
    }
    for port, sink in sinks.items():
        got = await with_timeout(sink, bench["timeout_us"], "us")
        for n, (actual, expected) in enumerate(zip(got, bench["outputs"][port], strict=True)):
            assert actual == expected, f"{port}[{n}] is {actual:#x}, golden says {expected:#x}"

    for port in bench["outputs"]:
        getattr(dut, f"{port}__ready").value = 1
    for _ in range(50):
        await RisingEdge(dut.clk)
        surplus = [port for port in sinks if getattr(dut, f"{port}__valid").value]
        assert not surplus, f"more than golden on {surplus}"
