"""Reader of Hugging Face folders: config.json and safetensors, of transformers 4 and 5."""

import json
from math import isfinite
from pathlib import Path

import ml_dtypes  # noqa: F401 (teaches numpy, and so safetensors, bfloat16)
import numpy as np
from safetensors import SafetensorError, safe_open

from intaglio.golden.checkpoint import (
    Checkpoint,
    CheckpointError,
    refuse_pickle,
    require_finite,
    shapes,
)
from intaglio.hw.config import ModelConfig
from intaglio.hw.formats import ConfigError

__all__ = ["read", "read_config"]

LAYER_NAMES = {
    "attention_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NAMES = {
    "embedding": "model.embed_tokens.weight",
    "norm": "model.norm.weight",
    "head": "lm_head.weight",
}
DTYPES = ("F32", "F16", "BF16")


def _json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} is not a model folder: it has no {path.name}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no object of keys and values")
    return value


def _real(path: Path, key: str, value: object) -> float:
    """A finite number."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise CheckpointError(f"{path}: {key} must be a finite number, not {value!r:.40}")


def _flag(path: Path, config: dict, key: str) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(f"{path}: {key} must be true or false, not {value!r:.40}")
    return bool(value)


def _refuse(path: Path, config: dict, allowed: dict[str, tuple], prefix: str = "") -> None:
    """Name the first key whose value is none of those allowed."""
    for key, values in allowed.items():
        if config.get(key, values[0]) not in values:
            raise CheckpointError(
                f"{path}: {prefix}{key} {config[key]!r:.40} is not supported, only {values[-1]!r}"
            )


def _rope_theta(path: Path, config: dict) -> float:
    """Base of the rotary embedding; transformers 5 keeps it one level deeper than 4."""
    theta = config.get("rope_theta", 10000.0)
    allowed = {
        "rope_type": ("default",),
        "type": ("default",),
        "factor": (None, 1, 1.0),
        "partial_rotary_factor": (None, 1, 1.0),
    }
    for key in ("rope_scaling", "rope_parameters"):
        rope = config.get(key) or {}
        if not isinstance(rope, dict):
            raise CheckpointError(f"{path}: {key} must be an object, not {rope!r:.40}")
        _refuse(path, rope, allowed, f"{key}.")
        theta = rope.get("rope_theta", theta)
    return _real(path, "rope_theta", theta)


def _refuse_unsupported(path: Path, config: dict) -> None:
    """Name the first key that asks for what the chip does not do."""
    if config.get("model_type") != "llama":
        raise CheckpointError(
            f"{path}: model_type {config.get('model_type')!r} is not supported, only 'llama'"
        )
    allowed = {
        "hidden_act": ("silu",),
        "partial_rotary_factor": (None, 1, 1.0),
        "pretraining_tp": (None, 1),
        "quantization_config": (None,),
        "sliding_window": (None,),
        "use_sliding_window": (None, False),
    }
    _refuse(path, config, allowed)
    kinds = config.get("layer_types") or []
    if any(kind != "full_attention" for kind in kinds):
        raise CheckpointError(
            f"{path}: layer_types {kinds!r:.40} is not supported, only 'full_attention'"
        )


def read_config(path: Path) -> tuple[ModelConfig, dict]:
    """The model's shape, and the whole of its ``config.json``; raises :exc:`CheckpointError`."""
    config = _json(path)
    _refuse_unsupported(path, config)

    def number(key: str, default: int | None = None) -> int:
        value = config.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool):
            raise CheckpointError(f"{path}: {key} must be a whole number, not {value!r}")
        return value

    heads, dim = number("num_attention_heads"), number("hidden_size")
    try:
        model = ModelConfig(
            dim=dim,
            hidden=number("intermediate_size"),
            layers=number("num_hidden_layers"),
            heads=heads,
            kv_heads=number("num_key_value_heads", heads),
            head_dim=number("head_dim", dim // max(heads, 1)),
            vocab=number("vocab_size"),
            context=number("max_position_embeddings", 2048),
            norm_eps=_real(path, "rms_norm_eps", config.get("rms_norm_eps", 1e-6)),
            rope_theta=_rope_theta(path, config),
            attention_bias=_flag(path, config, "attention_bias"),
            mlp_bias=_flag(path, config, "mlp_bias"),
        )
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return model, config


def _shards(folder: Path) -> list[Path]:
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.exists():
        weight_map = _json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{index} has no weight_map")
        return [folder / name for name in sorted(set(map(str, weight_map.values())))]
    if single.exists() or single.is_symlink():
        return [single]
    pickles = [p.name for p in sorted(folder.iterdir()) if p.suffix in (".bin", ".pt", ".pth")]
    if pickles:
        raise CheckpointError(
            f"{folder} has only pickled weights ({pickles[0]}), which could run any program: "
            "convert them to safetensors"
        )
    raise CheckpointError(f"{folder} has no model.safetensors")


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of all shards, float32."""
    tensors = {}
    for shard in _shards(folder):
        if not shard.is_file():
            raise CheckpointError(f"{shard} is missing, or is no file")
        with shard.open("rb") as file:
            refuse_pickle(shard, file.read(8))
        try:
            with safe_open(shard, framework="numpy") as file:
                for name in file.keys():  # noqa: SIM118 (it is no mapping)
                    dtype = file.get_slice(name).get_dtype()
                    if dtype not in DTYPES:
                        raise CheckpointError(
                            f"{shard}: {name} has dtype {dtype}; use one of {', '.join(DTYPES)}"
                        )
                    tensors[name] = file.get_tensor(name).astype(np.float32)
                    require_finite(shard, name, tensors[name])
        except SafetensorError as error:
            raise CheckpointError(f"{shard} is truncated or no safetensors ({error})") from None
    return tensors


def _interleaved(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows (layers, heads * head_dim, ...) from halves that rotate together to neighbours."""
    halves = rows.reshape(rows.shape[0], -1, 2, head_dim // 2, *rows.shape[2:])
    return halves.swapaxes(2, 3).reshape(rows.shape)


def _stacked(folder: Path, model: ModelConfig, tied: bool) -> dict[str, np.ndarray]:
    """Tensors under our names, the layers' stacked, each of the shape that the config implies."""
    found = _tensors(folder)
    found = {name: t for name, t in found.items() if not name.endswith("rotary_emb.inv_freq")}
    if tied:  # a head that is written all the same is a copy
        found[NAMES["head"]] = found.get(NAMES["embedding"], np.zeros(()))

    def take(theirs: str, shape: tuple[int, ...]) -> np.ndarray:
        if theirs not in found:
            raise CheckpointError(f"{folder} lacks the tensor {theirs}")
        tensor = found.pop(theirs)
        if tensor.shape != shape:
            raise CheckpointError(
                f"{folder}: {theirs} has shape {list(tensor.shape)}, but config.json implies "
                f"{list(shape)}"
            )
        return tensor

    tensors = {}
    for ours, shape in shapes(model).items():
        if ours in NAMES:
            tensors[ours] = take(NAMES[ours], shape)
            continue
        base, kind = ours.removesuffix("_bias"), "bias" if ours.endswith("_bias") else "weight"
        names = [f"model.layers.{n}.{LAYER_NAMES[base]}.{kind}" for n in range(model.layers)]
        tensors[ours] = np.stack([take(name, shape[1:]) for name in names])
        if base in ("q", "k"):
            tensors[ours] = _interleaved(tensors[ours], model.head_dim)
    if found:
        raise CheckpointError(
            f"{folder} has {len(found)} tensors that config.json does not imply, {min(found)} first"
        )
    return tensors


def _ids(path: Path, config: dict, key: str, vocab: int) -> list[int]:
    """Tokens that config.json names, one or several or none."""
    value = config.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for token in ids:
        if not isinstance(token, int) or not 0 <= token < vocab:
            raise CheckpointError(
                f"{path}: {key} {token!r:.40} is none of the {vocab} tokens of the vocabulary"
            )
    return ids


def read(folder: Path) -> Checkpoint:
    """Read the model in `folder`; raises :exc:`CheckpointError`."""
    path = folder / "config.json"
    model, config = read_config(path)
    bos, eos = (_ids(path, config, f"{n}_token_id", model.vocab) for n in ("bos", "eos"))
    tensors = _stacked(folder, model, _flag(path, config, "tie_word_embeddings"))
    tokenizer = folder / "tokenizer.json"
    return Checkpoint(
        name=folder.resolve().parent.name if folder.name == "hf" else folder.resolve().name,
        config=model,
        tensors=tensors,
        bos=bos[0] if bos else None,
        eos=frozenset(eos),
        tokenizer=tokenizer if tokenizer.is_file() else None,
    )
