"""What a host and a chip say to each other over a UART, as far as both must agree on it.

Everything travels in frames: COBS around ``length | kind | payload | CRC``, closed by a zero byte.
``length`` is the number of payload bytes, one byte as ``kind`` is; the CRC is CRC-16/IBM-3740 of
all that stands before it, high byte first. Integers in payloads are little-endian.

There are no sequence numbers, on purpose: a slot's position may be fed again with the same token,
which writes the same words to the cache and gives the same answer. So a host repeats a command
whose event did not come in time, and ignores events that it does not wait for.

A host has at most ``rows * groups`` commands in flight. More may be lost: a frame that begins while
the chip has not taken the one before is dropped. Dropped frames are counted, and never answered.

Imports nothing but the standard library.
"""

import zlib
from enum import IntEnum

from intaglio.hw.config import Design

__all__ = ["Kind", "Tap", "identity"]


class Kind(IntEnum):
    """Kinds of frames, and what is in their payloads."""

    COMMAND = 1
    """To the chip: the bits of ``Layouts.command``, filled up with zeros to whole bytes."""
    QUERY = 2
    """To the chip: asks for a status; no payload."""
    EVENT = 3
    """To the host: the bits of ``Layouts.event``, likewise."""
    STATUS = 4
    """To the host: the bits of ``frames.STATUS``."""


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


def identity(design: Design) -> int:
    """32 bits that tell one design from another, whatever is etched into it."""
    return zlib.crc32(repr(design).encode())
