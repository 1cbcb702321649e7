"""Units of the shared chip, of each of which there is one."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.formats import FloatFormat
from intaglio.hw.lookup import inverse
from intaglio.hw.shared.memory_map import ELEMENTS
from intaglio.hw.shared.operations import Operation
from intaglio.hw.small_float import align, float_layout, significand
from intaglio.hw.tables import (
    EXP2,
    GUARD,
    SCORE_BITS,
    SIGMOID,
    reciprocal_root_table,
    reciprocal_table,
)

__all__ = ["BYTE", "Dot", "Quantise", "Shifter", "Tables"]

BYTE = 8
"""Bits of an element, whatever its format."""


class Dot(wiring.Component):
    """Sum of products of words of four elements, two cycles late.

    Members
    -------
    start : ``In(1)``
        The sum is zero in the next cycle.
    enable : ``In(1)``
        `x` and `y` have words.
    x, y : ``In(32)``
    o : ``Out(signed(2 * BYTE + 5))``
        Enough for 32 products.
    busy : ``Out(1)``
        The last products have not been added.
    """

    start: Signal
    enable: Signal
    x: Signal
    y: Signal
    o: Signal
    busy: Signal

    def __init__(self):
        super().__init__({
            "start": In(1),
            "enable": In(1),
            "x": In(32),
            "y": In(32),
            "o": Out(signed(2 * BYTE + 5)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        products = []
        for n in range(ELEMENTS):
            product = Signal(signed(2 * BYTE), name=f"product_{n}")
            x, y = (word.word_select(n, BYTE).as_signed() for word in (self.x, self.y))
            m.d.sync += product.eq(x * y)
            products.append(product)
        m.d.sync += self.busy.eq(self.enable)
        with m.If(self.start):
            m.d.sync += self.o.eq(0)
        with m.Elif(self.busy):
            total = (products[0] + products[1]) + (products[2] + products[3])
            m.d.sync += self.o.eq(self.o + total)
        return m


class Quantise(wiring.Component):
    """``o``: the element of `x` in a block; equals ``golden.mx.quantise``.

    Latency is `LATENCY` = 2 cycles: find the distance, shift and round.

    Members
    -------
    x : ``In(float_layout(fmt))``
    exponent : ``In(9)``
        Exponent code of the block, plus what its elements have fewer bits than a significand.
    saturate : ``In(1)``
        Elements have 8 bits; otherwise as many as need no saturation.
    o : ``Out(signed(fmt.precision + 1))``
    """

    LATENCY = 2

    x: data.View
    exponent: Signal
    saturate: Signal
    o: Signal

    def __init__(self, fmt: FloatFormat):
        self.fmt = fmt
        super().__init__({
            "x": In(float_layout(fmt)),
            "exponent": In(9),
            "saturate": In(1),
            "o": Out(signed(fmt.precision + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        distance = Signal(9)
        whole = Signal(self.fmt.precision)
        magnitude = Signal(self.fmt.precision)
        m.d.sync += [distance.eq(self.exponent - self.x.exponent), whole.eq(significand(self.x))]
        aligned = align(m, Cat(Const(0, 2), whole), distance, "element")
        sticky, half, lowest = aligned[0], aligned[1], aligned[2]
        m.d.comb += magnitude.eq(aligned[2:] + (half & (sticky | lowest)))
        limited = Mux(self.saturate & magnitude[7], 127, magnitude)
        m.d.sync += self.o.eq(Mux(self.x.sign, -limited, limited))
        return m


class Shifter(wiring.Component):
    """Shifts of the accumulator, one bit in each cycle: what it is next, and how far it is.

    Members
    -------
    start : ``In(1)``
        Take `amount`.
    amount : ``In(signed(32))``
        To the left, or to the right if negative; more than 63 bits are 63.
    rounding : ``In(1)``
        Whether to keep the bit below the lowest.
    x, o : ``In(signed(32))``, ``Out(signed(32))``
        The accumulator, and a bit further; to the left it saturates as a score does.
    done : ``Out(1)``
        All bits are done, `start` aside.
    half : ``Out(1)``
        The last bit that fell off, if rounding.
    """

    start: Signal
    amount: Signal
    rounding: Signal
    x: Signal
    o: Signal
    done: Signal
    half: Signal

    def __init__(self):
        super().__init__({
            "start": In(1),
            "amount": In(signed(32)),
            "rounding": In(1),
            "x": In(signed(32)),
            "o": Out(signed(32)),
            "done": Out(1),
            "half": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        left = Signal(signed(7))
        right = left < 0
        fits = (self.amount >> 6 == 0) | (self.amount >> 6 == -1)
        limit = (1 << (SCORE_BITS - 1)) - 1
        doubled = self.x << 1
        m.d.comb += self.done.eq(left == 0)
        with m.If(right):
            m.d.comb += self.o.eq(self.x >> 1)
        with m.Elif(doubled > limit):
            m.d.comb += self.o.eq(limit)
        with m.Elif(doubled < -limit):
            m.d.comb += self.o.eq(-limit)
        with m.Else():
            m.d.comb += self.o.eq(doubled)
        with m.If(self.start):
            m.d.sync += [
                left.eq(Mux(fits, self.amount, Mux(self.amount < 0, -63, 63))), self.half.eq(0)
            ]  # fmt: skip
        with m.Elif(~self.done):
            # What has nothing left but its sign stays as it is.
            settled = right & ((self.x == 0) | (self.x == -1))
            m.d.sync += [
                left.eq(Mux(settled, 0, Mux(right, left + 1, left - 1))),
                self.half.eq(right & self.rounding & self.x[0]),
            ]
        return m


class Tables(wiring.Component):
    """All interpolated tables in one memory; equals ``golden.table.evaluate`` and the two inverses.

    Latency is `LATENCY` = 3 cycles; the product is made outside and comes after the second.

    Members
    -------
    operation : ``In(Operation)``
        Which table.
    x : ``In(32)``
        Its argument, an integer or a small float; stable for 3 cycles.
    rise, low : ``Out``, ``Out``
        Factors, a cycle after the argument.
    product : ``In``
        ``rise * low``, another cycle later.
    o : ``Out(32)``
    """

    LATENCY = 3

    operation: Signal
    x: Signal
    rise: Signal
    low: Signal
    product: Signal
    o: Signal

    LOW_BITS = SIGMOID.low_bits
    """Those with fewer get zeros below."""

    def __init__(self, fmt: FloatFormat):
        self.fmt = fmt
        even, odd = reciprocal_root_table(fmt)
        self.tables = [SIGMOID, EXP2, reciprocal_table(fmt), even, odd]
        self.rise_bits = max(table.rise_bits for table in self.tables)
        self.base_bits = max(table.base_bits for table in self.tables)
        super().__init__({
            "operation": In(Operation),
            "x": In(32),
            "rise": Out(signed(self.rise_bits)),
            "low": Out(self.LOW_BITS),
            "product": In(signed(self.rise_bits + self.LOW_BITS + 1)),
            "o": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        fmt, x = self.fmt, data.View(float_layout(self.fmt), self.x[: self.fmt.bits])
        layout = data.StructLayout({"base": self.base_bits, "rise": signed(self.rise_bits)})
        words, starts = [], []
        for table in self.tables:
            starts.append(len(words))
            words += [
                layout.const({"base": base, "rise": rise}).as_bits()
                for base, rise in zip(table.base, table.rise, strict=True)
            ]
        m.submodules.entries = entries = memory.Memory(
            shape=layout.size, depth=len(words), init=words
        )
        port = entries.read_port()
        entry = data.View(layout, port.data)
        even = Signal()  # of the exponent without its bias
        m.d.comb += even.eq(x.exponent[0] == fmt.bias % 2)

        def look_up(number: int, argument: Value) -> list:
            table = self.tables[number]
            low = argument[: table.low_bits]
            return [
                port.addr.eq(starts[number] + argument[table.low_bits : table.input_bits]),
                self.low.eq(low << (self.LOW_BITS - table.low_bits)),
            ]

        value = Signal(self.base_bits)
        result = Signal.like(self.o)
        m.d.sync += self.o.eq(result)
        m.d.comb += [
            self.rise.eq(entry.rise),
            value.eq((entry.base + (self.product >> self.LOW_BITS) + (1 << GUARD >> 1)) >> GUARD),
            result.eq(value),
        ]
        unbiased = Signal(signed(fmt.exponent_bits + 1))
        zero = ~x.exponent.any()
        m.d.comb += unbiased.eq(x.exponent - fmt.bias)
        with m.Switch(self.operation):
            with m.Case(Operation.SIGMOID):
                m.d.comb += look_up(0, self.x)
            with m.Case(Operation.EXP2):
                m.d.comb += look_up(1, self.x)
            with m.Case(Operation.RECIPROCAL):
                m.d.comb += look_up(2, x.fraction)
                m.d.comb += result.eq(inverse(m, fmt, value, 2 * fmt.bias - x.exponent, zero))
            with m.Case(Operation.RECIPROCAL_ROOT):
                with m.If(even):
                    m.d.comb += look_up(3, x.fraction)
                with m.Else():
                    m.d.comb += look_up(4, x.fraction)
                root = inverse(m, fmt, value, fmt.bias - (unbiased >> 1), zero)
                m.d.comb += result.eq(root)
        return m
