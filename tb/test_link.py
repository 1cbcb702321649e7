"""The host's end of the link, against a board that is golden behind a pseudo-terminal."""

import os
import threading
import tty
from collections.abc import Callable

import numpy as np
import pytest

from intaglio.fpga.link import BoardChip, LinkError
from intaglio.fpga.selftest import selftest
from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import Etched
from intaglio.golden.frames import Reader, encode
from intaglio.golden.signature import signatures
from intaglio.hw.config import ChipConfig
from intaglio.hw.frames import STATUS, sizes_to_chip
from intaglio.hw.layouts import Layouts
from intaglio.hw.protocol import Kind, Tap, identity
from intaglio.tb.models import random_etched

Line = Callable[[bytes], bytes]
"""What a cable makes of the bytes that go through it."""


def perfect(data: bytes) -> bytes:
    return data


class Board:
    """Speaks like a chip on a UART, at the far end of a pseudo-terminal.

    `to_board` and `to_host` are the two lines of the cable. It plays one sequence in slot 0.
    """

    def __init__(self, etched: Etched, to_board: Line = perfect, to_host: Line = perfect):
        self.etched, self.layouts = etched, Layouts(etched.design)
        self.to_board, self.to_host = to_board, to_host
        self.golden = GoldenChip(etched)
        self.reader = Reader(sizes_to_chip(self.layouts))
        self.sequences: list[list[int]] = []
        self.commands = 0
        self._far, near = os.openpty()
        tty.setraw(near)
        self.port = os.ttyname(near)
        self._near = near
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Board":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.pull()
        self._thread.join()

    def pull(self) -> None:
        """Pull the cable."""
        self._ends.set()
        if self._near >= 0:
            os.write(self._near, b"\0")  # wakes the thread
            os.close(self._near)
            self._near = -1

    def _serve(self) -> None:
        while not self._ends.is_set():
            received = self.to_board(os.read(self._far, 4096))
            for kind, payload in self.reader.read(received):
                answer = self._event(payload) if kind is Kind.COMMAND else self._status()
                if line := self.to_host(answer):
                    os.write(self._far, line)
        os.close(self._far)

    def _event(self, payload: bytes) -> bytes:
        command = self.layouts.command.from_bits(int.from_bytes(payload, "little"))
        self.commands += 1
        best = self.golden.feed(command.slot, command.position, command.token, True)
        if command.position == 0:
            self.sequences.append([])
        self.sequences[-1].append(command.token)
        event = self.layouts.event.const({
            "slot": command.slot,
            "position": command.position,
            "token": best if command.sample else command.token,
            "sampled": command.sample,
        })
        size = -(-self.layouts.event.size // 8)
        return encode(Kind.EVENT, event.as_bits().to_bytes(size, "little"))

    def _status(self) -> bytes:
        fed = [np.array(sequence) for sequence in self.sequences]
        signed = signatures(self.etched, fed, dict.fromkeys(Tap, 0))
        status = STATUS.const({
            "identity": identity(self.etched.design),
            "good": self.reader.good,
            "dropped": self.reader.dropped,
            "busy": 0,
            "signatures": [signed[tap] for tap in Tap],
        })
        return encode(Kind.STATUS, status.as_bits().to_bytes(STATUS.size // 8, "little"))


def chip_on(board: Board, etched: Etched | None = None, timeout: float = 0.2) -> BoardChip:
    return BoardChip(board.port, 115200, (etched or board.etched).design, timeout=timeout)


def story(chip: BoardChip | GoldenChip, count: int = 12) -> list[int | None]:
    """Tokens generated from token 1; the first two steps ask for none."""
    given = [chip.feed(0, position, 1, False) for position in range(2)]
    assert given == [None, None]
    tokens = [1]
    for position in range(2, count):
        token = chip.feed(0, position, tokens[-1], True)
        assert token is not None
        tokens.append(token)
    return [*tokens]


class Damage:
    """Does something to every n-th piece of what comes by, after the first `spare`."""

    def __init__(self, every: int, what: Line, spare: int = 2):
        self.every, self.what, self.count, self.done = every, what, -spare, 0

    def __call__(self, data: bytes) -> bytes:
        self.count += 1
        if self.count <= 0 or self.count % self.every:
            return data
        self.done += 1
        return self.what(data)


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


NOISE = np.random.default_rng(1).bytes(50)
DAMAGES = {
    "flipped bits": flipped,
    "cut frames": lambda data: data[: len(data) // 2],
    "no closing zero": lambda data: data.rstrip(b"\0"),
    "lost frames": lambda data: b"",
    "random bytes": lambda data: NOISE + data,
    "doubled frames": lambda data: data + data,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("way", ["to the board", "to the host"])
def test_damage_changes_no_token(damage, way):
    etched = random_etched()
    line = Damage(5, DAMAGES[damage])
    ways = {"to_board" if way == "to the board" else "to_host": line}
    with Board(etched, **ways) as board, chip_on(board) as chip:
        assert story(chip) == story(GoldenChip(etched))
        assert line.done > 0
        if damage == "doubled frames":
            assert chip.retries == 0
        elif way == "to the board":
            assert chip.retries == line.done  # the first repetition gets through
        else:
            assert chip.retries >= line.done


def test_a_late_answer_is_not_taken_for_a_later_one():
    """Sequences of one token: the next one's event is of the same slot and position."""
    etched = random_etched()
    events: list[bytes] = []

    def late(data: bytes) -> bytes:
        """Lets the first event come only with what follows the repeated command's."""
        events.append(data)
        return {1: b"", 3: events[0] + data}.get(len(events), data)

    with Board(etched) as board, chip_on(board) as chip:
        board.to_host = late
        golden = [GoldenChip(etched).feed(0, 0, token, True) for token in range(8)]
        assert [chip.feed(0, 0, token, True) for token in range(8)] == golden
        assert len(set(golden)) > 1
        assert chip.retries == 1


def test_a_board_that_does_not_answer():
    with Board(random_etched(), to_host=lambda data: b"") as board:
        with pytest.raises(LinkError, match="does not answer"):
            chip_on(board, timeout=0.05)
        assert board.reader.good == 3


def test_another_design():
    with (
        Board(random_etched()) as board,
        pytest.raises(LinkError, match=r"holds another design \([0-9a-f]{8}, not"),
    ):
        chip_on(board, random_etched(ChipConfig(rows=2)))


def test_no_such_port():
    with pytest.raises(LinkError, match=r"cannot be opened \(No such file or directory\)"):
        BoardChip("/dev/no-such-port", 115200, random_etched().design)


def test_a_pulled_cable():
    with Board(random_etched()) as board, chip_on(board) as chip:
        chip.feed(0, 0, 1, True)
        board.pull()
        with pytest.raises(LinkError, match="is gone: was its cable pulled"):
            story(chip)


def test_selftest_passes():
    etched = random_etched(attention_bias=True)
    with Board(etched) as board, chip_on(board, timeout=2) as chip:
        lines = list(selftest(chip, etched))
        assert all(passed for _, passed, _ in lines), lines
        names = [name for name, _, _ in lines]
        assert names == [
            "link", "weight image", "embedding image", "RoPE image", "bias image", "array",
            "drain", "attention", "story",
        ]  # fmt: skip
        assert board.commands == 30 + 16


def test_selftest_can_be_shorter():
    etched = random_etched()
    with Board(etched) as board, chip_on(board, timeout=2) as chip:
        assert all(passed for _, passed, _ in selftest(chip, etched, tokens=3))
        assert board.commands == 3 + 16


def test_selftest_begins_anew_when_a_frame_was_lost():
    etched = random_etched()
    lost = Damage(1000, lambda data: b"", spare=-980)
    with Board(etched, to_board=lost) as board, chip_on(board, timeout=1) as chip:
        assert all(passed for _, passed, _ in selftest(chip, etched))
        assert chip.retries == 1
        assert board.commands > 30 + 16


def test_selftest_finds_another_model():
    etched, other = random_etched(seed=1), random_etched(seed=2)
    with Board(other) as board, chip_on(board, timeout=2) as chip:
        failed = {name for name, passed, _ in selftest(chip, etched) if not passed}
        assert failed >= {"weight image", "embedding image", "array", "drain", "attention", "story"}
        assert "link" not in failed
