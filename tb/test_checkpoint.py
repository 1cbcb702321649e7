"""Reading checkpoints: both kinds agree, and every damage is told in one sentence."""

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from intaglio.golden.checkpoint import Checkpoint, CheckpointError
from intaglio.golden.huggingface import LAYER_NAMES, NAMES
from intaglio.golden.llama2c import ORDER
from intaglio.golden.load import load
from intaglio.golden.tokenizer import load_tokenizer
from intaglio.tb.models import SHARED, needs_shared, random_checkpoint

STORIES = SHARED / "models" / "stories260K"


def halves(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Neighbouring RoPE pairs to halves, as Hugging Face has them."""
    pairs = rows.reshape(len(rows), -1, head_dim // 2, 2, *rows.shape[2:])
    return np.ascontiguousarray(pairs.swapaxes(2, 3).reshape(rows.shape))


def hf_config(c: Checkpoint, **changes) -> dict:
    """config.json as transformers 5 writes it."""
    m = c.config
    config = {
        "model_type": "llama",
        "hidden_size": m.dim,
        "intermediate_size": m.hidden,
        "num_hidden_layers": m.layers,
        "num_attention_heads": m.heads,
        "num_key_value_heads": m.kv_heads,
        "head_dim": m.head_dim,
        "vocab_size": m.vocab,
        "max_position_embeddings": m.context,
        "rms_norm_eps": m.norm_eps,
        "rope_parameters": {"rope_theta": m.rope_theta, "rope_type": "default"},
        "attention_bias": m.attention_bias,
        "mlp_bias": m.mlp_bias,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "dtype": "float32",
    }
    return config | changes


def hf_tensors(c: Checkpoint) -> dict[str, np.ndarray]:
    """Tensors under Hugging Face's names and in its RoPE layout."""
    tensors = {NAMES[name]: c.tensors[name] for name in NAMES}
    for ours in set(c.tensors) - set(NAMES):
        base, kind = ours.removesuffix("_bias"), "bias" if ours.endswith("_bias") else "weight"
        stack = c.tensors[ours]
        if base in ("q", "k"):
            stack = halves(stack, c.config.head_dim)
        for n, tensor in enumerate(stack):
            tensors[f"model.layers.{n}.{LAYER_NAMES[base]}.{kind}"] = tensor
    return tensors


def write_folder(folder: Path, config: dict, tensors: dict[str, np.ndarray]) -> Path:
    """A model folder."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_bin(path: Path, c: Checkpoint, tied: bool = False) -> Path:
    """A llama2.c checkpoint."""
    m = c.config
    vocab = m.vocab if tied else -m.vocab
    header = (m.dim, m.hidden, m.layers, m.heads, m.kv_heads, vocab, m.context)
    parts = [c.tensors[name] for name in ORDER]
    parts.append(np.zeros((2, m.context, m.head_dim // 2), np.float32))
    parts += [] if tied else [c.tensors["head"]]
    path.write_bytes(struct.pack("<7i", *header) + b"".join(p.tobytes() for p in parts))
    return path


def assert_same(a: Checkpoint, b: Checkpoint) -> None:
    """Equal shapes and tensors."""
    assert a.config == b.config
    assert a.tensors.keys() == b.tensors.keys()
    for name, tensor in a.tensors.items():
        np.testing.assert_array_equal(tensor, b.tensors[name], err_msg=name)


@needs_shared
def test_both_files_of_a_real_model():
    assert_same(load(STORIES / "stories260K.bin"), load(STORIES / "hf"))


@needs_shared
def test_both_tokenizers_of_a_real_model():
    ours = load_tokenizer(STORIES / "tok512.bin", 512)
    theirs = load_tokenizer(STORIES / "hf" / "tokenizer.json", 512)
    cases = json.loads((STORIES / "reference.json").read_text())["cases"]
    for text in [c["text"] for c in cases] + ["", " a", "héllo wörld ☃ 12\n\tx", "  two", "<s>"]:
        assert ours.encode(text).ids == theirs.encode(text).ids
        assert ours.decode(ours.encode(text).ids) == theirs.decode(theirs.encode(text).ids)


@pytest.mark.parametrize("bias", [False, True])
def test_folder(bias, tmp_path):
    c = random_checkpoint(attention_bias=bias, mlp_bias=bias)
    read = load(write_folder(tmp_path, hf_config(c), hf_tensors(c)))
    assert_same(read, c)
    assert (read.bos, read.eos) == (1, {2, 3})


def test_bin(tmp_path):
    c = random_checkpoint()
    assert_same(load(write_bin(tmp_path / "m.bin", c)), c)
    tied = load(write_bin(tmp_path / "t.bin", c, tied=True))
    np.testing.assert_array_equal(tied.tensors["head"], tied.tensors["embedding"])


def test_older_config_and_shards(tmp_path):
    """transformers 4 keys, a missing head_dim, bfloat16, an index of two files."""
    c = random_checkpoint()
    config = hf_config(c, rope_theta=10000.0, rope_scaling=None, torch_dtype="bfloat16")
    del config["rope_parameters"], config["head_dim"], config["dtype"]
    tensors = {name: t.astype(ml_dtypes.bfloat16) for name, t in hf_tensors(c).items()}
    folder = write_folder(tmp_path, config, {})
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for n, part in enumerate((names[::2], names[1::2])):
        file = f"model-{n}.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    read = load(folder)
    np.testing.assert_array_equal(
        read.tensors["gate"], c.tensors["gate"].astype(ml_dtypes.bfloat16).astype(np.float32)
    )
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-1.safetensors is missing, or is no file"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "gpt2"}, r"model_type 'gpt2' is not supported, only 'llama'"),
        ({"hidden_act": "gelu"}, r"hidden_act 'gelu' is not supported"),
        ({"sliding_window": 128}, r"sliding_window 128 is not supported"),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}},
            r"rope_parameters.rope_type 'llama3' is not supported",
        ),
        ({"rope_scaling": "linear"}, r"rope_scaling must be an object, not 'linear'"),
        ({"rope_scaling": {"factor": 8}}, r"rope_scaling.factor 8 is not supported"),
        (
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            r"rope_parameters.partial_rotary_factor 0.5 is not supported",
        ),
        ({"layer_types": ["sliding_attention"] * 2}, r"layer_types .* is not supported"),
        ({"rope_theta": 10**400, "rope_parameters": None}, r"rope_theta must be a finite number"),
        ({"rms_norm_eps": None}, r"rms_norm_eps must be a finite number, not None"),
        ({"tie_word_embeddings": "false"}, r"tie_word_embeddings must be true or false"),
        ({"bos_token_id": -1}, r"bos_token_id -1 is none of the 30 tokens"),
        ({"max_position_embeddings": 10**30}, r"context must be 1 to"),
        ({"quantization_config": {"bits": 4}}, r"quantization_config .* is not supported"),
        ({"num_key_value_heads": 3}, r"4 query heads cannot share 3 key/value heads evenly"),
        ({"hidden_size": "64"}, r"hidden_size must be a whole number, not '64'"),
        ({"vocab_size": 31}, r"has shape \[30, 32\], but config.json implies \[31, 32\]"),
        ({"num_hidden_layers": 3}, r"lacks the tensor model.layers.2.input_layernorm.weight"),
        ({"num_hidden_layers": 1}, r"has 9 tensors that config.json does not imply"),
        ({"tie_word_embeddings": True}, None),
    ],
    ids=str,
)
def test_config_that_does_not_fit(changes, sentence, tmp_path):
    c = random_checkpoint()
    folder = write_folder(tmp_path, hf_config(c, **changes), hf_tensors(c))
    if sentence is None:  # a head that is not needed is no error: transformers writes it, too
        assert load(folder).tensors["head"] is not None
        return
    with pytest.raises(CheckpointError, match=sentence):
        load(folder)


def test_damaged_folder(tmp_path):
    c = random_checkpoint()
    folder = write_folder(tmp_path / "m", hf_config(c), hf_tensors(c))
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"is truncated or no safetensors"):
        load(folder)
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match=r"only pickled weights \(pytorch_model.bin\)"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json is not valid JSON"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"it has no config.json"):
        load(folder)
    with pytest.raises(CheckpointError, match=r"nothing does not exist"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value, tmp_path):
    c = random_checkpoint()
    c.tensors["up"][1, 2, 3] = value
    with pytest.raises(CheckpointError, match=r"up\[1, 2, 3\] is (nan|inf), and 1 of its 3072"):
        load(write_bin(tmp_path / "m.bin", c))


def test_damaged_bin(tmp_path):
    c = random_checkpoint()
    path = write_bin(tmp_path / "m.bin", c)
    whole = path.read_bytes()
    for raw, sentence in [
        (whole[:-4], rf"is truncated: {len(whole) - 4} bytes, but .* has {len(whole)}"),
        (whole + b"x", r"is longer than its header says"),
        (whole[:20], r"has 20 bytes, fewer than the 28 of a llama2.c header"),
        (b"GGUF" + whole[4:], r"is a GGUF file; only llama2.c's"),
        (b"Once upon a time, " + whole, r"is not a llama2.c checkpoint: its header says dim"),
        (struct.pack("<2i", 0x616B3432, 1) + whole[8:], r"llama2.c version 1; only version 0"),
        (b"PK\x03\x04" + whole, r"is a pickled PyTorch file, which could run any program"),
        (b"\x80\x02" + whole, r"is a pickled PyTorch file"),
    ]:
        path.write_bytes(raw)
        with pytest.raises(CheckpointError, match=sentence):
            load(path)


def test_damaged_tokenizer(tmp_path):
    json_file, binary = tmp_path / "tokenizer.json", tmp_path / "tokenizer.bin"
    json_file.write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer.json is not a tokenizer"):
        load_tokenizer(json_file, 30)
    binary.write_bytes(struct.pack("<I", 1) + struct.pack("<fi", 0.0, 1) + b"a")
    with pytest.raises(CheckpointError, match=r"it ends in or before token 1"):
        load_tokenizer(binary, 30)
    with pytest.raises(CheckpointError, match=r"7 bytes are left over|is no tokenizer"):
        load_tokenizer(binary, 0)
    with pytest.raises(CheckpointError, match=r"does not exist"):
        load_tokenizer(tmp_path / "none", 30)
