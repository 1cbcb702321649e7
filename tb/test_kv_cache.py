"""The KV cache: what was appended last is what is read, at both ports, in any order."""

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from intaglio.hw import images
from intaglio.hw.formats import mxint
from intaglio.hw.kv_cache import KVCache
from intaglio.tb.bench import ON_BOTH, check

WORDS, APPENDS = 20, 45


class ReadAfterAppends(wiring.Component):
    """The cache, with its reads held back until everything has been appended."""

    def __init__(self, cache: KVCache):
        self.cache = cache
        super().__init__(cache.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.cache = cache = self.cache
        count = Signal(range(APPENDS + 1))
        filled = Signal()
        m.d.sync += filled.eq(count == APPENDS)
        with m.If(self.append.valid & self.append.ready):
            m.d.sync += count.eq(count + 1)
        connect(m, flipped(self.append), cache.append)
        connect(m, cache.keys, flipped(self.keys))
        connect(m, cache.values, flipped(self.values))
        for outer, inner in (
            (self.key_reads, cache.key_reads), (self.value_reads, cache.value_reads)
        ):  # fmt: skip
            m.d.comb += [
                inner.payload.eq(outer.payload),
                inner.valid.eq(outer.valid & filled),
                outer.ready.eq(inner.ready & filled),
            ]
        return m


@ON_BOTH
@pytest.mark.parametrize("bank", [2048, 8])
def test_kv_cache(bank, simulator, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "BANK", bank)
    rng = np.random.default_rng(1)
    lanes, head_dim, blocks = 2, 4, 2

    def draw(low: int, high: int, *size: int) -> list:
        return rng.integers(low, high, size).tolist()

    addresses = [*range(WORDS), *draw(0, WORDS, APPENDS - WORDS)]
    appends = [
        {
            "address": address,
            "keys": {
                "elements": draw(-16, 16, lanes, head_dim),
                "exponents": draw(0, 256, lanes, blocks),
                "value_exponents": draw(0, 256, lanes, blocks),
            },
            "values": draw(-16, 16, lanes, head_dim),
        }
        for address in addresses
    ]
    held = {append["address"]: append for append in appends}
    reads = {  # the first in the second cycle after it was appended
        port: [addresses[-1], *draw(0, WORDS, 80)] for port in ("key_reads", "value_reads")
    }
    outputs = {
        "keys": [held[address]["keys"] for address in reads["key_reads"]],
        "values": [held[address]["values"] for address in reads["value_reads"]],
    }
    cache = KVCache(mxint(5), lanes=lanes, head_dim=head_dim, blocks=blocks, words=WORDS)
    check(ReadAfterAppends(cache), {"append": appends, **reads}, outputs, simulator, tmp_path)
