"""The MX quantiser: pairs of small floats in, pairs of elements with their block's exponent out."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from intaglio.hw.formats import BLOCK, E8M0_BIAS, ElementFormat, FloatFormat
from intaglio.hw.small_float import align, float_layout, significand

__all__ = ["BlockExponent", "Quantiser", "round_to_elements"]


def pairs_layout(fmt: FloatFormat, rows: int) -> data.ArrayLayout:
    """Two neighbouring values for each row."""
    return data.ArrayLayout(data.ArrayLayout(float_layout(fmt), 2), rows)


class BlockExponent(wiring.Component):
    """Hold a block until its largest magnitude is known; then give its pairs with the exponent.

    Throughput is one pair per cycle for each row; a block leaves two cycles after its last pair
    came.

    Parameters
    ----------
    fmt, rows :
        Small float, and how many rows go side by side with a common `tag`.
    tag :
        Shape of what accompanies each pair unchanged.

    Members
    -------
    i : ``In(stream.Signature({pairs, last, tag}))``
        `last` closes a block; a block has at most 16 pairs.
    o : ``Out(stream.Signature({pairs, last, tag, exponents}))``
        `exponents` are the E8M0 codes of 2**floor(log2(largest)) for each row, 0 for all zeros.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, fmt: FloatFormat, *, rows: int, tag):
        self.fmt, self.rows = fmt, rows
        members = {"pairs": pairs_layout(fmt, rows), "last": 1, "tag": tag}
        self.pair_layout = data.StructLayout(members)
        super().__init__({
            "i": In(stream.Signature(self.pair_layout)),
            "o": Out(
                stream.Signature(
                    data.StructLayout({**members, "exponents": data.ArrayLayout(8, rows)})
                )
            ),
        })

    def elaborate(self, platform):
        m = Module()
        pairs_width = self.pair_layout.size
        m.submodules.pairs = pairs = SyncFIFOBuffered(width=pairs_width, depth=BLOCK)
        m.submodules.exponents = exponents = SyncFIFOBuffered(width=8 * self.rows, depth=4)

        largest = Signal(data.ArrayLayout(self.fmt.exponent_bits, self.rows))
        codes = []
        accept = self.i.valid & self.i.ready
        for row in range(self.rows):
            pair = self.i.p.pairs[row]
            exponent = Signal(self.fmt.exponent_bits, name=f"exponent_{row}")
            upper = Mux(pair[0].exponent > pair[1].exponent, pair[0].exponent, pair[1].exponent)
            m.d.comb += exponent.eq(Mux(upper > largest[row], upper, largest[row]))
            with m.If(accept):
                m.d.sync += largest[row].eq(Mux(self.i.p.last, 0, exponent))
            rebias = E8M0_BIAS - self.fmt.bias
            codes.append(Mux(exponent.any(), exponent + rebias, 0)[:8])

        held = Signal(self.pair_layout)
        m.d.comb += [
            self.i.ready.eq(pairs.w_rdy & exponents.w_rdy),
            pairs.w_data.eq(self.i.payload),
            pairs.w_en.eq(accept),
            exponents.w_data.eq(Cat(*codes)),
            exponents.w_en.eq(accept & self.i.p.last),
            held.eq(pairs.r_data),
            self.o.valid.eq(pairs.r_rdy & exponents.r_rdy),
            self.o.p.pairs.eq(held.pairs),
            self.o.p.last.eq(held.last),
            self.o.p.tag.eq(held.tag),
            self.o.p.exponents.eq(exponents.r_data),
            pairs.r_en.eq(self.o.valid & self.o.ready),
            exponents.r_en.eq(self.o.valid & self.o.ready & held.last),
        ]
        return m


def round_to_elements(
    m: Module, fmt: FloatFormat, element: ElementFormat, x, exponent: Value, name: str
) -> tuple[Value, Value]:
    """Magnitude of `x` in units of the last bit of an element, before and for rounding.

    Returns the integer part and whether round-to-nearest-even adds one to it. `exponent` is the
    E8M0 code of the block.
    """
    wider = max(element.fraction_bits - fmt.fraction_bits, 0)
    distance = Signal(9, name=f"{name}_distance")
    m.d.comb += distance.eq(
        exponent
        - (x.exponent + (E8M0_BIAS - fmt.bias))
        + (fmt.fraction_bits + wider - element.fraction_bits)
    )
    aligned = align(m, Cat(Const(0, 2 + wider), significand(x)), distance, name)
    return aligned[2:], aligned[1] & (aligned[0] | aligned[2])


class Quantiser(wiring.Component):
    """Round pairs to the elements of their blocks; with `BlockExponent`, ``golden.mx.quantise``.

    ``element = clamp(rne(x * 2**(fraction_bits - exponent)))``. Latency is 2 cycles, throughput
    one pair per cycle for each row.

    Parameters
    ----------
    fmt, rows, tag :
        As for :class:`BlockExponent`.
    elements :
        The MXINT formats to choose from with `select`.

    Members
    -------
    i : ``In(stream.Signature({pairs, last, tag, exponents}))``
        What `BlockExponent` gives.
    select : ``In(ceil_log2(len(elements)))``
        Format of the pair at `i`; to be computed from its tag.
    o : ``Out(stream.Signature({elements, exponents, last, tag}))``
    """

    i: stream.Interface
    o: stream.Interface
    select: Signal

    def __init__(self, fmt: FloatFormat, elements: list[ElementFormat], *, rows: int, tag):
        self.fmt, self.elements, self.rows = fmt, elements, rows
        bits = max(e.bits for e in elements)
        exponents = data.ArrayLayout(8, rows)
        super().__init__({
            "i": In(
                stream.Signature(
                    data.StructLayout({
                        "pairs": pairs_layout(fmt, rows),
                        "last": 1,
                        "tag": tag,
                        "exponents": exponents,
                    })
                )
            ),
            "select": In(1),
            "o": Out(
                stream.Signature(
                    data.StructLayout({
                        "elements": data.ArrayLayout(data.ArrayLayout(signed(bits), 2), rows),
                        "exponents": exponents,
                        "last": 1,
                        "tag": tag,
                    })
                )
            ),
        })

    def _round(self, m: Module, x, exponent, name: str) -> Value:
        """The element of `x` in the selected format."""
        rounded = []
        for n, element in enumerate(self.elements):
            whole, up = round_to_elements(m, self.fmt, element, x, exponent, f"{name}_{n}")
            total = Signal(len(whole) + 1, name=f"{name}_{n}_rounded")
            m.d.comb += total.eq(whole + up)
            rounded.append(Mux(total > element.largest, element.largest, total))
        magnitude = Mux(self.select, rounded[-1], rounded[0])
        return Mux(x.sign, -magnitude, magnitude)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        elements = [
            [
                self._round(m, self.i.p.pairs[row][k], self.i.p.exponents[row], f"x_{row}_{k}")
                for k in range(2)
            ]
            for row in range(self.rows)
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                self.o.valid.eq(self.i.valid),
                self.o.p.exponents.eq(self.i.p.exponents),
                self.o.p.last.eq(self.i.p.last),
                self.o.p.tag.eq(self.i.p.tag),
            ]
            for row in range(self.rows):
                for k in range(2):
                    m.d.sync += self.o.p.elements[row][k].eq(elements[row][k])
        return m
