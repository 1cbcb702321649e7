"""Boards without the boards: the host software on the UART of a board's simulated top."""

import sys

import numpy as np
import pytest
import serial

from intaglio.fpga.boards import BOARDS
from intaglio.fpga.link import BoardChip
from intaglio.fpga.simulate import SimulatedBoard
from intaglio.golden.chip import GoldenChip
from intaglio.hw.config import ChipConfig
from intaglio.sim import cli
from intaglio.tb.models import random_etched

CHIP = ChipConfig(outputs=2, depth=2, kv_lanes=1, window=4)
PATIENCE = 60.0
"""Seconds for which the simulated chip may compute on a busy machine."""


@pytest.fixture(scope="module", params=["ulx3s-85f", "icebreaker"])
def board(request):
    """Data of a board, the model that is etched, and the port of its running simulation."""
    data, etched = BOARDS[request.param], random_etched(CHIP, layers=1)
    with SimulatedBoard(data, etched) as simulated:
        yield data, etched, simulated.port


def assert_tokens_are_golden(chip: BoardChip, golden: GoldenChip, first: int) -> None:
    """A sequence from its first token to the end of the context, each token fed back."""
    token = first
    for position in range(golden.design.context):
        expected = golden.feed(0, position, token, True)
        assert chip.feed(0, position, token, True) == expected
        token = expected


def test_tokens_are_golden(board):
    data, etched, port = board
    with BoardChip(port, data.baud, etched.design, timeout=PATIENCE) as chip:
        assert_tokens_are_golden(chip, GoldenChip(etched), 3)
        assert chip.retries == 0
        assert chip.status().dropped == 0


def test_hosts_come_and_go(board):
    data, etched, port = board
    golden = GoldenChip(etched)
    for first in (5, 7):
        with BoardChip(port, data.baud, etched.design, timeout=PATIENCE) as chip:
            assert chip.feed(0, 0, first, True) == golden.feed(0, 0, first, True)


def test_noise_does_no_harm(board):
    """10^5 random bytes: frames are dropped, and the chip goes on as if nothing had been."""
    data, etched, port = board
    noise = np.random.default_rng(1).integers(0, 256, 100_000, np.uint8).tobytes()
    with serial.Serial(port, data.baud, timeout=1, exclusive=True) as line:
        for at in range(0, len(noise), 1000):
            line.write(noise[at : at + 1000])
            line.read(line.in_waiting)
        line.flush()
    with BoardChip(port, data.baud, etched.design, timeout=PATIENCE) as chip:
        assert chip.status().dropped > 300
        assert_tokens_are_golden(chip, GoldenChip(etched), 11)


def test_pulled_cable_is_one_sentence():
    data, etched = BOARDS["ulx3s-85f"], random_etched(CHIP, layers=1)
    with SimulatedBoard(data, etched) as simulated:
        chip = BoardChip(simulated.port, data.baud, etched.design, timeout=PATIENCE)
    with pytest.raises(Exception, match="cable"):
        chip.feed(0, 0, 3, True)


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["intaglio", *arguments])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    code = exited.value.code
    assert isinstance(code, int)
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--board", "ulx4s"], "Unknown board 'ulx4s': choose one of ulx3s-85f"),
        (["--simulate"], "--port and --simulate belong to a board"),
        (["--port", "/dev/null"], "--port and --simulate belong to a board"),
        (["--board", "ulx3s-85f", "--backend", "golden"], "Either --board or --backend"),
        (["--board", "ulx3s-85f", "--simulate", "--port", "x"], "simulated board has no --port"),
        (["--board", "ulx3s-85f", "--port", "/dev/no-such-port"], "/dev/no-such-port"),
        (["--board", "ulx3s-85f"], "No ULX3S with LFE5U-85F is on USB (0403:6015)"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, monkeypatch, capsys):
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [])
    code, out, err = run(monkeypatch, capsys, "run", *arguments)
    assert (code, out) == (2, "")
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err
