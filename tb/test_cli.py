"""The command line: what it prints where, and one sentence for every mistake."""

import json
import shutil

import pytest

from intaglio.golden.load import DEFAULT_MODEL
from intaglio.tb.models import SHARED, needs_shared

STORIES = SHARED / "models" / "stories260K"
SMALL_MODEL = DEFAULT_MODEL.with_name("small_model")
BEGINNING = "Once upon a time, there was a young boy named "


def test_text_goes_to_stdout_alone(intaglio):
    code, out, err = intaglio("run", "--backend", "golden", "-n", "30")
    assert code == 0
    assert out.startswith(BEGINNING)
    assert "generated tokens" in err


def test_prompt_is_continued(intaglio):
    code, out, _ = intaglio("run", "--backend", "golden", "-n", "40", "--prompt", "One day, Mia")
    assert code == 0
    assert out.startswith("One day, Mia ")


@pytest.mark.parametrize(
    ("model", "chip", "beginning"),
    [
        ((), "single", BEGINNING),
        ((SMALL_MODEL,), "tiny", "Once upon a time, there was a little girl named "),
    ],
    ids=["default", "small"],
)
def test_story_model_on_the_simulated_chip(model, chip, beginning, intaglio):
    """The main job, and that the Verilated chip writes what golden writes."""
    arguments = ("run", *model, "--chip", chip, "-n", "100", "--json")
    answers = []
    for backend in ("verilator", "golden"):
        code, out, _ = intaglio(*arguments, "--backend", backend)
        assert code == 0
        answers.append(json.loads(out))
    simulated, golden = answers
    assert simulated["text"].startswith(beginning)
    assert simulated["token_ids"] == golden["token_ids"]
    assert simulated["cycles_per_token"] > 1000


@needs_shared
@pytest.mark.parametrize("source", ["stories260K.bin", "hf"])
def test_the_text_that_llama2c_expects(source, intaglio):
    case = json.loads((STORIES / "reference.json").read_text())["cases"][0]
    wide = [f"--{role}=int16" for role in ("weights", "activations", "kv")]
    code, out, _ = intaglio("run", STORIES / source, *wide, "-n", "200", "--temperature", "0")
    assert code == 0
    assert out == case["text"] + "\n"


@needs_shared
def test_compare_has_the_shape_of_the_prototype(intaglio):
    """Wider formats come closer; the two bounds are the design's."""
    code, out, _ = intaglio("compare", STORIES / "stories260K.bin", "--json")
    assert code == 0
    kl = {
        (row["weights"], row["activations"], row["kv"]): row["kl"]
        for row in json.loads(out)["rows"]
    }
    assert kl["int8", "int8", "int8"] < 0.012
    assert kl["int12", "int12", "int12"] < 0.0002
    assert kl["e2m1", "int8", "int8"] > kl["e2m3", "int8", "int8"] > kl["int8", "int8", "int8"]
    assert kl["int8", "int8", "int8"] > kl["int8", "int16", "int16"] > kl["int12", "int16", "int12"]
    assert kl["int16", "int16", "int16"] < 1e-6


def test_compare_the_formats_that_are_named(intaglio):
    code, out, _ = intaglio("compare", "--weights", "int4", "--context", "24", "--json")
    assert code == 0
    (row,) = json.loads(out)["rows"]
    assert (row["weights"], row["activations"], row["kv"]) == ("int4", "int8", "int8")
    assert row["kl"] > 0
    assert row["perplexity"] > row["reference_perplexity"]


def test_info(intaglio):
    code, out, _ = intaglio("info", "--json", "--depth", "4")
    assert code == 0
    description = json.loads(out)
    assert description["multipliers"]["array"] == 32 * 4
    assert description["memory_bits"]["total"] < 3_744_000  # the block RAM of an ECP5-85
    code, out, _ = intaglio("info")
    assert code == 0
    assert "weights int8" in out


def test_doctor(intaglio):
    code, out, _ = intaglio("doctor", "--json")
    assert code == 0
    tools = {tool["name"]: tool for tool in json.loads(out)}
    assert tools["verilator"]["version"]
    assert tools["g++"]["found"]
    assert "perl" in intaglio("doctor")[1]


