"""The activation store and what fills it: pairs to slices, slices to the array."""

import numpy as np
import pytest
from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from intaglio.hw.activations import ActivationStore, SlicePacker
from intaglio.hw.config import ChipConfig
from intaglio.hw.layouts import Layouts, index
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import random_etched

ROWS, GROUPS, BITS = 2, 3, 6


@ON_BOTH
@pytest.mark.parametrize("depth", [2, 8])
def test_packer(depth, simulator, tmp_path):
    rng = np.random.default_rng(1)
    inputs, outputs = [], []
    held = np.zeros((ROWS, depth), int)  # a slice that is not filled keeps what was there
    for tag, length in enumerate((32, 6, 34, 2, 64)):
        x = rng.integers(-31, 32, (ROWS, length))
        for word, start in enumerate(range(0, length, depth)):
            part = x[:, start : start + depth]
            held[:, : part.shape[1]] = part
            exponents = rng.integers(0, 256, ROWS).tolist()
            pairs = part.reshape(ROWS, -1, 2)
            end = int(start + depth >= length)
            inputs += [
                {
                    "elements": pairs[:, n].tolist(),
                    "exponents": exponents,
                    "end": int(end and n == pairs.shape[1] - 1),
                    "tag": tag,
                }
                for n in range(pairs.shape[1])
            ]
            outputs.append({
                "elements": held.tolist(), "exponents": exponents, "word": word, "end": end,
                "tag": tag,
            })  # fmt: skip
    unit = SlicePacker(rows=ROWS, depth=depth, bits=BITS, word=index(64), tag=index(8))
    check(unit, {"i": inputs}, {"o": outputs}, simulator, tmp_path)


