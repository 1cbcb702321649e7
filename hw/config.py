"""The two objects that hold everything a user may choose, and the design they make together."""

from dataclasses import dataclass, field
from enum import Enum

from intaglio.hw.formats import BLOCK, ConfigError, ElementFormat, FloatFormat, element_format

__all__ = [
    "ADDER_LATENCY",
    "CHIPS",
    "LAYER_LINEARS",
    "ChipConfig",
    "Design",
    "Linear",
    "LinearShape",
    "ModelConfig",
]

ADDER_LATENCY = 8
"""Cycles of a small-float addition; the accumulation of a block's sums turns in this loop."""

LARGEST = 1 << 30
"""No dimension of a model comes near this."""

MOST_POSITIONS = 1 << 17
"""Positions of a slot; the RoPE table has an entry for each."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of a Llama-family decoder, as the checkpoint gives it.

    Raises :exc:`ConfigError` with one sentence if the numbers do not make a decoder.
    """

    dim: int
    """Width of the residual stream."""
    hidden: int
    """Width of the feed-forward network."""
    layers: int
    heads: int
    """Query heads."""
    kv_heads: int
    """Key/value heads; every ``heads / kv_heads`` query heads share one."""
    head_dim: int
    vocab: int
    context: int
    """Positions that the model was trained for."""
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    attention_bias: bool = False
    """Whether the query, key, value and output projections have a bias."""
    mlp_bias: bool = False
    """Whether the gate, up and down projections have a bias."""

    def __post_init__(self):
        for name in ("dim", "hidden", "layers", "heads", "kv_heads", "head_dim", "context"):
            value = getattr(self, name)
            _require(
                1 <= value <= LARGEST, f"The model's {name} must be 1 to {LARGEST}, not {value}"
            )
        _require(
            2 <= self.vocab <= LARGEST,
            f"The model's vocab must be 2 to {LARGEST}, not {self.vocab}",
        )
        _require(
            self.heads % self.kv_heads == 0,
            f"The model's {self.heads} query heads cannot share {self.kv_heads} key/value heads "
            "evenly",
        )
        for name in ("head_dim", "dim", "hidden"):
            value = getattr(self, name)
            _require(value % 2 == 0, f"The model's {name} must be even, not {value}")
        _require(self.norm_eps > 0, f"The model's norm_eps must be positive, not {self.norm_eps}")
        _require(
            self.rope_theta > 0, f"The model's rope_theta must be positive, not {self.rope_theta}"
        )

    @property
    def has_bias(self) -> bool:
        """Whether any linear layer has a bias."""
        return self.attention_bias or self.mlp_bias

    @property
    def q_dim(self) -> int:
        """Elements of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Elements of all key heads."""
        return self.kv_heads * self.head_dim

    @property
    def head_block(self) -> int:
        """Elements of a head that share an exponent: the largest power of two <= 32 dividing it."""
        return min(BLOCK, self.head_dim & -self.head_dim)


