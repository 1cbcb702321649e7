"""The datapath of the shared chip: one of each unit around an accumulator."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring

from intaglio.hw.shared.memory_map import ELEMENTS
from intaglio.hw.shared.operations import Index, Operation
from intaglio.hw.shared.units import BYTE, Dot, Quantise, Shifter, Tables
from intaglio.hw.small_float import FloatAdd, FloatConvert, FloatMultiply, negate, significand
from intaglio.hw.tables import SCORE_FRACTION

__all__ = ["Datapath"]


class Datapath(wiring.Component):
    """What the operations of the shared chip do; the chip itself says which, and when.

    Each method is a unit. It says what the accumulator gets of its operations, and why a step may
    have to pause.
    """

    def _is(self, *operations: Operation) -> Value:
        """Whether the step is one of these operations."""
        return Cat(self.step.operation == operation for operation in operations).any()

    def _gives(self, value: Value, *operations: Operation) -> None:
        """What the accumulator gets of these operations."""
        self.results.append((operations, value))

    def _place(self, m: Module, address: Value, index, name: str) -> Signal:
        """An address of the scratch memory."""
        offset = Signal(self.program.bits, name=f"{name}_offset")
        place = Signal(self.program.bits, name=f"{name}_place")
        i = self.indices[Index.I]
        offsets = {
            **self.indices,
            Index.I_WORD: i >> ELEMENTS.bit_length() - 1,
            Index.I_BLOCK: i >> 5,
            Index.I_HEAD_BLOCK: i >> self.design.model.head_block.bit_length() - 1,
        }
        with m.Switch(index):
            for which, value in offsets.items():
                with m.Case(which):
                    m.d.comb += offset.eq(value)
        m.d.comb += place.eq(address + offset)
        return place

    def _read(self, m: Module) -> None:
        """The scratch memory."""
        depth = 1 << (len(self.program.scratch) - 1).bit_length()
        m.submodules.scratch = scratch = memory.Memory(
            shape=signed(32), depth=depth, init=self.program.scratch
        )
        read, write = scratch.read_port(), scratch.write_port()
        self.scratch = read.data
        self.word = Signal(4)  # of a dot product
        self.reads_word = Signal()
        source, source_index = Signal(self.program.bits), Signal(Index)
        word = Signal.like(self.word)
        m.d.comb += [source.eq(self.following.source), source_index.eq(self.following.source_index)]
        with m.If(self.reads_word):
            m.d.comb += [
                source.eq(self.step.source), source_index.eq(self.step.source_index),
                word.eq(self.word),
            ]  # fmt: skip
        m.d.comb += [
            read.en.eq(self.takes | self.reads_word),
            read.addr.eq(self._place(m, source, source_index, "source") + word),
            write.en.eq(self.done & self.step.store),
            write.addr.eq(self._place(m, self.step.target, self.step.target_index, "target")),
            write.data.eq(self.result),
        ]

    def _add(self, m: Module) -> None:
        """One adder for all integers."""
        left, right = Signal(signed(32)), Signal(signed(32))
        self.total, self.product = Signal(signed(33)), Signal(signed(34))
        minus = self._is(Operation.SUBTRACT, Operation.MAXIMUM, Operation.MINIMUM)
        less = self.total[-1]
        self.half = Signal()
        m.d.comb += [left.eq(self.accumulator), right.eq(self.scratch ^ minus.replicate(32))]
        with m.If(self._is(Operation.ACCUMULATE)):
            m.d.comb += left.eq(self.scratch)
        with m.If(self._is(Operation.SET_FACTOR_WEIGHTS, Operation.SET_FACTOR_CACHE)):
            m.d.comb += left.eq(self.memory.o)
        with m.If(self._is(Operation.CONVERT, Operation.FLOOR_SHIFT)):
            m.d.comb += left.eq(self.factor)
        with m.If(self._is(Operation.ROUND_SHIFT)):
            with m.If(self.first):
                m.d.comb += left.eq(self.factor)
            with m.Else():
                m.d.comb += right.eq(self.half)
        with m.If(self._is(Operation.ACCUMULATE, Operation.SQUARE)):
            m.d.comb += right.eq(self.product)
        m.d.comb += self.total.eq(left + right + minus)
        self._gives(self.scratch, Operation.LOAD)
        self._gives(self.accumulator & self.scratch, Operation.AND)
        self._gives(self.accumulator >> SCORE_FRACTION, Operation.INTEGER_PART)
        self._gives(Mux(less, self.scratch, self.accumulator), Operation.MAXIMUM)
        self._gives(Mux(less, self.accumulator, self.scratch), Operation.MINIMUM)
        self._gives(
            self.total, Operation.ADD, Operation.SUBTRACT, Operation.ACCUMULATE, Operation.SQUARE,
            Operation.ROUND_SHIFT,
        )  # fmt: skip
        self._gives(self.indices[Index.I], Operation.INDEX)

    def _shift(self, m: Module) -> None:
        """The accumulator shifts where it is."""
        m.submodules.shifter = self.shifter = shifter = Shifter()
        shifts = self._is(Operation.ROUND_SHIFT, Operation.FLOOR_SHIFT)
        m.d.comb += [
            shifter.start.eq(self.first),
            shifter.amount.eq(self.total),
            shifter.rounding.eq(self._is(Operation.ROUND_SHIFT)),
            shifter.x.eq(self.accumulator),
            self.half.eq(shifter.half),
        ]
        self.pauses.append(shifts & (self.first | ~shifter.done))
        with m.If(shifts & self.working & ~self.first & ~shifter.done):
            m.d.sync += self.accumulator.eq(shifter.o)

    def _multiply(self, m: Module) -> None:
        """One multiplier of integers, in front of it the quantiser and the tables."""
        m.submodules.quantise = self.quantise = quantise = Quantise(self.fmt)
        m.submodules.tables = tables = Tables(self.fmt)
        x, y = Signal(signed(18)), Signal(signed(16))
        element = self.buffer[:BYTE].as_signed()
        looks_up = (
            Operation.SIGMOID, Operation.EXP2, Operation.RECIPROCAL, Operation.RECIPROCAL_ROOT
        )  # fmt: skip
        m.d.comb += [
            quantise.x.eq(self.scratch[: self.fmt.bits]),
            quantise.exponent.eq(self.factor),
            quantise.saturate.eq(self._is(Operation.QUANTISE)),
            tables.operation.eq(self.step.operation),
            tables.x.eq(self.accumulator),
            tables.product.eq(self.product),
            x.eq(self.factor),
            y.eq(self.accumulator),
        ]
        with m.If(self._is(Operation.ACCUMULATE)):
            m.d.comb += y.eq(element)
        with m.If(self._is(Operation.SQUARE)):
            m.d.comb += [x.eq(quantise.o), y.eq(quantise.o)]
        with m.If(self._is(*looks_up)):
            m.d.comb += [x.eq(tables.rise), y.eq(tables.low)]
        m.d.sync += self.product.eq(x * y)
        self._gives(self.product, Operation.MULTIPLY)
        self._gives(tables.o, *looks_up)
        self._gives(element, Operation.UNPACK)

    def _small_floats(self, m: Module) -> None:
        """An adder, a multiplier and a converter, whose operands stand still meanwhile."""
        fmt = self.fmt
        m.submodules.float_add = add = FloatAdd(fmt)
        m.submodules.float_multiply = multiply = FloatMultiply(fmt)
        m.submodules.convert = convert = FloatConvert(fmt, integer_bits=32, exponent_bits=11)
        a = data.View(add.a.shape(), self.accumulator[: fmt.bits])
        b = data.View(add.a.shape(), self.scratch[: fmt.bits])
        subtracts = self._is(Operation.FLOAT_SUBTRACT)
        m.d.comb += [
            add.enable.eq(1),
            add.a.eq(a),
            add.b.eq(Mux(subtracts, negate(fmt, b).as_value(), b.as_value())),
            multiply.enable.eq(1),
            multiply.a.eq(a),
            multiply.b.eq(b),
            convert.enable.eq(1),
            convert.integer.eq(self.accumulator),
            convert.exponent.eq(self.total),
        ]
        for unit, operations in (
            (add, (Operation.FLOAT_ADD, Operation.FLOAT_SUBTRACT)),
            (multiply, (Operation.FLOAT_MULTIPLY,)),
            (convert, (Operation.CONVERT,)),
        ):
            self._gives(unit.o.as_value(), *operations)
        magnitude = a.as_value()[:-1]
        larger = b.exponent > self.accumulator[: fmt.exponent_bits]
        self._gives(significand(a), Operation.SIGNIFICAND)
        self._gives(a.exponent, Operation.EXPONENT)
        self._gives(Mux(larger, b.exponent, self.accumulator), Operation.LARGER_EXPONENT)
        # One less for the negative ones, which all are then.
        ordered = Cat(magnitude ^ a.sign.replicate(len(magnitude)), a.sign).as_signed()
        self._gives(ordered, Operation.ORDER)

    def _dot(self, m: Module) -> None:
        """A word is asked for in each cycle, and multiplied when it comes."""
        m.submodules.dot = dot = Dot()
        is_dot = self._is(Operation.DOT, Operation.DOT_CACHE)
        missing = self.word != self.step.count
        arrived = Signal()
        m.d.comb += [
            self.reads_word.eq(self.working & is_dot & missing & self.memory.granted),
            dot.start.eq(self.first),
            dot.enable.eq(arrived),
            dot.x.eq(self.scratch),
            dot.y.eq(self.memory.o),
        ]
        m.d.sync += arrived.eq(self.reads_word)
        with m.If(self.done):
            m.d.sync += self.word.eq(0)
        with m.Elif(self.reads_word):
            m.d.sync += self.word.eq(self.word + 1)
        self.pauses.append(is_dot & (missing | arrived | dot.busy))
        self._gives(dot.o, Operation.DOT, Operation.DOT_CACHE)

    def _reach_memory(self, m: Module) -> None:
        """Words of the main memory, besides those of dot products."""
        main = self.memory
        asked, arrived = Signal(), Signal()
        reads = self._is(
            Operation.READ, Operation.SET_BUFFER, Operation.SET_FACTOR_WEIGHTS,
            Operation.SET_FACTOR_CACHE,
        )  # fmt: skip
        writes = self._is(Operation.WRITE)
        dots = self._is(Operation.DOT, Operation.DOT_CACHE)
        wanted = ((reads | writes) & ~asked) | (dots & (self.word != self.step.count))
        m.d.comb += [
            main.request.eq(self.working & wanted),
            main.weights.eq(self._is(Operation.DOT, Operation.SET_FACTOR_WEIGHTS)),
            main.write.eq(writes),
            main.i.eq(self.accumulator),
            main.to.eq(self.accumulator),
            main.move.eq(self.done & self._is(Operation.SET_ADDRESS)),
            main.restart.eq(self.done & self._is(Operation.BEGIN)),
        ]
        m.d.sync += arrived.eq(main.request & main.granted & ~main.write)
        with m.If(self.takes):
            m.d.sync += asked.eq(0)
        with m.Elif(main.request & main.granted):
            m.d.sync += asked.eq(1)
        self.pauses.extend([reads & ~asked, writes & ~main.granted])
        self.arrived_weights = arrived & main.weights
        self._gives(main.o, Operation.READ)
        self._gives(main.address, Operation.ADDRESS)
        self._gives(self.buffer, Operation.BUFFER)

    def _take(self, m: Module) -> None:
        """What a step leaves behind."""
        with m.If(self.done):
            m.d.sync += self.accumulator.eq(self.result)
            with m.Switch(self.step.operation):
                with m.Case(
                    Operation.SET_FACTOR, Operation.SET_FACTOR_WEIGHTS, Operation.SET_FACTOR_CACHE
                ):
                    m.d.sync += self.factor.eq(self.total)
                with m.Case(Operation.SET_BUFFER):
                    m.d.sync += self.buffer.eq(self.memory.o)
                with m.Case(Operation.UNPACK, Operation.ACCUMULATE):
                    m.d.sync += self.buffer.eq(self.buffer >> BYTE)
                with m.Case(Operation.QUANTISE):
                    m.d.sync += self.buffer.eq(Cat(self.buffer[BYTE:], self.quantise.o[:BYTE]))
