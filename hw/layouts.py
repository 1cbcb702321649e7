"""Every layout that passes between the units of a chip, from its design."""

from amaranth import Shape, Value, unsigned
from amaranth.lib import data, enum
from amaranth.utils import ceil_log2

from intaglio.hw.attention_shape import activity_layout
from intaglio.hw.config import Design
from intaglio.hw.formats import BLOCK

__all__ = ["DrainMode", "Layouts", "Operation", "Region", "index"]


class DrainMode(enum.Enum, shape=3):
    """What the drain does to the pairs of a job."""

    EMBED = 0
    """Pass the embedding; it becomes the residual."""
    RESIDUAL = 1
    """Add to the residual."""
    QKV = 2
    """Scale by 1/rms; rotate queries and keys."""
    GATE = 3
    """Scale by 1/rms; a pair (gate, up) becomes one value."""
    HEAD = 4
    """Scale by 1/rms: logits."""


class Operation(enum.Enum, shape=4):
    """Where a group is in the program."""

    IDLE = 0
    EMBED = 1
    QKV = 2
    ATTEND = 3
    O = 4  # noqa: E741
    GATE_UP = 5
    DOWN = 6
    HEAD = 7
    FINISH = 8


class Region(enum.Enum, shape=1):
    """The two vectors of a row that the activation store holds, read and written in turn."""

    RESIDUAL = 0
    """The quantised residual stream."""
    INNER = 1
    """Context of the attention, or hidden vector of the feed-forward network."""


def index(count: int) -> Shape:
    """Shape of a number from 0 to ``count - 1``; at least one bit wide."""
    return unsigned(max(ceil_log2(count), 1))


class Layouts:
    """Layouts of one design; each attribute is the payload of the stream it names.

    Attributes
    ----------
    row :
        A row of a step: is it in use, which token, of which slot, at which position, and is a next
        token wanted.
    rows : all rows of a group.
    command, event :
        What the host link takes and gives: a row to compute (`last` closes the step), and what
        came of it (`token` counts only if `sampled`).
    finished : a step that is done: its rows and the tokens sampled for them.
    """

    def __init__(self, design: Design):
        m, c = design.model, design.chip
        self.group = index(c.groups)
        self.slot, self.position = index(design.slots), index(design.context)
        self.token, self.layer = index(m.vocab), index(m.layers)
        place = {"slot": self.slot, "position": self.position, "token": self.token}
        self.command = data.StructLayout({**place, "sample": 1, "last": 1})
        self.event = data.StructLayout({**place, "sampled": 1})
        self.row = data.StructLayout({"valid": 1, **place, "sample": 1})
        self.rows = data.ArrayLayout(self.row, c.rows)
        self.tokens = data.ArrayLayout(self.token, c.rows)
        self.finished = data.StructLayout({"rows": self.rows, "tokens": self.tokens})
        self.sampled = data.StructLayout({"group": self.group, "tokens": self.tokens})

        # Jobs of the units, given by the sequencer.
        self.weight_address = index(design.weight_words)
        self.weight_job = data.StructLayout({
            "address": self.weight_address,
            "words": unsigned(design.weight_words.bit_length()),
        })
        most_blocks = -(-max(m.dim, m.q_dim, m.hidden) // BLOCK)
        most_tiles = -(-max(m.q_dim + 2 * m.kv_dim, 2 * m.hidden, m.vocab) // c.outputs)
        self.feed_job = data.StructLayout({
            "group": self.group,
            "region": Region,
            "blocks": unsigned(most_blocks.bit_length()),
            "tiles": unsigned(most_tiles.bit_length()),
        })
        self.drain_job = data.StructLayout({
            "mode": DrainMode,
            "down": 1,
            "group": self.group,
            "layer": self.layer,
            "positions": data.ArrayLayout(self.position, c.rows),
        })
        self.attend_job = data.StructLayout({
            "group": self.group,
            "layer": self.layer,
            "rows": self.rows,
        })

        # What follows the pairs of the drain through the quantiser.
        self.drain_tag = data.StructLayout({
            "mode": DrainMode,
            "group": self.group,
            "cached": 1,
            "announce": 1,
            "end": 1,
        })
        # What follows a query through the attention engine.
        self.query_tag = data.StructLayout({"group": self.group, "row": index(c.rows), "last": 1})

        word = -(-max(m.dim, m.q_dim, m.hidden) // c.depth)
        self.store_word = index(word)
        self.engine = index(c.engines)
        self.engine_bits = ceil_log2(c.engines)
        self.lane_group = index(design.lane_groups)
        self.cache_address = index(design.cache_words)

        # What every part of the chip is doing: a tap, for counters and timelines.
        count = unsigned(c.rows.bit_length())
        self.engine_activity = activity_layout(self.query_tag)
        self.group_activity = data.StructLayout({
            "operation": Operation,
            "layer": self.layer,
            "rows": count,
            "sampled": count,
        })
        self.activity = data.StructLayout({
            "array": data.StructLayout({"weights": 1, "activations": 1, "moved": 1}),
            "feed": data.StructLayout({"moved": 1, "group": self.group}),
            "drain": data.StructLayout({"active": 1, "group": self.group}),
            "engines": data.ArrayLayout(self.engine_activity, c.engines),
            "groups": data.ArrayLayout(self.group_activity, c.groups),
            "finished": data.StructLayout({"moved": 1, "rows": count}),
        })

    def engine_of(self, slot: Value) -> Value:
        """The attention engine in whose bank of the cache a slot is."""
        return slot[: self.engine_bits]

    def place_of(self, slot: Value) -> Value:
        """The number of a slot in its bank."""
        return slot[self.engine_bits :]
