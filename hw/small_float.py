"""Small-float arithmetic: pipelines of fixed latency that move when `enable` is set.

All results are the exact ones, rounded once to nearest even, saturated, tiny ones to zero.
"""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.hw.config import ADDER_LATENCY
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


def normalise(m: Module, x: Value, name: str) -> tuple[Value, Value]:
    """Shift `x` left until its top bit is set: the shifted value and the distance."""
    width = len(x)
    distance = []
    for k in reversed(range(ceil_log2(width))):
        empty = Signal(name=f"{name}_empty_{1 << k}")
        shifted = Signal(width, name=f"{name}_by_{1 << k}")
        m.d.comb += [
            empty.eq(~x[max(width - (1 << k), 0) :].any()),
            shifted.eq(Mux(empty, x << (1 << k), x)),
        ]
        distance.append(empty)
        x = shifted
    return x, Cat(*reversed(distance))


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


def pack(m: Module, fmt: FloatFormat, sign: Value, exponent: Value, x: Value):
    """Round and pack a normalised significand: the code of ``+-1.xxx * 2**(exponent - bias)``.

    `x` has its top bit set, or is zero; `exponent` is signed and not yet checked.
    """
    guard = len(x) - fmt.precision - 1
    assert guard >= 0
    up = Signal(name="round_up")
    rounded = Signal(fmt.precision + 1, name="rounded")
    code = Signal(signed(len(exponent) + 1), name="rounded_exponent")
    result = Signal(float_layout(fmt), name="packed")
    lowest, tie = x[guard + 1], ~x[:guard].any() if guard else Const(1)
    m.d.comb += [
        up.eq(x[guard] & (lowest | ~tie)),
        rounded.eq(x[guard + 1 :] + up),
        code.eq(exponent + rounded[-1]),
    ]
    with m.If(~x[-1] | (code < 1)):
        m.d.comb += result.eq(0)
    with m.Else():
        m.d.comb += result.sign.eq(sign)
        with m.If(code > fmt.top):
            m.d.comb += [result.exponent.eq(fmt.top), result.fraction.eq(-1)]
        with m.Else():
            m.d.comb += [result.exponent.eq(code), result.fraction.eq(rounded)]
    return result


class FloatAdd(wiring.Component):
    """``o = a + b``; equals ``golden.small_float.add``.

    Latency is `LATENCY` = 4 enabled cycles: order by magnitude, align, add, normalise and round.
    One result per enabled cycle.
    """

    LATENCY = ADDER_LATENCY

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
        fmt, layout = self.fmt, float_layout(self.fmt)
        extra = 3  # guard, round and sticky

        large = Signal(layout)
        small = Signal(layout)
        swap = Signal()
        m.d.comb += swap.eq(self.b.as_value()[:-1] > self.a.as_value()[:-1])

        distance = Signal(fmt.exponent_bits)
        aligned = Signal(fmt.precision + extra)
        m.d.comb += distance.eq(large.exponent - small.exponent)

        aligned_large = Signal(layout)
        subtract = Signal()
        total = Signal(fmt.precision + extra + 1)
        total_sign = Signal()
        total_exponent = Signal(fmt.exponent_bits)

        total_value = Cat(Const(0, extra), significand(aligned_large))
        small_aligned = align(m, Cat(Const(0, extra), significand(small)), distance, "small")
        normal, zeros = normalise(m, total, "total")
        exponent = Signal(signed(fmt.exponent_bits + 2))
        m.d.comb += exponent.eq(total_exponent + 1 - zeros)
        packed = pack(m, fmt, total_sign, exponent, normal)
        with m.If(self.enable):
            m.d.sync += [
                large.eq(Mux(swap, self.b.as_value(), self.a.as_value())),
                small.eq(Mux(swap, self.a.as_value(), self.b.as_value())),
                aligned.eq(small_aligned),
                aligned_large.eq(large),
                subtract.eq(large.sign ^ small.sign),
                total.eq(Mux(subtract, total_value - aligned, total_value + aligned)),
                total_sign.eq(aligned_large.sign),
                total_exponent.eq(aligned_large.exponent),
                self.o.eq(packed),
            ]
        return m


class FloatMultiply(wiring.Component):
    """``o = a * b``; equals ``golden.small_float.multiply``.

    Latency is `LATENCY` = 2 enabled cycles: multiply, round. One result per enabled cycle.
    """

    LATENCY = 2

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
        fmt = self.fmt
        product = Signal(2 * fmt.precision)
        exponent = Signal(signed(fmt.exponent_bits + 2))
        sign = Signal()
        normal = Signal(2 * fmt.precision)
        normal_exponent = Signal(signed(fmt.exponent_bits + 3))
        m.d.comb += [
            normal.eq(Mux(product[-1], product, product << 1)),
            normal_exponent.eq(exponent + product[-1]),
        ]
        packed = pack(m, fmt, sign, normal_exponent, normal)
        with m.If(self.enable):
            m.d.sync += [
                product.eq(significand(self.a) * significand(self.b)),
                exponent.eq(self.a.exponent + self.b.exponent - fmt.bias),
                sign.eq(self.a.sign ^ self.b.sign),
                self.o.eq(packed),
            ]
        return m


class FloatConvert(wiring.Component):
    """``o = integer * 2**exponent``; equals ``golden.small_float.convert``.

    Latency is `LATENCY` = 3 enabled cycles: magnitude, normalise, round. One result per enabled
    cycle.

    Parameters
    ----------
    integer_bits, exponent_bits :
        Widths of the two signed inputs.
    """

    LATENCY = 3

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
        shifted, zeros = normalise(m, magnitude, "magnitude")
        normal = Signal(width)
        distance = Signal.like(zeros)
        sign = delay(m, self.enable, self.integer < 0, 2, "sign")
        exponent = delay(m, self.enable, self.exponent, 2, "exponent")
        code = Signal(signed(max(len(self.exponent), 10, width.bit_length() + 1) + 2))
        m.d.comb += code.eq(exponent + (width - 1 - pad + fmt.bias) - distance)
        packed = pack(m, fmt, sign, code, normal)
        with m.If(self.enable):
            m.d.sync += [
                magnitude.eq(Mux(self.integer < 0, -self.integer, self.integer) << pad),
                normal.eq(shifted),
                distance.eq(zeros),
                self.o.eq(packed),
            ]
        return m
