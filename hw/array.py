"""The matmul array: `rows` x `outputs` x `depth` multipliers."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.hw.dsp import LATENCY, dsp_product
from intaglio.hw.formats import BLOCK
from intaglio.hw.pipeline import copy, delay, sum_tree

COLUMNS = 2
"""Outputs that share registers for what the array broadcasts."""
NEAR = 8
"""Outputs that share the register of the activations before those."""

FLAGS = data.StructLayout({"valid": 1, "start": 1, "end": 1})
"""Whether there is a word, whether it is the first of its block, and whether the last is there."""

__all__ = ["MatmulArray", "exponents_per_word", "sums_layout"]


def exponents_per_word(outputs: int, depth: int) -> int:
    """Weight exponents that travel with each word, so that a block brings one for each output."""
    return max(outputs * depth // BLOCK, 1)


def sums_layout(rows: int, outputs: int, sum_bits: int) -> data.StructLayout:
    """Sums of one block of products for all rows and outputs, with the exponents they need."""
    return data.StructLayout({
        "sums": data.ArrayLayout(data.ArrayLayout(signed(sum_bits), outputs), rows),
        "row_exponents": data.ArrayLayout(8, rows),
        "weight_exponents": data.ArrayLayout(8, outputs),
        "first": 1,
        "last": 1,
    })


class MatmulArray(wiring.Component):
    """Exact sums of the products of each block; equals ``golden.matmul.matmul_array``.

    Each cycle one weight word (`outputs` x `depth` elements) meets `depth` activation elements of
    each row. After ``32 / depth`` words a block is complete and its sums leave at `o`, 5 +
    log2(depth) cycles after the last word, while the next block is being summed. Both inputs stall
    for each other.

    Parameters
    ----------
    rows, outputs, depth :
        Shape of the array.
    weight_bits, activation_bits :
        Widths of the signed integers that stand for elements.

    Members
    -------
    weights : ``In(stream.Signature({elements: outputs x depth, exponents}))``
        `exponents` of the n-th word of a block are those of outputs
        ``n * len(exponents)`` and following.
    activations : ``In(stream.Signature({elements: rows x depth, exponents: rows, first, last}))``
        `exponents` are those of the block; `first` and `last` mark words of the first and the
        last block of an output.
    o : ``Out(stream.Signature(sums_layout(...)))``
    """

    weights: stream.Interface
    activations: stream.Interface
    o: stream.Interface

    def __init__(
        self, *, rows: int, outputs: int, depth: int, weight_bits: int, activation_bits: int
    ):
        self.rows, self.outputs, self.depth = rows, outputs, depth
        self.sum_bits = weight_bits + activation_bits + BLOCK.bit_length() - 2
        weight = data.ArrayLayout(signed(weight_bits), depth)
        slice_layout = data.ArrayLayout(signed(activation_bits), depth)
        super().__init__({
            "weights": In(
                stream.Signature(
                    data.StructLayout({
                        "elements": data.ArrayLayout(weight, outputs),
                        "exponents": data.ArrayLayout(8, exponents_per_word(outputs, depth)),
                    })
                )
            ),
            "activations": In(
                stream.Signature(
                    data.StructLayout({
                        "elements": data.ArrayLayout(slice_layout, rows),
                        "exponents": data.ArrayLayout(8, rows),
                        "first": 1,
                        "last": 1,
                    })
                )
            ),
            "o": Out(stream.Signature(sums_layout(rows, outputs, self.sum_bits))),
        })

    def elaborate(self, platform):
        m = Module()
        words = BLOCK // self.depth
        control = data.StructLayout({
            "flags": FLAGS,
            "first": 1,
            "last": 1,
            "row_exponents": data.ArrayLayout(8, self.rows),
            "weight_exponents": self.weights.p.exponents.shape(),
        })
        incoming = Signal(control)
        word = Signal(range(words))
        enable = Signal()
        next_enable = Signal()
        complete = Signal()
        completing = Signal()
        occupied = Signal()
        to_sums = 1 + LATENCY + ceil_log2(self.depth)  # the way to the columns, the products, sums
        before = delay(m, enable, incoming, to_sums, "beat")
        summed = delay(m, enable, before, 1, "summed")
        # The pipeline stops if a complete block would find `o` occupied.
        m.d.comb += [
            next_enable.eq(~(completing & occupied)),
            enable.eq(copy(m, 1, next_enable, "enable", init=1)),
            complete.eq(summed.flags.end),
            completing.eq(Mux(enable, before.flags.end, complete)),
            occupied.eq((enable & complete) | (self.o.valid & ~self.o.ready)),
            self.weights.ready.eq(enable & self.activations.valid),
            self.activations.ready.eq(enable & self.weights.valid),
            incoming.flags.valid.eq(self.weights.valid & self.activations.valid),
            incoming.flags.start.eq(word == 0),
            incoming.flags.end.eq(incoming.flags.valid & (word == words - 1)),
            incoming.first.eq(self.activations.p.first),
            incoming.last.eq(self.activations.p.last),
            incoming.row_exponents.eq(self.activations.p.exponents),
            incoming.weight_exponents.eq(self.weights.p.exponents),
        ]
        # The exponents of a block gather here; those of its last word are taken from `summed`.
        per_word = 8 * exponents_per_word(self.outputs, self.depth)
        gathered = Signal(per_word * words)
        gathering = Cat(gathered[per_word:], summed.weight_exponents.as_value())
        with m.If(enable):
            with m.If(incoming.flags.valid):
                m.d.sync += word.eq(word + 1)
            with m.If(summed.flags.valid):
                m.d.sync += gathered.eq(gathering)

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(enable & complete):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.p.first.eq(summed.first),
                self.o.p.last.eq(summed.last),
                self.o.p.row_exponents.eq(summed.row_exponents),
                self.o.p.weight_exponents.eq(gathering),
            ]
        weights = delay(m, enable, self.weights.p.elements, 1, "weights")
        x = self.activations.p.elements
        near = [
            data.View(x.shape(), copy(m, enable, x, f"x_{first}"))
            for first in range(0, self.outputs, NEAR)
        ]
        for first in range(0, self.outputs, COLUMNS):
            self._columns(m, first, near[first // NEAR], weights, next_enable, enable, before)
        return m

    def _columns(self, m: Module, first: int, x, weights, next_enable, enable, before) -> None:
        """The outputs from `first` on that share registers."""
        width = min(COLUMNS, self.outputs - first)
        m.submodules[f"columns_{first // COLUMNS}"] = columns = Columns(
            x.shape(), weights.shape().elem_shape, width, self.sum_bits
        )
        m.d.comb += [
            columns.next_enable.eq(next_enable),
            columns.enable.eq(enable),
            columns.x.eq(x),
            columns.before.eq(before.flags),
        ]
        for n in range(width):
            m.d.comb += columns.w[n].eq(weights[first + n])
            for row in range(self.rows):
                m.d.comb += self.o.p.sums[row][first + n].eq(columns.sums[row][n])


class Columns(wiring.Component):
    """A few outputs of all rows, with their own copies of what goes to all.

    Parameters
    ----------
    x, w :
        Layouts of a slice of all rows, and of an output's part of a weight word.
    width :
        Outputs.
    sum_bits :
        Width of the sum of a block.

    Members
    -------
    next_enable, enable : ``In(1)``
        Whether the array moves on in the next cycle, and in this one.
    x, w : ``In``
        What the array takes.
    before : ``In(FLAGS)``
        Of the words whose sums over the depth are there in the next enabled cycle.
    sums : ``Out``
        Of the last block that is complete, of each row and output.
    """

    next_enable: Signal
    enable: Signal
    x: data.View
    w: data.View
    before: data.View
    sums: data.View

    def __init__(self, x: data.ArrayLayout, w: data.ArrayLayout, width: int, sum_bits: int):
        sums = data.ArrayLayout(data.ArrayLayout(signed(sum_bits), width), x.length)
        super().__init__({
            "next_enable": In(1),
            "enable": In(1),
            "x": In(x),
            "w": In(data.ArrayLayout(w, width)),
            "before": In(FLAGS),
            "sums": Out(sums),
        })

    def elaborate(self, platform):
        m = Module()
        flags = data.View(FLAGS, copy(m, self.enable, self.before, "flags"))
        x = data.View(self.x.shape(), copy(m, self.enable, self.x, "x"))
        for output in range(len(self.w)):
            enable = copy(m, 1, self.next_enable, f"enable_{output}", init=1)
            w = delay(m, enable, self.w[output], 1, f"w_{output}")
            for row in range(len(self.sums)):
                held = self.sums[row][output]
                products = [
                    dsp_product(m, platform, enable, a, b, f"{row}_{output}_{d}")
                    for d, (a, b) in enumerate(zip(x[row], w, strict=True))
                ]
                depth_sum = sum_tree(m, enable, products, f"depth_sum_{row}_{output}")
                block_sum = Signal.like(held, name=f"block_sum_{row}_{output}")
                total = Signal.like(block_sum, name=f"total_{row}_{output}")
                m.d.comb += total.eq(Mux(flags.start, 0, block_sum) + depth_sum)
                with m.If(enable & flags.valid):
                    m.d.sync += block_sum.eq(total)
                with m.If(enable & flags.end):
                    m.d.sync += held.eq(total)
        return m
