"""Transcendental functions: a table, a multiplier for the chord, and the handling of exponents."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.dsp import LATENCY as DSP_LATENCY
from intaglio.hw.dsp import dsp_product
from intaglio.hw.formats import FloatFormat
from intaglio.hw.pipeline import delay
from intaglio.hw.small_float import FloatConvert, float_layout, significand
from intaglio.hw.tables import (
    GUARD,
    SIGMOID,
    SIGMOID_FRACTION,
    SIGMOID_INPUT_FRACTION,
    Table,
    reciprocal_root_table,
    reciprocal_table,
)

__all__ = ["Lookup", "Reciprocal", "ReciprocalRoot", "Sigmoid"]


class Lookup(wiring.Component):
    """``o = table(x)``, interpolated; equals ``golden.table.evaluate``.

    Latency is `LATENCY` = 4 enabled cycles: read, hold, multiply, add. One result per enabled
    cycle.
    """

    LATENCY = 1 + DSP_LATENCY + 1

    enable: Signal
    x: Signal
    o: Signal

    def __init__(self, table: Table):
        self.table = table
        super().__init__({
            "enable": In(1),
            "x": In(table.input_bits),
            "o": Out(table.output_bits),
        })

    def elaborate(self, platform):
        m = Module()
        table = self.table
        layout = data.StructLayout({"base": table.base_bits, "rise": signed(table.rise_bits)})
        words = [
            layout.const({"base": base, "rise": rise}).as_bits()
            for base, rise in zip(table.base, table.rise, strict=True)
        ]
        m.submodules.entries = entries = memory.Memory(
            shape=layout.size, depth=1 << table.index_bits, init=words
        )
        port = entries.read_port()
        # What the memory gives is held in the multiplier, and beside it.
        entry = data.View(layout, port.data)
        low = delay(m, self.enable, self.x[: table.low_bits], 1, "low")
        base = delay(m, self.enable, entry.base, DSP_LATENCY, "base")
        chord = dsp_product(m, platform, self.enable, entry.rise, Cat(low, 0).as_signed(), "chord")
        m.d.comb += [port.addr.eq(self.x[table.low_bits :]), port.en.eq(self.enable)]
        with m.If(self.enable):
            m.d.sync += self.o.eq((base + (chord >> table.low_bits) + (1 << GUARD >> 1)) >> GUARD)
        return m


class Reciprocal(wiring.Component):
    """``o = 1 / a`` for a >= 0; equals ``golden.small_float.reciprocal``.

    Latency is `LATENCY` = 5 enabled cycles. One result per enabled cycle.
    """

    LATENCY = Lookup.LATENCY + 1

    enable: Signal
    a: data.View
    o: data.View

    def __init__(self, fmt: FloatFormat):
        self.fmt = fmt
        super().__init__({
            "enable": In(1),
            "a": In(float_layout(fmt)),
            "o": Out(float_layout(fmt)),
        })

    def elaborate(self, platform):
        m = Module()
        fmt = self.fmt
        m.submodules.table = table = Lookup(reciprocal_table(fmt))
        m.d.comb += [table.enable.eq(self.enable), table.x.eq(self.a.fraction)]
        exponent = delay(m, self.enable, self.a.exponent, Lookup.LATENCY - 1, "exponent")
        code = delay(m, self.enable, 2 * fmt.bias - exponent, 1, "code")
        zero = delay(m, self.enable, ~exponent.any(), 1, "zero")
        result = inverse(m, fmt, table.o, code, zero)
        with m.If(self.enable):
            m.d.sync += self.o.eq(result)
        return m


class ReciprocalRoot(wiring.Component):
    """``o = 1 / sqrt(a)`` for a >= 0; equals ``golden.small_float.reciprocal_root``.

    Latency is `LATENCY` = 5 enabled cycles. One result per enabled cycle.
    """

    LATENCY = Lookup.LATENCY + 1

    enable: Signal
    a: data.View
    o: data.View

    def __init__(self, fmt: FloatFormat):
        self.fmt = fmt
        super().__init__({
            "enable": In(1),
            "a": In(float_layout(fmt)),
            "o": Out(float_layout(fmt)),
        })

    def elaborate(self, platform):
        m = Module()
        fmt = self.fmt
        even, odd = (Lookup(table) for table in reciprocal_root_table(fmt))
        m.submodules.even, m.submodules.odd = even, odd
        for table in (even, odd):
            m.d.comb += [table.enable.eq(self.enable), table.x.eq(self.a.fraction)]
        exponent = delay(m, self.enable, self.a.exponent, Lookup.LATENCY - 1, "exponent")
        unbiased = Signal(signed(fmt.exponent_bits + 1))
        m.d.comb += unbiased.eq(exponent - fmt.bias)
        code = delay(m, self.enable, fmt.bias - (unbiased >> 1), 1, "code")
        zero = delay(m, self.enable, ~exponent.any(), 1, "zero")
        root = Mux(delay(m, self.enable, unbiased[0], 1, "is_odd"), odd.o, even.o)
        result = inverse(m, fmt, root, code, zero)
        with m.If(self.enable):
            m.d.sync += self.o.eq(result)
        return m


def inverse(m: Module, fmt: FloatFormat, y: Value, exponent: Value, saturate: Value) -> Value:
    """Pack `y`, of ``fmt.precision`` fraction bits and in [1/2, 1], with the exponent code of 1."""
    code = Signal(signed(fmt.exponent_bits + 3), name="inverse_exponent")
    m.d.comb += code.eq(exponent - ~y[fmt.precision])
    packed = Cat(y[: fmt.fraction_bits], code[: fmt.exponent_bits])
    largest = Cat(Const(-1, fmt.fraction_bits), Const(fmt.top, fmt.exponent_bits))
    return Mux(saturate, largest, Mux(code >= 1, packed, 0))


class Sigmoid(wiring.Component):
    """``o = 1 / (1 + exp(-a))``; equals ``golden.drain.sigmoid``.

    Latency is `LATENCY` = 14 enabled cycles: to fixed point (3), look up, mirror, to small float.
    One result per enabled cycle.
    """

    LATENCY = 3 + Lookup.LATENCY + 1 + FloatConvert.LATENCY

    enable: Signal
    a: data.View
    o: data.View

    def __init__(self, fmt: FloatFormat):
        self.fmt = fmt
        super().__init__({
            "enable": In(1),
            "a": In(float_layout(fmt)),
            "o": Out(float_layout(fmt)),
        })

    def _magnitude(self, m: Module) -> Signal:
        """``abs(a)`` in fixed point, rounded half up and saturated below 16; takes 3 cycles."""
        fmt, enable = self.fmt, self.enable
        width = 4 + SIGMOID_INPUT_FRACTION
        # One bit more than the result, for rounding; as if the exponent were that of 8 to 16.
        up = width + 1 - fmt.precision
        x = significand(self.a)
        at_top = Signal(width + 1)
        distance = Signal(signed(fmt.exponent_bits + 2))
        shifted = Signal(width + 1)
        fixed = Signal(width + 1)
        magnitude = Signal(width)
        too_large = delay(m, enable, distance < 0, 1, "too_large")
        m.d.comb += fixed.eq((shifted + 1) >> 1)
        with m.If(enable):
            m.d.sync += [
                at_top.eq(x << up if up >= 0 else x >> -up),
                distance.eq(fmt.bias + 3 - self.a.exponent),
                shifted.eq(at_top >> Mux(distance > 31, 31, distance[:5])),
                magnitude.eq(Mux(too_large | fixed[width], (1 << width) - 1, fixed[:width])),
            ]
        return magnitude

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = Lookup(SIGMOID)
        m.submodules.convert = convert = FloatConvert(
            self.fmt, integer_bits=SIGMOID_FRACTION + 2, exponent_bits=6
        )
        sign = delay(m, self.enable, self.a.sign, 3 + Lookup.LATENCY, "sign")
        value = Signal(SIGMOID_FRACTION + 1)
        m.d.comb += [
            table.enable.eq(self.enable),
            table.x.eq(self._magnitude(m)),
            convert.enable.eq(self.enable),
            convert.integer.eq(Cat(value, 0)),
            convert.exponent.eq(-SIGMOID_FRACTION),
            self.o.eq(convert.o),
        ]
        with m.If(self.enable):
            m.d.sync += value.eq(Mux(sign, (1 << SIGMOID_FRACTION) - table.o, table.o))
        return m
