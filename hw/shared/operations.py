"""What the shared chip can do in one step, and how a step is written down.

The chip has an accumulator, a factor, a buffer of four bytes, three indices, two addresses of the
main memory, and a scratch memory. A step is one operation on the accumulator and a scratch word.
"""

from amaranth.lib import data, enum

from intaglio.hw.protocol import Tap

__all__ = ["LOGIT", "READERS", "Field", "Index", "Mask", "Operation", "step_layout"]


class Operation(enum.Enum, shape=6):
    """``s`` is the scratch word that the step names.

    The accumulator takes the result where nothing else is named.
    """

    LOAD = 0
    """s"""
    ADD = 1
    """accumulator + s"""
    SUBTRACT = 2
    """accumulator - s"""
    AND = 3
    """accumulator & s"""
    MAXIMUM = 4
    """The larger of accumulator and s."""
    MINIMUM = 5
    """The smaller of accumulator and s."""
    INTEGER_PART = 6
    """accumulator >> SCORE_FRACTION"""
    ROUND_SHIFT = 7
    """accumulator * 2**(factor + s): to the right rounded half up, to the left saturated as a score
    is. A cycle for each bit."""
    FLOOR_SHIFT = 8
    """accumulator >> -(factor + s), which is not positive. A cycle for each bit."""
    MULTIPLY = 9
    """factor * accumulator, 16 bits each"""
    ACCUMULATE = 10
    """s + factor * element; elements are the bytes of the buffer, the lowest first"""
    SQUARE = 11
    """accumulator + the square of s as an element of the block whose exponent is the factor"""
    DOT = 12
    """Sum of the products of ``count`` words of elements, from s on and of the weights."""
    DOT_CACHE = 13
    """The same with words from the address on."""

    FLOAT_ADD = 16
    """accumulator + s, as small floats, like the next three"""
    FLOAT_SUBTRACT = 17
    """accumulator - s"""
    FLOAT_MULTIPLY = 18
    """accumulator * s"""
    CONVERT = 19
    """accumulator * 2**(factor + s): the small float of an integer"""
    RECIPROCAL = 20
    """1 / accumulator"""
    RECIPROCAL_ROOT = 21
    """1 / sqrt(accumulator)"""
    EXP2 = 22
    """The table ``EXP2`` at the accumulator's fraction."""
    SIGMOID = 23
    """The table ``SIGMOID`` at the accumulator."""
    SIGNIFICAND = 24
    """Of a small float, as an integer."""
    EXPONENT = 25
    """Exponent code of a small float."""
    LARGER_EXPONENT = 26
    """The larger of the accumulator and the exponent code of s."""
    ORDER = 27
    """An integer that is larger where the small float in the accumulator is."""

    UNPACK = 32
    """The next element of the buffer."""
    QUANTISE = 33
    """s as an element of the block whose exponent is the factor goes to the buffer's end."""
    BUFFER = 34
    """The buffer."""
    INDEX = 35
    """The index that the step names."""
    ADDRESS = 36
    """The address of the cache."""
    SET_FACTOR = 37
    """factor = accumulator + s"""
    SET_FACTOR_WEIGHTS = 38
    """factor = s + the next word of the weights"""
    SET_FACTOR_CACHE = 39
    """factor = s + the next word at the address"""
    SET_BUFFER = 40
    """buffer = the next word at the address"""
    SET_ADDRESS = 41
    """address = accumulator"""
    READ = 42
    """The next word at the address."""
    WRITE = 43
    """The next word at the address = accumulator"""

    BEGIN = 48
    """Waits for a command; the weights begin anew. The accumulator takes nothing."""
    COMMAND = 49
    """The field of the command that ``count`` names."""
    END = 50
    """Gives the event; its token is in the accumulator."""
    SET_INDEX = 51
    """index = limit"""
    NEXT = 52
    """index += count; goes to the target unless the index, as far as the mask says, is the limit"""
    JUMP = 53
    """Goes to the target."""
    JUMP_NEGATIVE = 54
    """Goes to the target if the accumulator is negative."""


READERS = frozenset({
    Operation.LOAD, Operation.ADD, Operation.SUBTRACT, Operation.AND, Operation.MAXIMUM,
    Operation.MINIMUM, Operation.ROUND_SHIFT, Operation.FLOOR_SHIFT, Operation.ACCUMULATE,
    Operation.SQUARE, Operation.FLOAT_ADD, Operation.FLOAT_SUBTRACT, Operation.FLOAT_MULTIPLY,
    Operation.CONVERT, Operation.LARGER_EXPONENT, Operation.QUANTISE, Operation.SET_FACTOR,
    Operation.SET_FACTOR_WEIGHTS, Operation.SET_FACTOR_CACHE,
})  # fmt: skip
"""Those that use the scratch word which is read ahead of them; dot products read their own."""


class Index(enum.Enum, shape=3):
    """What is added to the address of a scratch word."""

    NONE = 0
    I = 1  # noqa: E741
    J = 2
    K = 3
    I_WORD = 4
    """I / 4: the word in which element I is."""
    I_BLOCK = 5
    """I / 32: the block."""
    I_HEAD_BLOCK = 6
    """I by the size of a block of a head."""


class Mask(enum.Enum, shape=2):
    """How much of an index is compared with the limit."""

    ALL = 0
    BLOCK = 1
    """The place in a block of 32."""
    HEAD_BLOCK = 2
    """The place in a block of a head."""


class Field(enum.Enum, shape=4):
    """Fields of a command."""

    SLOT = 0
    POSITION = 1
    TOKEN = 2
    SAMPLE = 3


LOGIT = len(Tap)
"""Where a step says which :class:`Tap` its result passes: that of the drain, and it is a logit."""


def step_layout(bits: int) -> data.StructLayout:
    """A step of a program whose steps, scratch words and indices are numbered with so many bits.

    Of the operations that change the order of steps, the target is a step and the source a limit.
    `hold` is set where the following step's scratch word may be read only after this step; `cycles`
    are those after the first, if they are known.
    """
    return data.StructLayout({
        "operation": Operation,
        "source": bits,
        "source_index": Index,
        "target": bits,
        "target_index": Index,
        "store": 1,
        "hold": 1,
        "cycles": 4,
        "count": 4,
        "mask": Mask,
        "tap": 3,
    })
