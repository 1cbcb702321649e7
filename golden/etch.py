"""The compiler: folds a checkpoint into the matrices, tables and constants that are etched.

Folds (each exact in real arithmetic, done here in float64 before anything is rounded):

- a norm's gain goes into the columns of the linear layer behind it;
- the softmax scale ``1 / sqrt(head_dim)`` and ``log2(e)`` go into the query rows, so that
  attention is base 2;
- query, key and value rows are put in the order in which the drain and the cache want them, gate
  and up rows alternate, and RoPE pairs are neighbours already.
"""

import math
from dataclasses import dataclass

import numpy as np

from intaglio.golden import mx, small_float
from intaglio.golden.checkpoint import Checkpoint
from intaglio.hw.config import Design, Linear
from intaglio.hw.formats import ElementFormat

__all__ = ["Etched", "Matrix", "etch", "qkv_order"]


@dataclass(frozen=True)
class Matrix:
    """Quantised matrices of one kind, one for each layer.

    `integers` (layers, outputs, blocks, 32) and `exponents` (layers, outputs, blocks; E8M0 codes)
    are int64; `bias` (layers, outputs) holds small-float values, or is None.
    """

    integers: np.ndarray
    exponents: np.ndarray
    bias: np.ndarray | None


@dataclass(frozen=True)
class Etched:
    """A compiled model: all that distinguishes this chip from another of the same design."""

    name: str
    design: Design
    matrices: dict[Linear, Matrix]
    embedding: Matrix
    """One "layer" with a row for each token of the vocabulary."""
    rope: np.ndarray
    """(context, head_dim / 2, 2): cosine and sine, small-float values."""
    inverse_dim: float
    """``1 / dim`` as a small float."""
    eps: float
    """The norms' epsilon as a small float."""
    eos: frozenset[int]
    bos: int | None


def qkv_order(design: Design) -> np.ndarray:
    """Rows of the stacked (q, k, v) matrix in etched order.

    For each word of the cache: its query heads, then its key heads, then its value heads.
    """
    m = design.model

    def heads(first: int, count: int) -> list[int]:
        return list(range(first * m.head_dim, (first + count) * m.head_dim))

    order = []
    for group in range(design.lane_groups):
        order += heads(group * design.q_lanes, design.q_lanes)
        order += heads(m.heads + group * design.kv_lanes, design.kv_lanes)
        order += heads(m.heads + m.kv_heads + group * design.kv_lanes, design.kv_lanes)
    return np.array(order)


def _interleave(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rows (axis 1) of `a` and `b` in turn."""
    return np.stack([a, b], axis=2).reshape(a.shape[0], -1, *a.shape[2:])


def _folded(checkpoint: Checkpoint, design: Design) -> dict[Linear, np.ndarray]:
    """Weights (layers, outputs, inputs) after the folds, float64."""
    t = {name: tensor.astype(np.float64) for name, tensor in checkpoint.tensors.items()}
    attention_gain, mlp_gain = t["attention_norm"][:, None], t["mlp_norm"][:, None]
    query_scale = math.log2(math.e) / math.sqrt(design.model.head_dim)
    qkv = np.concatenate([t["q"] * query_scale, t["k"], t["v"]], axis=1) * attention_gain
    return {
        Linear.QKV: qkv[:, qkv_order(design)],
        Linear.O: t["o"],
        Linear.GATE_UP: _interleave(t["gate"], t["up"]) * mlp_gain,
        Linear.DOWN: t["down"],
        Linear.HEAD: (t["head"] * t["norm"])[None],
    }


def _biases(checkpoint: Checkpoint, design: Design) -> dict[Linear, np.ndarray]:
    """Biases (layers, outputs) in the order of the outputs; layers without one are missing."""
    t = {name: tensor.astype(np.float64) for name, tensor in checkpoint.tensors.items()}
    biases = {}
    if design.model.attention_bias:
        query_scale = math.log2(math.e) / math.sqrt(design.model.head_dim)
        qkv = np.concatenate([t["q_bias"] * query_scale, t["k_bias"], t["v_bias"]], axis=1)
        biases |= {Linear.QKV: qkv[:, qkv_order(design)], Linear.O: t["o_bias"]}
    if design.model.mlp_bias:
        gate_up = _interleave(t["gate_bias"], t["up_bias"])
        biases |= {Linear.GATE_UP: gate_up, Linear.DOWN: t["down_bias"]}
    return biases


def _quantised(fmt: ElementFormat, weights: np.ndarray, bias: np.ndarray | None) -> Matrix:
    return Matrix(*mx.quantise(fmt, mx.blocks(weights)), bias)


def _rope_table(design: Design) -> np.ndarray:
    m = design.model
    frequency = m.rope_theta ** (-np.arange(0, m.head_dim, 2) / m.head_dim)
    angle = np.arange(design.context)[:, None] * frequency
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def etch(checkpoint: Checkpoint, design: Design) -> Etched:
    """Compile `checkpoint`, whose shape is that of ``design.model``, for ``design.chip``."""
    fmt, weights = design.chip.small_float, design.chip.weights
    biases = _biases(checkpoint, design)
    matrices = {}
    for linear, matrix in _folded(checkpoint, design).items():
        bias = biases.get(linear)
        rounded = None if bias is None else small_float.round_float(fmt, bias)
        matrices[linear] = _quantised(weights, matrix, rounded)
    inverse_dim, eps = small_float.round_float(
        fmt, np.array([1 / design.model.dim, design.model.norm_eps])
    ).tolist()
    return Etched(
        name=checkpoint.name,
        design=design,
        matrices=matrices,
        embedding=_quantised(weights, checkpoint.tensors["embedding"][None], None),
        rope=small_float.round_float(fmt, _rope_table(design)),
        inverse_dim=inverse_dim,
        eps=eps,
        eos=checkpoint.eos,
        bos=checkpoint.bos,
    )
