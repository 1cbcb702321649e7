"""Pipelines as streams: every payload once and in order, one per cycle when nothing stalls."""

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from intaglio.hw.pipeline import Streamed, delay
from intaglio.tb.bench import ON_BOTH, check


class Subtract(wiring.Component):
    """``a - b``, a few cycles later."""

    enable: Signal
    a: Signal
    b: Signal
    o: Signal

    def __init__(self, latency: int):
        self.LATENCY = latency
        super().__init__({"enable": In(1), "a": In(8), "b": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(delay(m, self.enable, self.a - self.b, self.LATENCY, "difference"))
        return m


@ON_BOTH
@pytest.mark.parametrize("latency", [1, 3])
def test_order(latency, simulator, tmp_path):
    a, b = np.random.default_rng(1).integers(0, 256, (2, 200)).tolist()
    inputs = [{"a": x, "b": y} for x, y in zip(a, b, strict=True)]
    outputs = [(x - y) % 256 for x, y in zip(a, b, strict=True)]
    check(Streamed(Subtract(latency)), {"i": inputs}, {"o": outputs}, simulator, tmp_path)


@pytest.mark.parametrize("latency", [1, 3])
def test_throughput(latency):
    """Results come `LATENCY` cycles after their operands; while one waits, nothing is taken."""
    unit = Streamed(Subtract(latency))
    given, seen = [], []

    async def bench(ctx):
        nonlocal given, seen
        ctx.set(unit.i.valid, 1)
        for cycle in range(30):
            waits = cycle < 5 or 10 <= cycle < 15
            ctx.set(unit.i.payload, {"a": 100 + cycle, "b": 7})
            ctx.set(unit.o.ready, not waits)
            _, _, taken, valid, result = await ctx.tick().sample(
                unit.i.ready, unit.o.valid, unit.o.payload
            )
            assert valid == (cycle >= latency)
            assert taken == (not waits or not valid)
            given += [93 + cycle] * taken
            seen += [result] * (valid and not waits)

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == given[:-latency]
