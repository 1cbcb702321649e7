"""Shapes and layouts of an attention engine."""

from amaranth import signed, unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2

from intaglio.hw.formats import ElementFormat, FloatFormat
from intaglio.hw.kv_cache import keys_layout, values_layout
from intaglio.hw.small_float import float_layout
from intaglio.hw.tables import PROBABILITY_FRACTION, SCORE_BITS

__all__ = ["AttentionShape", "activity_layout"]


def activity_layout(tag) -> data.StructLayout:
    """What each pass of an engine does: has it a job, does a key or value move, whose is it."""
    at_work = data.StructLayout({"active": 1, "moved": 1, "tag": tag})
    return data.StructLayout({"scores": at_work, "context": at_work})


class AttentionShape:
    """Shapes and layouts that the parts of an attention engine share.

    Parameters
    ----------
    fmt, queries, cache :
        Small float; element formats of the queries and of the cached keys and values.
    q_lanes, kv_lanes, head_dim, blocks :
        Query heads and key/value heads of a word, elements and blocks of each head.
    window, context :
        Positions of a window, and of a slot.
    address_bits :
        Width of an address of the cache.
    tag :
        Shape of what accompanies a job to its results.
    """

    def __init__(
        self,
        *,
        fmt: FloatFormat,
        queries: ElementFormat,
        cache: ElementFormat,
        q_lanes: int,
        kv_lanes: int,
        head_dim: int,
        blocks: int,
        window: int,
        context: int,
        address_bits: int,
        tag,
    ):
        self.fmt, self.queries, self.cache = fmt, queries, cache
        self.q_lanes, self.kv_lanes = q_lanes, kv_lanes
        self.head_dim, self.blocks, self.block = head_dim, blocks, head_dim // blocks
        self.window, self.address_bits = window, address_bits
        self.keys = keys_layout(cache, kv_lanes, head_dim, blocks)
        self.values = values_layout(cache, kv_lanes, head_dim)
        # The heads of a word against their exact sums: no carry is ever lost.
        growth = ceil_log2(context)
        self.total_bits = PROBABILITY_FRACTION + cache.bits + growth
        self.norm_bits = PROBABILITY_FRACTION + 1 + growth

        elements = data.ArrayLayout(signed(queries.bits), head_dim)
        self.query = data.StructLayout({
            "elements": data.ArrayLayout(elements, q_lanes),
            "exponents": data.ArrayLayout(data.ArrayLayout(8, blocks), q_lanes),
        })
        self.job = data.StructLayout({
            "query": self.query,
            "position": unsigned(ceil_log2(context)),
            "base": address_bits,
            "tag": tag,
        })
        self.codes = data.ArrayLayout(data.ArrayLayout(8, blocks), kv_lanes)
        self.window_entry = data.StructLayout({
            "scores": data.ArrayLayout(signed(SCORE_BITS), q_lanes),
            "codes": self.codes,
        })
        self.window_record = data.StructLayout({
            "maxima": data.ArrayLayout(signed(SCORE_BITS), q_lanes),
            "codes": self.codes,
            "address": address_bits,
            "bank": 1,
            "last_index": ceil_log2(window),
            "first": 1,
            "last": 1,
            "tag": tag,
        })
        total = data.ArrayLayout(signed(self.total_bits), head_dim)
        self.result = data.StructLayout({
            "totals": data.ArrayLayout(total, q_lanes),
            "norms": data.ArrayLayout(self.norm_bits, q_lanes),
            "codes": self.codes,
            "tag": tag,
        })
        self.activity = activity_layout(tag)
        self.context_pair = data.StructLayout({
            "pair": data.ArrayLayout(float_layout(fmt), 2),
            "last": 1,
            "tag": tag,
        })

    def kv_lane(self, q_lane: int) -> int:
        """The key/value head that a query head of the word shares."""
        return q_lane * self.kv_lanes // self.q_lanes
