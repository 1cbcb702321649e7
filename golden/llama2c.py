"""Reader of llama2.c checkpoints, version 0: seven integers, then the tensors in float32."""

import struct
from pathlib import Path

import numpy as np

from intaglio.golden.checkpoint import (
    Checkpoint,
    CheckpointError,
    refuse_pickle,
    require_finite,
    shapes,
)
from intaglio.hw.config import ModelConfig
from intaglio.hw.formats import ConfigError

__all__ = ["read"]

HEADER = struct.Struct("<7i")
LATER_MAGIC = 0x616B3432
"""First word ("ak42") of versions 1 and 2."""
LARGEST = 1 << 20
"""No dimension of a model that llama2.c wrote comes near this."""

ORDER = (
    "embedding", "attention_norm", "q", "k", "v", "o", "mlp_norm", "gate", "down", "up", "norm",
)  # fmt: skip
"""Tensors in the order of the file."""


def _config(path: Path, raw: bytes) -> tuple[ModelConfig, bool]:
    """Shape of the model, and whether the head is the embedding."""
    refuse_pickle(path, raw)
    if raw.startswith(b"GGUF"):
        raise CheckpointError(
            f"{path} is a GGUF file; only llama2.c's .bin and Hugging Face folders are read"
        )
    if len(raw) < HEADER.size:
        raise CheckpointError(
            f"{path} has {len(raw)} bytes, fewer than the {HEADER.size} of a llama2.c header"
        )
    dim, hidden, layers, heads, kv_heads, vocab, context = HEADER.unpack_from(raw)
    if dim == LATER_MAGIC:
        raise CheckpointError(
            f"{path} is llama2.c version {hidden}; only version 0 (export.py --version 0) is read"
        )
    numbers = (dim, hidden, layers, heads, kv_heads, abs(vocab), context)
    if not all(0 < n < LARGEST for n in numbers) or dim % heads:
        raise CheckpointError(
            f"{path} is not a llama2.c checkpoint: its header says dim {dim}, hidden {hidden}, "
            f"layers {layers}, heads {heads}, kv_heads {kv_heads}, vocab {vocab}, context {context}"
        )
    try:
        config = ModelConfig(
            dim=dim,
            hidden=hidden,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=dim // heads,
            vocab=abs(vocab),
            context=context,
        )
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return config, vocab > 0


def _tokenizer(path: Path) -> Path | None:
    """The tokenizer beside the model: of its own name, of the usual one, or called like one."""
    folder = path.parent
    candidates = [path.with_suffix(".tokenizer.bin"), folder / "tokenizer.bin"]
    candidates += [*sorted(folder.glob("tok*.bin")), folder / "tokenizer.json"]
    return next((c for c in candidates if c.is_file() and c != path), None)


def read(path: Path) -> Checkpoint:
    """Read the checkpoint `path`; raises :exc:`CheckpointError`."""
    raw = path.read_bytes()
    config, tied = _config(path, raw)
    sizes = shapes(config)
    layout = [(name, sizes[name]) for name in ORDER]
    # Tables of cosines and sines, which nobody reads any more.
    layout.append(("rope", (2, config.context, config.head_dim // 2)))
    if not tied:
        layout.append(("head", sizes["head"]))
    expected = HEADER.size + 4 * sum(int(np.prod(shape)) for _, shape in layout)
    if len(raw) != expected:
        what = "truncated" if len(raw) < expected else "longer than its header says"
        raise CheckpointError(
            f"{path} is {what}: {len(raw)} bytes, but a model of this shape has {expected}"
        )
    tensors, offset = {}, HEADER.size
    for name, shape in layout:
        count = int(np.prod(shape))
        tensors[name] = np.frombuffer(raw, "<f4", count, offset).reshape(shape)
        offset += 4 * count
        if name != "rope":
            require_finite(path, name, tensors[name])
    del tensors["rope"]
    if tied:
        tensors["head"] = tensors["embedding"]
    # llama2.c begins with token 1 and stops where a story would begin or end.
    return Checkpoint(path.stem, config, tensors, 1, frozenset({1, 2}), _tokenizer(path))
