"""The matmul array: `rows` x `outputs` x `depth` multipliers."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.hw.formats import BLOCK
from intaglio.hw.pipeline import copy, delay, sum_tree

COLUMNS = 4
"""Outputs that share registers for what the array broadcasts."""

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
    each row. After ``32 / depth`` words a block is complete and its sums leave at `o`, 3 +
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
        self.product_bits = weight_bits + activation_bits - 1  # the most negative code is not used
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

    def _multiply_accumulate(self, m: Module, name: str, x, w, enable, valid, start) -> Value:
        """Products, their sum over the depth, and the sum over a block, registered."""
        products = [
            Signal(signed(self.product_bits), name=f"product_{name}_{d}") for d in range(self.depth)
        ]
        with m.If(enable):
            m.d.sync += [p.eq(x[d] * w[d]) for d, p in enumerate(products)]
        depth_sum = sum_tree(m, enable, products, f"depth_sum_{name}")
        block_sum = Signal(signed(self.sum_bits), name=f"block_sum_{name}")
        total = Signal(signed(self.sum_bits), name=f"total_{name}")
        m.d.comb += total.eq(Mux(start, 0, block_sum) + depth_sum)
        with m.If(enable & valid):
            m.d.sync += block_sum.eq(total)
        return total

    def elaborate(self, platform):
        m = Module()
        words = BLOCK // self.depth
        control = data.StructLayout({
            "valid": 1,
            "start": 1,
            "end": 1,
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
        before = delay(m, enable, incoming, 1 + ceil_log2(self.depth), "beat")
        summed = delay(m, enable, before, 1, "summed")
        # The pipeline stops if a complete block would find `o` occupied.
        m.d.comb += [
            next_enable.eq(~(completing & occupied)),
            enable.eq(copy(m, 1, next_enable, "enable", init=1)),
            complete.eq(summed.valid & summed.end),
            completing.eq(Mux(enable, before.valid & before.end, complete)),
            occupied.eq((enable & complete) | (self.o.valid & ~self.o.ready)),
            self.weights.ready.eq(enable & self.activations.valid),
            self.activations.ready.eq(enable & self.weights.valid),
            incoming.valid.eq(self.weights.valid & self.activations.valid),
            incoming.start.eq(word == 0),
            incoming.end.eq(word == words - 1),
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
            with m.If(incoming.valid):
                m.d.sync += word.eq(word + 1)
            with m.If(summed.valid):
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
        for first in range(0, self.outputs, COLUMNS):
            self._columns(m, first, next_enable, before)
        return m

    def _columns(self, m: Module, first: int, next_enable, before) -> None:
        """A few outputs of all rows, with their own copies of what goes to all."""
        enable = copy(m, 1, next_enable, f"enable_{first}", init=1)
        flags = Cat(before.valid, before.start, before.end)
        valid, start, end = copy(m, enable, flags, f"flags_{first}")
        elements = self.activations.p.elements
        x = data.View(elements.shape(), copy(m, enable, elements, f"x_{first}"))
        for output in range(first, min(first + COLUMNS, self.outputs)):
            w = delay(m, enable, self.weights.p.elements[output], 1, f"w_{output}")
            for row in range(self.rows):
                name = f"{row}_{output}"
                total = self._multiply_accumulate(m, name, x[row], w, enable, valid, start)
                with m.If(enable & valid & end):
                    m.d.sync += self.o.p.sums[row][output].eq(total)
