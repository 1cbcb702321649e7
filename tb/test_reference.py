"""The float reference and the chip's arithmetic against what other implementations computed."""

import json

import numpy as np
import pytest

from intaglio.golden import mx
from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import etch
from intaglio.golden.images import encode
from intaglio.golden.load import load
from intaglio.golden.reference import forward, generate
from intaglio.golden.tokenizer import load_tokenizer
from intaglio.hw.config import ChipConfig, Design
from intaglio.hw.formats import element_format
from intaglio.tb.models import SHARED, needs_shared, random_checkpoint

STORIES = SHARED / "models" / "stories260K"


def chip(weights: str, activations: str, kv: str, **options) -> ChipConfig:
    """A chip with these formats."""
    formats = {"weights": weights, "activations": activations, "kv": kv}
    return ChipConfig(**{k: element_format(v) for k, v in formats.items()}, **options)


@needs_shared
@pytest.mark.parametrize("source", ["stories260K.bin", "hf"])
def test_stories(source):
    """Teacher-forced ids of every case; the first one generated; text by the model's tokenizer."""
    checkpoint = load(STORIES / source)
    assert checkpoint.tokenizer is not None
    tokenizer = load_tokenizer(checkpoint.tokenizer, checkpoint.config.vocab)
    for case in json.loads((STORIES / "reference.json").read_text())["cases"]:
        ids, prompt = np.array(case["output_ids"]), case["prompt_ids"]
        assert tokenizer.encode(case["prompt"]).ids == prompt
        assert tokenizer.decode(case["output_ids"]) == case["text"]
        likeliest = forward(checkpoint, ids[:-1]).argmax(axis=1)
        np.testing.assert_array_equal(likeliest[len(prompt) - 1 :], ids[len(prompt) :])
    case = json.loads((STORIES / "reference.json").read_text())["cases"][0]
    assert [*case["prompt_ids"], *generate(checkpoint, [1], 40)] == case["output_ids"][:40]


@needs_shared
def test_chip_of_16_bits_tells_the_same_stories():
    """With int16 everywhere the chip's greedy tokens are those of llama2.c."""
    checkpoint = load(STORIES / "stories260K.bin")
    wide = GoldenChip(etch(checkpoint, Design(checkpoint.config, chip("int16", "int16", "int16"))))
    for case in json.loads((STORIES / "reference.json").read_text())["cases"]:
        ids, prompt = np.array(case["output_ids"]), case["prompt_ids"]
        likeliest = wide.logits(ids[:-1]).argmax(axis=1)
        np.testing.assert_array_equal(likeliest[len(prompt) - 1 :], ids[len(prompt) :])


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"attention_bias": True, "mlp_bias": True},
        {"heads": 6, "kv_heads": 3, "head_dim": 12, "dim": 48, "hidden": 34, "vocab": 31},
    ],
    ids=str,
)
def test_wide_chip_is_close_to_the_reference(shape):
    """Folds, layouts and tables together: int16 logits are within a hundredth of float ones."""
    checkpoint = random_checkpoint(**shape)
    tokens = np.random.default_rng(1).integers(0, checkpoint.config.vocab, 20)
    design = Design(checkpoint.config, chip("int16", "int16", "int16", window=8))
    golden = GoldenChip(etch(checkpoint, design))
    exact = forward(checkpoint, tokens)
    np.testing.assert_allclose(golden.logits(tokens), exact, atol=0.01 * exact.std())


def test_one_token_at_a_time_is_the_same():
    """A sequence's bits do not depend on how many tokens are computed in one call."""
    checkpoint = random_checkpoint()
    design = Design(checkpoint.config, ChipConfig(window=4, slots=2))
    tokens = np.array([3, 5, 7, 1, 2, 29, 3, 0, 11])
    together = GoldenChip(etch(checkpoint, design)).logits(tokens)
    golden = GoldenChip(etch(checkpoint, design))
    for position, token in enumerate(tokens):
        golden.feed(0, position, 4, sample=False)
        alone = golden.forward(1, position, np.array([token]))
        np.testing.assert_array_equal(alone[0], together[position])


@needs_shared
@pytest.mark.parametrize(
    ("ours", "theirs"), [("int8", "int8"), ("e2m1", "fp4_e2m1"), ("e2m3", "fp6_e2m3")]
)
def test_blocks_of_another_implementation(ours, theirs):
    """Codes and scales of 296 blocks, rounded to nearest even, agree one by one.

    But for the scale of a block of zeros, which OCP MX leaves open.
    """
    oracle = np.load(SHARED / "oracles" / "mx_casts.npz")
    element = element_format(ours)
    integers, exponents = mx.quantise(element, oracle["x"])
    filled = oracle["x"].any(axis=1)
    np.testing.assert_array_equal(exponents[filled], oracle[f"{theirs}.scale_e8m0"][filled])
    values = oracle[f"{theirs}.even.deq"].astype(np.float64)
    np.testing.assert_array_equal(mx.dequantise(element, integers, exponents), values)
    codes = oracle[f"{theirs}.even.code"]
    if element.is_integer:
        np.testing.assert_array_equal(integers, codes)
    else:
        sign = 1 << (element.bits - 1)
        np.testing.assert_array_equal(
            np.where(integers == 0, codes & (sign - 1), encode(element, integers)),
            np.where(integers == 0, 0, codes),
        )
