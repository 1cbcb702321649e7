"""The chip without an array against golden: tokens and logits, on both simulators."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import Etched, etch
from intaglio.golden.images import images
from intaglio.golden.load import load
from intaglio.golden.main_memory import main_memory
from intaglio.hw.chip import make_chip
from intaglio.hw.config import CHIPS, ChipConfig, Design
from intaglio.hw.formats import ConfigError, FloatFormat, element_format
from intaglio.hw.shared.assembler import Assembler
from intaglio.hw.shared.flashed import flashed_memory
from intaglio.hw.shared.memory_map import MemoryMap
from intaglio.hw.shared.operations import Index, Operation
from intaglio.sim.simulator import SimulatedChip
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import SHARED, needs_shared, random_etched

SMALL_MODEL = Path(__file__).parents[1] / "golden" / "small_model"
M10 = FloatFormat(8, 10)
SHAPES = {
    "grouped queries": (ChipConfig(outputs=1, window=4, small_float=M10), {}),
    "odd sizes, float weights, two slots": (
        ChipConfig(outputs=1, window=8, small_float=FloatFormat(8, 7), slots=2,
                   weights=element_format("e2m3")),
        {"dim": 40, "hidden": 34, "heads": 3, "kv_heads": 3, "head_dim": 12, "vocab": 31,
         "layers": 1},
    ),
    "heads of several blocks": (
        ChipConfig(outputs=1, window=4, small_float=FloatFormat(8, 12),
                   weights=element_format("int4")),
        {"dim": 40, "hidden": 34, "heads": 3, "kv_heads": 1, "head_dim": 40, "vocab": 16,
         "layers": 1},
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", SHAPES)


def fed(etched: Etched, lengths: list[int]) -> list[tuple[int, int, int]]:
    """Slots, positions and tokens of sequences that take turns."""
    rng = np.random.default_rng(1)
    tokens = [rng.integers(0, etched.design.model.vocab, n) for n in lengths]
    return [
        (slot, position, int(sequence[position]))
        for position in range(max(lengths))
        for slot, sequence in enumerate(tokens)
        if position < len(sequence)
    ]


def golden_logits(etched: Etched, steps: list[tuple[int, int, int]]) -> list[np.ndarray]:
    chip = GoldenChip(etched)
    return [chip.forward(slot, place, np.array([token]))[0] for slot, place, token in steps]


@EACH
def test_every_logit(name):
    """Whole contexts, over several windows, in as many slots as there are."""
    config, shape = SHAPES[name]
    etched = random_etched(config, **shape)
    steps = fed(etched, [24, 17][: etched.design.slots])
    expected, chip = golden_logits(etched, steps), SimulatedChip(etched)
    for step, logits in zip(steps, expected, strict=True):
        assert chip.feed(*step, True) == logits.argmax()
        np.testing.assert_array_equal(chip.logits()[0, 0], logits)


@ON_BOTH
@EACH
def test_both_simulators(name, simulator, tmp_path):
    """The generated Verilog, with stalls on the host's side, and rows that want no token."""
    config, shape = SHAPES[name]
    etched = random_etched(config, **shape)
    steps = fed(etched, [2, 2][: etched.design.slots])
    best = [int(logits.argmax()) for logits in golden_logits(etched, steps)]
    wanted = [n != 1 for n in range(len(steps))]
    commands = [
        {"slot": slot, "position": position, "token": token, "sample": int(sample), "last": 1}
        for (slot, position, token), sample in zip(steps, wanted, strict=True)
    ]
    events = [
        {"slot": slot, "position": position, "token": made if sample else token,
         "sampled": int(sample)}
        for (slot, position, token), made, sample in zip(steps, best, wanted, strict=True)
    ]  # fmt: skip
    unit = make_chip(etched.design, images(etched))
    check(unit, {"commands": commands}, {"events": events}, simulator, tmp_path, patience=100_000)


def test_a_story_of_the_small_model():
    """The model of the iCEBreaker: 40 tokens as golden has them."""
    checkpoint = load(SMALL_MODEL)
    etched = etch(checkpoint, Design(checkpoint.config, CHIPS["shared"]))
    made = SimulatedChip(etched).generate(0, 0, 1, 39)
    assert list(made) == list(GoldenChip(etched).generate(0, 0, 1, 39))


