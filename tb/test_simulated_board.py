"""Boards without the boards: the host software on the UART of a board's simulated top."""

import json
import re
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import serial

from intaglio.fpga import cli as board_cli
from intaglio.fpga.boards import BOARDS, Board
from intaglio.fpga.link import BoardChip, LinkError
from intaglio.fpga.simulate import SimulatedBoard, cell_models, top_text
from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import Etched, etch
from intaglio.golden.images import images
from intaglio.golden.load import DEFAULT_MODEL
from intaglio.hw.config import CHIPS, Design
from intaglio.hw.protocol import Counter
from intaglio.hw.shared.memory_map import weight_words
from intaglio.sim import cli
from intaglio.sim.usage import difference
from intaglio.tb.models import random_checkpoint

CHIP = "shared"
CHECKPOINT = replace(
    random_checkpoint(layers=1, vocab=512), tokenizer=DEFAULT_MODEL / "tokenizer.json"
)
LARGE = random_checkpoint(dim=64, hidden=700, vocab=512)
ETCHED = {
    name: etch(checkpoint, Design(checkpoint.config, CHIPS[chip]))
    for name, checkpoint, chip in (
        ("ulx3s-85f", CHECKPOINT, "tiny"),
        ("icebreaker", CHECKPOINT, CHIP),
        ("icebreaker-large", LARGE, CHIP),
    )
}
"""An array in block RAM; units in turn, weights in SPRAM; the same, weights from the flash."""
NOISE = 100_000
"""Random bytes."""
PATIENCE = 60.0
"""Seconds for which the simulated chip may compute on a busy machine."""


def built_once(name: str) -> pytest.MarkDecorator:
    """Has all tests of a board run where its simulation was built."""
    return pytest.mark.xdist_group(name)


@pytest.fixture(scope="module", params=[pytest.param(n, marks=built_once(n)) for n in ETCHED])
def board(request):
    """Data of a board, and the port of its running simulation."""
    data = BOARDS[request.param]
    with SimulatedBoard(data, ETCHED[data.name]) as simulated:
        yield data, simulated.port


def connect(data: Board, port: str) -> BoardChip:
    return BoardChip(port, data.baud, ETCHED[data.name].design, timeout=PATIENCE)


def assert_tokens_are_golden(chip: BoardChip, etched: Etched, first: int) -> None:
    """A sequence from its first token to the end of the context, each token fed back."""
    token, golden = first, GoldenChip(etched)
    for position in range(etched.design.context):
        expected = golden.feed(0, position, token, True)
        assert expected is not None
        assert chip.feed(0, position, token, True) == expected
        token = expected


def test_tokens_are_golden(board):
    data, port = board
    with connect(data, port) as chip:
        assert_tokens_are_golden(chip, ETCHED[data.name], 3)
        assert chip.retries == 0
        assert chip.status().dropped == 0


def test_a_generation_streams(board):
    """One frame for all tokens of the context; one that is left early does not disturb another."""
    data, port = board
    last = ETCHED[data.name].design.context - 1

    def assert_golden(chip: BoardChip, first: int, count: int) -> None:
        made, golden = chip.generate(0, 0, first, last), GoldenChip(ETCHED[data.name])
        assert list(islice(made, count)) == list(golden.generate(0, 0, first, count - 1))

    with connect(data, port) as chip:
        before = chip.status().good
        assert_golden(chip, 9, last + 1)
        assert chip.status().good == before + 2
        assert_golden(chip, 3, 4)
        assert_golden(chip, 5, last + 1)
        assert chip.retries == 0


def test_hosts_come_and_go(board):
    data, port = board
    golden = GoldenChip(ETCHED[data.name])
    for first in (5, 7):
        with connect(data, port) as chip:
            assert chip.feed(0, 0, first, True) == golden.feed(0, 0, first, True)


