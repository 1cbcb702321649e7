"""The transformer as the paper has it, in floating point; what the chip's arithmetic is judged by.

Shapes: T tokens, H heads, D elements of a head. Nothing is quantised.
"""

from collections.abc import Iterator

import numpy as np

from intaglio.golden.checkpoint import Checkpoint

__all__ = ["attention", "forward", "generate", "rms_norm", "rope", "silu", "softmax"]


def rms_norm(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    """(T, dim) -> (T, dim)."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * gain


def rope(x: np.ndarray, theta: float) -> np.ndarray:
    """Rotate neighbouring pairs of (T, H, D) by angles that grow with the position."""
    angle = np.arange(len(x))[:, None] * theta ** (-np.arange(0, x.shape[-1], 2) / x.shape[-1])
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack([a * cosine - b * sine, a * sine + b * cosine], axis=-1).reshape(x.shape)


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Causal; q (T, H, D), k and v (T, KV heads, D), each shared by H / KV heads: (T, H, D)."""
    share = q.shape[1] // k.shape[1]
    k, v = k.repeat(share, axis=1), v.repeat(share, axis=1)
    scores = q.swapaxes(0, 1) @ k.transpose(1, 2, 0) / np.sqrt(q.shape[-1])  # (H, T, T)
    scores[:, np.triu(np.ones((len(q), len(q)), bool), 1)] = -np.inf
    return (softmax(scores) @ v.swapaxes(0, 1)).swapaxes(0, 1)


def silu(x: np.ndarray) -> np.ndarray:
    """``x * sigmoid(x)``."""
    return x / (1 + np.exp(-x))


def forward(checkpoint: Checkpoint, tokens: np.ndarray) -> np.ndarray:
    """Logits (T, vocab) of a sequence (T,), in float64."""
    c = checkpoint.config
    t = {name: tensor.astype(np.float64) for name, tensor in checkpoint.tensors.items()}

    def linear(name: str, layer: int, x: np.ndarray) -> np.ndarray:
        bias = t.get(f"{name}_bias")
        return x @ t[name][layer].T + (0 if bias is None else bias[layer])

    def heads(name: str, layer: int, x: np.ndarray) -> np.ndarray:
        return linear(name, layer, x).reshape(len(x), -1, c.head_dim)

    x = t["embedding"][tokens]
    for layer in range(c.layers):
        h = rms_norm(x, t["attention_norm"][layer], c.norm_eps)
        q, k = (rope(heads(name, layer, h), c.rope_theta) for name in "qk")
        context = attention(q, k, heads("v", layer, h))
        x = x + linear("o", layer, context.reshape(len(x), -1))
        h = rms_norm(x, t["mlp_norm"][layer], c.norm_eps)
        hidden = silu(linear("gate", layer, h)) * linear("up", layer, h)
        x = x + linear("down", layer, hidden)
    return rms_norm(x, t["norm"], c.norm_eps) @ t["head"].T


def generate(
    checkpoint: Checkpoint, prompt: list[int], most: int, rng: np.random.Generator | None = None
) -> Iterator[int]:
    """Tokens after `prompt`: the likeliest ones, or drawn with `rng`; ends with the sequence."""
    tokens = list(prompt)
    while len(tokens) < most:
        logits = forward(checkpoint, np.array(tokens))[-1]
        token = int(logits.argmax())
        if rng is not None:
            token = int(rng.choice(len(logits), p=softmax(logits)))
        if token in checkpoint.eos:
            return
        tokens.append(token)
        yield token
