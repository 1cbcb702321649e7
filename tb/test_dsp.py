"""Products in DSP blocks: those that are inferred, and the vendor's cell by its model."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.fpga.simulate import HERE
from intaglio.hw.dsp import LATENCY, dsp_product
from intaglio.hw.pipeline import Streamed
from intaglio.tb.bench import ON_BOTH, check


class Product(wiring.Component):
    """One product, on a family of FPGAs."""

    enable: Signal
    a: Signal
    b: Signal
    o: Signal

    LATENCY = LATENCY

    def __init__(self, family: str | None, a: int, b: int):
        self.platform = SimpleNamespace(family=family)
        super().__init__({
            "enable": In(1),
            "a": In(signed(a)),
            "b": In(signed(b)),
            "o": Out(signed(a + b - 1)),
        })

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(dsp_product(m, self.platform, self.enable, self.a, self.b, "x"))
        return m


@ON_BOTH
@pytest.mark.parametrize("family", [None, "ecp5"])
@pytest.mark.parametrize("widths", [(8, 8), (5, 16)], ids=str)
def test_products(widths, family, simulator, tmp_path):
    """Both, with stalls: the extremes of elements, and random ones."""
    rng = np.random.default_rng(1)
    tops = [(1 << width - 1) - 1 for width in widths]
    ends = [(x * tops[0], y * tops[1]) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    factors = [*ends, *zip(*(rng.integers(-t, t + 1, 200).tolist() for t in tops), strict=True)]
    model = re.search(
        r"^module MULT18X18D .*?^endmodule\n", (HERE / "models.v").read_text(), re.M | re.S
    )
    assert model is not None
    check(
        Streamed(Product(family, *widths)),
        {"i": [{"a": a, "b": b} for a, b in factors]},
        {"o": [a * b for a, b in factors]},
        simulator,
        tmp_path,
        models=model[0] if family else "",
    )