def test_counters_over_the_link(board):
    data, port = board
    design = ETCHED[data.name].design
    with connect(data, port) as chip:
        before = chip.counters
        for position in range(5):
            chip.feed(0, position, 3, True)
        counted = difference(before, chip.counters)
    assert counted[Counter.TOKENS] == 5
    assert counted[Counter.WORDS] == 5 * weight_words(design) < counted[Counter.CYCLES]
    if not design.shared:
        assert counted[Counter.HEAD] == 5
        assert counted[Counter.KEYS] == design.model.layers * design.lane_groups * sum(range(1, 6))


def test_noise_does_no_harm(board):
    """Random bytes: frames are dropped, and the chip goes on as if nothing had been."""
    data, port = board
    noise = np.random.default_rng(1).integers(0, 256, NOISE, np.uint8).tobytes()
    with serial.Serial(port, data.baud, timeout=1, exclusive=True) as line:
        for at in range(0, len(noise), 1000):
            line.write(noise[at : at + 1000])
            line.read(line.in_waiting)
        line.flush()
    with connect(data, port) as chip:
        assert chip.status().dropped > NOISE // 500
        assert_tokens_are_golden(chip, ETCHED[data.name], 11)


@built_once("icebreaker")
def test_pulled_cable_is_one_sentence():
    data = BOARDS["icebreaker"]
    with SimulatedBoard(data, ETCHED[data.name]) as simulated:
        chip = connect(data, simulated.port)
    with chip, pytest.raises(LinkError, match="was its cable pulled"):
        chip.feed(0, 0, 3, True)


@pytest.fixture
def only_ours(monkeypatch):
    """Whatever model a command line names, it gets ours."""
    monkeypatch.setattr(cli, "load", lambda model: CHECKPOINT)
    monkeypatch.setattr(board_cli, "load", lambda model: CHECKPOINT)


@built_once("icebreaker")
def test_run_on_a_board_writes_what_golden_writes(only_ours, intaglio):
    arguments = ("run", "--chip", CHIP, "--prompt", "Once", "-n", "20", "--json")
    answers = []
    for where in (["--board", "icebreaker", "--simulate"], ["--backend", "golden"]):
        code, out, err = intaglio(*arguments, *where)
        assert code == 0, err
        answers.append(json.loads(out))
    on_board, golden = answers
    assert on_board["token_ids"] == golden["token_ids"]
    assert on_board["text"] == golden["text"]
    assert on_board["backend"] == "icebreaker, simulated"
    assert "tokens_per_second" not in on_board


@built_once("icebreaker")
def test_selftest_passes(only_ours, intaglio):
    code, out, err = intaglio("selftest", "--chip", CHIP, "--board", "icebreaker", "--simulate")
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) >= 6
    assert all(line.startswith("pass  ") for line in lines)


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
def test_mistakes_are_one_sentence(arguments, sentence, monkeypatch, only_ours, intaglio):
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [])
    code, out, err = intaglio("run", "--context", "24", *arguments)
    assert (code, out) == (2, "")
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize("rows", [1, 2])
def test_multipliers_are_blocks(rows):
    """What is simulated, and what is built, has the vendor's multiplier for every product."""
    chip = replace(CHIPS["tiny"], rows=rows)
    etched = etch(CHECKPOINT, Design(CHECKPOINT.config, chip))
    top = top_text(BOARDS["ulx3s-85f"], etched, images(etched))
    blocks = re.findall(r"MULT18X18D #\([^;]*?\) multiplier_(\w+) \(", top)
    floats, tables = blocks.count("significands"), blocks.count("chord")
    squares = sum(name.startswith("square") for name in blocks)
    assert floats == 8 * rows + 2  # drain and norm; attention's division
    assert tables == 3 * rows + 3  # sigmoid and roots; attention's three
    assert squares == 2 * rows  # of the norm, of a pair
    assert len(blocks) - floats - tables - squares == rows * chip.outputs * chip.depth


def test_models_of_cells_are_those_of_yosys():
    top = "  SB_SPRAM256KA #(\n  SB_IO #(\n  SB_LUT4 #(\n"
    text = cell_models(top)
    assert text.count("endmodule") == 2
    assert "module SB_SPRAM256KA (" in text
    assert "module SB_LUT4 (" in text
    assert cell_models("  LUT4 (\n") == ""
