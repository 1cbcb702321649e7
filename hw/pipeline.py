"""Pipelines that move when they are enabled, and their wrapping into streams."""

from amaranth import Module, Mux, Shape, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SkidBuffer", "Streamed", "copy", "delay", "sum_tree"]


def delay(m: Module, enable: Value | int, value, cycles: int, name: str):
    """`value` as it was `cycles` enabled cycles ago; zero before that."""
    for n in range(cycles):
        stage = Signal.like(value, name=f"{name}_{n + 1}")
        with m.If(enable):
            m.d.sync += stage.eq(value)
        value = stage
    return value


def sum_tree(m: Module, enable: Value | int, terms: list, name: str) -> Value:
    """Sum of `terms`, added in pairs, with a register for each of its ``ceil_log2`` levels."""
    level = 0
    while len(terms) > 1:
        odd = terms[-1:] if len(terms) % 2 else []
        sums = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = [delay(m, enable, t, 1, f"{name}_{level}_{n}") for n, t in enumerate(sums + odd)]
        level += 1
    return terms[0]


class Register(wiring.Component):
    """``o = i``, one enabled cycle later."""

    enable: Signal
    i: Signal
    o: Signal

    def __init__(self, shape: Shape, init: int):
        self.init = init
        super().__init__({"enable": In(1), "i": In(shape), "o": Out(shape)})

    def elaborate(self, platform):
        m = Module()
        held = Signal.like(self.i, init=self.init)
        m.d.comb += self.o.eq(held)
        with m.If(self.enable):
            m.d.sync += held.eq(self.i)
        return m


def copy(m: Module, enable: Value | int, value, name: str, init: int = 0) -> Value:
    """`value` one enabled cycle later, in a register for one of the places that it goes to.

    What goes to many places, far from each other on an FPGA, is slow. Synthesis would merge
    registers that hold the same, but for those in modules ``copy_*``: `fpga.boards` says so.
    """
    value = Value.cast(value)
    m.submodules[f"copy_{name}"] = register = Register(value.shape(), init)
    m.d.comb += [register.enable.eq(enable), register.i.eq(value)]
    return register.o


class SkidBuffer(wiring.Component):
    """A stream passed on at once, whose ``ready`` comes from a register.

    What comes in while the output is refused is held. The end of a pipeline has one, so that its
    `enable`, which goes to every register of it, is a register itself: ``enable = i.ready``. There
    are as many copies of it as `enables` has bits.
    """

    i: stream.Interface
    o: stream.Interface
    enables: Signal

    def __init__(self, shape, enables: int = 1):
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "enables": Out(enables),
        })

    def elaborate(self, platform):
        m = Module()
        held = Signal.like(Value.cast(self.i.payload))
        room_next = Signal()
        room = copy(m, 1, room_next, "room", init=1)
        for n, enable in enumerate(self.enables):
            m.d.comb += enable.eq(copy(m, 1, room_next, f"enable_{n}", init=1))
        m.d.comb += [
            room_next.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(room),
            self.o.valid.eq(self.i.valid | ~room),
            Value.cast(self.o.payload).eq(Mux(room, self.i.payload, held)),
        ]
        with m.If(room):
            m.d.sync += held.eq(self.i.payload)
        return m


class Streamed(wiring.Component):
    """An enabled pipeline of fixed latency as a unit with one input and one output stream.

    `unit` has a port ``enable``, input ports, the output port ``o`` and the attribute ``LATENCY``
    (in enabled cycles). The payload of `i` has a field for each input port. Throughput is one per
    cycle; nothing moves while the result at the end is not taken.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, unit):
        self.unit = unit
        members = unit.signature.members
        self._inputs = [name for name in members if name not in ("enable", "o")]
        layout = data.StructLayout({name: members[name].shape for name in self._inputs})
        super().__init__({
            "i": In(stream.Signature(layout)),
            "o": Out(stream.Signature(members["o"].shape)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = self.unit
        enable = Signal()
        m.d.comb += [
            enable.eq(~self.o.valid | self.o.ready),
            unit.enable.eq(enable),
            self.i.ready.eq(enable),
            self.o.payload.eq(unit.o),
            self.o.valid.eq(delay(m, enable, self.i.valid, unit.LATENCY, "valid")),
        ]
        m.d.comb += [getattr(unit, name).eq(self.i.payload[name]) for name in self._inputs]
        return m
