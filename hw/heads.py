"""Words of heads: from the quantiser's pairs to queries, and to words of the KV cache."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.config import Design
from intaglio.hw.layouts import Layouts, index
from intaglio.hw.multiply import times
from intaglio.hw.pipeline import delay

__all__ = ["HeadWords"]


class HeadWords(wiring.Component):
    """Gather the pairs of the query, key and value heads of a word; append it, row by row.

    A word (for each row: its query heads, key heads, value heads) is complete a cycle after its
    last pair and then takes a cycle or two for each row in use, while no pair is taken.

    Parameters
    ----------
    design, layouts, shape :
        The chip's.
    pair_bits :
        Width of an element at `i`.

    Members
    -------
    jobs : ``In(stream.Signature(layouts.attend_job))``
        Which rows the next words belong to.
    i : ``In(stream.Signature({elements, exponents, last}))``
        Quantised pairs of all rows; `last` closes a block.
    append :
        ``Out(stream.Signature({engine, address, keys, values}))``, to the cache.
    queries :
        ``Out(stream.Signature({engine, group, row, lane_group, query}))``
    done : ``Out(stream.Signature(group))``
        Groups whose words have all been taken.
    """

    jobs: stream.Interface
    i: stream.Interface
    append: stream.Interface
    queries: stream.Interface
    done: stream.Interface

    def __init__(self, design: Design, layouts: Layouts, shape: AttentionShape, *, pair_bits: int):
        self.design, self.layouts, self.shape, self.pair_bits = design, layouts, shape, pair_bits
        rows = design.chip.rows
        super().__init__({
            "jobs": In(stream.Signature(layouts.attend_job)),
            "i": In(
                stream.Signature(
                    data.StructLayout({
                        "elements": data.ArrayLayout(data.ArrayLayout(signed(pair_bits), 2), rows),
                        "exponents": data.ArrayLayout(8, rows),
                        "last": 1,
                    })
                )
            ),
            "append": Out(
                stream.Signature(
                    data.StructLayout({
                        "engine": layouts.engine,
                        "address": layouts.cache_address,
                        "keys": shape.keys,
                        "values": shape.values,
                    })
                )
            ),
            "queries": Out(
                stream.Signature(
                    data.StructLayout({
                        "engine": layouts.engine,
                        "group": layouts.group,
                        "row": index(rows),
                        "lane_group": layouts.lane_group,
                        "query": shape.query,
                    })
                )
            ),
            "done": Out(stream.Signature(layouts.group)),
        })

    def elaborate(self, platform):
        m = Module()
        design, s = self.design, self.shape
        rows = design.chip.rows
        heads = s.q_lanes + 2 * s.kv_lanes
        pairs = heads * s.head_dim // 2

        job = Signal(self.layouts.attend_job)
        active = Signal()
        pair = Signal(range(pairs))
        lane_group = Signal.like(self.queries.p.lane_group)
        row = Signal(index(rows))
        full = Signal()  # all pairs of a word are taken; a cycle later they are in their places
        sending = Signal()
        last_row, last_word = row == rows - 1, lane_group == design.lane_groups - 1
        m.d.comb += [
            self.i.ready.eq(active & ~full),
            self.jobs.ready.eq(~active & ~self.done.valid),
        ]
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [job.eq(self.jobs.p), active.eq(1), lane_group.eq(0)]

        word = data.ArrayLayout(data.ArrayLayout(signed(self.pair_bits), s.head_dim), heads)
        codes = data.ArrayLayout(data.ArrayLayout(8, s.blocks), heads)
        elements = [Signal(word, name=f"elements_{r}") for r in range(rows)]
        exponents = [Signal(codes, name=f"exponents_{r}") for r in range(rows)]
        taking = self.i.valid & self.i.ready
        with m.If(taking):
            m.d.sync += [
                pair.eq(Mux(pair == pairs - 1, 0, pair + 1)),
                full.eq(pair == pairs - 1),
            ]
        arrived, new = delay(m, 1, taking, 1, "arrived"), delay(m, 1, self.i.p, 1, "new")
        with m.If(arrived):
            m.d.sync += sending.eq(full)
            for r in range(rows):
                shifted = elements[r].as_value()[2 * self.pair_bits :]
                m.d.sync += elements[r].eq(Cat(shifted, new.elements[r]))
                with m.If(new.last):
                    shifted = exponents[r].as_value()[8:]
                    m.d.sync += exponents[r].eq(Cat(shifted, new.exponents[r]))

        # Both takers of a row's word are waited for, each in its own time.
        appended = Signal()
        queried = Signal()
        valid = job.rows[row].valid
        appends, asks = (
            self.append.valid & self.append.ready,
            self.queries.valid & self.queries.ready,
        )
        sent = ~valid | ((appended | appends) & (queried | asks))
        m.d.comb += [
            self.append.valid.eq(sending & valid & ~appended),
            self.queries.valid.eq(sending & valid & ~queried),
        ]
        with m.If(sending):
            m.d.sync += [appended.eq(appended | appends), queried.eq(queried | asks)]
            with m.If(sent):
                m.d.sync += [appended.eq(0), queried.eq(0), row.eq(Mux(last_row, 0, row + 1))]
                with m.If(last_row):
                    m.d.sync += [sending.eq(0), full.eq(0), lane_group.eq(lane_group + 1)]
                    with m.If(last_word):
                        m.d.sync += [active.eq(0), self.done.valid.eq(1)]
        with m.If(self.done.valid & self.done.ready):
            m.d.sync += self.done.valid.eq(0)
        m.d.comb += self.done.payload.eq(job.group)
        self._words(m, job, row, lane_group, elements, exponents)
        return m

    def _words(self, m: Module, job, row, lane_group, elements: list, exponents: list) -> None:
        """The current row's word, taken apart."""
        design, s = self.design, self.shape
        of_row = data.View(
            elements[0].shape(), Cat(*elements).word_select(row, elements[0].shape().size)
        )
        codes = data.View(
            exponents[0].shape(), Cat(*exponents).word_select(row, exponents[0].shape().size)
        )
        query, keys = self.queries.p.query, self.append.p.keys
        # Addresses are computed while the word's pairs come, which takes longer.
        address = self.append.p.address
        addresses = [Signal.like(address, name=f"address_{r}") for r in range(design.chip.rows)]
        for r, its_address in enumerate(addresses):
            place = job.rows[r]
            page = Signal(range(max(design.cache_words // design.context, 2)), name=f"page_{r}")
            m.d.sync += [
                page.eq(
                    times(
                        times(self.layouts.place_of(place.slot), design.model.layers) + job.layer,
                        design.lane_groups,
                    )
                    + lane_group
                ),
                its_address.eq(times(page, design.context) + place.position),
            ]
        engine = self.layouts.engine_of(job.rows[row].slot)
        m.d.comb += [
            address.eq(Cat(*addresses).word_select(row, len(address))),
            self.append.p.engine.eq(engine),
            self.queries.p.engine.eq(engine),
            self.queries.p.group.eq(job.group),
            self.queries.p.row.eq(row),
            self.queries.p.lane_group.eq(lane_group),
        ]
        first_value = s.q_lanes + s.kv_lanes
        for lane in range(s.q_lanes):
            m.d.comb += query.exponents[lane].eq(codes[lane])
            m.d.comb += [query.elements[lane][d].eq(of_row[lane][d]) for d in range(s.head_dim)]
        for lane in range(s.kv_lanes):
            m.d.comb += [
                keys.exponents[lane].eq(codes[s.q_lanes + lane]),
                keys.value_exponents[lane].eq(codes[first_value + lane]),
            ]
            for d in range(s.head_dim):
                m.d.comb += [
                    keys.elements[lane][d].eq(of_row[s.q_lanes + lane][d]),
                    self.append.p.values[lane][d].eq(of_row[first_value + lane][d]),
                ]
