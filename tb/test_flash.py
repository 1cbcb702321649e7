"""Loading boards: every way in which it fails has its sentence; and boards found on USB."""

import sys
from pathlib import Path

import pytest

from intaglio.fpga import usb
from intaglio.fpga.boards import BOARDS
from intaglio.fpga.build import write_design
from intaglio.fpga.doctor import examine_boards
from intaglio.hw.config import CHIPS
from intaglio.sim import cli
from intaglio.tb.models import random_etched


class Bench:
    """A build for a ULX3S, a loader that does what it is told, and a USB of our own."""

    def __init__(self, folder: Path, monkeypatch, capsys):
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        self.build = folder / "build"
        self.build.mkdir()
        write_design(BOARDS["ulx3s-85f"], random_etched().design, self.build)
        (self.build / "chip.bit").write_text("bits")
        self.loader("exit 0")
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setattr(usb, "DEVICES", folder / "devices")
        monkeypatch.setattr(usb, "NODES", folder / "bus")

    def loader(self, script: str) -> None:
        """Have openFPGALoader run a line of shell."""
        program = self.folder / "openFPGALoader"
        program.write_text(f'#!/bin/sh\necho "$@" >> {self.folder}/called\n{script}\n')
        program.chmod(0o755)

    def plug_in(self, vendor: str, product: str, allowed: bool = True) -> None:
        """Have a device on USB, which we may open or not."""
        device, node = self.folder / "devices" / "1-1", self.folder / "bus" / "001" / "005"
        for parent in (device, node.parent):
            parent.mkdir(parents=True)
        files = {"idVendor": vendor, "idProduct": product, "busnum": "1", "devnum": "5"}
        for name, text in files.items():
            (device / name).write_text(f"{text}\n")
        node.touch()
        # Modes of files mean nothing to root, who may run the tests.
        self.monkeypatch.setattr(usb.Bridge, "allowed", property(lambda bridge: allowed))

    def flash(self, *options: str, board: str = "ulx3s-85f") -> tuple[int, str]:
        """Exit code of the command, and its stderr as one line."""
        arguments = ["intaglio", "flash", "--board", board, *options, str(self.build)]
        self.monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as exited:
            cli.main()
        code = exited.value.code
        assert isinstance(code, int)
        return code, " ".join(self.capsys.readouterr().err.split())


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys) -> Bench:
    return Bench(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [((), "--board ulx3s {}"), (("--persist",), "--board ulx3s --write-flash {}")],
)
def test_loads(bench, options, arguments):
    code, said = bench.flash(*options)
    assert code == 0
    assert "is loaded" in said
    called = (bench.folder / "called").read_text().splitlines()[-1]
    assert called == arguments.format(bench.build / "chip.bit")


def test_weights_go_to_the_flash_first(bench):
    """A board that fills its memory from the flash gets both, and nothing if one is missing."""
    design = random_etched(CHIPS["shared"]).design
    write_design(BOARDS["icebreaker"], design, bench.build)
    memory, bitstream = bench.build / "memory.bin", bench.build / "chip.bin"
    bitstream.write_text("bits")
    code, said = bench.flash(board="icebreaker")
    assert code == 2
    assert f"{memory} is missing" in said
    memory.write_text("words")
    code, said = bench.flash(board="icebreaker")
    assert code == 0
    loaded = (bench.folder / "called").read_text().splitlines()
    assert [line for line in loaded if "ice40" in line] == [
        f"--board ice40_generic --offset 0x100000 --file-type bin {memory}",
        f"--board ice40_generic {bitstream}",
    ]


CABLE = 'echo "unable to open ftdi device: -3 (device not found)"; echo "JTAG init failed"; exit 1'


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (CABLE, "No ULX3S with LFE5U-85F is on USB (0403:6015): is it plugged in"),
        ('echo "Error: Failed to claim cable"; exit 1', "No ULX3S with LFE5U-85F is on USB"),
        (
            'echo "error while loading shared libraries: libusb-1.0.so.0" >&2; exit 127',
            "two libraries of the system: apt-get install libusb-1.0-0 libftdi1-2",
        ),
        ('echo; echo "Error: wrong IDCODE"; exit 3', "exit code 3: Error: wrong IDCODE"),
        ("exit 1", "exit code 1: it said nothing"),
    ],
)
def test_failures(bench, script, sentence):
    bench.loader(script)
    code, said = bench.flash()
    assert code == 2
    assert sentence in said


def test_no_permission(bench):
    bench.loader(CABLE)
    bench.plug_in("0403", "6015", allowed=False)
    code, said = bench.flash()
    assert code == 2
    assert "no permission" in said
    assert 'ATTRS{idVendor}=="0403", ATTRS{idProduct}=="6015"' in said


def test_board_that_does_not_open_though_it_may(bench):
    bench.loader(CABLE)
    bench.plug_in("0403", "6015")
    code, said = bench.flash()
    assert code == 2
    assert "exit code 1: JTAG init failed" in said


def test_what_is_to_be_loaded_is_examined_first(bench):
    """openFPGALoader would blame the cable."""
    bench.loader(CABLE)
    code, said = bench.flash(board="ulx3s-25f")
    assert code == 2
    assert "is for ulx3s-85f, not for ulx3s-25f" in said
    (bench.build / "chip.bit").unlink()
    code, said = bench.flash()
    assert code == 2
    assert "chip.bit is missing" in said
    for damaged in (b"{}", b"no JSON", b"[]", b'{"chip": {}, "model": {}}', b"\xff"):
        (bench.build / "design.json").write_bytes(damaged)
        code, said = bench.flash()
        assert code == 2
        assert "is damaged or of another version" in said
    (bench.build / "design.json").unlink()
    code, said = bench.flash()
    assert code == 2
    assert "holds no build" in said
    assert not (bench.folder / "called").exists()


def test_doctor_finds_boards(bench):
    bench.plug_in("0403", "6010", allowed=False)
    found = {tool.name: tool for tool in examine_boards()}
    board = found["USB 0403:6010"]
    assert "icebreaker" in board.needed_for
    assert not board.found
    assert 'ATTRS{idProduct}=="6010"' in board.advice
    assert found["openFPGALoader"].found == str(bench.folder / "openFPGALoader")
    assert found["libusb, libftdi"].found
    bench.loader("exit 127")
    assert not {tool.name: tool for tool in examine_boards()}["libusb, libftdi"].found
