"""The array by itself: matrix products one after the other, counted cycle by cycle.

Eight products of 64 x 64 x 64, as the layers of an attention block have them, are the workload on
which ITA (Islamoglu et al., arXiv 2307.03493) reports how busy its multipliers are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from amaranth import Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.sim import Simulator
from rich.table import Table
from rich.text import Text

from intaglio.golden import small_float
from intaglio.golden.images import encode, pack_words
from intaglio.golden.matmul import block_accumulate, matmul_array
from intaglio.hw.accumulate import BlockAccumulate
from intaglio.hw.activations import ActivationStore
from intaglio.hw.array import MatmulArray, exponents_per_word
from intaglio.hw.config import ChipConfig
from intaglio.hw.formats import BLOCK, ConfigError
from intaglio.hw.layouts import Region, index
from intaglio.hw.quantiser import pairs_layout
from intaglio.hw.weights import EtchedROM

__all__ = ["Gemm", "as_table", "multiply"]

SIZE = 64
"""Rows, columns, and vectors of each product."""
COUNT = 8
"""Products one after the other."""


class LinearLayers(wiring.Component):
    """Weights, activations, array and accumulation as in the chip; results are always taken."""

    def __init__(self, chip: ChipConfig, words: list[int]):
        self.chip, self.words = chip, words
        self.batches = SIZE // chip.rows
        self.weight_job = data.StructLayout({
            "address": index(len(words)),
            "words": unsigned(len(words).bit_length()),
        })
        self.feed_job = data.StructLayout({
            "group": index(self.batches),
            "region": Region,
            "blocks": unsigned(8),
            "tiles": unsigned(8),
        })
        elements = data.ArrayLayout(data.ArrayLayout(chip.activations.bits, chip.depth), chip.rows)
        write = data.StructLayout({
            "group": index(self.batches),
            "word": index(SIZE // chip.depth),
            "elements": elements,
            "exponents": data.ArrayLayout(8, chip.rows),
        })
        super().__init__({
            "writes": In(stream.Signature(write)),
            "weight_jobs": In(stream.Signature(self.weight_job)),
            "feed_jobs": In(stream.Signature(self.feed_job)),
            "moved": Out(1),
            "summed": Out(1),
            "o": Out(stream.Signature(pairs_layout(chip.small_float, chip.rows))),
        })

    def elaborate(self, platform):
        m = Module()
        chip = self.chip
        m.submodules.weights = weights = EtchedROM(
            chip.weights, outputs=chip.outputs, depth=chip.depth,
            exponents=exponents_per_word(chip.outputs, chip.depth), image=self.words,
            job=self.weight_job,
        )  # fmt: skip
        m.submodules.activations = store = ActivationStore(
            rows=chip.rows, groups=self.batches, depth=chip.depth, bits=chip.activations.bits,
            residual_words=SIZE // chip.depth, inner_words=0, word=index(SIZE // chip.depth),
            job=self.feed_job,
        )  # fmt: skip
        m.submodules.array = array = MatmulArray(
            rows=chip.rows, outputs=chip.outputs, depth=chip.depth,
            weight_bits=chip.weights.integer_bits, activation_bits=chip.activations.bits,
        )  # fmt: skip
        m.submodules.accumulate = accumulate = BlockAccumulate(
            chip.small_float, rows=chip.rows, outputs=chip.outputs, depth=chip.depth,
            sum_bits=array.sum_bits,
            fraction_bits=chip.weights.fraction_bits + chip.activations.fraction_bits,
        )  # fmt: skip
        connect(m, flipped(self.weight_jobs), weights.jobs)
        connect(m, flipped(self.feed_jobs), store.jobs)
        connect(m, weights.o, array.weights)
        connect(m, store.o, array.activations)
        connect(m, array.o, accumulate.i)
        connect(m, accumulate.o, flipped(self.o))
        write = store.writes[0]
        m.d.comb += [
            store.done.ready.eq(1),
            write.valid.eq(self.writes.valid),
            self.writes.ready.eq(write.ready),
            write.p.rows.eq(-1),
            *(getattr(write.p, k).eq(getattr(self.writes.p, k)) for k in ("group", "word")),
            *(getattr(write.p, k).eq(getattr(self.writes.p, k)) for k in ("elements", "exponents")),
            self.moved.eq(array.weights.valid & array.weights.ready),
            self.summed.eq(array.o.valid & array.o.ready),
        ]
        return m


@dataclass(frozen=True)
class Gemm:
    """Cycles of all products, and of the useful work in them."""

    multipliers: int
    ideal: int
    """Cycles if every multiplier had a useful product in each."""
    sums: int
    """From the first operands that the array took to the last exact sums that left it."""
    results: int
    """From there to the last pair of small floats."""
    steady: float
    """Share of useful work between the first operands and the last."""


@dataclass(frozen=True)
class Operands:
    """Random operands with the exponents of their blocks."""

    weights: np.ndarray
    """(products, outputs, blocks, 32)"""
    weight_exponents: np.ndarray
    x: np.ndarray
    """(vectors, blocks, 32)"""
    x_exponents: np.ndarray

    def words(self, chip: ChipConfig) -> list[int]:
        """Weight words of all products."""
        per_word, turns = exponents_per_word(chip.outputs, chip.depth), BLOCK // chip.depth
        shape = COUNT * (SIZE // chip.outputs), chip.outputs, SIZE // BLOCK
        elements = self.weights.reshape(*shape, turns, chip.depth).transpose(0, 2, 3, 1, 4)
        scales = self.weight_exponents.reshape(shape).transpose(0, 2, 1)
        scales = np.pad(scales, ((0, 0), (0, 0), (0, per_word * turns - chip.outputs)))
        count = shape[0] * shape[2] * turns
        codes = encode(chip.weights, elements.reshape(count, -1))
        return pack_words((codes, chip.weights.bits), (scales.reshape(count, per_word), 8))

    def results(self, chip: ChipConfig) -> np.ndarray:
        """What golden says: small-float codes (products, vectors, outputs)."""
        fraction_bits = chip.weights.fraction_bits + chip.activations.fraction_bits
        return np.stack([
            small_float.encode(
                chip.small_float,
                block_accumulate(
                    chip.small_float, matmul_array(self.x, weights), self.x_exponents, exponents,
                    fraction_bits,
                ),
            )
            for weights, exponents in zip(self.weights, self.weight_exponents, strict=True)
        ])  # fmt: skip


def _operands(chip: ChipConfig) -> Operands:
    rng = np.random.default_rng(1)
    blocks = SIZE // BLOCK
    limits = chip.weights.largest, chip.activations.largest
    return Operands(
        rng.integers(-limits[0], limits[0] + 1, (COUNT, SIZE, blocks, BLOCK)),
        rng.integers(120, 128, (COUNT, SIZE, blocks)),
        rng.integers(-limits[1], limits[1] + 1, (SIZE, blocks, BLOCK)),
        rng.integers(120, 128, (SIZE, blocks)),
    )


def as_table(measured: Gemm) -> Table:
    """A table for the terminal."""
    title = f"{COUNT} products of {SIZE} x {SIZE} x {SIZE} on {measured.multipliers:,} multipliers"
    table = Table(title=Text(title), title_justify="left")
    for name in ("from the first operands to", "cycles", "useful"):
        table.add_column(name, justify="left" if name.startswith("from") else "right")
    for name, cycles in (
        ("the last operands", measured.ideal / measured.steady),
        ("the last exact sums", measured.sums),
        ("the last results, small floats", measured.results),
    ):
        table.add_row(name, f"{cycles:,.0f}", f"{measured.ideal / cycles:.1%}")
    return table


def multiply(chip: ChipConfig, report: Callable[[str], None] = lambda stage: None) -> Gemm:
    """Run the products through the RTL in Amaranth's simulator, and compare every result.

    Raises :exc:`ConfigError` if the array does not divide them, and :exc:`AssertionError` if a
    result is not golden's.
    """
    if SIZE % chip.rows or SIZE % chip.outputs:
        raise ConfigError(
            f"Products of {SIZE} x {SIZE} need rows and outputs that divide {SIZE}, not "
            f"{chip.rows} and {chip.outputs}"
        )
    operands = _operands(chip)
    unit = LinearLayers(chip, operands.words(chip))
    words = SIZE * SIZE // (chip.outputs * chip.depth)
    moved, summed, pairs = [], [], []
    left = COUNT * unit.batches * (SIZE // 2)

    async def load(ctx):
        x = operands.x.reshape(unit.batches, chip.rows, -1, chip.depth)
        for group in range(unit.batches):
            mine = slice(group * chip.rows, (group + 1) * chip.rows)
            for word in range(SIZE // chip.depth):
                payload = {
                    "group": group,
                    "word": word,
                    "elements": (x[group, :, word] & (1 << chip.activations.bits) - 1).tolist(),
                    "exponents": operands.x_exponents[mine, word * chip.depth // BLOCK].tolist(),
                }
                await _send(ctx, unit.writes, payload)
        for product in range(COUNT):
            report(f"simulating product {product + 1} of {COUNT}")
            for group in range(unit.batches):
                ctx.set(unit.weight_jobs.payload, {"address": product * words, "words": words})
                job = {"region": Region.RESIDUAL, "blocks": SIZE // BLOCK,
                       "tiles": SIZE // chip.outputs}  # fmt: skip
                ctx.set(unit.feed_jobs.payload, {"group": group, **job})
                await _send_both(ctx, unit.weight_jobs, unit.feed_jobs)

    async def watch(ctx):
        ctx.set(unit.o.ready, 1)
        cycle = 0
        sampled = ctx.tick().sample(unit.moved, unit.summed, unit.o.valid, unit.o.payload)
        async for _, _, has_moved, has_summed, valid, payload in sampled:
            cycle += 1
            moved.extend([cycle] * has_moved)
            summed.extend([cycle] * has_summed)
            if valid:
                pairs.append((cycle, payload))
            if len(pairs) == left:
                return

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(load)
    simulator.add_testbench(watch)
    simulator.run()

    got = np.array([[[half.as_bits() for half in row] for row in p] for _, p in pairs])
    got = got.reshape(COUNT, unit.batches, SIZE // 2, chip.rows, 2).swapaxes(2, 3)
    np.testing.assert_array_equal(got.reshape(COUNT, SIZE, SIZE), operands.results(chip))
    return Gemm(
        multipliers=chip.rows * chip.outputs * chip.depth,
        ideal=COUNT * unit.batches * words,
        sums=summed[-1] - moved[0] + 1,
        results=pairs[-1][0] - moved[0] + 1,
        steady=len(moved) / (moved[-1] - moved[0] + 1),
    )


async def _send(ctx, port, payload) -> None:
    ctx.set(port.payload, payload)
    ctx.set(port.valid, 1)
    await ctx.tick().until(port.ready)
    ctx.set(port.valid, 0)


async def _send_both(ctx, *ports) -> None:
    """Offer to both; each takes in its own time."""
    waiting = list(ports)
    for port in ports:
        ctx.set(port.valid, 1)
    while waiting:
        _, _, *ready = await ctx.tick().sample(*(port.ready for port in waiting))
        for port, taken in zip(list(waiting), ready, strict=True):
            if taken:
                ctx.set(port.valid, 0)
                waiting.remove(port)
