"""Small-float arithmetic: pipelines of fixed latency that move when `enable` is set.

All results are the exact ones, rounded once to nearest even, saturated, tiny ones to zero.
"""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.hw.config import ADDER_LATENCY
from intaglio.hw.dsp import LATENCY as DSP_LATENCY
from intaglio.hw.dsp import dsp_product
from intaglio.hw.formats import FloatFormat
from intaglio.hw.pipeline import delay

__all__ = [
    "FloatAdd",
    "FloatConvert",
    "FloatMultiply",
    "align",
    "float_layout",
    "negate",
    "normalise",
    "one",
    "pack",
    "significand",
]


def float_layout(fmt: FloatFormat) -> data.StructLayout:
    """Layout of a code: fraction, exponent, sign, from the least significant bit."""
    return data.StructLayout({
        "fraction": fmt.fraction_bits,
        "exponent": fmt.exponent_bits,
        "sign": 1,
    })


def one(fmt: FloatFormat) -> data.Const:
    """The code of 1.0."""
    return float_layout(fmt).const({"exponent": fmt.bias})


def negate(fmt: FloatFormat, x) -> data.View:
    """The code of ``-x``; zero stays the all-zero code."""
    flipped = Cat(x.fraction, x.exponent, x.sign ^ x.exponent.any())
    return data.View(float_layout(fmt), flipped)


def significand(x) -> Value:
    """Integer significand of a code, hidden bit included; 0 for zero."""
    return Mux(x.exponent.any(), Cat(x.fraction, Const(1, 1)), 0)


