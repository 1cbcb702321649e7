"""Units of the shared chip against golden, each with operands that stand still."""

from collections.abc import Callable

import numpy as np
import pytest
from amaranth import Module, Shape, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.golden import mx, small_float
from intaglio.golden.table import evaluate
from intaglio.hw.formats import FloatFormat, mxint
from intaglio.hw.shared.operations import Operation
from intaglio.hw.shared.units import BYTE, Dot, Quantise, Shifter, Tables
from intaglio.hw.small_float import float_layout
from intaglio.hw.tables import EXP2, SCORE_BITS, SCORE_FRACTION, SIGMOID
from intaglio.tb.bench import ON_BOTH, check

FORMATS = pytest.mark.parametrize("fmt", [FloatFormat(8, 10), FloatFormat(8, 7)], ids=str)


class Held(wiring.Component):
    """A unit as the chip uses it: operands stand still until the result is taken.

    `wire` is given the module, the unit, the operands, and whether they came in the cycle before;
    it gives the result, and whether that is there.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, unit, operands: data.Layout, result, wire: Callable):
        self.unit, self.wire = unit, wire
        super().__init__({
            "i": In(stream.Signature(operands)),
            "o": Out(stream.Signature(result)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = self.unit
        operands, busy, first = Signal(self.i.payload.shape()), Signal(), Signal()
        result, done = self.wire(m, self.unit, operands, first)
        m.d.comb += [
            self.i.ready.eq(~busy),
            self.o.valid.eq(busy & done),
            self.o.payload.eq(result),
        ]
        m.d.sync += first.eq(self.i.valid & self.i.ready)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [operands.eq(self.i.payload), busy.eq(1)]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += busy.eq(0)
        return m


def after(m: Module, first: Signal, cycles: int) -> Value:
    """High from `cycles` cycles after `first` on."""
    count = Signal(range(cycles + 1))
    with m.If(first):
        m.d.sync += count.eq(1)
    with m.Elif(count != cycles):
        m.d.sync += count.eq(count + 1)
    return (count == cycles) & ~first


@ON_BOTH
@FORMATS
def test_quantise(fmt, simulator, tmp_path):
    """Blocks of 8 bits, with ties and saturation, and blocks in which nothing saturates."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 32)) * 2.0 ** rng.integers(-6, 1, (60, 32))
    x *= 2.0 ** rng.integers(-100, 100, (60, 1))
    x[0], x[1, 1:] = 0, 0
    x[2] = np.linspace(-2, 2, 32) * (1 - 2.0**-fmt.precision)
    x = small_float.round_float(fmt, x)
    fine, coarse = mxint(fmt.precision + 1), mxint(BYTE)
    inputs, outputs = [], []
    for element, saturate in ((coarse, 1), (fine, 0)):
        integers, exponents = mx.quantise(element, x)
        offset = fmt.fraction_bits - element.fraction_bits
        codes = small_float.encode(fmt, x)
        for block, exponent in enumerate(exponents):
            inputs += [
                {"x": int(code), "exponent": int(exponent) + offset, "saturate": saturate}
                for code in codes[block]
            ]
        outputs += integers.ravel().tolist()
    operands = data.StructLayout({"x": float_layout(fmt), "exponent": 9, "saturate": 1})
    unit = Quantise(fmt)

    def wire(m, unit, operands, first):
        m.d.comb += [
            unit.x.eq(operands.x), unit.exponent.eq(operands.exponent),
            unit.saturate.eq(operands.saturate),
        ]  # fmt: skip
        return unit.o, after(m, first, 2)

    held = Held(unit, operands, unit.o.shape(), wire)
    check(held, {"i": inputs}, {"o": outputs}, simulator, tmp_path)


def shifted(x: int, amount: int, rounding: int) -> int:
    """What golden's shifts are, in Python's integers."""
    limit = (1 << (SCORE_BITS - 1)) - 1
    if amount > 0:
        return max(-limit, min(limit, x << amount))
    return (x + (rounding << -amount >> 1)) >> -amount


