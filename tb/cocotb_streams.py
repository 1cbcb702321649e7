"""cocotb test of any unit whose ports are streams: stimulus in, expected payloads out.

Run by :func:`intaglio.tb.bench.check`, which writes the stimulus to the file that the
environment names. Imports no more than it must: there are many runs, and most are short.
"""

import json
import os
from pathlib import Path
from random import Random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout


async def drive(dut, port: str, items: list[int], rng, stall: float):
    """Send packed payloads into the stream `port`, each after idle cycles at random."""
    edge = RisingEdge(dut.clk)
    payload, valid, ready = (
        getattr(dut, f"{port}__{name}") for name in ("payload", "valid", "ready")
    )
    for item in items:
        while rng.random() < stall:
            await edge
        payload.value, valid.value = item, 1
        await edge
        while not ready.value:  # as it was before the edge
            await edge
        valid.value = 0


async def collect(dut, port: str, count: int, rng, stall: float) -> list[int]:
    """Take `count` packed payloads from the stream `port`, refusing at random."""
    edge = RisingEdge(dut.clk)
    payload, valid, ready = (
        getattr(dut, f"{port}__{name}") for name in ("payload", "valid", "ready")
    )
    got = []
    while len(got) < count:
        accept = int(rng.random() >= stall)
        ready.value = accept
        await edge
        if accept and valid.value:
            got.append(int(payload.value))
    ready.value = 0
    return got


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_golden(dut, stall):
    """Every output stream gives exactly what golden gives, in order and no more."""
    bench = json.loads(Path(os.environ["INTAGLIO_STIMULUS"]).read_text())
    rng = Random(cocotb.RANDOM_SEED)
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
            if expected is not None and actual != expected:
                raise AssertionError(f"{port}[{n}] is {actual:#x}, golden says {expected:#x}")

    for port in bench["outputs"]:
        getattr(dut, f"{port}__ready").value = 1
    for _ in range(50):
        await RisingEdge(dut.clk)
        surplus = [port for port in sinks if getattr(dut, f"{port}__valid").value]
        assert not surplus, f"more than golden on {surplus}"
