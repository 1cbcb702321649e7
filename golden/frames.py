"""Frames of the host link: COBS around ``length | kind | payload | CRC``; see ``hw.protocol``."""

from binascii import crc_hqx

from intaglio.hw.protocol import Kind

__all__ = ["FrameError", "Reader", "decode", "enclose", "encode"]

Sizes = dict[Kind, int]
"""Payload bytes of each kind that is accepted."""

LONGEST = 254
"""Bytes of a frame, encoded but without its closing zero: one group of COBS."""


class FrameError(Exception):
    """What is wrong with a frame."""


def _check(body: bytes) -> bytes:
    """CRC-16/IBM-3740, high byte first."""
    return crc_hqx(body, 0xFFFF).to_bytes(2, "big")


def enclose(body: bytes) -> bytes:
    """A frame with its closing zero around `body`, which says nothing of the CRC."""
    body += _check(body)
    assert len(body) < LONGEST
    return b"".join(bytes([len(part) + 1]) + part for part in body.split(b"\0")) + b"\0"


def encode(kind: Kind, payload: bytes) -> bytes:
    """A frame with its closing zero."""
    return enclose(bytes([len(payload), kind]) + payload)


def _unstuffed(frame: bytes) -> bytes:
    """COBS undone; raises :exc:`FrameError` if a group is cut, by the end or by a zero."""
    parts, at = [], 0
    while at < len(frame):
        after = at + frame[at]
        if not at < after <= len(frame):
            raise FrameError("cut")
        parts.append(frame[at + 1 : after])
        at = after
    return b"\0".join(parts)


def decode(frame: bytes, sizes: Sizes) -> tuple[Kind, bytes]:
    """Kind and payload of a frame without its closing zero; raises :exc:`FrameError`."""
    if len(frame) > LONGEST:
        raise FrameError("too long")
    body = _unstuffed(frame)
    if len(body) < 4:
        raise FrameError("too short")
    if _check(body[:-2]) != body[-2:]:
        raise FrameError("wrong CRC")
    size, kind, payload = body[0], body[1], body[2:-2]
    if kind not in sizes:
        raise FrameError(f"unknown kind {kind}")
    if size != len(payload) or size != sizes[Kind(kind)]:
        raise FrameError(f"wrong length {size}")
    return Kind(kind), payload


class Reader:
    """Frames out of bytes as they come; whatever is wrong between two zeros is dropped.

    Attributes
    ----------
    good, dropped :
        Frames so far.
    """

    def __init__(self, sizes: Sizes):
        self.sizes = sizes
        self.good = self.dropped = 0
        self._begun = b""

    def read(self, received: bytes) -> list[tuple[Kind, bytes]]:
        """Kind and payload of each frame that `received` completes."""
        *complete, begun = (self._begun + received).split(b"\0")
        self._begun = begun[: LONGEST + 1]  # a frame that is too long stays too long
        frames = []
        for frame in filter(None, complete):
            try:
                frames.append(decode(frame, self.sizes))
                self.good += 1
            except FrameError:
                self.dropped += 1
        return frames