@dataclass(frozen=True, kw_only=True)
class ChipConfig:
    """What is etched around the model: formats, parallelism, memories.

    Raises :exc:`ConfigError` with one sentence if a value is impossible for any model; what depends
    on the model is checked by :class:`Design`.
    """

    weights: ElementFormat = field(default_factory=lambda: element_format("int8"))
    """Format of every matrix of the checkpoint, the embedding included."""
    activations: ElementFormat = field(default_factory=lambda: element_format("int8"))
    """Format of what enters the matmul array, and of the queries."""
    kv: ElementFormat = field(default_factory=lambda: element_format("int8"))
    """Format of the cached keys and values."""
    small_float: FloatFormat = field(default_factory=FloatFormat)
    """Format of everything that does not cross a multiplier array."""
    rows: int = 1
    """Tokens that walk through the array side by side."""
    outputs: int = 32
    """N: outputs of the array for each row; a power of two. With 1 there is no array: four
    multipliers, one adder and one multiplier of small floats serve all operations in turn."""
    depth: int = 4
    """D: products that are summed in one cycle for each output; a power of two, 2 or 4."""
    groups: int = 1
    """Groups of `rows` tokens in flight; one may be in the array while another attends."""
    engines: int = 1
    """Attention engines, each with its bank of the KV cache; a power of two. A sequence belongs to
    the one that the lowest bits of its slot name."""
    slots: int = 0
    """Sequences whose keys and values are held; 0 means ``rows * groups``."""
    context: int = 0
    """Positions held for each slot; 0 means the model's context."""
    window: int = 32
    """Positions between two rescalings of attention; a power of two."""
    kv_lanes: int = 0
    """Key/value heads side by side in a word of the cache; 0 means all of them."""

    def __post_init__(self):
        for role, fmt in (("activations", self.activations), ("kv", self.kv)):
            _require(
                fmt.is_integer,
                f"The format of {role} must be int4 to int16, not {fmt.name}: only weights may be "
                "small floats",
            )
        _require(1 <= self.rows <= 64, f"rows must be 1 to 64, not {self.rows}")
        _require(1 <= self.groups <= 16, f"groups must be 1 to 16, not {self.groups}")
        _require(
            _is_power_of_two(self.outputs) and self.outputs <= 1024,
            f"outputs must be a power of two from 1 to 1024, not {self.outputs}",
        )
        _require(
            self.depth in (2, 4),
            f"depth must be 2 or 4, not {self.depth}: a block of {BLOCK} must last the "
            f"{ADDER_LATENCY} cycles of an addition",
        )
        _require(
            _is_power_of_two(self.window) and 4 <= self.window <= 1024,
            f"window must be a power of two from 4 to 1024, not {self.window}",
        )
        _require(
            _is_power_of_two(self.engines) and self.engines <= 64,
            f"engines must be a power of two from 1 to 64, not {self.engines}",
        )
        _require(0 <= self.slots <= 1 << 16, f"slots must be 0 to 65536, not {self.slots}")
        _require(self.context >= 0, f"context must not be negative, not {self.context}")
        _require(self.kv_lanes >= 0, f"kv_lanes must not be negative, not {self.kv_lanes}")

    @property
    def array(self) -> str:
        """Its array in words: rows x N x D, if there is one."""
        if self.outputs == 1:
            return f"none, {self.depth} multipliers"
        return f"{self.rows} x {self.outputs} x {self.depth}"


CHIPS = {
    "single": ChipConfig(),
    "quad": ChipConfig(rows=4),
    "overlap": ChipConfig(groups=2),
    "sohu-mini": ChipConfig(rows=8, outputs=16, groups=4, engines=2),
    "tiny": ChipConfig(outputs=2, depth=2, kv_lanes=1, window=8),
    "shared": ChipConfig(outputs=1, window=8, small_float=FloatFormat(8, 10)),
}
"""Named presets for ``--chip``: one row; four rows; two groups in flight; many rows, groups and
engines, as the real thing has; as small as an array gets; without an array."""


class Linear(Enum):
    """The linear layers of the etched program."""

    QKV = "qkv"
    O = "o"  # noqa: E741 (the name that every checkpoint uses)
    GATE_UP = "gate_up"
    DOWN = "down"
    HEAD = "head"


LAYER_LINEARS = (Linear.QKV, Linear.O, Linear.GATE_UP, Linear.DOWN)
"""Those that stand in every layer, in the order of the program; the head comes once, last."""


@dataclass(frozen=True)
class LinearShape:
    """A linear layer as the array sees it, padded to whole blocks and tiles."""

    inputs: int
    outputs: int
    blocks: int
    """Blocks of inputs."""
    tiles: int
    """Passes over the inputs; each gives as many outputs as the array has."""
    words: int
    """Weight words of all tiles."""


