"""The MX quantiser: pairs of small floats in, pairs of elements with their block's exponent out."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.hw.formats import BLOCK, E8M0_BIAS, ElementFormat, FloatFormat
from intaglio.hw.pipeline import SkidBuffer, delay
from intaglio.hw.small_float import align, float_layout, significand

__all__ = ["TO_ELEMENT_UNITS", "BlockExponent", "Quantiser", "pairs_layout", "to_element_units"]

TO_ELEMENT_UNITS = 3
"""Latency of :func:`to_element_units`."""


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
        m.submodules.exponents = exponents = SyncFIFO(width=8 * self.rows, depth=4)

        # A pair is compared a cycle after it came: the way here is long enough. Its block can leave
        # as early, as a word leaves this queue without the register that the other has.
        accept = self.i.valid & self.i.ready
        accepted = delay(m, 1, accept, 1, "accepted")
        last = delay(m, 1, self.i.p.last, 1, "last")
        largest = Signal(data.ArrayLayout(self.fmt.exponent_bits, self.rows))
        codes = []
        for row in range(self.rows):
            first, second = (
                delay(m, 1, self.i.p.pairs[row][k].exponent, 1, f"exponent_{row}_{k}")
                for k in range(2)
            )
            exponent = Signal(self.fmt.exponent_bits, name=f"exponent_{row}")
            upper = Mux(first > second, first, second)
            m.d.comb += exponent.eq(Mux(upper > largest[row], upper, largest[row]))
            with m.If(accepted):
                m.d.sync += largest[row].eq(Mux(last, 0, exponent))
            rebias = E8M0_BIAS - self.fmt.bias
            codes.append(Mux(exponent.any(), exponent + rebias, 0)[:8])

        m.submodules.end = end = SkidBuffer(self.o.p.shape())
        connect(m, end.o, flipped(self.o))
        held = Signal(self.pair_layout)
        m.d.comb += [
            # One exponent may be on its way.
            self.i.ready.eq(pairs.w_rdy & (exponents.level < exponents.depth - 1)),
            pairs.w_data.eq(self.i.payload),
            pairs.w_en.eq(accept),
            exponents.w_data.eq(Cat(*codes)),
            exponents.w_en.eq(accepted & last),
            held.eq(pairs.r_data),
            end.i.valid.eq(pairs.r_rdy & exponents.r_rdy),
            end.i.p.pairs.eq(held.pairs),
            end.i.p.last.eq(held.last),
            end.i.p.tag.eq(held.tag),
            end.i.p.exponents.eq(exponents.r_data),
            pairs.r_en.eq(end.i.valid & end.i.ready),
            exponents.r_en.eq(end.i.valid & end.i.ready & held.last),
        ]
        return m


def to_element_units(
    m: Module, fmt: FloatFormat, enable: Value, x, exponent: Value, fraction_bits, name: str,
    most: int,
) -> Value:  # fmt: skip
    """Magnitude of `x` in units of the last bit of an element, rounded to nearest even.

    `exponent` is the E8M0 code of the block, `fraction_bits` those of the element, at most `most`.
    Takes `TO_ELEMENT_UNITS` = 3 enabled cycles: distance, align, round.
    """
    wider = max(most - fmt.fraction_bits, 0)
    distance = Signal(9, name=f"{name}_distance")
    aligned = align(
        m, Cat(Const(0, 2 + wider), delay(m, enable, significand(x), 1, name)), distance, name
    )
    held = delay(m, enable, aligned, 1, f"{name}_aligned")
    magnitude = Signal(len(held) - 1, name=f"{name}_magnitude")
    rebias = fmt.fraction_bits + wider + fmt.bias - E8M0_BIAS
    with m.If(enable):
        m.d.sync += [
            distance.eq(exponent - x.exponent + rebias - fraction_bits),
            magnitude.eq(held[2:] + (held[1] & (held[0] | held[2]))),
        ]
    return magnitude


class Quantiser(wiring.Component):
    """Round pairs to the elements of their blocks; with `BlockExponent`, ``golden.mx.quantise``.

    ``element = clamp(rne(x * 2**(fraction_bits - exponent)))``. Latency is 6 cycles (hold,
    distance, align, round, clamp, sign), throughput one pair per cycle for each row.

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

    def _round(self, m: Module, x, exponent, select, largest, enable, name: str) -> Value:
        """The element of `x` in the selected format, 5 cycles later."""
        fractions = [element.fraction_bits for element in self.elements]
        magnitude = to_element_units(
            m, self.fmt, enable, x, exponent, Mux(select, fractions[-1], fractions[0]), name,
            most=max(fractions),
        )  # fmt: skip
        clamped = delay(
            m, enable, Mux(magnitude > largest, largest, magnitude), 1, f"{name}_clamped"
        )
        sign = delay(m, enable, x.sign, TO_ELEMENT_UNITS + 1, f"{name}_sign")
        return delay(m, enable, Mux(sign, -clamped, clamped), 1, f"{name}_element")

    def elaborate(self, platform):
        m = Module()
        enable = Signal()
        m.submodules.end = end = SkidBuffer(self.o.p.shape())
        connect(m, end.o, flipped(self.o))
        held = delay(m, enable, self.i.p, 1, "held")
        select = delay(m, enable, self.select, 1, "select")
        later = delay(m, enable, select, TO_ELEMENT_UNITS, "clamp_select")
        limits = [element.largest for element in self.elements]
        largest = Mux(later, limits[-1], limits[0])
        rest = TO_ELEMENT_UNITS + 2
        m.d.comb += [
            enable.eq(end.i.ready),
            self.i.ready.eq(enable),
            end.i.valid.eq(delay(m, enable, self.i.valid, 1 + rest, "valid")),
            end.i.p.exponents.eq(delay(m, enable, held.exponents, rest, "exponents")),
            end.i.p.last.eq(delay(m, enable, held.last, rest, "last")),
            end.i.p.tag.eq(delay(m, enable, held.tag, rest, "tag")),
        ]
        for row in range(self.rows):
            for k in range(2):
                x, exponent = held.pairs[row][k], held.exponents[row]
                element = self._round(m, x, exponent, select, largest, enable, f"x_{row}_{k}")
                m.d.comb += end.i.p.elements[row][k].eq(element)
        return m
