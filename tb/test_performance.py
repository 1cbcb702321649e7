"""Measuring, tracing and predicting: what they say must agree with each other and with counting."""

import json
from itertools import pairwise

import pytest

from intaglio.golden.etch import etch
from intaglio.golden.load import DEFAULT_MODEL, load
from intaglio.hw.config import ChipConfig, Design, Linear
from intaglio.hw.formats import ConfigError
from intaglio.sim import trace
from intaglio.sim.bench import bench, contexts_of, ladder
from intaglio.sim.estimate import estimate_decode, roof
from intaglio.sim.gemm import multiply
from intaglio.sim.simulator import SimulatedChip
from intaglio.tb.models import SHARED, needs_shared, random_etched
from intaglio.tb.test_counters import CHIP

SMALL_MODEL = DEFAULT_MODEL.with_name("small_model")
STORIES = SHARED / "models" / "stories260K" / "stories260K.bin"
CONFIGURATIONS = {
    "one row": ChipConfig(outputs=16, groups=2, context=64),
    "rows, engines": ChipConfig(rows=2, outputs=8, groups=3, engines=2, context=64),
    "narrow": ChipConfig(outputs=4, depth=2, groups=2, kv_lanes=1, window=16, context=64),
}
WORST = 0.02
"""How far a prediction may be off."""


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_prediction(name):
    """Every point of the bench is predicted, and none is faster than its roof."""
    chip, checkpoint = CONFIGURATIONS[name], load(SMALL_MODEL)
    design = Design(checkpoint.config, chip)
    points = list(bench(SimulatedChip(etch(checkpoint, design)), contexts_of(design, "8,40")))
    assert {p.kind for p in points} == {"decode", "prefill", "mixed"}
    assert [p.sequences for p in points if p.kind == "decode"] == 2 * ladder(design.slots)
    errors = {
        (p.kind, p.sequences, p.context): p.estimated / p.cycles_per_token - 1 for p in points
    }
    assert max(map(abs, errors.values())) < WORST, errors
    for p in points:
        if p.kind == "decode":
            assert p.cycles_per_token >= 0.999 * roof(design, p.sequences, p.context)


@needs_shared
def test_shared_part_is_busy():
    """stories260K, one row, 128 multipliers, four groups, up to context 128: over 90 % useful."""
    checkpoint = load(STORIES)
    design = Design(checkpoint.config, ChipConfig(groups=4, context=128))
    chip = SimulatedChip(etch(checkpoint, design))
    points = list(bench(chip, contexts_of(design, "24")))
    [full] = [p for p in points if p.kind == "decode" and p.sequences == 4]
    assert full.usage.array.utilisation > 0.9
    assert full.usage.array.utilisation > full.usage.attention.utilisation


def test_shapes_too_large_to_simulate(intaglio, tmp_path):
    """A config.json is enough; a model of 70 billion weights on a large chip."""
    config = {
        "model_type": "llama", "hidden_act": "silu", "hidden_size": 8192,
        "intermediate_size": 28672, "vocab_size": 128256, "num_hidden_layers": 80,
        "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    code, out, _ = intaglio(
        "estimate", path, "--rows", "16", "--outputs", "1024", "--groups", "2", "--engines", "8",
        "--context", "512", "--contexts", "400", "--json",
    )  # fmt: skip
    assert code == 0
    points = json.loads(out)["points"]
    full = next(p for p in points if p["kind"] == "decode" and p["sequences"] == 32)
    assert full["array_utilisation"] > 0.95
    for p in points:
        if p["kind"] == "decode":
            assert p["cycles_per_token"] >= p["roof_cycles_per_token"]


def test_more_sequences_never_cost_more():
    """Adding a sequence to an idle group makes a token no dearer."""
    design = random_etched(ChipConfig(groups=4, outputs=8)).design
    costs = [estimate_decode(design, n, 12).cycles_per_token for n in (1, 2, 3, 4)]
    assert costs == sorted(costs, reverse=True)


def test_matrix_products():
    """Eight products of 64 x 64 x 64 in a row: only the first block may wait for its adders."""
    measured = multiply(ChipConfig(rows=8, outputs=8))
    assert measured.multipliers == 256
    assert measured.ideal == 8 * 64**3 // 256
    assert measured.steady > 0.999
    assert measured.ideal / measured.results > 0.961


def test_matrix_products_that_do_not_fit():
    with pytest.raises(ConfigError, match="divide 64"):
        multiply(ChipConfig(rows=3))


@pytest.fixture(scope="module")
def recorded() -> tuple[Design, list[trace.Slice]]:
    """Two tokens of each of four sequences."""
    chip = SimulatedChip(random_etched(CHIP))
    return chip.design, trace.record(chip, sequences=4, context=3, tokens=2)


def test_timeline(recorded):
    """Slices of a track follow each other; the array's words are those of the operations."""
    design, shown = recorded
    for track in trace.tracks(design):
        mine = [s for s in shown if s.track == track]
        assert mine
        assert all(s.begin < s.end for s in mine)
        assert all(a.end <= b.begin for a, b in pairwise(mine))
    words: dict[str, int] = dict.fromkeys((linear.name for linear in Linear), 0)
    for s in shown:
        if s.track == "array" and not s.name.startswith("waiting"):
            words[s.name.split()[0]] += s.end - s.begin
    steps = 2 * 2  # of two groups with two rows
    for linear in Linear:
        times = 1 if linear is Linear.HEAD else design.model.layers
        assert words[linear.name] == steps * times * design.linear(linear).words


def test_perfetto(recorded):
    design, shown = recorded
    written = json.loads(json.dumps(trace.as_perfetto(design, shown)))["traceEvents"]
    named = {e["tid"]: e["args"]["name"] for e in written if e["name"] == "thread_name"}
    assert list(named.values()) == trace.tracks(design)
    slices = [e for e in written if e["ph"] == "X"]
    assert len(slices) == len(shown)
    assert {named[e["tid"]] for e in slices} == set(named.values())


def test_pictures(recorded, tmp_path):
    """Pictures are drawn, and the same on every run."""
    pictures = pytest.importorskip("intaglio.sim.plots")
    design, shown = recorded
    for name in ("a.svg", "b.svg"):
        pictures.plot_timeline(tmp_path / name, design, shown)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("bench", "--contexts", "many"), "numbers such as"),
        (("bench", "--contexts", "0"), "not from 1"),
        (("estimate", "--context", "5"), "raise --context"),
        (("trace", "--picture", "t.pdf"), "must end in .svg or .png"),
        (("trace", "-o", "nowhere/t.json"), "no folder nowhere"),
        (("trace", "--sequences", "9"), "9 sequences do not fit"),
        (("trace", "--after", "300"), "300 positions and 2 tokens"),
        (("estimate", "--engines", "3"), "power of two"),
        (("estimate", "--engines", "4"), "4 attention engines are more"),
        (("gemm", "--outputs", "128"), "divide 64"),
        (("estimate", "--mhz", "inf"), "less than or equal to 1000000"),
    ],
)
def test_mistakes(arguments, says, intaglio):
    code, out, err = intaglio(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err
