"""What is etched: the contents of a chip's memories."""

from dataclasses import dataclass, field

__all__ = ["BANK", "ETCHED", "Images"]

ETCHED = {"ram_style": "block"}
"""Attribute of every etched memory: block RAM, however small, so that it can be etched anew."""


BANK = 2048
"""Most words of a memory. Deeper ones would be chosen from behind their outputs, where time is
short; this is the depth of an ECP5's block RAM that is one byte and a bit wide."""


@dataclass(frozen=True)
class Images:
    """Words of each etched memory, and the two constants of the norm, as integers."""

    weights: list[int]
    """Weight words in the order in which the array reads them."""
    embedding: list[int]
    """Two codes for each (token, pair)."""
    embedding_exponents: list[int]
    """An E8M0 code for each (token, block)."""
    rope: list[int]
    """Cosine and sine for each (position, pair of a head), small-float codes."""
    bias: list[int]
    """Two small-float codes for each (layer, linear layer, pair); empty if there are none."""
    inverse_dim: int
    """Small-float code of ``1 / dim``."""
    eps: int
    """Small-float code of the norms' epsilon."""
    memory: list[int] = field(default_factory=list)
    """Words of the main memory of a shared chip, which has nothing of the above but constants."""
