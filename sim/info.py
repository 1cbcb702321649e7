"""What is etched: shapes, parameters, multipliers, bits."""

from itertools import pairwise
from typing import Any

from rich.table import Table
from rich.text import Text

from intaglio.golden.checkpoint import Checkpoint
from intaglio.hw.config import LAYER_LINEARS, Design
from intaglio.hw.formats import BLOCK
from intaglio.hw.shared.memory_map import MemoryMap, weight_words

__all__ = ["as_lines", "as_table", "describe", "memory_bits"]


def memory_bits(design: Design) -> dict[str, int]:
    """Bits of each memory of the chip, by name."""
    m, c = design.model, design.chip
    if design.shared:
        places = MemoryMap(design)
        starts = [0, places.embedding, places.rope, places.cache, places.words]
        names = "weights", "embedding", "rope", "keys and values"
        return {
            name: 32 * (end - start)
            for name, (start, end) in zip(names, pairwise(starts), strict=True)
        }
    word = c.outputs * c.depth * c.weights.bits + 8 * design.exponents_per_word
    lane_exponents = 8 * design.kv_lanes * design.head_blocks
    elements = design.kv_lanes * m.head_dim * c.kv.bits
    biased = sum(design.linear(linear).outputs for linear in LAYER_LINEARS)
    stored = sum(-(-n // BLOCK) for n in (m.dim, max(m.q_dim, m.hidden)))
    query = design.q_lanes * (m.head_dim * c.activations.bits + 8 * design.head_blocks)
    bits = {
        "weights": design.weight_words * word,
        "embedding": m.vocab * (m.dim * c.weights.bits + 8 * -(-m.dim // BLOCK)),
        "rope": design.context * m.head_dim * c.small_float.bits,
        "bias": m.layers * biased * c.small_float.bits if m.has_bias else 0,
        "keys": c.engines * design.cache_words * (elements + 2 * lane_exponents),
        "values": c.engines * design.cache_words * elements,
        "activations": c.groups * c.rows * stored * (BLOCK * c.activations.bits + 8),
        "residual": c.groups * c.rows * m.dim * c.small_float.bits,
        "queries": c.groups * c.rows * design.lane_groups * query,
    }
    return {name: count for name, count in bits.items() if count}


def describe(checkpoint: Checkpoint, design: Design) -> dict[str, Any]:
    """Everything worth knowing about a model in a chip, ready for JSON."""
    m, c = design.model, design.chip
    multipliers = {
        "array": c.rows * c.outputs * c.depth,
        "attention": 2 * c.engines * design.q_lanes * m.head_dim,
    }
    memories = memory_bits(design)
    return {
        "model": {
            **{k: getattr(m, k) for k in ("dim", "hidden", "layers", "heads", "kv_heads")},
            **{k: getattr(m, k) for k in ("head_dim", "vocab", "context")},
        },
        "parameters": checkpoint.parameters,
        "formats": {
            "weights": c.weights.name,
            "activations": c.activations.name,
            "kv": c.kv.name,
            "small_float": str(c.small_float),
        },
        "chip": {
            **{
                k: getattr(c, k)
                for k in ("rows", "outputs", "depth", "groups", "engines", "window")
            },
            **{k: getattr(design, k) for k in ("slots", "context", "kv_lanes")},
        },
        "multipliers": {"shared": c.depth} if design.shared else multipliers,
        "memory_bits": {**memories, "total": sum(memories.values())},
        "weight_words_per_step": weight_words(design),
    }


def as_lines(description: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each entry, sub-entries joined."""
    lines = []
    for name, value in description.items():
        if isinstance(value, dict):
            value = ", ".join(
                f"{k.replace('_', ' ')} {v:,}" if isinstance(v, int) else f"{k} {v}"
                for k, v in value.items()
            )
        elif isinstance(value, int):
            value = f"{value:,}"
        lines.append((name.replace("_", " "), str(value)))
    return lines


def as_table(title: str, description: dict[str, Any]) -> Table:
    """A table for the terminal."""
    table = Table(title=Text(title), show_header=False, title_justify="left")
    for name, value in as_lines(description):
        table.add_row(name, Text(value))
    return table
