"""Attention of a group: its rows' queries through the engine, their contexts to the store."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.hw.activations import SlicePacker
from intaglio.hw.attention import AttentionEngine
from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.config import Design
from intaglio.hw.formats import BLOCK
from intaglio.hw.layouts import Layouts, Region
from intaglio.hw.multiply import times
from intaglio.hw.quantiser import BlockExponent, Quantiser

__all__ = ["Attend"]


class Attend(wiring.Component):
    """Take groups one after the other; send each row in use, lane group by lane group.

    Parameters
    ----------
    design, layouts, shape :
        The chip's.
    queries, write :
        Layouts of the streams from :class:`~intaglio.hw.heads.HeadWords` and to the store.

    Members
    -------
    jobs : ``In(stream.Signature(layouts.attend_job))``
        All keys and values of the rows' positions and those before must be in the cache. At least
        one row is in use.
    queries : ``In(stream.Signature(queries))``
        Kept until the job of their group.
    key_reads, keys, value_reads, values :
        To and from the cache.
    writes : ``Out(stream.Signature(write))``
        Quantised contexts, to the inner region of the activation store.
    contexts : ``Out(Signature({valid, payload: shape.context_pair}))``
        A tap on what leaves the engine; it cannot be made to wait.
    activity : ``Out(shape.activity)``
    """

    jobs: stream.Interface
    queries: stream.Interface
    key_reads: stream.Interface
    keys: stream.Interface
    value_reads: stream.Interface
    values: stream.Interface
    writes: stream.Interface
    contexts: wiring.PureInterface
    activity: data.View

    def __init__(self, design: Design, layouts: Layouts, shape: AttentionShape, *, queries, write):
        self.design, self.layouts, self.shape = design, layouts, shape
        super().__init__({
            "jobs": In(stream.Signature(layouts.attend_job)),
            "queries": In(stream.Signature(queries)),
            "key_reads": Out(stream.Signature(layouts.cache_address)),
            "keys": In(stream.Signature(shape.keys)),
            "value_reads": Out(stream.Signature(layouts.cache_address)),
            "values": In(stream.Signature(shape.values)),
            "writes": Out(stream.Signature(write)),
            "contexts": Out(
                wiring.Signature({"valid": Out(1), "payload": Out(shape.context_pair)})
            ),
            "activity": Out(shape.activity),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine = engine = AttentionEngine(self.shape)
        connect(m, engine.key_reads, flipped(self.key_reads))
        connect(m, flipped(self.keys), engine.keys)
        connect(m, engine.value_reads, flipped(self.value_reads))
        connect(m, flipped(self.values), engine.values)
        self._send(m, engine.jobs)
        self._quantise(m, engine.o)
        m.d.comb += [
            self.contexts.valid.eq(engine.o.valid & engine.o.ready),
            self.contexts.payload.eq(engine.o.payload),
            self.activity.eq(engine.activity),
        ]
        return m

    def _send(self, m: Module, jobs) -> None:
        """Walk through the rows of a group and the words of their queries."""
        design, layouts = self.design, self.layouts
        rows, lane_groups = design.chip.rows, design.lane_groups
        words = max(design.chip.groups * rows * lane_groups, 2)  # an address has at least one bit
        m.submodules.query_store = store = memory.Memory(
            shape=self.shape.query.size, depth=words, init=[]
        )
        write, read = store.write_port(), store.read_port()
        # A group attends much later than the cycle in which its queries wait here.
        m.d.comb += self.queries.ready.eq(1)
        m.d.sync += [
            write.addr.eq(
                times(times(self.queries.p.group, rows) + self.queries.p.row, lane_groups)
                + self.queries.p.lane_group
            ),
            write.data.eq(self.queries.p.query),
            write.en.eq(self.queries.valid),
        ]

        job = Signal(self.layouts.attend_job)
        active = Signal()
        named = Signal()
        fetched = Signal()  # the query, and meanwhile the address of its keys
        taken = Signal()  # by the engine, in the cycle before
        row = Signal.like(self.queries.p.row)
        lane_group = Signal.like(self.queries.p.lane_group)
        place = job.rows[row]
        later = Cat(Const(0, 1), *(job.rows[r].valid & (row < r) for r in range(1, rows))).any()
        last_word = lane_group == lane_groups - 1
        page = Signal(range(max(design.cache_words // design.context, 2)))
        base = Signal.like(jobs.p.base)
        m.d.sync += [
            page.eq(
                times(
                    times(layouts.place_of(place.slot), design.model.layers) + job.layer,
                    lane_groups,
                )
                + lane_group
            ),
            base.eq(times(page, design.context)),
        ]
        m.d.comb += [
            self.jobs.ready.eq(~active),
            read.addr.eq(times(times(job.group, rows) + row, lane_groups) + lane_group),
            jobs.valid.eq(active & fetched & place.valid),
            jobs.p.query.eq(read.data),
            jobs.p.position.eq(place.position),
            jobs.p.base.eq(base),
            jobs.p.tag.group.eq(job.group),
            jobs.p.tag.row.eq(row),
            jobs.p.tag.last.eq(last_word & ~later),
        ]
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [
                job.eq(self.jobs.p), active.eq(1), named.eq(0), fetched.eq(0), row.eq(0),
                lane_group.eq(0),
            ]  # fmt: skip
        with m.Elif(active):
            accepted = jobs.valid & jobs.ready
            m.d.sync += [named.eq(1), fetched.eq(named & ~accepted), taken.eq(accepted)]
            with m.If(~place.valid | (taken & last_word)):
                m.d.sync += [
                    named.eq(0), fetched.eq(0), lane_group.eq(0), row.eq(row + 1),
                    active.eq(row != rows - 1),
                ]  # fmt: skip
            with m.Elif(taken):
                m.d.sync += [named.eq(0), fetched.eq(0), lane_group.eq(lane_group + 1)]

    def _quantise(self, m: Module, contexts) -> None:
        """Blocks of 32 over the heads of a row, slices, writes."""
        design, chip = self.design, self.design.chip
        tag = data.StructLayout({"query": self.layouts.query_tag, "end": 1})
        m.submodules.block_exponent = block_exponent = BlockExponent(
            chip.small_float, rows=1, tag=tag
        )
        m.submodules.quantiser = quantiser = Quantiser(
            chip.small_float, [chip.activations], rows=1, tag=tag
        )
        m.submodules.packer = packer = SlicePacker(
            rows=1, depth=chip.depth, bits=chip.activations.bits, word=self.layouts.store_word,
            tag=self.layouts.query_tag,
        )  # fmt: skip
        pairs = design.model.q_dim // 2
        pair = Signal(range(max(pairs, 2)))
        end = pair == pairs - 1
        block = pair[: (BLOCK // 2 - 1).bit_length()]
        with m.If(contexts.valid & contexts.ready):
            m.d.sync += pair.eq(Mux(end, 0, pair + 1))
        into, rounded, slices = block_exponent.i, quantiser.o, packer.o
        m.d.comb += [
            into.valid.eq(contexts.valid),
            contexts.ready.eq(into.ready),
            into.p.pairs.eq(contexts.p.pair),
            into.p.last.eq(end | (block == BLOCK // 2 - 1)),
            into.p.tag.query.eq(contexts.p.tag),
            into.p.tag.end.eq(end),
            packer.i.valid.eq(rounded.valid),
            rounded.ready.eq(packer.i.ready),
            packer.i.p.elements.eq(rounded.p.elements),
            packer.i.p.exponents.eq(rounded.p.exponents),
            packer.i.p.end.eq(rounded.p.tag.end),
            packer.i.p.tag.eq(rounded.p.tag.query),
        ]
        connect(m, block_exponent.o, quantiser.i)

        # One row at a time; the others' lanes carry the same and are masked.
        write, where = self.writes.p, slices.p.tag
        m.d.comb += [
            self.writes.valid.eq(slices.valid),
            slices.ready.eq(self.writes.ready),
            write.group.eq(where.group),
            write.region.eq(Region.INNER),
            write.word.eq(slices.p.word),
            write.rows.eq(Const(1) << where.row),
            write.done.eq(slices.p.end & where.last),
            write.end.eq(slices.p.end),
        ]
        for row in range(chip.rows):
            m.d.comb += [
                write.elements[row].eq(slices.p.elements[0]),
                write.exponents[row].eq(slices.p.exponents[0]),
            ]
