"""What the chip's engines did with their time, counted beside the data path."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.layouts import Layouts, Operation
from intaglio.hw.protocol import Counter

__all__ = ["Counters"]

ROWS_OF = {
    Operation.QKV: Counter.QKV,
    Operation.O: Counter.O,
    Operation.GATE_UP: Counter.GATE_UP,
    Operation.DOWN: Counter.DOWN,
    Operation.HEAD: Counter.HEAD,
}
"""Which counter counts the rows of an operation."""


class Counters(wiring.Component):
    """Count what `activity` shows; each :class:`~intaglio.hw.protocol.Counter` says what it counts.

    Equals ``sim.activity.count``. It only listens, and is three cycles late.

    Members
    -------
    activity : ``In(layouts.activity)``
    o : ``Out(ArrayLayout(32, len(Counter)))``
        Modulo 2**32.
    """

    activity: data.View
    o: data.View

    def __init__(self, layouts: Layouts):
        super().__init__({
            "activity": In(layouts.activity),
            "o": Out(data.ArrayLayout(32, len(Counter))),
        })

    def elaborate(self, platform):
        m = Module()
        seen = Signal.like(self.activity)
        m.d.sync += seen.eq(self.activity)
        for counter, addend in self._addends(m, seen).items():
            step = Signal.like(addend, name=f"{counter.name.lower()}_step")
            m.d.sync += [step.eq(addend), self.o[counter].eq(self.o[counter] + step)]
        return m

    def _addends(self, m: Module, seen) -> dict:
        """What each counter goes up by in a cycle."""
        array, groups = seen.array, list(seen.groups)
        idle = ~array.weights & ~array.activations
        attending = Cat(*(group.operation == Operation.ATTEND for group in groups)).any()
        in_array = Cat(*(self._in_array(group) for group in groups)).any()
        # Rows of the operation that begins to be fed.
        begun = {counter: Signal(groups[0].rows.shape()) for counter in ROWS_OF.values()}
        for n, group in enumerate(groups):
            with m.If(seen.feed.moved & (seen.feed.group == n)), m.Switch(group.operation):
                for operation, counter in ROWS_OF.items():
                    rows = group.sampled if operation is Operation.HEAD else group.rows
                    with m.Case(operation):
                        m.d.comb += begun[counter].eq(rows)
        scores = [engine.scores for engine in seen.engines]
        return {
            Counter.CYCLES: Cat(1),
            Counter.WORDS: array.moved,
            Counter.DRAIN: array.weights & array.activations & ~array.moved,
            Counter.WEIGHTS: array.activations & ~array.weights,
            Counter.ACTIVATIONS: array.weights & ~array.activations,
            Counter.ATTENTION: idle & attending,
            Counter.RESULTS: idle & ~attending & in_array,
            **begun,
            Counter.SCORING: sum(pass_.active for pass_ in scores),
            Counter.KEYS: sum(pass_.moved for pass_ in scores),
            Counter.TOKENS: Mux(seen.finished.moved, seen.finished.rows, 0),
        }

    def _in_array(self, group):
        """Whether a group is anywhere in the array, the drain, or what is behind it."""
        return (group.operation != Operation.IDLE) & (group.operation != Operation.ATTEND)
