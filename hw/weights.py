"""Weight source: an etched ROM that gives the weight stream, and the decoding of its codes."""

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intaglio.hw.formats import ElementFormat
from intaglio.hw.images import ETCHED
from intaglio.hw.pipeline import SkidBuffer, delay

__all__ = ["EtchedROM", "banks", "decode", "word_layout"]

BANK = 2048
"""Words of a memory. Deeper ones would be chosen from behind their outputs, where time is short;
this is the depth of an ECP5's block RAM that is one byte and a bit wide."""


def banks(image: list[int]) -> list[list[int]]:
    """The memories that hold `image`, one after the other."""
    return [image[start : start + BANK] for start in range(0, len(image), BANK)]


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
    job is taken when the one before has been read.

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
        left = Signal.like(self.jobs.p.words)
        enable = Signal()
        # A memory answers late in its cycle; a register follows it, then the choice of the bank.
        words = []
        for n, image in enumerate(banks(self.image)):
            rom = memory.Memory(shape=self.word.size, depth=len(image), init=image, attrs=ETCHED)
            m.submodules[f"weights_{n}"] = rom
            port = rom.read_port()
            m.d.comb += [port.addr.eq(address), port.en.eq(enable)]
            words.append(delay(m, enable, port.data, 1, f"word_{n}"))
        latency = 2
        word = words[0]
        if len(words) > 1:
            bank = delay(m, enable, address[ceil_log2(BANK) :], 2, "bank")
            word = delay(m, enable, Array(words)[bank], 1, "word")
            latency = 3
        word = data.View(self.word, word)
        m.submodules.end = end = SkidBuffer(self.o.p.shape())
        connect(m, end.o, flipped(self.o))
        m.d.comb += [
            enable.eq(end.i.ready),
            end.i.valid.eq(delay(m, enable, left.any(), latency, "valid")),
            self.jobs.ready.eq(~left.any()),
            end.i.p.exponents.eq(word.exponents),
        ]
        for n in range(self.outputs):
            m.d.comb += [
                end.i.p.elements[n][d].eq(decode(self.element, word.codes[n][d]))
                for d in range(self.depth)
            ]
        with m.If(enable & left.any()):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [address.eq(self.jobs.p.address), left.eq(self.jobs.p.words)]
        return m
