"""Weight source: an etched ROM that gives the weight stream, and the decoding of its codes."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw import images
from intaglio.hw.banks import choose_word
from intaglio.hw.formats import ElementFormat
from intaglio.hw.images import ETCHED
from intaglio.hw.pipeline import SkidBuffer, copy, delay

__all__ = ["EtchedROM", "banks", "decode", "slices", "word_layout"]

SLICE = 72
"""Bits of a memory: eight such block RAMs share an address and an enable."""


def banks(image: list[int]) -> list[list[int]]:
    """The words of `image` in the memories that follow each other."""
    return [image[start : start + images.BANK] for start in range(0, len(image), images.BANK)]


def slices(width: int) -> list[tuple[int, int]]:
    """First bit and width of the memories that stand side by side."""
    return [(start, min(SLICE, width - start)) for start in range(0, width, SLICE)]


def word_layout(
    element: ElementFormat, outputs: int, depth: int, exponents: int
) -> data.StructLayout:
    """A stored weight word: codes (outputs x depth), then exponents."""
    return data.StructLayout({
        "codes": data.ArrayLayout(data.ArrayLayout(element.bits, depth), outputs),
        "exponents": data.ArrayLayout(8, exponents),
    })


def decode(element: ElementFormat, code: Value) -> Value:
    """The signed integer that stands for a code of `element`."""
    if element.is_integer:
        return code.as_signed()
    fraction, exponent, sign = (
        code[: element.fraction_bits], code[element.fraction_bits : -1], code[-1]
    )  # fmt: skip
    assert len(exponent) == 2
    hidden = Cat(fraction, Const(1, 1))
    magnitude = Mux(exponent.any(), (hidden << exponent) >> 1, fraction)
    return Mux(sign, -magnitude, magnitude)


class EtchedROM(wiring.Component):
    """Stream of the words of each job, from memories whose contents are etched.

    Gives one word per cycle, the first 3 cycles after its job was taken, 4 with several banks; a
    job is taken as the last word of the one before is read.

    Parameters
    ----------
    element, outputs, depth, exponents :
        Format of the codes, and shape of a word.
    image :
        Words of the memory, packed as `word_layout`.
    job :
        Layout ``{address, words}`` of a job.

    Members
    -------
    jobs : ``In(stream.Signature(job))``
    o : ``Out(stream.Signature({elements, exponents}))``
        As the array takes them.
    """

    jobs: stream.Interface
    o: stream.Interface

    def __init__(
        self, element: ElementFormat, *, outputs: int, depth: int, exponents: int,
        image: list[int], job,
    ):  # fmt: skip
        self.element, self.outputs, self.depth, self.image = element, outputs, depth, image
        self.word = word_layout(element, outputs, depth, exponents)
        integers = data.ArrayLayout(signed(element.integer_bits), depth)
        super().__init__({
            "jobs": In(stream.Signature(job)),
            "o": Out(
                stream.Signature(
                    data.StructLayout({
                        "elements": data.ArrayLayout(integers, outputs),
                        "exponents": data.ArrayLayout(8, exponents),
                    })
                )
            ),
        })

    def elaborate(self, platform):
        m = Module()
        address = Signal.like(self.jobs.p.address)
        following = Signal.like(address)  # address + 1: the copies are far, and have no time to add
        next_address = Signal.like(address)
        left = Signal.like(self.jobs.p.words)
        next_left = Signal.like(left)
        reading, last = Signal(), Signal()  # whether any are left, and whether it is one
        pieces = [
            self._slice(m, n, start, width, next_address, reading)
            for n, (start, width) in enumerate(slices(self.word.size))
        ]
        enable = pieces[0].i.ready
        m.d.comb += [
            self.jobs.ready.eq(~reading | (enable & last)),
            next_address.eq(address),
            next_left.eq(left),
        ]
        with m.If(enable & reading):
            m.d.comb += [next_address.eq(following), next_left.eq(left - 1)]
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.comb += [next_address.eq(self.jobs.p.address), next_left.eq(self.jobs.p.words)]
        m.d.sync += [
            address.eq(next_address),
            following.eq(next_address + 1),
            left.eq(next_left),
            reading.eq(next_left.any()),
            last.eq(next_left == 1),
        ]

        word = data.View(self.word, Cat(*(piece.o.payload for piece in pieces)))
        m.d.comb += [
            self.o.valid.eq(pieces[0].o.valid),
            self.o.p.exponents.eq(word.exponents),
            *(piece.o.ready.eq(self.o.ready) for piece in pieces),
        ]
        for n in range(self.outputs):
            m.d.comb += [
                self.o.p.elements[n][d].eq(decode(self.element, word.codes[n][d]))
                for d in range(self.depth)
            ]
        return m

    def _slice(self, m: Module, n: int, start: int, width: int, next_address, reading):
        """Some bits of all words: memories, a register each as they answer late, the right bank."""
        m.submodules[f"end_{n}"] = end = SkidBuffer(width)
        enable = end.i.ready
        address = copy(m, 1, next_address, f"address_{n}")
        words = []
        for bank, image in enumerate(banks(self.image)):
            part = [word >> start & (1 << width) - 1 for word in image]
            rom = memory.Memory(shape=width, depth=len(part), init=part, attrs=ETCHED)
            m.submodules[f"weights_{bank}_{n}"] = rom
            port = rom.read_port()
            m.d.comb += [port.addr.eq(address), port.en.eq(enable)]
            words.append(port.data)
        word, latency = choose_word(m, enable, words, address, f"word_{n}")
        m.d.comb += [
            end.i.valid.eq(delay(m, enable, reading, latency, f"valid_{n}")),
            end.i.payload.eq(word),
        ]
        return end
