"""What a host and a chip say to each other over a UART, as far as both must agree on it.

Everything travels in frames: COBS around ``length | kind | payload | CRC``, closed by a zero byte.
``length`` is the number of payload bytes, one byte as ``kind`` is; the CRC is CRC-16/IBM-3740 of
all that stands before it, high byte first. Integers in payloads are little-endian.

There are no sequence numbers, on purpose: a slot's position may be fed again with the same token,
which writes the same words to the cache and gives the same answer. So a host repeats a command
whose event did not come in time, and ignores events that it does not wait for.

A host has at most ``rows * groups`` commands in flight. More may be lost: a frame that begins while
the chip has not taken the one before is dropped. Dropped frames are counted, and never answered.

A command with `until` beyond its position starts a *generation*: while the position of an event is
less than `until`, the chip feeds the event's token to the next position itself, and events stream
without a round trip. There is one generation at a time, of a command that wants a token and comes
when nothing is in flight; any other command leads to one event, whatever its `until`. The next good
frame ends a generation: the event of the token that is being computed is its last. A host that
misses an event asks for a status, which does that, and repeats the command of that position.

Imports nothing but the standard library.
"""

import zlib
from enum import IntEnum

from intaglio.hw.config import Design

__all__ = ["VERSION", "Counter", "Kind", "Tap", "identity"]

VERSION = 2
"""Of this protocol; goes up whenever kinds or payloads change."""


class Kind(IntEnum):
    """Kinds of frames, and what is in their payloads."""

    COMMAND = 1
    """To the chip: the bits of ``frames.command_layout``, filled up with zeros to whole bytes."""
    QUERY = 2
    """To the chip: asks for a status; no payload."""
    EVENT = 3
    """To the host: the bits of ``Layouts.event``, likewise."""
    STATUS = 4
    """To the host: the bits of ``frames.STATUS``."""
    COUNT = 5
    """To the chip: asks for its counters; no payload."""
    COUNTERS = 6
    """To the host: each :class:`Counter` in four bytes, all as they were when asked for."""


class Tap(IntEnum):
    """Streams inside the chip that have a signature, in the order of the status."""

    WEIGHTS = 0
    """Weight words as they enter the array."""
    EMBEDDING = 1
    """Pairs of the embedding."""
    ARRAY = 2
    """Sums of blocks as they leave the array."""
    DRAIN = 3
    """Pairs as they leave the drain, logits among them."""
    ATTENTION = 4
    """Pairs of the context as they leave the attention engine."""


class Counter(IntEnum):
    """What the chip counts, modulo 2**32.

    Of the cycles in which the array takes no word each has one cause: those that are listed, and
    else there is no work. Multiplications follow from the rows of the operations: a row of QKV is
    as many as its matrix has elements.
    """

    CYCLES = 0
    """Clock cycles since reset."""
    WORDS = 1
    """Cycles in which the array took a weight word and a slice of the activations."""
    DRAIN = 2
    """Cycles in which it had both and could not take them, since its results were not taken."""
    WEIGHTS = 3
    """Cycles in which it had a slice and waited for a weight word."""
    ACTIVATIONS = 4
    """Cycles in which it had a weight word and waited for a slice."""
    ATTENTION = 5
    """Cycles in which it had neither, while a group was in attention."""
    RESULTS = 6
    """Cycles in which it had neither, while groups waited for what is on its way through the drain
    and none was in attention."""
    QKV = 7
    """Rows in use, of this operation and of those below, counted when it begins."""
    O = 8  # noqa: E741
    GATE_UP = 9
    DOWN = 10
    HEAD = 11
    """Rows that want a token."""
    SCORING = 12
    """Cycles in which an attention engine had a row to score, summed over the engines."""
    KEYS = 13
    """Words of keys that were scored, one for each position and lane group of a row."""
    TOKENS = 14
    """Rows that are finished."""


def identity(design: Design) -> int:
    """32 bits that tell one design and protocol from another, whatever is etched into it."""
    return zlib.crc32(f"{VERSION} {design!r}".encode())
