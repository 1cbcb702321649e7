"""The host's end of the link, against a board that is golden behind a serial port."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest
import serial

from intaglio.fpga import link
from intaglio.fpga.link import BoardChip, LinkError
from intaglio.fpga.selftest import selftest
from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import Etched
from intaglio.golden.frames import Reader, encode
from intaglio.golden.signature import signatures
from intaglio.hw.config import ChipConfig
from intaglio.hw.frames import STATUS, command_layout, sizes_to_chip
from intaglio.hw.layouts import Layouts
from intaglio.hw.protocol import Kind, Tap, identity
from intaglio.tb.models import random_etched

Line = Callable[[bytes], bytes]
"""What a cable makes of the bytes that go through it."""


def perfect(data: bytes) -> bytes:
    return data


class Board:
    """Speaks like a chip on a UART; it is the serial port that the host opens, and its clock.

    `to_board` and `to_host` are the two lines of the cable. It plays one sequence in slot 0.
    """

    def __init__(self, etched: Etched, to_board: Line = perfect, to_host: Line = perfect):
        self.etched, self.layouts = etched, Layouts(etched.design)
        self.to_board, self.to_host = to_board, to_host
        self.golden = GoldenChip(etched)
        self.reader = Reader(sizes_to_chip(self.layouts))
        self.sequences: list[list[int]] = []
        self.commands = 0
        self.time = 0.0
        self.pulled = False
        self._generation: Iterator[bytes] = iter([])
        self._sent = b""
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> "Board":
        self._patch.setattr(serial, "Serial", lambda *_, **__: self)
        self._patch.setattr(link, "monotonic", lambda: self.time)
        return self

    def __exit__(self, *_) -> None:
        self._patch.undo()

    def set_low_latency_mode(self, low: bool) -> None:
        """As other ports of pyserial."""

    def close(self) -> None:
        """As other ports of pyserial."""

    @property
    def in_waiting(self) -> int:
        return len(self._sent)

    def write(self, data: bytes) -> None:
        """Whatever frame comes: an event that is being computed is the last of its generation."""
        self._refuse_if_pulled()
        for kind, payload in self.reader.read(self.to_board(data)):
            last = next(self._generation, b"")
            self._say(last)
            command = kind is Kind.COMMAND
            answers = self._events(payload, not last) if command else iter([self._status()])
            self._say(next(answers))
            self._generation = answers

    def read(self, size: int) -> bytes:
        """Time passes while nothing comes."""
        self._refuse_if_pulled()
        if not self._sent:
            self._say(next(self._generation, b""))
        if not self._sent:
            self.time += link.POLL
        received, self._sent = self._sent[:size], self._sent[size:]
        return received

    def _say(self, frame: bytes) -> None:
        if frame:
            self._sent += self.to_host(frame)

    def _refuse_if_pulled(self) -> None:
        if self.pulled:
            raise serial.SerialException("the device is not there")

    def run_ahead(self, room: int) -> None:
        """The generation ends while the host is away; its system keeps `room` bytes and no more."""
        for event in self._generation:
            self._say(event)
        self._sent = self._sent[:room]

    def _events(self, payload: bytes, alone: bool) -> Iterator[bytes]:
        """The event of a command, and those of the generation that it begins if it is `alone`."""
        layout = command_layout(self.layouts)
        frame = layout.from_bits(int.from_bytes(payload, "little"))
        command, token = frame.command, frame.command.token
        self.commands += 1
        until = frame.until if alone and command.sample else 0
        for position in range(command.position, max(command.position, until) + 1):
            (best,) = self.golden.generate(command.slot, position, token, position)
            if position == 0:
                self.sequences.append([])
            self.sequences[-1][position:] = [token]
            token = best if command.sample else token
            event = self.layouts.event.const({
                "slot": command.slot,
                "position": position,
                "token": token,
                "sampled": command.sample,
            })
            size = -(-self.layouts.event.size // 8)
            yield encode(Kind.EVENT, event.as_bits().to_bytes(size, "little"))

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


def chip_on(board: Board, etched: Etched | None = None) -> BoardChip:
    return BoardChip("/dev/board", 115200, (etched or board.etched).design)


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


def generated(chip: BoardChip | GoldenChip, count: int = 12) -> list[int]:
    """The same, but the chip goes on by itself after the prompt."""
    for position in range(2):
        chip.feed(0, position, 1, False)
    return [1, *chip.generate(0, 2, 1, count - 1)]


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
@pytest.mark.parametrize("way", ["to_board", "to_host"])
@pytest.mark.parametrize("told", [story, generated])
def test_damage_changes_no_token(damage, way, told):
    """Whether each token is commanded, or the chip goes on by itself."""
    etched = random_etched()
    line = Damage(3 if (told, way) == (generated, "to_board") else 5, DAMAGES[damage])
    with Board(etched, **{way: line}) as board, chip_on(board) as chip:
        assert told(chip) == story(GoldenChip(etched))
        assert line.done > 0
        # The second of two commands ends the generation of the first.
        harmless = damage == "doubled frames" and (told, way) != (generated, "to_board")
        assert (chip.retries == 0) == harmless


def test_a_generation_is_one_command():
    etched = random_etched()
    with Board(etched) as board, chip_on(board) as chip:
        assert generated(chip, 24) == story(GoldenChip(etched), 24)
        assert board.commands == 3
        assert board.reader.good == 4  # and the query of the beginning
        assert chip.retries == 0


def test_a_generation_may_be_left():
    """What is asked next is answered, and not by what the chip still says of the generation."""
    etched = random_etched()
    with Board(etched) as board, chip_on(board) as chip:
        golden = list(GoldenChip(etched).generate(0, 0, 3, 23))
        assert golden[4] != golden[3]
        for first in (3, 5, 3):
            expected = list(GoldenChip(etched).generate(0, 0, first, 23))
            made = chip.generate(0, 0, first, 23)
            assert [next(made) for _ in range(4)] == expected[:4]
        assert chip.feed(0, 4, golden[3], True) == golden[4]
        assert list(islice(made, 4)) == golden[4:8]  # as if nothing had been
        assert not chip.status().busy
        assert list(made) == golden[8:]
        assert chip.retries == 0


def test_a_host_that_takes_nothing_for_a_while():
    """The chip does not wait; events that were lost are computed again."""
    etched = random_etched()
    golden = list(GoldenChip(etched).generate(0, 0, 3, 23))
    # An event that is cut spoils the status behind it as well.
    for room, retries in ((1000, 0), (50, 2), (0, 1)):
        with Board(etched) as board, chip_on(board) as chip:
            made = chip.generate(0, 0, 3, 23)
            tokens = list(islice(made, 3))
            board.run_ahead(room)
            assert tokens + list(made) == golden
            assert chip.retries == retries
            assert board.commands == 1 + (retries > 0)


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
            chip_on(board)
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
        board.pulled = True
        with pytest.raises(LinkError, match="is gone: was its cable pulled"):
            story(chip)


def test_selftest_passes():
    etched = random_etched(attention_bias=True)
    with Board(etched) as board, chip_on(board) as chip:
        lines = list(selftest(chip, etched))
        assert all(passed for _, passed, _ in lines), lines
        names = [name for name, _, _ in lines]
        assert names == [
            "link", "weight image", "embedding image", "RoPE image", "bias image", "array",
            "drain", "attention", "story",
        ]  # fmt: skip
        assert board.commands == 30 + 1


def test_half_of_all_questions_lost_is_said():
    """A status that was asked for twice is not trusted, but not asked for for ever."""
    etched = random_etched()
    lost = Damage(2, lambda data: b"", spare=2)
    said = pytest.raises(LinkError, match="Too much is lost")
    with Board(etched, to_board=lost) as board, chip_on(board) as chip, said:
        list(iter(chip.status, None))


def test_selftest_can_be_shorter():
    etched = random_etched()
    with Board(etched) as board, chip_on(board) as chip:
        assert all(passed for _, passed, _ in selftest(chip, etched, tokens=3))
        assert board.commands == 3 + 1


def test_selftest_begins_anew_when_a_frame_was_lost():
    etched = random_etched()
    lost = Damage(1000, lambda data: b"", spare=-980)
    with Board(etched, to_board=lost) as board, chip_on(board) as chip:
        assert all(passed for _, passed, _ in selftest(chip, etched))
        assert chip.retries == 1
        assert board.commands > 30 + 1


def test_selftest_finds_another_model():
    etched, other = random_etched(seed=1), random_etched(seed=2)
    with Board(other) as board, chip_on(board) as chip:
        failed = {name for name, passed, _ in selftest(chip, etched) if not passed}
        assert failed >= {"weight image", "embedding image", "array", "drain", "attention", "story"}
        assert "link" not in failed
