"""Products made of adders: every pair of small factors, and random ones of other widths."""

from itertools import product as pairs_of

import numpy as np
import pytest
from amaranth import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.multiply import multiples, product, product_latency
from intaglio.hw.pipeline import Streamed, delay
from intaglio.tb.bench import ON_BOTH, check

WIDTHS = range(1, 17)
"""Bits of the second factor; each is a tree of another shape."""


class Products(wiring.Component):
    """A number times the lowest bits of another, for each of WIDTHS."""

    enable: Signal
    a: Signal
    b: Signal
    o: data.View

    LATENCY = 1 + max(map(product_latency, WIDTHS))

    def __init__(self, shape):
        super().__init__({
            "enable": In(1),
            "a": In(shape),
            "b": In(max(WIDTHS)),
            "o": Out(data.ArrayLayout(signed(24), len(WIDTHS))),
        })

    def elaborate(self, platform):
        m = Module()
        enable = self.enable
        a = multiples(m, enable, self.a, "a")
        b = delay(m, enable, self.b, 1, "b")
        for n, width in enumerate(WIDTHS):
            early = product(m, enable, a, b[:width].as_signed(), f"product_{width}")
            late = self.LATENCY - 1 - product_latency(width)
            m.d.comb += self.o[n].eq(delay(m, enable, early, late, f"waits_{width}"))
        return m


def low(b: int, width: int) -> int:
    """The lowest bits of a number, the highest of them its sign."""
    return (b & (1 << width) - 1) - ((b & 1 << width - 1) << 1)


@ON_BOTH
@pytest.mark.parametrize(
    ("shape", "least", "most"),
    [(signed(5), -16, 15), (8, 0, 255)],
    ids=["signed", "unsigned"],
)
def test_products(shape, least, most, simulator, tmp_path):
    """All pairs of 5 bits, and pairs of 16, the ends of each width among them."""
    rng = np.random.default_rng(1)
    ends = [1 << width - 1 for width in WIDTHS]
    factors = [
        *pairs_of(range(max(least, -16), min(most, 31) + 1), range(32)),
        *pairs_of((least, most), [*ends, *(end - 1 for end in ends)]),
        *zip(rng.integers(least, most + 1, 500).tolist(), rng.integers(0, 1 << 16, 500).tolist(),
             strict=True),
    ]  # fmt: skip
    check(
        Streamed(Products(shape)),
        {"i": [{"a": a, "b": b} for a, b in factors]},
        {"o": [[a * low(b, width) for width in WIDTHS] for a, b in factors]},
        simulator,
        tmp_path,
    )
