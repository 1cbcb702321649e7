"""The stories that the project's models learn from, and the models that came of them."""

import json
import math
import re
from dataclasses import asdict
from importlib.resources import files
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from intaglio.golden.corpus import NAMES, PLOTS, stories, story
from intaglio.golden.recipes import RECIPES

MOST_PARAMETERS = {"default": 250_000, "small": 60_000}
FEMALE = {name for group in ("girl", "she") for name in NAMES[group].split()}
MALE = {name for group in ("boy", "he") for name in NAMES[group].split()}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Return a thousand stories that the model has not been trained on."""
    return list(islice(stories(7), 1000))


@pytest.fixture(scope="module", params=RECIPES)
def name(request) -> str:
    """Return the name of each model."""
    return request.param


@pytest.fixture(scope="module")
def folder(name) -> Path:
    """Return the model's folder as it is installed."""
    return Path(str(files("intaglio.golden") / f"{name}_model"))


@pytest.fixture(scope="module")
def tokenizer(folder) -> Tokenizer:
    """Return the tokenizer as anyone would load it."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def config(folder) -> dict:
    """Return the model's configuration."""
    return json.loads((folder / "config.json").read_text())


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_the_seed_decides(texts):
    assert list(islice(stories(7), 1000)) == texts
    assert list(islice(stories(8), 1000)) != texts


def test_stories_are_varied(texts):
    assert len(set(texts)) > 990
    assert len({text[:12] for text in texts}) > 100


def test_stories_are_clean(texts):
    for text in texts:
        assert text.isascii()
        assert text.isprintable()
        assert not re.search(r"[\[\]{}|:]|  | [.,!?]|\ba [aeiou]|\ban [^aeiou]", text), text
        assert text.count('"') % 2 == 0, text
        assert re.search(r'[.!?]"?$', text), text


def test_sentences_begin_with_a_capital(texts):
    for text in texts:
        assert text[0].isupper()
        assert not re.search(r"\. [a-z]", text), text


def test_pronouns_follow_names(texts):
    """Where all names are those of one gender, so are all pronouns."""
    checked = 0
    for text in texts:
        words = {word.lower() if word in ("He", "She", "His", "Her") else word
                 for word in words_of(text)}  # fmt: skip
        male, female = words & MALE, words & FEMALE
        assert male or female, text
        if not female:
            assert not words & {"she", "her"}, text
        if not male:
            assert not words & {"he", "him", "his"}, text
        checked += not (male and female)
    assert checked > 300


def test_names_have_one_gender():
    assert not MALE & FEMALE


@pytest.mark.parametrize("plot", PLOTS)
def test_every_plot_is_told(plot, monkeypatch):
    """Every plot names its hero and fills all of its holes, whatever the alternatives."""
    monkeypatch.setattr("intaglio.golden.corpus.PLOTS", {plot: PLOTS[plot]})
    rng = Random(1)
    told = [story(rng) for _ in range(50)]
    assert len(set(told)) == 50
    for text in told:
        assert words_of(text) & (MALE | FEMALE)


def test_tokenizer_returns_stories_exactly(tokenizer, texts):
    for text in texts[:200]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize(
    "text", ["", "a", " a", "  two  spaces ", "Tom's 37 #@~ dogs\n\nran.", "xyzzy", "A\nb"]
)
def test_tokenizer_returns_any_ascii_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_tokenizer_marks_the_beginning(tokenizer, config):
    ids = tokenizer.encode("Once upon a time").ids
    assert ids[0] == config["bos_token_id"] == tokenizer.token_to_id("<s>")
    assert config["eos_token_id"] == tokenizer.token_to_id("</s>")
    assert ids.count(ids[0]) == 1
    assert tokenizer.get_vocab_size() == config["vocab_size"]


def test_stories_fit_the_context(tokenizer, config, texts):
    lengths = [len(tokenizer.encode(text).ids) + 1 for text in texts]
    assert max(lengths) <= config["max_position_embeddings"]
    assert min(lengths) >= 60


def test_model_is_small(name, folder):
    with safe_open(folder / "model.safetensors", framework="numpy") as tensors:
        slices = [tensors.get_slice(tensor) for tensor in tensors.keys()]  # noqa: SIM118
    assert {part.get_dtype() for part in slices} == {"BF16"}
    assert sum(math.prod(part.get_shape()) for part in slices) <= MOST_PARAMETERS[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4 * MOST_PARAMETERS[name]


def test_configuration_is_that_of_the_recipe(name, config):
    flat = {**config, **config["rope_parameters"]}
    shape = asdict(RECIPES[name].shape)
    assert {key: flat[key] for key in shape} == shape


def test_card_tells_how_the_model_is_trained(name, folder):
    """The recipe makes the model that is there: its command needs no option but the shape."""
    card, recipe = (folder / "README.md").read_text(), RECIPES[name]
    command = f"--shape {name} --steps {recipe.steps} --seed 1 --rate {recipe.rate}\n"
    assert f"    python -m intaglio.golden.train {command}" in card
    assert recipe.abilities in card


def test_model_has_the_shape_of_its_configuration(folder, config):
    with safe_open(folder / "model.safetensors", framework="numpy") as tensors:
        shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    assert shapes["model.embed_tokens.weight"] == [config["vocab_size"], config["hidden_size"]]
    assert "lm_head.weight" not in shapes
    layers = {name.split(".")[2] for name in shapes if name.startswith("model.layers.")}
    assert len(layers) == config["num_hidden_layers"]
    kv_dim = config["num_key_value_heads"] * config["head_dim"]
    assert shapes["model.layers.0.self_attn.k_proj.weight"] == [kv_dim, config["hidden_size"]]
