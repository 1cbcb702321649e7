"""The shared chip: one of each unit, which all operations use in turn."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring

from intaglio.hw.config import Design
from intaglio.hw.images import Images
from intaglio.hw.layouts import Layouts
from intaglio.hw.ports import chip_ports
from intaglio.hw.protocol import Counter, Tap
from intaglio.hw.shared.flashed import FlashedMemory
from intaglio.hw.shared.main_memory import MainMemory
from intaglio.hw.shared.memory_map import ELEMENTS, MemoryMap
from intaglio.hw.shared.operations import LOGIT, Field, Index, Mask, Operation
from intaglio.hw.shared.program import program
from intaglio.hw.shared.units import BYTE, Dot, Quantise, Shifter, Tables
from intaglio.hw.signature import StreamSignature
from intaglio.hw.small_float import FloatAdd, FloatConvert, FloatMultiply, negate, significand
from intaglio.hw.tables import SCORE_FRACTION

__all__ = ["SharedChip"]


class SharedChip(wiring.Component):
    """The chip of a design with one output; has the ports of the other.

    A step of the program has its operation in one cycle, or in as many as that takes, and in the
    last of them the scratch word of the following step is read. After a jump, and where the
    following step needs what this one changes, that takes a cycle of its own.

    Parameters
    ----------
    design, images :
        As of the other chip.
    memory :
        One that gets its contents elsewhere.

    Members
    -------
    See :func:`~intaglio.hw.ports.chip_ports`. There is one command at a time, `activity` is not
    used, and of the counters only cycles, words of weights and tokens count.
    """

    commands: stream.Interface
    events: stream.Interface
    logits: wiring.PureInterface
    signatures: data.View
    activity: data.View
    counters: data.View

    def __init__(self, design: Design, images: Images, memory: FlashedMemory | None = None):
        self.design = design
        self.layouts = layouts = Layouts(design)
        self.fmt = design.chip.small_float
        self.memory = memory or MainMemory(images.memory)
        places = MemoryMap(design, streamed=memory is not None and memory.streamed > 0)
        self.program = program(places, images.inverse_dim, images.eps)
        super().__init__(chip_ports(layouts, self.fmt, rows=1))

    def elaborate(self, platform):
        m = Module()
        m.submodules.main = self.memory
        self.accumulator = Signal(signed(32))
        self.result = Signal(signed(32))
        self.factor = Signal(signed(18))
        self.buffer = Signal(32)
        self.indices = {
            i: Signal(self.program.bits, name=f"index_{i.name.lower()}")
            for i in (Index.I, Index.J, Index.K)
        }
        self._fetch(m)
        self._read(m)
        self._add(m)
        self._shift(m)
        self._multiply(m)
        self._small_floats(m)
        self._dot(m)
        self._reach_memory(m)
        self._take(m)
        self._flow(m)
        self._observe(m)
        waits = Cat(*self.pauses).any()
        m.d.comb += [
            self.done.eq(self.working & self.last & ~waits), self.result.eq(self.accumulator)
        ]  # fmt: skip
        with m.Switch(self.step.operation):
            for operations, value in self.results:
                with m.Case(*operations):
                    m.d.comb += self.result.eq(value)
        return m

    def _fetch(self, m: Module) -> None:
        """The step at work, and the following one, whose word is read in the last cycle of that."""
        layout = self.program.layout
        m.submodules.steps = steps = memory.Memory(
            shape=layout.size, depth=len(self.program.steps), init=self.program.steps
        )
        port = steps.read_port()
        self.step, self.following = Signal(layout), data.View(layout, port.data)
        self.number = Signal(self.program.bits)  # of the following step
        self.working, self.done = Signal(), Signal()
        self.first, self.last = Signal(), Signal()  # cycle of the step, if it takes a fixed number
        self.pauses: list[Value] = []  # why a step may not be done
        self.jumps = Signal()
        self.takes = Signal()  # the following step is the next one at work
        self.results: list[tuple[tuple[Operation, ...], Value]] = []
        fetched, goes_on = Signal(), Signal()
        left = Signal.like(self.step.cycles)
        m.d.sync += [fetched.eq(1), self.first.eq(self.takes)]
        m.d.comb += [
            self.last.eq(left == 0),
            goes_on.eq(~self.working | (self.done & ~self.jumps & ~self.step.hold)),
            self.takes.eq(fetched & goes_on),
            port.en.eq(~fetched | self.takes | (self.done & self.jumps)),
            port.addr.eq(self.number + fetched),
        ]
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(self.done):
            m.d.sync += self.working.eq(0)
        with m.If(self.takes):
            m.d.sync += [
                self.step.eq(self.following), self.number.eq(self.number + 1),
                self.working.eq(1), left.eq(self.following.cycles),
            ]  # fmt: skip
        with m.If(self.done & self.jumps):
            m.d.comb += port.addr.eq(self.step.target)
            m.d.sync += self.number.eq(self.step.target)

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
        self.pauses += [reads & ~asked, writes & ~main.granted]
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

    def _flow(self, m: Module) -> None:
        """Which step is next; indices, commands and events."""
        step = self.step
        index = Signal(self.program.bits)
        advanced = Signal(self.program.bits)
        block = self.design.model.head_block
        with m.Switch(step.source_index):
            for which, value in self.indices.items():
                with m.Case(which):
                    m.d.comb += index.eq(value)
        m.d.comb += advanced.eq(index + step.count)
        differs = advanced ^ step.source
        goes_on = Signal()
        with m.Switch(step.mask):
            with m.Case(Mask.ALL):
                m.d.comb += goes_on.eq(differs.any())
            with m.Case(Mask.BLOCK):
                m.d.comb += goes_on.eq(differs[:5].any())
            with m.Case(Mask.HEAD_BLOCK):
                m.d.comb += goes_on.eq(differs[: block.bit_length() - 1].any())
        m.d.comb += self.jumps.eq(
            (self._is(Operation.NEXT) & goes_on)
            | self._is(Operation.JUMP)
            | (self._is(Operation.JUMP_NEGATIVE) & (self.accumulator < 0))
        )
        with m.If(self.done):
            for which, value in self.indices.items():
                with m.If((step.source_index == which) & self._is(Operation.SET_INDEX)):
                    m.d.sync += value.eq(step.source)
                with m.If((step.source_index == which) & self._is(Operation.NEXT)):
                    m.d.sync += value.eq(advanced)
        self._converse(m)

    def _converse(self, m: Module) -> None:
        """Commands and events."""
        command, given = Signal(self.layouts.command), Signal()
        event = self.events.p
        ends = self.events.valid & self.events.ready
        m.d.comb += [
            self.commands.ready.eq(~given | ends),
            self.events.valid.eq(self.working & self._is(Operation.END)),
            event.slot.eq(command.slot),
            event.position.eq(command.position),
            event.sampled.eq(command.sample),
            event.token.eq(self.accumulator),
        ]
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += [command.eq(self.commands.p), given.eq(1)]
        with m.Elif(ends):
            m.d.sync += given.eq(0)
        self.pauses += [
            self._is(Operation.BEGIN) & (~given | ~self.memory.ready),
            self._is(Operation.END) & ~self.events.ready,
        ]
        field = Signal(32)
        with m.Switch(self.step.count):
            for which, value in (
                (Field.SLOT, command.slot),
                (Field.POSITION, command.position),
                (Field.TOKEN, command.token),
                (Field.SAMPLE, command.sample),
            ):
                with m.Case(which):
                    m.d.comb += field.eq(value)
        self._gives(field, Operation.COMMAND)

    def _observe(self, m: Module) -> None:
        """Signatures, the tap for logits, and counters."""
        chip, bits = self.design.chip, self.fmt.bits
        sum_bits = chip.weights.integer_bits + chip.activations.bits + 4
        tap, is_logit = self.step.tap, self.step.tap == 1 + LOGIT
        for which, width in (
            (Tap.EMBEDDING, bits), (Tap.ARRAY, sum_bits), (Tap.DRAIN, bits), (Tap.ATTENTION, bits)
        ):  # fmt: skip
            passes = tap == 1 + which
            if which is Tap.DRAIN:
                passes |= is_logit
            self._sign(m, which, self.done & passes, self.result[:width])
        self._sign(m, Tap.WEIGHTS, self.arrived_weights, self.memory.o)

        value, odd = self.result[:bits], self.indices[Index.I][0]
        first = Signal(bits)
        last = self.indices[Index.I] == self.design.model.vocab - 1
        with m.If(self.done & is_logit & ~odd):
            m.d.sync += first.eq(value)
        m.d.comb += [
            self.logits.valid.eq(self.done & is_logit & (odd | last)),
            self.logits.payload.pairs[0][0].eq(Mux(odd, first, value)),
            self.logits.payload.pairs[0][1].eq(value),
            self.logits.payload.last.eq(last),
        ]
        for counter, counts in (
            (Counter.CYCLES, Const(1)),
            (Counter.WORDS, self.arrived_weights),
            (Counter.TOKENS, self.events.valid & self.events.ready),
        ):
            with m.If(counts):
                m.d.sync += self.counters[counter].eq(self.counters[counter] + 1)

    def _sign(self, m: Module, tap: Tap, moved: Value, payload: Value) -> None:
        """Give `tap` its signature."""
        m.submodules[f"signature_{tap.name.lower()}"] = unit = StreamSignature(len(payload))
        m.d.comb += [
            unit.moved.eq(moved), unit.payload.eq(payload), self.signatures[tap].eq(unit.o)
        ]  # fmt: skip