@ON_BOTH
def test_shifter(simulator, tmp_path):
    """Right with and without rounding, left into saturation, farther than there are bits."""
    rng = np.random.default_rng(1)
    limit = (1 << (SCORE_BITS - 1)) - 1
    cases = []
    for rounding in (0, 1):
        for x in (0, 1, -1, 2, -2, 3, -3, limit, -limit, (1 << 31) - 1, -(1 << 31), 1 << 30):
            cases += [(x, -n, rounding) for n in (0, 1, 2, 17, 30, 31, 32, 63, 64, 1000, 1 << 20)]
        cases += [
            (int(x), -int(n), rounding)
            for x, n in zip(rng.integers(-(1 << 31), 1 << 31, 60), rng.integers(0, 34, 60),
                            strict=True)
        ]  # fmt: skip
    for x in (0, 1, -1, 1 << 19, -(1 << 19), limit, -limit, 3 << 22, -(1 << 24), (1 << 24) - 1):
        cases += [(x, n, 1) for n in (1, 2, 5, 24, 25, 26, 63, 500)]
    inputs = [{"x": x, "amount": n, "rounding": r} for x, n, r in cases]
    outputs = [shifted(*case) for case in cases]
    operands = data.StructLayout({"x": signed(32), "amount": signed(32), "rounding": 1})

    def wire(m, unit, operands, first):
        accumulator, going = Signal(signed(32)), Signal()
        m.d.comb += [
            unit.start.eq(first), unit.amount.eq(operands.amount),
            unit.rounding.eq(operands.rounding), unit.x.eq(accumulator),
        ]  # fmt: skip
        m.d.sync += going.eq(first | going)
        with m.If(first):
            m.d.sync += accumulator.eq(operands.x)
        with m.Elif(~unit.done):
            m.d.sync += accumulator.eq(unit.o)
        return accumulator + unit.half, ~first & unit.done

    held = Held(Shifter(), operands, signed(32), wire)
    check(held, {"i": inputs}, {"o": outputs}, simulator, tmp_path)


@ON_BOTH
@FORMATS
def test_tables(fmt, simulator, tmp_path):
    """Every table at its ends and at random, zeros and the largest floats among the arguments."""
    rng = np.random.default_rng(1)
    floats = np.abs(rng.normal(size=300)) * 2.0 ** rng.integers(-120, 120, 300)
    floats = small_float.round_float(fmt, np.concatenate([
        [0, 1, fmt.largest, fmt.smallest], floats,
    ]))  # fmt: skip
    codes = small_float.encode(fmt, floats)
    fractions = rng.integers(-(1 << (SCORE_BITS - 1)), 1, 300)
    mask = (1 << SCORE_FRACTION) - 1
    magnitudes = np.concatenate([[0, (1 << SIGMOID.input_bits) - 1],
                                 rng.integers(0, 1 << SIGMOID.input_bits, 300)])  # fmt: skip
    cases = {
        Operation.EXP2: (fractions, evaluate(EXP2, fractions & mask)),
        Operation.SIGMOID: (magnitudes, evaluate(SIGMOID, magnitudes)),
        Operation.RECIPROCAL: (codes, small_float.encode(
            fmt, small_float.reciprocal(fmt, floats))),
        Operation.RECIPROCAL_ROOT: (codes, small_float.encode(
            fmt, small_float.reciprocal_root(fmt, floats))),
    }  # fmt: skip
    inputs = [
        {"operation": operation.value, "x": int(x)}
        for operation, (arguments, _) in cases.items()
        for x in arguments
    ]
    outputs = [int(o) for _, results in cases.values() for o in results]
    operands = data.StructLayout({"operation": Shape.cast(Operation).width, "x": 32})

    def wire(m, unit, operands, first):
        product = Signal(signed(34))
        m.d.sync += product.eq(unit.rise * unit.low)
        m.d.comb += [
            unit.operation.as_value().eq(operands.operation), unit.x.eq(operands.x),
            unit.product.eq(product),
        ]  # fmt: skip
        return unit.o, after(m, first, Tables.LATENCY)

    held = Held(Tables(fmt), operands, 32, wire)
    check(held, {"i": inputs}, {"o": outputs}, simulator, tmp_path)


@ON_BOTH
def test_dot(simulator, tmp_path):
    """Sums of one word and of eight; the largest that there are."""
    rng = np.random.default_rng(1)
    inputs, outputs = [], []
    for words in (1, 2, 8) * 20:
        x, y = rng.integers(-127, 128, (2, words, 4))
        if not outputs:
            x[:], y[:] = 127, -127
        packed = [
            [int.from_bytes(word.astype(np.int8).tobytes(), "little") for word in side]
            for side in (x, y)
        ]
        inputs += [
            {"x": a, "y": b, "first": int(n == 0)}
            for n, (a, b) in enumerate(zip(*packed, strict=True))
        ]
        outputs += (x * y).sum(axis=1).cumsum().tolist()
    operands = data.StructLayout({"x": 32, "y": 32, "first": 1})
    dot = Dot()

    def wire(m, unit, operands, first):
        begun = Signal()  # the sum is cleared a cycle before the words come
        m.d.sync += begun.eq(first)
        m.d.comb += [
            unit.start.eq(first & operands.first), unit.enable.eq(begun),
            unit.x.eq(operands.x), unit.y.eq(operands.y),
        ]  # fmt: skip
        return unit.o, after(m, first, 3)

    held = Held(dot, operands, dot.o.shape(), wire)
    check(held, {"i": inputs}, {"o": outputs}, simulator, tmp_path)
