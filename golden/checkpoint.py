"""A model as it was trained: its shape and its float tensors, whatever file they came from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from intaglio.hw.config import ModelConfig

__all__ = ["Checkpoint", "CheckpointError", "refuse_pickle", "require_finite", "shapes"]

PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class CheckpointError(Exception):
    """A model file that cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Checkpoint:
    """A decoder of the Llama family.

    `tensors` are float32, with the names and shapes of :func:`shapes`; query and key rows are in
    the interleaved RoPE layout, in which the pairs that rotate together are neighbours.
    """

    name: str
    config: ModelConfig
    tensors: dict[str, np.ndarray]
    bos: int | None
    """Token that begins every sequence, if there is one."""
    eos: frozenset[int]
    """Tokens that end a sequence."""
    tokenizer: Path | None
    """The tokenizer's file, if there is one beside the model."""

    @property
    def parameters(self) -> int:
        """Weights of the checkpoint; a head that is the embedding counts once."""
        total = sum(tensor.size for tensor in self.tensors.values())
        head = self.tensors["head"]
        return total - (head.size if head is self.tensors["embedding"] else 0)


def shapes(c: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor; those of the layers are stacked."""
    stack = {
        "attention_norm": (c.dim,),
        "q": (c.q_dim, c.dim),
        "k": (c.kv_dim, c.dim),
        "v": (c.kv_dim, c.dim),
        "o": (c.dim, c.q_dim),
        "mlp_norm": (c.dim,),
        "gate": (c.hidden, c.dim),
        "up": (c.hidden, c.dim),
        "down": (c.dim, c.hidden),
    }
    if c.attention_bias:
        stack |= {f"{n}_bias": stack[n][:1] for n in ("q", "k", "v", "o")}
    if c.mlp_bias:
        stack |= {f"{n}_bias": stack[n][:1] for n in ("gate", "up", "down")}
    once = {"embedding": (c.vocab, c.dim), "norm": (c.dim,), "head": (c.vocab, c.dim)}
    return once | {name: (c.layers, *shape) for name, shape in stack.items()}


def refuse_pickle(path: Path, beginning: bytes) -> None:
    """Raise :exc:`CheckpointError` if a file that begins so is pickled."""
    if beginning.startswith(PICKLE_MAGIC):
        raise CheckpointError(
            f"{path} is a pickled PyTorch file, which could run any program: convert it to "
            "safetensors"
        )


def require_finite(path: Path, name: str, tensor: np.ndarray) -> None:
    """Raise :exc:`CheckpointError` where a weight is not a finite number."""
    bad = np.argwhere(~np.isfinite(tensor))
    if len(bad):
        place = ", ".join(map(str, bad[0]))
        raise CheckpointError(
            f"{path}: {name}[{place}] is {tensor[tuple(bad[0])]}, and {len(bad)} of its "
            f"{tensor.size} weights are not finite; the checkpoint is damaged"
        )
