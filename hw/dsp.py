"""Products in the DSP blocks of an FPGA, with the registers that these have inside."""

from typing import Any

from amaranth import ClockSignal, Const, Instance, Module, Signal, Value, signed

from intaglio.hw.pipeline import delay

__all__ = ["LATENCY", "dsp_product"]

LATENCY = 2
"""Enabled cycles from two factors to their product."""


def dsp_product(m: Module, platform: Any, enable: Value, a: Value, b: Value, name: str) -> Value:
    """``a * b`` of two signed numbers of at most 18 bits, `LATENCY` enabled cycles later.

    On an ECP5 a ``MULT18X18D`` that registers factors and product itself (source: Lattice
    TN-02205), since synthesis leaves such registers outside, at the other end of a wire.
    """
    bits = len(a) + len(b) - 1  # the most negative number is no element
    if getattr(platform, "family", None) != "ecp5":
        factors = [delay(m, enable, f, 1, f"{side}_{name}") for side, f in (("a", a), ("b", b))]
        return delay(m, enable, (factors[0] * factors[1])[:bits].as_signed(), 1, f"product_{name}")
    whole = Signal(signed(36), name=f"product_{name}")
    registers = {
        f"p_REG_{part}_{role}": f"{role}0"
        for part in ("INPUTA", "INPUTB", "OUTPUT")
        for role in ("CLK", "CE", "RST")
    }
    pins = {}
    for side, factor in (("A", a), ("B", b)):
        wide = Signal(signed(18), name=f"{side.lower()}_{name}")
        m.d.comb += wide.eq(factor)
        pins |= {f"i_{side}{n}": bit for n, bit in enumerate(wide)}
        pins |= {f"i_SIGNED{side}": Const(1), f"i_SOURCE{side}": Const(0)}
    pins |= {f"o_P{n}": bit for n, bit in enumerate(whole)}
    m.submodules[f"multiplier_{name}"] = Instance(
        "MULT18X18D",
        **registers,
        p_RESETMODE="SYNC",
        **pins,
        i_CLK0=ClockSignal(),
        i_CE0=enable,
        i_RST0=Const(0),
    )
    return whole[:bits].as_signed()