def test_doctor_misses_what_is_not_there(intaglio, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, _ = intaglio("doctor", "--json")
    assert code == 2
    assert not next(tool for tool in json.loads(out) if tool["name"] == "make")["found"]


def test_verilog_is_the_same_each_time(intaglio, tmp_path):
    folder = tmp_path / "chip"
    written = []
    for _ in range(2):
        code, out, err = intaglio("verilog", "-o", folder)
        assert (code, out) == (0, "")
        assert "multipliers" in err
        written.append({path.name: path.read_text() for path in folder.iterdir()})
    assert written[0] == written[1]
    assert {"chip.v", "weights_0_0.hex", "embedding_0.hex", "rope.hex", "report.json"} <= set(
        written[0]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["chip"]


def copy_of_default(tmp_path):
    """A folder with the default model, to be damaged."""
    return shutil.copytree(DEFAULT_MODEL, tmp_path / "model")


def truncated(tmp_path):
    folder = copy_of_default(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return "info", folder


def pickled(tmp_path):
    folder = copy_of_default(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return "info", folder


def other_architecture(tmp_path):
    folder = copy_of_default(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    return "info", folder


def test_what_is_not_ours_stays(intaglio, tmp_path):
    """A folder that looks like an earlier output but has more in it is left alone."""
    for name in ("report.json", "precious"):
        (tmp_path / name).write_text(name)
    code, out, err = intaglio("verilog", "-o", tmp_path)
    assert (code, out) == (2, "")
    assert "precious" in err
    assert (tmp_path / "precious").read_text() == "precious"


def test_names_are_no_markup(intaglio, tmp_path):
    folder = shutil.copytree(DEFAULT_MODEL, tmp_path / "we[red]x")
    code, out, _ = intaglio("info", folder)
    assert code == 0
    assert "we[red]x" in out


def endless(tmp_path):
    folder = copy_of_default(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 10**6}))
    return "info", folder


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (truncated, ["model.safetensors"]),
        (pickled, ["safetensors"]),
        (other_architecture, ["model_type", "mamba"]),
        (endless, ["context of 1000000", "--context"]),
        (lambda _: ("run", "-n", "9", "--prompt", "caf\u00e9"), ["\u00e9", "does not know"]),
        (lambda _: ("info", "--weights", "int" + "9" * 5000), ["Unknown format"]),
        (lambda _: ("info", "nowhere"), ["nowhere", "does not exist"]),
        (lambda _: ("info", __file__), ["test_cli.py"]),
        (lambda _: ("run", "--temperature", "0.7"), ["--temperature", "0.7"]),
        (lambda _: ("run", "-n", "257"), ["257", "256"]),
        (lambda _: ("run", "-n", "3", "--prompt", "One day, Mia and Tom"), ["only 3 fit"]),
        (lambda _: ("run", "--tokenizer", "nothing.json"), ["nothing.json"]),
        (lambda _: ("info", "--weights", "int3"), ["int3", "int4 to int16"]),
        (lambda _: ("info", "--kv", "e2m1"), ["kv", "e2m1"]),
        (lambda _: ("info", "--chip", "huge"), ["huge", "single"]),
        (lambda _: ("info", "--depth", "16"), ["depth", "16"]),
        (lambda _: ("info", "--context", "1024"), ["1024", "256"]),
        (lambda _: ("info", "--kv-lanes", "3"), ["kv_lanes", "3"]),
        (lambda _: ("info", "--float", "float16"), ["float16", "E8M15"]),
    ],
)
def test_mistakes(make, words, intaglio, tmp_path):
    code, out, err = intaglio(*make(tmp_path))
    sentence = " ".join(err.split())
    assert (code, out) == (2, "")
    assert sentence.startswith("intaglio: ")
    assert all(word in sentence for word in words), sentence
    assert "Traceback" not in err


def test_nothing_is_left_of_a_build_without_a_compiler(intaglio, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache"))
    code, out, err = intaglio("run", "-n", "2")
    assert (code, out) == (2, "")
    assert "g++ is missing" in err
    assert not list(tmp_path.glob("cache/**/libchip.so"))
