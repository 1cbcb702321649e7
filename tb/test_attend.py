"""Attention of groups against golden: rows in use or not, lane groups, a cache of streams."""

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import connect, flipped

from intaglio.golden import attention, mx
from intaglio.hw.attend import Attend
from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.config import ChipConfig, Design
from intaglio.hw.formats import mxint
from intaglio.hw.layouts import Layouts, Region, index
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import random_etched


class QueriesFirst(wiring.Component):
    """`Attend`, whose jobs wait for their queries, and these for the job before of their group.

    The jobs are of each group in turn.
    """

    def __init__(self, attend: Attend):
        self.attend = attend
        super().__init__(attend.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.attend = attend = self.attend
        design = attend.design
        needed = sum(row.valid for row in self.jobs.p.rows) * design.lane_groups
        queried = Signal(range(design.chip.rows * design.lane_groups + 1))
        running = Signal(range(design.chip.groups + 1))
        started = self.jobs.valid & self.jobs.ready
        finished = self.writes.valid & self.writes.ready & self.writes.p.done
        m.d.sync += running.eq(running + started - finished)
        with m.If(started):
            m.d.sync += queried.eq(0)
        with m.Elif(self.queries.valid & self.queries.ready):
            m.d.sync += queried.eq(queried + 1)
        missing = self.jobs.valid & (queried != needed) & (running != design.chip.groups)
        for outer, inner, opened in (
            (self.jobs, attend.jobs, queried == needed),
            (self.queries, attend.queries, missing),
        ):
            m.d.comb += [
                inner.payload.eq(outer.payload),
                inner.valid.eq(outer.valid & opened),
                outer.ready.eq(inner.ready & opened),
            ]
        for name in ("keys", "values"):
            connect(m, flipped(getattr(self, name)), getattr(attend, name))
        for name in ("key_reads", "value_reads", "writes"):
            connect(m, getattr(attend, name), flipped(getattr(self, name)))
        return m


class GoldenAttend:
    """Payloads of all streams, job by job, from golden arithmetic."""

    def __init__(self, design: Design, shape: AttentionShape):
        self.design, self.shape = design, shape
        self.rng = np.random.default_rng(1)
        names = ("jobs", "queries", "keys", "values", "key_reads", "value_reads", "writes")
        self.ports: dict[str, list] = {name: [] for name in names}

    def draw(self, element, positions: int, heads: int, spread: float):
        """Quantised heads (positions, heads, blocks, block) and their exponents."""
        model = self.design.model
        size = positions, heads, self.design.head_blocks, model.head_block
        spreads = np.exp(spread * self.rng.normal(size=(positions, heads, 1, 1)))
        return mx.quantise(element, self.rng.normal(size=size) * spreads)

    def job(self, group: int, in_use: int, position: int) -> None:
        """A group, its rows in use (a mask; the last one is at `position`)."""
        design, rng = self.design, self.rng
        layer = int(rng.integers(design.model.layers))
        rows = [
            {
                "valid": in_use >> row & 1,
                "slot": int(rng.integers(design.slots)),
                "position": int(rng.integers(design.context)),
                "token": 0,
                "sample": 0,
            }
            for row in range(design.chip.rows)
        ]
        used = [row for row, place in enumerate(rows) if place["valid"]]
        rows[used[-1]]["position"] = position
        self.ports["jobs"].append({"group": group, "layer": layer, "rows": rows})
        for row in used:
            page = rows[row]["slot"] * design.model.layers + layer
            contexts = [
                self._word(group, row, rows[row]["position"], page, lane_group)
                for lane_group in range(design.lane_groups)
            ]
            self._write(group, row, np.concatenate(contexts), row == used[-1])

    def _word(self, group: int, row: int, position: int, page: int, lane_group: int) -> np.ndarray:
        """One query with the keys and values it reads; its context, all heads in a row."""
        design, chip, head_dim = self.design, self.design.chip, self.design.model.head_dim
        q = self.draw(chip.activations, 1, design.q_lanes, spread=1.0)
        k = self.draw(chip.kv, position + 1, design.kv_lanes, spread=0.3)
        v = self.draw(chip.kv, position + 1, design.kv_lanes, spread=1.0)
        flat = [x[0].reshape(*x[0].shape[:2], head_dim).tolist() for x in (q, k, v)]
        query = {"elements": flat[0][0], "exponents": q[1][0].tolist()}
        self.ports["queries"].append({
            "group": group,
            "row": row,
            "lane_group": lane_group,
            "query": query,
        })
        for p in range(position + 1):
            address = (page * design.lane_groups + lane_group) * design.context + p
            self.ports["key_reads"].append(address)
            self.ports["value_reads"].append(address)
            self.ports["keys"].append({
                "elements": flat[1][p],
                "exponents": k[1][p].tolist(),
                "value_exponents": v[1][p].tolist(),
            })
            self.ports["values"].append(flat[2][p])
        share = [self.shape.kv_lane(lane) for lane in range(design.q_lanes)]
        s = attention.scores(chip.activations, *q, chip.kv, k[0][:, share], k[1][:, share])
        v = v[0][:, share], v[1][:, share]
        return attention.attend(chip.small_float, s, chip.window, chip.kv, *v).ravel()

    def _write(self, group: int, row: int, context: np.ndarray, last: bool) -> None:
        """The context of all heads, quantised in blocks of 32, as slices for the store."""
        chip = self.design.chip
        integers, exponents = mx.quantise(chip.activations, mx.blocks(context))
        slices = integers.ravel()[: len(context)].reshape(-1, chip.depth).tolist()
        self.ports["writes"] += [
            {
                "group": group,
                "region": Region.INNER.value,
                "word": word,
                "rows": 1 << row,
                "elements": [elements] * chip.rows,
                "exponents": [int(exponents[word * chip.depth // 32])] * chip.rows,
                "done": int(last and word == len(slices) - 1),
                "end": int(word == len(slices) - 1),
            }
            for word, elements in enumerate(slices)
        ]


def attend_unit(design: Design) -> Attend:
    """The unit of a design, with the layouts of its neighbours."""
    chip, layouts = design.chip, Layouts(design)
    shape = AttentionShape(
        fmt=chip.small_float, queries=chip.activations, cache=chip.kv, q_lanes=design.q_lanes,
        kv_lanes=design.kv_lanes, head_dim=design.model.head_dim, blocks=design.head_blocks,
        window=chip.window, context=design.context, address_bits=layouts.cache_address.width,
        tag=layouts.query_tag,
    )  # fmt: skip
    queries = data.StructLayout({
        "group": layouts.group,
        "row": index(chip.rows),
        "lane_group": layouts.lane_group,
        "query": shape.query,
    })
    elements = data.ArrayLayout(chip.activations.bits, chip.depth)
    write = data.StructLayout({
        "group": layouts.group,
        "region": Region,
        "word": layouts.store_word,
        "rows": chip.rows,
        "elements": data.ArrayLayout(elements, chip.rows),
        "exponents": data.ArrayLayout(8, chip.rows),
        "done": 1,
        "end": 1,
    })
    return Attend(design, layouts, shape, queries=queries, write=write)


@ON_BOTH
@pytest.mark.parametrize(
    ("chip", "shape"),
    [
        (
            ChipConfig(rows=3, groups=2, depth=4, kv=mxint(6), kv_lanes=1, slots=5, window=8),
            {"heads": 6, "head_dim": 12},
        ),
        (ChipConfig(activations=mxint(6), slots=2, window=4), {}),
    ],
    ids=["3 rows, 2 lane groups", "1 row"],
)
def test_attend(chip, shape, simulator, tmp_path):
    design = random_etched(chip, **shape).design
    attend = attend_unit(design)
    golden = GoldenAttend(design, attend.shape)
    masks = range(1, 1 << chip.rows) if chip.rows > 1 else [1] * 6
    positions = [0, chip.window - 1, chip.window, design.context - 1, 1, 2 * chip.window, 5]
    for n, (mask, position) in enumerate(zip(masks, positions, strict=False)):
        golden.job(n % chip.groups, mask, position)
    names = ("key_reads", "value_reads", "writes")
    outputs = {name: golden.ports.pop(name) for name in names}
    check(QueriesFirst(attend), golden.ports, outputs, simulator, tmp_path)
