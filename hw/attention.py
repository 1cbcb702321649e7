"""The attention engine: two pipelined passes over windows of positions."""

from amaranth import Cat, Module, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.context import ContextPass
from intaglio.hw.context_output import ContextOutput
from intaglio.hw.scores import ScorePass

__all__ = ["AttentionEngine"]


class AttentionEngine(wiring.Component):
    """Attention of one query row over the cached positions of its slot.

    Score pass and context pass work on neighbouring windows at the same time, so a job of n
    positions takes about ``n + n / window + window + 50`` cycles until its first result, and
    consecutive jobs overlap.

    Members
    -------
    jobs : ``In(stream.Signature(shape.job))``
    key_reads, keys, value_reads, values :
        To and from :class:`~intaglio.hw.kv_cache.KVCache`.
    o : ``Out(stream.Signature(shape.context_pair))``
        Context of the job's query heads.
    activity : ``Out(shape.activity)``
    """

    jobs: stream.Interface
    key_reads: stream.Interface
    keys: stream.Interface
    value_reads: stream.Interface
    values: stream.Interface
    o: stream.Interface
    activity: data.View

    def __init__(self, shape: AttentionShape):
        self.shape = shape
        address = unsigned(shape.address_bits)
        super().__init__({
            "jobs": In(stream.Signature(shape.job)),
            "key_reads": Out(stream.Signature(address)),
            "keys": In(stream.Signature(shape.keys)),
            "value_reads": Out(stream.Signature(address)),
            "values": In(stream.Signature(shape.values)),
            "o": Out(stream.Signature(shape.context_pair)),
            "activity": Out(shape.activity),
        })

    def elaborate(self, platform):
        m = Module()
        s = self.shape
        m.submodules.scores = scores = ScorePass(s)
        m.submodules.context = context = ContextPass(s)
        m.submodules.output = output = ContextOutput(s)
        m.submodules.windows = windows = memory.Memory(
            shape=s.window_entry.size, depth=2 * s.window, init=[]
        )
        write, read = windows.write_port(), windows.read_port()
        m.d.comb += [
            write.addr.eq(Cat(scores.write.p.index, scores.write.p.bank)),
            write.data.eq(scores.write.p.entry),
            write.en.eq(scores.write.valid),
            read.addr.eq(Cat(context.read.index, context.read.bank)),
            context.entry.eq(read.data),
            self.activity.scores.eq(scores.activity),
            self.activity.context.eq(context.activity),
        ]
        connect(m, flipped(self.jobs), scores.jobs)
        connect(m, scores.key_reads, flipped(self.key_reads))
        connect(m, flipped(self.keys), scores.keys)
        connect(m, scores.o, context.i)
        connect(m, context.value_reads, flipped(self.value_reads))
        connect(m, flipped(self.values), context.values)
        connect(m, context.o, output.i)
        connect(m, output.o, flipped(self.o))
        return m
