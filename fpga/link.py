"""The host's end of the link to a board."""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import TypeVar

import serial

from intaglio.golden.frames import Reader, encode
from intaglio.hw.config import Design
from intaglio.hw.frames import STATUS, command_layout, sizes_to_chip, sizes_to_host
from intaglio.hw.layouts import Layouts
from intaglio.hw.protocol import Counter, Kind, Tap, identity
from intaglio.sim.tools import ToolError

__all__ = ["BoardChip", "LinkError", "Status"]

ATTEMPTS = 3
WAKE = 16
"""Zeros that go first: one ends whatever frame was begun, the others outlast a reset."""
POLL = 0.05
"""Seconds for which a read waits at most."""

T = TypeVar("T")


class LinkError(ToolError):
    """A board that is not there, does not answer, or holds another design."""


@dataclass(frozen=True)
class Status:
    """What the chip says of itself; see ``frames.STATUS``."""

    identity: int
    good: int
    dropped: int
    busy: bool
    signatures: dict[Tap, int]


class BoardChip:
    """A chip at the other end of a serial port; generates like any :class:`generate.Chip`.

    A command is repeated when its event has not come within `timeout` seconds; after the third
    time :exc:`LinkError` is raised, as it is when the port disappears and, by the constructor, when
    the port cannot be opened or the board holds another design than `design`.

    Attributes
    ----------
    retries :
        Frames that were repeated so far, and events of generations that did not come.
    """

    cycles = 0
    """Nobody counts the clock of a board; time is what can be measured."""

    def __init__(self, port: str, baud: int, design: Design, *, timeout: float = 1.0):
        self.port, self.design = port, design
        self.retries = 0
        self._timeout = timeout
        self._layouts = layouts = Layouts(design)
        self._command_bytes = sizes_to_chip(layouts)[Kind.COMMAND]
        self._reader = Reader(sizes_to_host(layouts))
        self._received: deque[tuple[Kind, bytes]] = deque()
        self._generation: object = None  # whose events still come, if any
        self._serial = self._open(baud)
        try:
            self._write(bytes(WAKE))
            found = self._rest().identity
            if found != identity(design):
                raise LinkError(
                    f"The board on {port} holds another design ({found:08x}, not "
                    f"{identity(design):08x}): flash the bitstream of this one"
                )
        except LinkError:
            self.close()
            raise

    def _open(self, baud: int) -> serial.Serial:
        try:
            port = serial.Serial(
                self.port, baud, timeout=POLL, write_timeout=self._timeout, exclusive=True
            )
        except serial.SerialException as error:
            reason = str(error) if error.errno is None else os.strerror(error.errno)
            hint = ": join the group dialout" if error.errno == errno.EACCES else ""
            raise LinkError(f"{self.port} cannot be opened ({reason}){hint}") from error
        except (ValueError, OSError) as error:
            raise LinkError(f"{self.port} cannot be used at {baud} baud ({error})") from error
        # FTDI bridges otherwise keep an answer for up to 16 ms; ports that cannot do it say so.
        with suppress(ValueError, OSError, NotImplementedError):
            port.set_low_latency_mode(True)
        return port

    def __enter__(self) -> "BoardChip":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the port back."""
        self._serial.close()

    def feed(self, slot: int, position: int, token: int, sample: bool) -> int | None:
        """One token through the model, alone in its step; the next token if `sample`."""
        answer = self._command(slot, position, token, sample)
        return answer if sample else None

    def generate(self, slot: int, position: int, token: int, until: int) -> Iterator[int]:
        """The next token at each position from `position` to `until`, where it is fed back.

        One command is enough, if no event is lost; the chip is ahead of what has been taken. Where
        nothing more is taken it goes on until something else is asked of it, or to the end.
        """
        me = object()
        for place in range(position, until + 1):
            answer = None
            if self._generation is me:
                answer = self._wait(self._event_of(slot, place, token, True))
                self.retries += answer is None
            if answer is None:
                answer = self._command(slot, place, token, True, until, me)
            if place == until:
                self._generation = None
            token = answer
            yield token

    def _command(
        self, slot: int, position: int, token: int, sample: bool, until: int = 0, by: object = None
    ) -> int:
        """The token of the event that a command leads to; it begins the generation `by`, if any."""
        place = {"slot": slot, "position": position, "token": token}
        command = {**place, "sample": int(sample), "last": 1}
        frame = command_layout(self._layouts).const({"command": command, "until": until})
        payload = frame.as_bits().to_bytes(self._command_bytes, "little")
        event_of = self._event_of(slot, position, token, sample)
        answer, repeated = self._ask(Kind.COMMAND, payload, event_of)
        if repeated:
            self._rest()  # a late answer to what was repeated is not to be taken for a later one
        else:
            self._generation = by
        return answer

    def _event_of(
        self, slot: int, position: int, token: int, sample: bool
    ) -> Callable[[Kind, bytes], int | None]:
        """What makes a token of a frame, if that is the event of this command."""

        def token_of(kind: Kind, payload: bytes) -> int | None:
            if kind is not Kind.EVENT:
                return None
            got = self._layouts.event.from_bits(int.from_bytes(payload, "little"))
            same = (got.slot, got.position, got.sampled) == (slot, position, int(sample))
            return got.token if same and (sample or got.token == token) else None

        return token_of

    def status(self) -> Status:
        """Ask the chip for its status."""

        def status_of(kind: Kind, payload: bytes) -> Status | None:
            if kind is not Kind.STATUS:
                return None
            got = STATUS.from_bits(int.from_bytes(payload, "little"))
            signatures = {tap: got.signatures[tap] for tap in Tap}
            return Status(got.identity, got.good, got.dropped, bool(got.busy), signatures)

        for _ in range(ATTEMPTS):
            answer, repeated = self._ask(Kind.QUERY, b"", status_of)
            if not repeated:
                return answer
            self._drain()  # an answer to the first question may be old news
        raise LinkError(f"Too much is lost between {self.port} and the board: try another cable")

    @property
    def counters(self) -> dict[Counter, int]:
        """What the chip has counted; :func:`~intaglio.sim.usage.usage` makes slots of it."""

        def counters_of(kind: Kind, payload: bytes) -> dict[Counter, int] | None:
            if kind is not Kind.COUNTERS:
                return None
            words = [payload[4 * n : 4 * n + 4] for n in Counter]
            return {n: int.from_bytes(words[n], "little") for n in Counter}

        return self._ask(Kind.COUNT, b"", counters_of)[0]

    def _rest(self) -> Status:
        """Wait until nothing is in flight; all events have come before such a status."""
        deadline = monotonic() + ATTEMPTS * self._timeout
        while (status := self.status()).busy:
            if monotonic() > deadline:
                raise LinkError(f"The chip on {self.port} does not come to rest: reset the board")
        return status

    def _ask(
        self, kind: Kind, payload: bytes, answer_of: Callable[[Kind, bytes], T | None]
    ) -> tuple[T, bool]:
        """Send a frame until one comes of which `answer_of` makes something; was it repeated?

        A generation that still goes on is ended before.
        """
        if self._generation is not None:
            self._generation = None
            self._rest()
        frame = encode(kind, payload)
        self._received.clear()
        for attempt in range(ATTEMPTS):
            self.retries += attempt > 0
            # The zero ends what damage may have made of the frame before.
            self._write(b"\0" + frame if attempt else frame)
            if (answer := self._wait(answer_of)) is not None:
                return answer, attempt > 0
        raise LinkError(
            f"The board on {self.port} does not answer: is it powered, and is its bitstream loaded?"
        )

    def _wait(self, answer_of: Callable[[Kind, bytes], T | None]) -> T | None:
        """What `answer_of` makes of a frame that has come or comes in time; forgets others."""
        deadline = monotonic() + self._timeout
        while True:
            while self._received:
                if (answer := answer_of(*self._received.popleft())) is not None:
                    return answer
            if monotonic() > deadline:
                return None
            self._received.extend(self._read())

    def _drain(self) -> None:
        """Forget what comes, until nothing has come for as long as an answer may take."""
        quiet = monotonic() + self._timeout
        while monotonic() < quiet:
            if self._read():
                quiet = monotonic() + self._timeout

    def _read(self) -> list[tuple[Kind, bytes]]:
        """Frames that are there, or come within POLL."""
        try:
            received = self._serial.read(1)
            received += self._serial.read(self._serial.in_waiting)
        except (serial.SerialException, OSError) as error:
            raise self._gone() from error
        return self._reader.read(received)

    def _write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except (serial.SerialException, OSError) as error:
            raise self._gone() from error

    def _gone(self) -> LinkError:
        return LinkError(f"The board on {self.port} is gone: was its cable pulled?")
