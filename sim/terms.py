"""The terms of the performance model: cycles that follow from shapes and pipelines, and why."""

from dataclasses import dataclass

from intaglio.hw.config import Design, Linear
from intaglio.hw.lookup import Sigmoid
from intaglio.hw.small_float import FloatAdd, FloatConvert, FloatMultiply

__all__ = ["TERMS", "Term", "Terms", "linear_terms"]


class Term(int):
    """Cycles, and why they pass."""

    reason: str

    def __new__(cls, cycles: int, reason: str):
        """Behaves as the number of cycles."""
        term = super().__new__(cls, cycles)
        term.reason = reason
        return term


BEGIN = Term(4, "From an operation that is due to its first word: the sequencer, the memories.")
BANKED = Term(1, "More where weights or embedding are in several banks, of which one is chosen.")
SUM = Term(5, "From a block's last word to its sums, and a cycle for each level of the adder tree.")
ADD = Term(
    3 + FloatConvert.LATENCY + FloatAdd.LATENCY,
    "From the turn of a block's sums to its first pair at the drain: hold, convert, add, queue.",
)
DRAIN = Term(
    1 + 2 * FloatMultiply.LATENCY + Sigmoid.LATENCY,
    "From a pair at the drain to where it leaves: its longest way is through the gate.",
)
QUANTISE = Term(
    8, "From the last pair of a block to its first elements: the exponent, the rounding."
)
NORM = Term(
    42, "From the last pair of a residual, quantised, to the first that is scaled by its rms."
)
STORE = Term(1, "From a slice to the store, which announces the vector to the sequencer.")
GATHER = Term(3, "From the last elements to their word in the cache, and a cycle for each row.")
EMBED = Term(13, "From a step to the first pair of its embedding, of one row.")
ATTEND = Term(7, "From a group that is due for attention to its first key: choice, query, cache.")
SCORE = Term(12, "From the last key of a window to its record: products, sums, scores.")
PREPARE = Term(3, "From a record to its window's turn, while scores stand still: the distances.")
RESCALE = Term(
    7,
    "A head's sums are shifted a bit per cycle when the second window raises its maximum; of the "
    "heads side by side the longest counts, times 1 + 1/2 + ... + 1/heads; for the n-th window 1/n "
    "of that, as seldom is it the largest. The data decide; the mean of stories.",
)
CONTEXT = Term(
    33, "From the last value of a row to its first pair: weights, products, sums, division."
)
RESERVE = Term(
    17, "More than its pairs from the last value of a row to that of the next: their place is free."
)
SAMPLE = Term(3, "From the last logit to the sampled tokens.")
HOST = Term(3, "From the tokens to the next step, and two cycles for each row: event and command.")
TERMS = {name.lower(): term for name, term in list(globals().items()) if isinstance(term, Term)}
"""Terms that are the same for every shape."""


@dataclass(frozen=True)
class Terms:
    """Cycles of one linear layer."""

    words: int
    """The array takes a weight word per cycle: tiles x blocks x words of a block."""
    tile: int
    """Words of a tile, after which its results leave."""
    pairs: int
    """The drain takes a pair per cycle: half the outputs of all tiles."""
    last_pair: int
    """From the first pair of a tile to its last that is no padding."""


def linear_terms(design: Design, linear: Linear) -> Terms:
    """The terms of a linear layer."""
    shape, half = design.linear(linear), design.chip.outputs // 2
    kept = half - (shape.tiles * design.chip.outputs - shape.outputs) // 2
    # An adder gives a result in each of its turns; with one adder a pair takes two.
    rate = 2 if design.exponents_per_word == 1 else 1
    return Terms(
        words=shape.words,
        tile=shape.blocks * design.words_per_block,
        pairs=shape.tiles * half,
        last_pair=rate * kept - 1,
    )
