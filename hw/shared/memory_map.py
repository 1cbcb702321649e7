"""The main memory of a shared chip: where everything is, in words of four elements.

Elements that share an exponent are a *block*: a word with the exponent, then their words.
Imports nothing but data, so that `golden` can fill the memory.
"""

from dataclasses import dataclass

from intaglio.hw.config import LAYER_LINEARS, Design, Linear
from intaglio.hw.formats import BLOCK, ConfigError

__all__ = ["ELEMENTS", "MemoryMap", "weight_words"]

ELEMENTS = 4
"""Elements of a word, a byte each."""

FACTORS, MOST_SLOTS = 1 << 17, 1 << 15
"""What the program multiplies: words of a slot, by its number."""

BLOCK_WORDS = 1 + BLOCK // ELEMENTS


@dataclass(frozen=True)
class MemoryMap:
    """Addresses for one design; raises :exc:`ConfigError` if its slots are too large."""

    design: Design
    streamed: bool = False
    """Whether the weights are elsewhere, and come as a stream."""

    def __post_init__(self):
        slots = self.design.slots
        if self.slot_words >= FACTORS or slots > MOST_SLOTS:
            raise ConfigError(
                f"A chip with one output has at most {MOST_SLOTS} slots, each of less than "
                f"{FACTORS} words of 32 bits, not {slots} of {self.slot_words}: its factors are no "
                "larger"
            )

    @property
    def weights(self) -> int:
        """Words of all linear layers, in the order of the program, which begin at 0."""
        d = self.design
        layer = sum(self._blocks(linear) for linear in LAYER_LINEARS)
        return BLOCK_WORDS * (d.model.layers * layer + self._blocks(Linear.HEAD))

    def _blocks(self, linear: Linear) -> int:
        shape = self.design.linear(linear)
        return shape.outputs * shape.blocks

    @property
    def embedding(self) -> int:
        """First word of the embedding table."""
        return 0 if self.streamed else self.weights

    @property
    def token_words(self) -> int:
        """Words of a token's embedding."""
        return BLOCK_WORDS * -(-self.design.model.dim // BLOCK)

    @property
    def rope(self) -> int:
        """First word of the cosines and sines, a small float in each."""
        return self.embedding + self.design.model.vocab * self.token_words

    @property
    def cache(self) -> int:
        """First word of the KV cache: what is before it is etched."""
        return self.rope + self.design.context * self.design.model.head_dim

    @property
    def key_words(self) -> int:
        """Words of a cached key: its blocks, then the exponents of the value of that position."""
        model = self.design.model
        return self.design.head_blocks * (2 + model.head_block // ELEMENTS)

    @property
    def value_words(self) -> int:
        """Words of a cached value."""
        return self.design.model.head_dim // ELEMENTS

    @property
    def head_words(self) -> int:
        """Words of one head of a layer of a slot: all its keys, then all its values."""
        return self.design.context * (self.key_words + self.value_words)

    @property
    def slot_words(self) -> int:
        """Words of all heads of all layers of a slot."""
        return self.head_words * self.design.model.kv_heads * self.design.model.layers

    @property
    def words(self) -> int:
        """Words of the memory."""
        return self.cache + self.slot_words * self.design.slots


def weight_words(design: Design) -> int:
    """Words of weights that a chip reads in a step, shared or not."""
    return MemoryMap(design).weights if design.shared else design.weight_words
