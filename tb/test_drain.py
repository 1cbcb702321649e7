"""The drain against golden: jobs of all modes, of two groups whose programs are interleaved."""

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from intaglio.golden import small_float
from intaglio.golden.drain import gate, rotate, scale
from intaglio.golden.etch import Etched
from intaglio.golden.images import images
from intaglio.hw.config import LAYER_LINEARS, ChipConfig, Linear
from intaglio.hw.drain import Drain
from intaglio.hw.formats import FloatFormat
from intaglio.hw.layouts import DrainMode, Layouts
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import random_etched

MODES = {
    Linear.QKV: DrainMode.QKV,
    Linear.O: DrainMode.RESIDUAL,
    Linear.GATE_UP: DrainMode.GATE,
    Linear.DOWN: DrainMode.RESIDUAL,
    Linear.HEAD: DrainMode.HEAD,
}


class NormedAfterResidual(wiring.Component):
    """The drain, with each 1/rms held back until the residual that it is of has left."""

    def __init__(self, drain: Drain):
        self.drain = drain
        super().__init__(drain.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.drain = drain = self.drain
        owed = Signal(4)
        mode = drain.o.p.tag.mode
        residual = (mode == DrainMode.EMBED) | (mode == DrainMode.RESIDUAL)
        written = drain.o.valid & drain.o.ready & residual & drain.o.p.tag.end
        m.d.sync += owed.eq(owed + written - (self.inverse.valid & self.inverse.ready))
        m.d.comb += [
            drain.inverse.payload.eq(self.inverse.payload),
            drain.inverse.valid.eq(self.inverse.valid & owed.any()),
            self.inverse.ready.eq(drain.inverse.ready & owed.any()),
        ]
        for name in ("jobs", "results", "embedding"):
            connect(m, flipped(getattr(self, name)), getattr(drain, name))
        for name in ("o", "logits"):
            connect(m, getattr(drain, name), flipped(getattr(self, name)))
        return m


class GoldenDrain:
    """Payloads of all streams, job by job, from golden arithmetic."""

    def __init__(self, etched: Etched, seed: int):
        self.etched, self.design = etched, etched.design
        self.fmt, self.rows = self.design.chip.small_float, self.design.chip.rows
        self.rng = np.random.default_rng(seed)
        self.residual, self.inverse = {}, {}
        names = ("jobs", "results", "embedding", "inverse", "o", "logits")
        self.ports: dict[str, list] = {name: [] for name in names}

    def draw(self, count: int) -> np.ndarray:
        """Small floats (rows, count): of one size or of many, some of them corners."""
        fmt, size = self.fmt, (self.rows, count)
        spread = self.rng.choice([0, 3])
        x = self.rng.normal(size=size) * np.exp(spread * self.rng.normal(size=size))
        largest, smallest = fmt.largest, fmt.smallest
        corners = [0, largest, -largest, smallest, -smallest, 1, -1, 20, -20]
        at_corner = self.rng.random(size) < 0.15
        x = np.where(at_corner, self.rng.choice(corners, size), x)
        return small_float.round_float(fmt, x)

    def beats(self, x: np.ndarray) -> list:
        """Payloads of pairs: values (rows, n) -> (n / 2, rows, 2) codes."""
        return small_float.encode(self.fmt, x).reshape(len(x), -1, 2).swapaxes(0, 1).tolist()

    def job(self, linear: Linear | None, group: int, layer: int, positions: np.ndarray) -> None:
        """Append one job, all that goes in with it and all that comes of it."""
        mode = DrainMode.EMBED if linear is None else MODES[linear]
        self.ports["jobs"].append({
            "mode": mode.value, "down": int(linear is Linear.DOWN), "group": group, "layer": layer,
            "positions": positions.tolist(),
        })  # fmt: skip
        if linear is None:
            y = self.draw(self.design.model.dim)
            self.ports["embedding"] += self.beats(y)
        else:
            y = self._results(linear, group, layer)
        if mode is DrainMode.HEAD:
            pairs = self.beats(y)
            self.ports["logits"] += [
                {"pairs": p, "last": int(n == len(pairs) - 1), "group": group}
                for n, p in enumerate(pairs)
            ]
            return
        cached = np.zeros(y.shape[1] // 2, int)
        block = 32
        if mode is DrainMode.QKV:
            y, cached = self._rotated(y, positions)
            block = self.design.model.head_block
        elif mode is DrainMode.GATE:
            y = gate(self.fmt, y.reshape(self.rows, -1, 2))
        elif mode is DrainMode.RESIDUAL:
            y = small_float.add(self.fmt, self.residual[group], y)
        self._leave(mode, group, self.beats(y), cached, block)
        if mode in (DrainMode.EMBED, DrainMode.RESIDUAL):
            self._norm(group, y)

    def _results(self, linear: Linear, group: int, layer: int) -> np.ndarray:
        """What comes from the array, scaled; with padding outputs that must be dropped."""
        shape, matrix = self.design.linear(linear), self.etched.matrices[linear]
        y = self.draw(shape.tiles * self.design.chip.outputs)
        self.ports["results"] += self.beats(y)
        bias = None if matrix.bias is None else matrix.bias[layer]
        scales = MODES[linear] is not DrainMode.RESIDUAL
        inverse = self.inverse[group] if scales else np.ones((self.rows, 1))
        return scale(self.fmt, y[:, : shape.outputs + shape.outputs % 2], inverse, bias)

    def _rotated(self, y: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Queries and keys of each word rotated; which pairs go to the cache."""
        design, half = self.design, self.design.model.head_dim // 2
        words = y.reshape(self.rows, design.lane_groups, -1, half, 2)
        queries, keys = design.q_lanes, design.kv_lanes
        turning = words[:, :, : queries + keys]
        rope = self.etched.rope[positions][:, None, None]
        turned = rotate(self.fmt, turning, np.broadcast_to(rope, turning.shape))
        words = np.concatenate([turned, words[:, :, queries + keys :]], axis=2)
        cached = np.zeros(words.shape[1:4], int)
        cached[:, queries:] = 1
        return words.reshape(self.rows, -1), cached.ravel()

    def _leave(self, mode: DrainMode, group: int, pairs: list, cached, block: int) -> None:
        # The last block of 16 pairs is announced with its first slice.
        last_block = (len(pairs) - 1) // 16 * 16
        announced = min(last_block + self.design.chip.depth // 2, len(pairs)) - 1
        for n, p in enumerate(pairs):
            end = n == len(pairs) - 1
            self.ports["o"].append({
                "pairs": p,
                "last": int(end or n % (block // 2) == block // 2 - 1),
                "tag": {
                    "mode": mode.value, "group": group, "cached": int(cached[n]),
                    "announce": int(n == announced), "end": int(end),
                },
            })  # fmt: skip

    def _norm(self, group: int, residual: np.ndarray) -> None:
        """Keep the residual and answer it with a scale, which need not be that of the norm."""
        self.residual[group] = residual
        size = self.rng.choice([1.0, 1e-20, 1e20], p=[0.8, 0.1, 0.1])
        inverse = np.exp(self.rng.normal(size=(self.rows, 1))) * size
        self.inverse[group] = inverse = small_float.round_float(self.fmt, inverse)
        codes = small_float.encode(self.fmt, inverse)[:, 0].tolist()
        self.ports["inverse"].append({"inverse": codes, "tag": group})


def program(layers: int, tokens: int) -> list[tuple[Linear | None, int]]:
    """What one group does for its tokens: (linear layer or embedding, layer)."""
    each = [(linear, layer) for layer in range(layers) for linear in LAYER_LINEARS]
    return [(None, 0), *each, (Linear.HEAD, 0)] * tokens


@ON_BOTH
@pytest.mark.parametrize(
    ("fmt", "shape", "kv_lanes"),
    [
        (FloatFormat(), {}, 0),
        # Every linear layer ends in padding, heads have several blocks.
        (FloatFormat(8, 10), {"dim": 34, "hidden": 50, "heads": 3, "kv_heads": 3, "head_dim": 12,
                              "vocab": 29, "attention_bias": True, "mlp_bias": True}, 1),
    ],
    ids=["no biases", "padding, biases"],
)  # fmt: skip
def test_drain(fmt, shape, kv_lanes, simulator, tmp_path):
    outputs = 8 if shape else 4
    chip = ChipConfig(
        rows=2, groups=2, outputs=outputs, depth=4, small_float=fmt, kv_lanes=kv_lanes
    )
    etched = random_etched(chip, **shape)
    design = etched.design
    golden = GoldenDrain(etched, seed=1)
    left = [program(design.model.layers, tokens=2) for _ in range(chip.groups)]
    positions = golden.rng.integers(0, design.context, (chip.groups, 2, chip.rows))
    positions[0, 0] = 0, design.context - 1
    while any(left):
        group = int(golden.rng.choice([g for g, operations in enumerate(left) if operations]))
        token = int(len(left[group]) <= len(program(design.model.layers, 1)))
        linear, layer = left[group].pop(0)
        golden.job(linear, group, layer, positions[group, token])
    unit = NormedAfterResidual(
        Drain(design, Layouts(design), rope=images(etched).rope, bias=images(etched).bias)
    )
    outputs = {name: golden.ports.pop(name) for name in ("o", "logits")}
    check(unit, golden.ports, outputs, simulator, tmp_path)