class ReadAfterWrites(wiring.Component):
    """The store, its jobs after all writes; `done` apart by group, as writers may overtake."""

    def __init__(self, store: ActivationStore, writes: int):
        self.store, self.count = store, writes
        members = dict(store.signature.members)
        done = members.pop("done")
        super().__init__({**members, "done": done.array(GROUPS)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = self.store
        written = Signal(range(self.count + 1))
        for outer, inner in zip(self.writes, store.writes, strict=True):
            connect(m, flipped(outer), inner)
        moved = [port.valid & port.ready for port in self.writes]
        m.d.sync += written.eq(written + sum(moved))
        filled = written == self.count
        m.d.comb += [
            store.jobs.payload.eq(self.jobs.payload),
            store.jobs.valid.eq(self.jobs.valid & filled),
            self.jobs.ready.eq(store.jobs.ready & filled),
        ]
        connect(m, store.o, flipped(self.o))
        taken = []
        for group, port in enumerate(self.done):
            chosen = store.done.payload == group
            m.d.comb += [
                port.payload.eq(store.done.payload),
                port.valid.eq(store.done.valid & chosen),
            ]
            taken.append(port.ready & chosen)
        m.d.comb += store.done.ready.eq(Cat(*taken).any())
        return m


@ON_BOTH
@pytest.mark.parametrize("depth", [4])
def test_store(depth, simulator, tmp_path):
    rng = np.random.default_rng(1)
    words = 32 // depth
    blocks = (2, 3)  # of the two regions
    vectors = rng.integers(-31, 32, (GROUPS, 2, ROWS, 3 * 32))
    exponents = rng.integers(0, 256, (GROUPS, 2, ROWS, 3))
    writes: tuple[list, list] = ([], [])
    for group in range(GROUPS):
        for region in range(2):
            # The drain writes all rows at once, attention one after the other, each in all lanes.
            writer = (group + region) % 2
            for mask in (1, 2) if writer else (3,):
                lanes = [mask - 1] * ROWS if writer else [0, 1]
                for word in range(blocks[region] * words):
                    part = slice(word * depth, (word + 1) * depth)
                    last = word == blocks[region] * words - 1 and mask >= 2
                    writes[writer].append({
                        "group": group, "region": region, "word": word, "rows": mask,
                        "elements": vectors[group, region, lanes, part].tolist(),
                        "exponents": exponents[group, region, lanes, word // words].tolist(),
                        "done": int(last),
                        "end": int(last),
                    })  # fmt: skip
    # Each group has two vectors.
    done = {f"done__{group}": [group] * 2 for group in range(GROUPS)}

    jobs, slices = [], []
    for group, region, tiles in ((0, 0, 1), (1, 1, 3), (2, 0, 1), (0, 1, 2), (2, 1, 1), (1, 0, 1)):
        count = blocks[region]
        jobs.append({"group": group, "region": region, "blocks": count, "tiles": tiles})
        slices += [
            {
                "elements": vectors[group, region, :, w * depth : (w + 1) * depth].tolist(),
                "exponents": exponents[group, region, :, w // words].tolist(),
                "first": int(w < words),
                "last": int(w >= (count - 1) * words),
            }
            for _ in range(tiles)
            for w in range(count * words)
        ]
    shape = {"dim": 64, "hidden": 96, "context": 8}
    layouts = Layouts(random_etched(ChipConfig(rows=ROWS, groups=GROUPS), **shape).design)
    store = ActivationStore(
        rows=ROWS, groups=GROUPS, depth=depth, bits=BITS, residual_words=2 * words,
        inner_words=3 * words, word=index(64), job=layouts.feed_job,
    )  # fmt: skip
    unit = ReadAfterWrites(store, len(writes[0]) + len(writes[1]))
    inputs = {"writes__0": writes[0], "writes__1": writes[1], "jobs": jobs}
    check(unit, inputs, {"o": slices, **done}, simulator, tmp_path)


class ReadAfterDone(wiring.Component):
    """The store, each job as soon as its vector may be read; vectors and jobs in one order."""

    def __init__(self, store: ActivationStore):
        self.store = store
        members = {name: store.signature.members[name] for name in ("jobs", "o")}
        super().__init__({"writes": store.signature.members["writes"], **members})

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = self.store
        for outer, inner in zip(self.writes, store.writes, strict=True):
            connect(m, flipped(outer), inner)
        connect(m, store.o, flipped(self.o))
        readable = Signal(8)
        begins = store.jobs.valid & store.jobs.ready
        m.d.comb += [
            store.done.ready.eq(1),
            store.jobs.payload.eq(self.jobs.payload),
            store.jobs.valid.eq(self.jobs.valid & (readable != 0)),
            self.jobs.ready.eq(store.jobs.ready & (readable != 0)),
        ]
        m.d.sync += readable.eq(readable + store.done.valid - begins)
        return m


@ON_BOTH
def test_announced_vectors(simulator, tmp_path):
    """A vector that is announced before its end is read as its slices come."""
    rng = np.random.default_rng(1)
    depth, words = 4, 8
    layouts = Layouts(random_etched(ChipConfig(rows=ROWS, groups=GROUPS), dim=64, hidden=96).design)
    writes, jobs, slices = [], [], []
    for n in range(2 * GROUPS):  # each once: none is written anew while it is read
        group, region = n % GROUPS, n % 2
        blocks = 2 + region
        count = blocks * words
        announced = rng.integers(0, count)
        vector = rng.integers(-31, 32, (count, ROWS, depth)).tolist()
        exponents = rng.integers(0, 256, (blocks, ROWS)).tolist()
        writes += [
            {"group": group, "region": region, "word": w, "rows": 3, "elements": vector[w],
             "exponents": exponents[w // words], "done": int(w == announced),
             "end": int(w == count - 1)}
            for w in range(count)
        ]  # fmt: skip
        jobs.append({"group": group, "region": region, "blocks": blocks, "tiles": 2})
        slices += [
            {"elements": vector[w], "exponents": exponents[w // words], "first": int(w < words),
             "last": int(w >= count - words)}
            for w in [*range(count)] * 2
        ]  # fmt: skip
    store = ActivationStore(
        rows=ROWS, groups=GROUPS, depth=depth, bits=BITS, residual_words=2 * words,
        inner_words=3 * words, word=index(64), job=layouts.feed_job,
    )  # fmt: skip
    inputs = {"writes__0": writes, "writes__1": [], "jobs": jobs}
    check(ReadAfterDone(store), inputs, {"o": slices}, simulator, tmp_path)
