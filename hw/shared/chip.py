"""The shared chip: one of each unit, which all operations use in turn."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring

from intaglio.hw.config import Design
from intaglio.hw.images import Images
from intaglio.hw.layouts import Layouts
from intaglio.hw.ports import chip_ports
from intaglio.hw.protocol import Counter, Tap
from intaglio.hw.shared.datapath import Datapath
from intaglio.hw.shared.flashed import FlashedMemory
from intaglio.hw.shared.main_memory import MainMemory
from intaglio.hw.shared.memory_map import MemoryMap
from intaglio.hw.shared.operations import LOGIT, Field, Index, Mask, Operation
from intaglio.hw.shared.program import program
from intaglio.hw.signature import StreamSignature

__all__ = ["SharedChip"]


class SharedChip(Datapath):
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