@dataclass(frozen=True)
class Design:
    """A model and a chip that fit each other; every derived number of the hardware.

    Raises :exc:`ConfigError` with one sentence if the model cannot be etched into the chip.
    """

    model: ModelConfig
    chip: ChipConfig

    def __post_init__(self):
        m, c = self.model, self.chip
        lanes = c.kv_lanes or m.kv_heads
        _require(
            m.kv_heads % lanes == 0,
            f"kv_lanes must divide the model's {m.kv_heads} key/value heads, not be {lanes}",
        )
        _require(
            c.context <= m.context,
            f"The chip's context of {c.context} is more than the model's {m.context} positions",
        )
        _require(
            self.context <= MOST_POSITIONS,
            f"A context of {self.context} positions does not fit a chip, which holds at most "
            f"{MOST_POSITIONS}: choose a smaller one with --context",
        )
        _require(
            c.engines <= self.slots,
            f"{c.engines} attention engines are more than the chip's {self.slots} slots, of which "
            "each belongs to one engine: raise --slots",
        )
        _require(self.context >= 2, f"The context must be at least 2 positions, not {self.context}")
        if self.shared:
            self._check_shared()

    def _check_shared(self) -> None:
        """What a chip of one output can be."""
        m, c = self.model, self.chip
        fmt = c.small_float
        only = "With one output the chip has"
        _require(
            (c.rows, c.groups, c.engines, c.depth) == (1, 1, 1, 4),
            f"{only} 1 row, 1 group, 1 engine and a depth of 4, not {c.rows}, {c.groups}, "
            f"{c.engines} and {c.depth}",
        )
        _require(
            c.weights.integer_bits <= 8 and c.activations.bits == c.kv.bits == 8,
            f"{only} weights of at most 8 bits, and int8 for activations and the KV cache, not "
            f"{c.weights.name}, {c.activations.name} and {c.kv.name}",
        )
        _require(
            fmt.exponent_bits == 8 and fmt.fraction_bits <= 12,
            f"{only} small floats with 8 exponent bits and at most 12 fraction bits, not {fmt}",
        )
        _require(
            self.context <= 256 and m.vocab <= 1 << 15,
            f"{only} at most 256 positions and 32768 tokens, not {self.context} and {m.vocab}: "
            "its sums have 32 bits, and its factors 16",
        )
        _require(
            self.lane_groups == 1 and m.head_block >= 4 and not m.has_bias,
            f"{only} all key/value heads in a word (kv_lanes 0), heads whose size is a multiple "
            f"of 4, and no biases; the model has heads of {m.head_dim}"
            + (" and biases" if m.has_bias else ""),
        )

    @property
    def shared(self) -> bool:
        """Whether there is one unit of each kind, for all operations: see `hw.shared`."""
        return self.chip.outputs == 1

    @property
    def context(self) -> int:
        """Positions of a slot."""
        return self.chip.context or self.model.context

    @property
    def slots(self) -> int:
        """Sequences that live on the chip."""
        return self.chip.slots or self.chip.rows * self.chip.groups

    @property
    def kv_lanes(self) -> int:
        """Key/value heads side by side in a word of the cache."""
        return self.chip.kv_lanes or self.model.kv_heads

    @property
    def lane_groups(self) -> int:
        """Words that hold all key/value heads of one position."""
        return self.model.kv_heads // self.kv_lanes

    @property
    def q_lanes(self) -> int:
        """Query heads that share the key/value heads of one word."""
        return self.kv_lanes * self.model.heads // self.model.kv_heads

    @property
    def head_blocks(self) -> int:
        """Blocks of one head."""
        return self.model.head_dim // self.model.head_block

    @property
    def exponents_per_word(self) -> int:
        """Weight exponents that travel with each word, so that a block brings all it needs."""
        return max(self.chip.outputs * self.chip.depth // BLOCK, 1)

    @property
    def words_per_block(self) -> int:
        """Weight words, that is cycles, that a block of inputs takes."""
        return BLOCK // self.chip.depth

    def linear(self, linear: Linear) -> LinearShape:
        """Shape of a linear layer."""
        m, c = self.model, self.chip
        inputs, outputs = {
            Linear.QKV: (m.dim, m.q_dim + 2 * m.kv_dim),
            Linear.O: (m.q_dim, m.dim),
            Linear.GATE_UP: (m.dim, 2 * m.hidden),
            Linear.DOWN: (m.hidden, m.dim),
            Linear.HEAD: (m.dim, m.vocab),
        }[linear]
        blocks, tiles = -(-inputs // BLOCK), -(-outputs // c.outputs)
        return LinearShape(inputs, outputs, blocks, tiles, tiles * blocks * self.words_per_block)

    @property
    def layer_words(self) -> int:
        """Weight words of one layer."""
        return sum(self.linear(linear).words for linear in LAYER_LINEARS)

    @property
    def weight_words(self) -> int:
        """Depth of the weight memory."""
        return self.model.layers * self.layer_words + self.linear(Linear.HEAD).words

    @property
    def cache_words(self) -> int:
        """Depth of the two memories of the KV cache of an attention engine."""
        return (
            -(-self.slots // self.chip.engines)
            * self.model.layers
            * self.lane_groups
            * self.context
        )
