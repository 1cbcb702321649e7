"""Small random models, for tests that need a shape and not a story."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio.golden.checkpoint import Checkpoint
from intaglio.golden.etch import Etched, etch
from intaglio.hw.config import ChipConfig, Design, ModelConfig

__all__ = ["SHARED", "needs_shared", "random_checkpoint", "random_etched"]

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real checkpoints and other implementations' vectors, beside the checkout."""

needs_shared = pytest.mark.skipif(
    not (SHARED / "models" / "stories260K").is_dir(),
    reason="the shared models are not there: expected in ../shared/models",
)

TINY = {
    "dim": 32, "hidden": 48, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 8, "vocab": 30,
    "context": 24,
}  # fmt: skip


def random_checkpoint(seed: int = 1, **shape: Any) -> Checkpoint:
    """A checkpoint with normal weights; keywords replace those of a tiny shape."""
    config = ModelConfig(**{**TINY, **shape})
    rng = np.random.default_rng(seed)
    c, stack = config, config.layers

    def normal(*size: int, scale: float = 0.0) -> np.ndarray:
        return (rng.normal(size=size) * (scale or size[-1] ** -0.5)).astype(np.float32)

    tensors = {
        "embedding": normal(c.vocab, c.dim, scale=1.0),
        "attention_norm": 1 + normal(stack, c.dim, scale=0.1),
        "q": normal(stack, c.q_dim, c.dim) * 2,
        "k": normal(stack, c.kv_dim, c.dim) * 2,
        "v": normal(stack, c.kv_dim, c.dim),
        "o": normal(stack, c.dim, c.q_dim),
        "mlp_norm": 1 + normal(stack, c.dim, scale=0.1),
        "gate": normal(stack, c.hidden, c.dim) * 2,
        "up": normal(stack, c.hidden, c.dim),
        "down": normal(stack, c.dim, c.hidden),
        "norm": 1 + normal(c.dim, scale=0.1),
        "head": normal(c.vocab, c.dim),
    }
    sizes = {"q": c.q_dim, "k": c.kv_dim, "v": c.kv_dim, "o": c.dim}
    if c.attention_bias:
        tensors |= {f"{n}_bias": normal(stack, size, scale=0.3) for n, size in sizes.items()}
    sizes = {"gate": c.hidden, "up": c.hidden, "down": c.dim}
    if c.mlp_bias:
        tensors |= {f"{n}_bias": normal(stack, size, scale=0.3) for n, size in sizes.items()}
    return Checkpoint("random", config, tensors, None, frozenset(), None)


def random_etched(chip: ChipConfig | None = None, **shape) -> Etched:
    """The random model, etched."""
    checkpoint = random_checkpoint(**shape)
    return etch(checkpoint, Design(checkpoint.config, chip or ChipConfig()))
