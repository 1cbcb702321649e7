# amaranth: UnusedElaboratable=no
"""Models into placed designs: found column by column, exchanged, read back from the bitstream."""

import json
import shutil

import numpy as np
import pytest

from intaglio.fpga.boards import BOARDS
from intaglio.fpga.bram import ROWS, TEXTS, Placed, bits_of, locate, read, swap
from intaglio.fpga.build import etch_anew
from intaglio.fpga.etch import etch_into, map_columns, padded, random_contents
from intaglio.fpga.place import BITSTREAM, PLACED, pack, place
from intaglio.golden.checkpoint import CheckpointError
from intaglio.golden.images import images
from intaglio.hw.formats import ConfigError
from intaglio.sim.tools import ToolError
from intaglio.sim.verilog import image_widths
from intaglio.tb.models import random_checkpoint, random_etched
from intaglio.tb.roms import ROMs

SHAPES = {
    "ulx3s-25f": {"wide": (72, 1024), "odd": (40, 512), "deep": (9, 2048), "deeper": (2, 8192)},
    "icebreaker": {"wide": (36, 256), "odd": (11, 512), "deep": (4, 1024), "deeper": (2, 2048)},
}
"""Memories for every width of a block RAM."""


def silent(stage: str) -> None:
    """Show nothing."""