def normalise(m: Module, enable: Value, x: Value, stages: int, name: str) -> tuple[Value, Value]:
    """Shift `x` left until its top bit is set: the shifted value and the distance.

    Takes `stages` enabled cycles, over which the steps are spread.
    """
    width = len(x)
    steps = list(reversed(range(ceil_log2(width))))
    distance = []
    for stage in range(stages):
        first, last = (len(steps) * n // stages for n in (stage, stage + 1))
        for k in steps[first:last]:
            empty = Signal(name=f"{name}_empty_{1 << k}")
            shifted = Signal(width, name=f"{name}_by_{1 << k}")
            m.d.comb += [
                empty.eq(~x[max(width - (1 << k), 0) :].any()),
                shifted.eq(Mux(empty, x << (1 << k), x)),
            ]
            distance.insert(0, empty)
            x = shifted
        x = delay(m, enable, x, 1, f"{name}_stage_{stage}")
        held = delay(m, enable, Cat(*distance), 1, f"{name}_distance_{stage}")
        distance = list(held)
    return x, Cat(*distance)


def align(m: Module, x: Value, distance: Value, name: str) -> Value:
    """Shift `x` right; the bits that fall off are ORed into the lowest one that stays."""
    stages = ceil_log2(len(x) + 1)
    for k in range(min(stages, len(distance))):
        shifted = Signal(len(x), name=f"{name}_align_{1 << k}")
        lost = x[: 1 << k].any()
        moved = Cat(x[1 << k] | lost if (1 << k) < len(x) else lost, x[(1 << k) + 1 :])
        m.d.comb += shifted.eq(Mux(distance[k], moved, x))
        x = shifted
    return Mux(distance[stages:].any(), x.any(), x) if len(distance) > stages else x


def pack(m: Module, fmt: FloatFormat, enable: Value, sign: Value, exponent: Value, x: Value):
    """Round and pack a normalised significand: the code of ``+-1.xxx * 2**(exponent - bias)``.

    `x` has its top bit set, or is zero; `exponent` is signed and not yet checked. Takes 2 enabled
    cycles: round; check and choose.
    """
    guard = len(x) - fmt.precision - 1
    assert guard >= 0
    up = Signal(name="round_up")
    rounded = Signal(fmt.precision + 1, name="rounded")
    unchecked = Signal(signed(len(exponent)), name="unchecked_exponent")
    chosen = Signal(float_layout(fmt), name="chosen")
    result = Signal(float_layout(fmt), name="packed")
    lowest, tie = x[guard + 1], ~x[:guard].any() if guard else Const(1)
    m.d.comb += up.eq(x[guard] & (lowest | ~tie))
    not_zero = delay(m, enable, x[-1], 1, "not_zero")
    rounded_sign = delay(m, enable, sign, 1, "rounded_sign")
    # What the exponent is compared to leaves out the carry, which is added meanwhile.
    carry = rounded[-1]
    low, high = unchecked[: fmt.exponent_bits], unchecked[fmt.exponent_bits : -1]
    with m.If(~not_zero | (unchecked < 0) | ~(low.any() | high.any() | carry)):
        m.d.comb += chosen.eq(0)
    with m.Else():
        m.d.comb += chosen.sign.eq(rounded_sign)
        with m.If(high.any() | low.all() | ((low == fmt.top) & carry)):
            m.d.comb += [chosen.exponent.eq(fmt.top), chosen.fraction.eq(-1)]
        with m.Else():
            m.d.comb += [chosen.exponent.eq(unchecked + carry), chosen.fraction.eq(rounded)]
    with m.If(enable):
        m.d.sync += [
            rounded.eq(x[guard + 1 :] + up), unchecked.eq(exponent), result.eq(chosen),
        ]  # fmt: skip
    return result


class FloatAdd(wiring.Component):
    """``o = a + b``; equals ``golden.small_float.add``.

    Latency is `LATENCY` = 8 enabled cycles: order by magnitude, subtract exponents, align, add,
    normalise (2), round, pack. One result per enabled cycle. Where `alone` is set, `a` counts as
    zero: chosen here, as a choice before the comparison of magnitudes would be late.
    """

    LATENCY = ADDER_LATENCY

    enable: Signal
    alone: Signal
    a: data.View
    b: data.View
    o: data.View

    def __init__(self, fmt: FloatFormat):
        self.fmt = fmt
        layout = float_layout(fmt)
        super().__init__({
            "enable": In(1),
            "alone": In(1),
            "a": In(layout),
            "b": In(layout),
            "o": Out(layout),
        })

    def elaborate(self, platform):
        m = Module()
        fmt, layout, enable = self.fmt, float_layout(self.fmt), self.enable
        extra = 3  # guard, round and sticky

        swap = Signal()
        large = Signal(layout)
        small = Signal(layout)
        larger = self.b.as_value()[:-1] > self.a.as_value()[:-1]
        m.d.comb += swap.eq(self.alone | larger)
        alone = delay(m, enable, self.alone, 1, "alone")

        distance = Signal(fmt.exponent_bits)
        augend = Signal(fmt.precision)
        addend = Signal(fmt.precision)
        subtract = delay(m, enable, large.sign ^ small.sign, 2, "subtract")
        aligned = align(m, Cat(Const(0, extra), addend), distance, "small")
        a = Cat(Const(0, extra), delay(m, enable, augend, 1, "augend"))
        b = delay(m, enable, aligned, 1, "aligned")
        total = Signal(fmt.precision + extra + 1)

        normal, zeros = normalise(m, enable, total, 2, "total")
        sign = delay(m, enable, large.sign, 5, "sign")
        exponent = Signal(signed(fmt.exponent_bits + 2))
        m.d.comb += exponent.eq(delay(m, enable, large.exponent, 5, "exponent") + 1 - zeros)
        packed = pack(m, fmt, enable, sign, exponent, normal)
        m.d.comb += self.o.eq(packed)
        with m.If(enable):
            m.d.sync += [
                large.eq(Mux(swap, self.b.as_value(), self.a.as_value())),
                small.eq(Mux(swap, self.a.as_value(), self.b.as_value())),
                distance.eq(large.exponent - small.exponent),
                augend.eq(significand(large)),
                addend.eq(Mux(alone, 0, significand(small))),
                total.eq(Mux(subtract, a - b, a + b)),
            ]
        return m


class FloatMultiply(wiring.Component):
    """``o = a * b``; equals ``golden.small_float.multiply``.

    Latency is `LATENCY` = 5 enabled cycles: hold, multiply, normalise, round, pack. One result per
    enabled cycle.
    """

    LATENCY = DSP_LATENCY + 3

    enable: Signal
    a: data.View
    b: data.View
    o: data.View

    def __init__(self, fmt: FloatFormat):
        self.fmt = fmt
        layout = float_layout(fmt)
        super().__init__({
            "enable": In(1),
            "a": In(layout),
            "b": In(layout),
            "o": Out(layout),
        })

    def elaborate(self, platform):
        m = Module()
        fmt, enable = self.fmt, self.enable
        guard = fmt.precision - 1  # bits below the result's, of which all but one become sticky
        # Zero is found beside the product, so that nothing stands before the multiplier.
        a, b = (Cat(x.fraction, Const(1, 2)).as_signed() for x in (self.a, self.b))
        product = dsp_product(m, platform, enable, a, b, "significands")[: 2 * fmt.precision]
        both = delay(m, enable, self.a.exponent.any() & self.b.exponent.any(), 1, "both")
        total = delay(m, enable, self.a.exponent + self.b.exponent, 1, "exponents")
        zero = Signal()
        exponent = Signal(signed(fmt.exponent_bits + 2))
        shifted = Signal(2 * fmt.precision)
        normal = Signal(fmt.precision + 2)
        normal_exponent = Signal(signed(fmt.exponent_bits + 3))
        m.d.comb += shifted.eq(Mux(product[-1], product, product << 1))
        sign = delay(m, enable, self.a.sign ^ self.b.sign, DSP_LATENCY + 1, "sign")
        packed = pack(m, fmt, enable, sign, normal_exponent, normal)
        m.d.comb += self.o.eq(packed)
        with m.If(enable):
            m.d.sync += [
                zero.eq(~both),
                exponent.eq(total - fmt.bias),
                normal.eq(Mux(zero, 0, Cat(shifted[:guard].any(), shifted[guard:]))),
                normal_exponent.eq(exponent + product[-1]),
            ]
        return m


class FloatConvert(wiring.Component):
    """``o = integer * 2**exponent``; equals ``golden.small_float.convert``.

    Latency is `LATENCY` = 6 enabled cycles: magnitude, normalise (3), round, pack. One result
    per enabled cycle.

    Parameters
    ----------
    integer_bits, exponent_bits :
        Widths of the two signed inputs.
    """

    LATENCY = 6

    enable: Signal
    integer: Signal
    exponent: Signal
    o: data.View

    def __init__(self, fmt: FloatFormat, *, integer_bits: int, exponent_bits: int):
        self.fmt = fmt
        super().__init__({
            "enable": In(1),
            "integer": In(signed(integer_bits)),
            "exponent": In(signed(exponent_bits)),
            "o": Out(float_layout(fmt)),
        })

    def elaborate(self, platform):
        m = Module()
        fmt = self.fmt
        pad = max(fmt.precision + 1 - len(self.integer), 0)
        width = len(self.integer) + pad

        magnitude = Signal(unsigned(width))
        normal, zeros = normalise(m, self.enable, magnitude, 3, "magnitude")
        sign = delay(m, self.enable, self.integer < 0, 4, "sign")
        exponent = delay(m, self.enable, self.exponent, 4, "exponent")
        code = Signal(signed(max(len(self.exponent), 10, width.bit_length() + 1) + 2))
        m.d.comb += code.eq(exponent + (width - 1 - pad + fmt.bias) - zeros)
        packed = pack(m, fmt, self.enable, sign, code, normal)
        m.d.comb += self.o.eq(packed)
        with m.If(self.enable):
            m.d.sync += magnitude.eq(Mux(self.integer < 0, -self.integer, self.integer) << pad)
        return m