@needs_shared
def test_a_story_of_another_trainer():
    """stories260K, eight heads and four key heads, 20 tokens."""
    checkpoint = load(SHARED / "models" / "stories260K" / "stories260K.bin")
    chip = replace(CHIPS["shared"], context=64)
    etched = etch(checkpoint, Design(checkpoint.config, chip))
    made = SimulatedChip(etched).generate(0, 0, 1, 19)
    assert list(made) == list(GoldenChip(etched).generate(0, 0, 1, 19))


@pytest.mark.parametrize(
    ("options", "shape", "sentence"),
    [
        ({"rows": 2}, {}, "1 row, 1 group, 1 engine and a depth of 4, not 2, 1, 1 and 4"),
        ({"depth": 2}, {}, "a depth of 4, not 1, 1, 1 and 2"),
        ({"weights": element_format("int12")}, {}, "weights of at most 8 bits"),
        ({"kv": element_format("int6")}, {}, "int8 for activations and the KV cache, not int8, "),
        ({"small_float": FloatFormat()}, {}, "at most 12 fraction bits, not E8M15"),
        ({"small_float": FloatFormat(5, 10)}, {}, "8 exponent bits"),
        ({}, {"context": 400}, "at most 256 positions and 32768 tokens, not 400"),
        ({}, {"head_dim": 10}, "heads whose size is a multiple of 4"),
        ({}, {"mlp_bias": True}, "and biases"),
        ({"kv_lanes": 1}, {}, "all key/value heads in a word"),
    ],
)
def test_impossible_choices_are_one_sentence(options, shape, sentence):
    config = ChipConfig(**{"outputs": 1, "small_float": M10, **options})
    with pytest.raises(ConfigError, match="With one output the chip has") as refused:
        random_etched(config, **shape)
    assert sentence in str(refused.value)


def test_slots_that_are_too_large_are_refused():
    """Factors have 17 bits; the place of the last slot would be another."""
    few = random_etched(CHIPS["shared"]).design
    shape = {"layers": 33, "heads": 4, "kv_heads": 4, "head_dim": 4, "context": 256}
    large = Design(replace(few.model, **shape), replace(few.chip, slots=2))
    with pytest.raises(ConfigError, match=r"each of less than 131072 words .*, not 2 of 135168"):
        MemoryMap(large)
    with pytest.raises(ConfigError, match="at most 32768 slots"):
        MemoryMap(replace(few, chip=replace(few.chip, slots=1 << 16)))


@pytest.mark.parametrize(
    ("shape", "chip", "sentence"),
    [
        ({"dim": 512, "hidden": 2048, "layers": 8}, {}, "choose a smaller model"),
        ({}, {"slots": 300}, "(300 x 24 positions) take"),
    ],
)
def test_what_does_not_fit_a_flash_or_its_ram_is_refused(shape, chip, sentence):
    model = replace(random_etched(CHIPS["shared"]).design.model, **shape)
    design = Design(model, replace(CHIPS["shared"], **chip))
    with pytest.raises(ConfigError) as refused:
        flashed_memory(design, start=0x100000)
    assert sentence in str(refused.value)


def test_memory_map():
    """Every word has one place, and the images end where the cache begins."""
    etched = random_etched(ChipConfig(outputs=1, small_float=M10, slots=2))
    places = MemoryMap(etched.design)
    ends = [0, places.embedding, places.rope, places.cache, places.words]
    assert ends == sorted(set(ends))
    words = main_memory(etched)
    assert len(words) == places.words
    assert not any(words[places.cache :])
    apart = MemoryMap(etched.design, streamed=True)
    assert (apart.embedding, places.words - apart.words) == (0, places.weights)


def test_loops_end_where_they_should():
    """A limit that no index can reach is its beginning; equal constants are one word."""
    writer = Assembler()
    again = writer.here()
    writer.step(Operation.ADD, 5)
    writer.step(Operation.ADD, 5)
    writer.advance(Index.I, 1, again, until=16)
    made = writer.program()
    assert (made.bits, made.scratch) == (4, [5])
    last = made.layout.from_bits(made.steps[-1])
    assert (last.source, last.target, last.count) == (0, 0, 1)