def blank(family: str, blocks: int) -> Placed:
    """Text of so many blocks, all zero."""
    form = TEXTS[family]
    word = "0" * -(-form.bits // 4)
    names = [f".bram_init {n}" if family == "ecp5" else f".ram_data 6 {n}" for n in range(blocks)]
    lines = [f"{name}\n" + f"{' '.join([word] * form.words)}\n" * form.lines for name in names]
    return Placed(family, "something else\n" + "\n".join(lines))


def random_bits(seed: int, words: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (words, width)).astype(np.uint8)


@pytest.mark.parametrize("family", ["ecp5", "ice40"])
class TestText:
    """The exchange alone, on text that is made up."""

    def test_text_comes_back(self, family):
        placed = blank(family, 3)
        for bits in placed.blocks.values():
            bits[:] = np.random.default_rng(1).integers(0, 2, len(bits))
        assert Placed(family, placed.text()).text() == placed.text()
        assert all(
            (Placed(family, placed.text()).blocks[name] == bits).all()
            for name, bits in placed.blocks.items()
        )

    def placed(self, family, memory):
        """`memory` in the widest words that the family has, one block for each chunk."""
        form, rows = TEXTS[family], ROWS[family]
        width = memory.shape[1]
        placed = blank(family, len(memory) // rows + 1)
        for chunk in range(len(memory) // rows):
            columns = form.columns[-width:]  # the widest come last
            for bit in range(width):
                words = memory[chunk * rows : (chunk + 1) * rows, bit]
                placed.blocks[list(placed.blocks)[chunk + 1]][columns[bit]] = words
        return placed

    def test_memory_is_exchanged(self, family):
        old, new = (random_bits(seed, 3 * ROWS[family], 16) for seed in (1, 2))
        placed = self.placed(family, old)
        columns = locate(placed, {"rom": old})
        assert len(columns) == 3 * 16
        swap(placed, columns, {"rom": new})
        assert placed.text() == self.placed(family, new).text()
        assert (read(placed, columns, {"rom": new.shape})["rom"] == new).all()

    def test_other_memory_is_not_found(self, family):
        old, new = (random_bits(seed, ROWS[family], 16) for seed in (1, 2))
        with pytest.raises(ToolError, match=r"16 of 16 columns .* bit 0 of rom from word 0"):
            locate(self.placed(family, old), {"rom": new})


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in SHAPES]
)
def build(request, tmp_path_factory):
    """A placed build of ROMs: its board's name, its folder."""
    board, folder = BOARDS[request.param], tmp_path_factory.mktemp(request.param)
    core = ROMs(SHAPES[request.param], seed=1)
    place(board, core, folder, silent)
    map_columns(folder, board.device.family, core.bits)
    return request.param, folder


def test_exchanged_is_what_a_build_makes(build, tmp_path):
    """Another placement with the new words from the start gives the same bitstream."""
    name, folder = build
    board = BOARDS[name]
    family = board.device.family
    new = ROMs(SHAPES[name], seed=2)
    words = etch_into(folder, family, new.bits)
    assert words == sum(depth for _, depth in SHAPES[name].values())

    place(board, new, tmp_path, silent)
    pack(tmp_path, "top")
    assert (folder / f"chip.{PLACED[family]}").read_text() == (
        tmp_path / f"top.{PLACED[family]}"
    ).read_text()
    assert (folder / f"chip.{BITSTREAM[family]}").read_bytes() == (
        tmp_path / f"top.{BITSTREAM[family]}"
    ).read_bytes()


def test_wrong_map_is_refused(build, tmp_path):
    name, folder = build
    family = BOARDS[name].device.family
    here = shutil.copytree(folder, tmp_path / "build")
    (here / f"chip.{BITSTREAM[family]}").write_text("old")
    bits = ROMs(SHAPES[name], seed=3).bits

    known = json.loads((here / "columns.json").read_text())
    with pytest.raises(ToolError, match="other shapes"):
        etch_into(here, family, {name: memory[:, :-1] for name, memory in bits.items()})
    # A column that is said to be elsewhere: the words that are read back tell.
    known["columns"][0][:2] = known["columns"][1][:2]
    (here / "columns.json").write_text(json.dumps(known))
    with pytest.raises(ToolError):
        etch_into(here, family, bits)
    (here / "columns.json").write_text(json.dumps({**known, "placed": "another"}))
    with pytest.raises(ToolError, match="does not belong to the design that is placed"):
        etch_into(here, family, bits)
    assert not (here / f"chip.{BITSTREAM[family]}").exists()


def test_random_words_have_the_shape_of_the_model():
    etched = random_etched(attention_bias=True)
    contents = padded(images(etched), "ecp5")
    made = random_contents(etched.design, contents, seed=1)
    for name, width in image_widths(etched.design).items():
        words, placeholder = getattr(contents, name), getattr(made, name)
        assert len(placeholder) == len(words)
        assert len(words) % ROWS["ecp5"] == 0
        ones = bits_of(placeholder, width).mean(axis=0)
        assert ((ones > 0.3) & (ones < 0.7)).all()
    assert (made.inverse_dim, made.eps) == (contents.inverse_dim, contents.eps)


class TestOtherModels:
    """What is refused before anything is built: the folder holds no more than its design."""

    @pytest.fixture
    def folder(self, tmp_path):
        from intaglio.fpga.build import write_design

        write_design(BOARDS["ulx3s-85f"], random_etched().design, tmp_path)
        return tmp_path

    @pytest.mark.parametrize(
        ("shape", "here", "there"),
        [
            ({"hidden": 34}, "hidden 34", "hidden 48"),
            ({"norm_eps": 1e-6}, "norm eps 1e-06", "norm eps 1e-05"),
            ({"rope_theta": 500.0}, "rope theta 500.0", "rope theta 10000.0"),
            ({"mlp_bias": True}, "mlp bias True", "mlp bias False"),
        ],
    )
    def test_other_shape_is_refused(self, folder, shape, here, there):
        with pytest.raises(CheckpointError) as refused:
            etch_anew(folder, random_checkpoint(**shape), folder / "new", silent)
        model, build = str(refused.value).split(", the build has ")
        assert here in model
        assert there in build
        assert "dim 32" in model
        assert "dim 32" in build

    def test_folder_without_a_build(self, folder, tmp_path):
        with pytest.raises(ConfigError, match="no placed design"):
            etch_anew(folder, random_checkpoint(seed=2), folder / "new", silent)
        with pytest.raises(ConfigError, match="holds no build"):
            etch_anew(tmp_path / "nothing", random_checkpoint(), folder / "new", silent)
