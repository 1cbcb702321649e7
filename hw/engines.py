"""The attention engines, each beside its bank of the KV cache; a slot belongs to one of them."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from intaglio.hw.attend import Attend
from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.config import Design
from intaglio.hw.kv_cache import KVCache
from intaglio.hw.layouts import Layouts

__all__ = ["Engines"]


class Engines(wiring.Component):
    """Share the rows of each group out among the engines, and gather what they write.

    The lowest bits of a row's slot name its engine, in whose bank its keys and values are. An
    engine takes a group's rows while another may still have those of the group before.

    Parameters
    ----------
    design, layouts, shape :
        The chip's.
    append, queries, write :
        Layouts of the streams from :class:`~intaglio.hw.heads.HeadWords` and to the store.

    Members
    -------
    jobs : ``In(stream.Signature(layouts.attend_job))``
        All keys and values of the rows' positions and those before must be in the cache.
    append : ``In(stream.Signature(append))``
        Words for the cache. Always ready.
    queries : ``In(stream.Signature(queries))``
        Kept until the job of their group. Always ready.
    writes : ``Out(stream.Signature(write))``
        Quantised contexts; `done` marks the last of a group from whichever engine.
    contexts : ``Out(Signature({valid, payload: shape.context_pair}))``
        A tap on what leaves the first engine; it cannot be made to wait.
    activity : ``Out(layouts.engine_activity) x engines``
    """

    jobs: stream.Interface
    append: stream.Interface
    queries: stream.Interface
    writes: stream.Interface
    contexts: wiring.PureInterface
    activity: data.View

    def __init__(
        self, design: Design, layouts: Layouts, shape: AttentionShape, *, append, queries, write
    ):
        self.design, self.layouts, self.shape = design, layouts, shape
        self.count = design.chip.engines
        super().__init__({
            "jobs": In(stream.Signature(layouts.attend_job)),
            "append": In(stream.Signature(append)),
            "queries": In(stream.Signature(queries)),
            "writes": Out(stream.Signature(write)),
            "contexts": Out(
                wiring.Signature({"valid": Out(1), "payload": Out(shape.context_pair)})
            ),
            "activity": Out(data.ArrayLayout(layouts.engine_activity, self.count)),
        })

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.append.ready.eq(1), self.queries.ready.eq(1)]
        attends = [self._engine(m, n) for n in range(self.count)]
        first = attends[0].contexts
        m.d.comb += [self.contexts.valid.eq(first.valid), self.contexts.payload.eq(first.payload)]
        self._share_out(m, attends)
        self._gather(m, attends)
        return m

    def _engine(self, m: Module, n: int) -> Attend:
        """An engine with its bank of the cache."""
        design = self.design
        attend = Attend(
            design, self.layouts, self.shape, queries=self.queries.p.shape(),
            write=self.writes.p.shape(),
        )  # fmt: skip
        cache = KVCache(
            design.chip.kv, lanes=design.kv_lanes, head_dim=design.model.head_dim,
            blocks=design.head_blocks, words=design.cache_words,
        )  # fmt: skip
        m.submodules[f"attend_{n}"], m.submodules[f"cache_{n}"] = attend, cache
        connect(m, attend.key_reads, cache.key_reads)
        connect(m, cache.keys, attend.keys)
        connect(m, attend.value_reads, cache.value_reads)
        connect(m, cache.values, attend.values)
        m.d.comb += [
            cache.append.valid.eq(self.append.valid & (self.append.p.engine == n)),
            cache.append.p.address.eq(self.append.p.address),
            cache.append.p.keys.eq(self.append.p.keys),
            cache.append.p.values.eq(self.append.p.values),
            attend.queries.valid.eq(self.queries.valid & (self.queries.p.engine == n)),
            attend.queries.payload.eq(self.queries.payload),
            self.activity[n].eq(attend.activity),
        ]
        return attend

    def _share_out(self, m: Module, attends: list[Attend]) -> None:
        """Give each engine its rows; keep which engines have some, for each group."""
        groups = range(self.design.chip.groups)
        self.outstanding = [Signal(self.count, name=f"outstanding_{g}") for g in groups]
        taken = Signal(self.count)
        mine = Signal(self.count)
        for n, attend in enumerate(attends):
            rows = []
            for row, given in zip(self.jobs.p.rows, attend.jobs.p.rows, strict=True):
                is_mine = row.valid & (self.layouts.engine_of(row.slot) == n)
                rows.append(is_mine)
                m.d.comb += [given.eq(row), given.valid.eq(is_mine)]
            m.d.comb += [
                mine[n].eq(Cat(*rows).any()),
                attend.jobs.p.group.eq(self.jobs.p.group),
                attend.jobs.p.layer.eq(self.jobs.p.layer),
                attend.jobs.valid.eq(self.jobs.valid & mine[n] & ~taken[n]),
            ]
        taking = Cat(*(attend.jobs.valid & attend.jobs.ready for attend in attends))
        m.d.comb += self.jobs.ready.eq(~(mine & ~taken & ~taking).any())
        m.d.sync += taken.eq(Mux(self.jobs.ready, 0, taken | taking))
        with m.If(self.jobs.valid & ~taken.any()):
            for g, engines in enumerate(self.outstanding):
                with m.If(self.jobs.p.group == g):
                    m.d.sync += engines.eq(mine)

    def _gather(self, m: Module, attends: list[Attend]) -> None:
        """Pass writes on, the first engine's first; the last engine that ends, ends the group."""
        for n, attend in reversed(list(enumerate(attends))):
            write = attend.writes
            others = Cat(*self.outstanding).word_select(write.p.group, self.count) & ~(1 << n)
            with m.If(write.valid):
                m.d.comb += [
                    self.writes.valid.eq(1),
                    self.writes.payload.eq(write.payload),
                    self.writes.p.done.eq(write.p.done & ~others.any()),
                ]
            before = [earlier.writes.valid for earlier in attends[:n]]
            m.d.comb += write.ready.eq(self.writes.ready & ~Cat(*before).any())
            with m.If(write.valid & write.ready & write.p.done):
                for g, engines in enumerate(self.outstanding):
                    with m.If(write.p.group == g):
                        m.d.sync += engines[n].eq(0)
