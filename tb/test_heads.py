"""Words of heads: pairs of all rows go in, queries and words of the cache come out."""

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out, connect, flipped

from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.config import ChipConfig, Design
from intaglio.hw.formats import mxint
from intaglio.hw.heads import HeadWords
from intaglio.hw.layouts import Layouts
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import random_etched


class CountingTaken(wiring.Component):
    """`HeadWords`, whose `done` says too how many words and queries had been taken until then."""

    def __init__(self, heads: HeadWords):
        self.heads = heads
        done = {"group": heads.done.payload.shape(), "appended": 8, "queried": 8}
        members = dict(heads.signature.members)
        super().__init__({**members, "done": Out(stream.Signature(data.StructLayout(done)))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.heads = heads = self.heads
        for name in ("jobs", "i"):
            connect(m, flipped(getattr(self, name)), getattr(heads, name))
        for name in ("append", "queries"):
            connect(m, getattr(heads, name), flipped(getattr(self, name)))
        m.d.comb += [
            self.done.valid.eq(heads.done.valid),
            heads.done.ready.eq(self.done.ready),
            self.done.p.group.eq(heads.done.payload),
        ]
        for port, name in ((self.append, "appended"), (self.queries, "queried")):
            count = Signal(8, name=name)
            m.d.sync += count.eq(count + (port.valid & port.ready))
            m.d.comb += self.done.p[name].eq(count)
        return m


def random_words(rng: np.random.Generator, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Elements (rows, lane groups, heads, head_dim) and exponents of the words of one job."""
    model, chip = design.model, design.chip
    shape = chip.rows, design.lane_groups
    q, kv = (
        rng.integers(-element.largest, element.largest + 1, (*shape, heads, model.head_dim))
        for element, heads in ((chip.activations, design.q_lanes), (chip.kv, 2 * design.kv_lanes))
    )
    elements = np.concatenate([q, kv], axis=2)
    return elements, rng.integers(0, 255, (*elements.shape[:3], design.head_blocks))


def beats(design: Design, elements: np.ndarray, exponents: np.ndarray) -> list[dict]:
    """The words of one job as the quantiser gives them: pairs of all rows."""
    block = design.model.head_block
    pairs = elements.reshape(len(elements), -1, 2)
    codes = np.repeat(exponents.reshape(len(elements), -1), block // 2, axis=1)
    last = block // 2 - 1
    return [
        {
            "elements": pairs[:, n].tolist(),
            "exponents": codes[:, n].tolist(),
            "last": int(n % (block // 2) == last),
        }
        for n in range(pairs.shape[1])
    ]


def words(design: Design, job: dict, elements: np.ndarray, exponents: np.ndarray):
    """The query and the word of the cache of each lane group and row in use."""
    q, k = design.q_lanes, design.q_lanes + design.kv_lanes
    for lane_group in range(design.lane_groups):
        for row, place in enumerate(job["rows"]):
            if place["valid"]:
                of_engine, engine = divmod(place["slot"], design.chip.engines)
                page = of_engine * design.model.layers + job["layer"]
                page = page * design.lane_groups + lane_group
                of_row, codes = elements[row, lane_group], exponents[row, lane_group]
                query = {"elements": of_row[:q].tolist(), "exponents": codes[:q].tolist()}
                keys = {
                    "elements": of_row[q:k].tolist(),
                    "exponents": codes[q:k].tolist(),
                    "value_exponents": codes[k:].tolist(),
                }
                yield (
                    {
                        "engine": engine,
                        "group": job["group"],
                        "row": row,
                        "lane_group": lane_group,
                        "query": query,
                    },
                    {
                        "engine": engine,
                        "address": page * design.context + place["position"],
                        "keys": keys,
                        "values": of_row[k:].tolist(),
                    },
                )


@ON_BOTH
@pytest.mark.parametrize(
    ("chip", "shape"),
    [
        (
            ChipConfig(rows=3, groups=2, engines=2, kv=mxint(6), kv_lanes=1, slots=5),
            {"head_dim": 12},
        ),
        (ChipConfig(activations=mxint(6), slots=2), {}),
    ],
    ids=["3 rows, 2 lane groups", "1 row"],
)
def test_heads(chip, shape, simulator, tmp_path):
    design, rng = random_etched(chip, **shape).design, np.random.default_rng(1)
    layouts = Layouts(design)
    words_shape = AttentionShape(
        fmt=chip.small_float, queries=chip.activations, cache=chip.kv, q_lanes=design.q_lanes,
        kv_lanes=design.kv_lanes, head_dim=design.model.head_dim, blocks=design.head_blocks,
        window=chip.window, context=design.context, address_bits=layouts.cache_address.width,
        tag=layouts.query_tag,
    )  # fmt: skip
    ports: dict[str, list] = {name: [] for name in ("jobs", "i", "queries", "append", "done")}
    for n in range(9):  # every choice of rows in use
        rows = [
            {
                "valid": n >> row & 1,
                "slot": int(rng.integers(design.slots)),
                "position": int(rng.integers(design.context)),
                "token": int(rng.integers(design.model.vocab)),
                "sample": int(rng.integers(2)),
            }
            for row in range(chip.rows)
        ]
        layer = int(rng.integers(design.model.layers))
        job = {"group": n % chip.groups, "layer": layer, "rows": rows}
        elements, exponents = random_words(rng, design)
        ports["jobs"].append(job)
        ports["i"] += beats(design, elements, exponents)
        for query, word in words(design, job, elements, exponents):
            ports["queries"].append(query)
            ports["append"].append(word)
        taken = len(ports["append"])
        ports["done"].append({"group": job["group"], "appended": taken, "queried": taken})
    bits = max(chip.activations.bits, chip.kv.bits)
    unit = CountingTaken(HeadWords(design, layouts, words_shape, pair_bits=bits))
    outputs = {name: ports.pop(name) for name in ("queries", "append", "done")}
    check(unit, ports, outputs, simulator, tmp_path)
