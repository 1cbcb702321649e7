"""Reader of Hugging Face folders: config.json and safetensors, of transformers 4 and 5."""

import json
from pathlib import Path

import ml_dtypes  # noqa: F401 (teaches numpy, and so safetensors, bfloat16)
import numpy as np
from safetensors import SafetensorError, safe_open

from intaglio.golden.checkpoint import Checkpoint, CheckpointError, shapes
from intaglio.hw.config import ModelConfig

__all__ = ["read"]

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
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no object of keys and values")
    return value


def _rope_theta(path: Path, config: dict) -> float:
    """Base of the rotary embedding; transformers 5 keeps it one level deeper than 4."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        key = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
        raise CheckpointError(f"{path}: {key}.rope_type {kind!r} is not supported, only 'default'")
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    if not isinstance(theta, int | float):
        raise CheckpointError(f"{path}: rope_theta must be a number, not {theta!r}")
    return float(theta)


def _refuse_unsupported(path: Path, config: dict) -> None:
    """Name the first key that asks for what the chip does not do."""
    model_type = config.get("model_type")
    if model_type != "llama":
        raise CheckpointError(f"{path}: model_type {model_type!r} is not supported, only 'llama'")
    allowed = {
        "hidden_act": ("silu",),
        "partial_rotary_factor": (None, 1, 1.0),
        "pretraining_tp": (None, 1),
        "quantization_config": (None,),
        "sliding_window": (None,),
    }
    for key, values in allowed.items():
        if config.get(key, values[0]) not in values:
            raise CheckpointError(
                f"{path}: {key} {config[key]!r} is not supported, only {values[-1]!r}"
            )


def _config(path: Path) -> tuple[ModelConfig, dict]:
    """The model's shape, and the whole of config.json."""
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
            norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            rope_theta=_rope_theta(path, config),
            attention_bias=bool(config.get("attention_bias", False)),
            mlp_bias=bool(config.get("mlp_bias", False)),
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return model, config


def _shards(folder: Path) -> list[Path]:
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.exists():
        weight_map = _json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{index} has no weight_map")
        return [folder / name for name in sorted(set(map(str, weight_map.values())))]
    if single.exists():
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
        try:
            with safe_open(shard, framework="numpy") as file:
                for name in file.keys():  # noqa: SIM118 (it is no mapping)
                    dtype = file.get_slice(name).get_dtype()
                    if dtype not in DTYPES:
                        raise CheckpointError(
                            f"{shard}: {name} has dtype {dtype}; use one of {', '.join(DTYPES)}"
                        )
                    tensors[name] = file.get_tensor(name).astype(np.float32)
        except FileNotFoundError:
            raise CheckpointError(f"{shard}, which the index names, is missing") from None
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


def _ids(value: object) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, int)]


def read(folder: Path) -> Checkpoint:
    """Read the model in `folder`; raises :exc:`CheckpointError`."""
    model, config = _config(folder / "config.json")
    tensors = _stacked(folder, model, bool(config.get("tie_word_embeddings", False)))
    tokenizer = folder / "tokenizer.json"
    bos = _ids(config.get("bos_token_id"))
    return Checkpoint(
        name=folder.resolve().parent.name if folder.name == "hf" else folder.resolve().name,
        config=model,
        tensors=tensors,
        bos=bos[0] if bos else None,
        eos=frozenset(_ids(config.get("eos_token_id"))),
        tokenizer=tokenizer if tokenizer.is_file() else None,
    )
