"""A chip on a UART against golden: bytes in, bytes out, and what the signatures say."""

import numpy as np
from amaranth import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import Etched
from intaglio.golden.frames import encode
from intaglio.golden.images import images
from intaglio.golden.signature import signatures
from intaglio.hw.config import ChipConfig
from intaglio.hw.formats import FloatFormat, element_format
from intaglio.hw.frames import STATUS, command_layout
from intaglio.hw.layouts import Layouts
from intaglio.hw.protocol import Kind, Tap, identity
from intaglio.hw.uart import UARTReceiver, UARTTransmitter
from intaglio.hw.uart_chip import UARTChip
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import random_etched

BIT = 4
"""Clock cycles."""
STEP = b"\0" * 40
"""Empty frames, for longer than a step takes."""


class Cable(wiring.Component):
    """A chip, and the host's end of its UART."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self, etched: Etched):
        self.etched = etched
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        etched = self.etched
        m.submodules.chip = chip = UARTChip(etched.design, images(etched), cycles_per_bit=BIT)
        m.submodules.transmitter = transmitter = UARTTransmitter(BIT)
        m.submodules.receiver = receiver = UARTReceiver(BIT)
        connect(m, flipped(self.i), transmitter.i)
        connect(m, receiver.o, flipped(self.o))
        m.d.comb += [chip.rx.eq(transmitter.tx), receiver.rx.eq(chip.tx)]
        return m


def packed(layout: data.StructLayout, fields: dict) -> bytes:
    """Fields as a payload."""
    return layout.const(fields).as_bits().to_bytes(-(-layout.size // 8), "little")


class Talk:
    """Bytes that a host sends, and those that golden answers with."""

    def __init__(self, etched: Etched):
        self.etched, self.layouts = etched, Layouts(etched.design)
        self.golden = GoldenChip(etched)
        self.sent = b""
        self.answered: list[int | None] = []
        self.good = self.dropped = 0
        self.signed = dict.fromkeys(Tap, 0)

    def say(self, kind: Kind, payload: bytes) -> None:
        self.sent += encode(kind, payload)
        self.good += 1

    def command(
        self, slot: int, position: int, token: int, sample: int = 1, last: int = 1, until: int = 0
    ) -> None:
        place = {"slot": slot, "position": position, "token": token}
        fields = {"command": {**place, "sample": sample, "last": last}, "until": until}
        self.say(Kind.COMMAND, packed(command_layout(self.layouts), fields))

    def hear(self, slot: int, position: int, token: int, sample: int = 1) -> int:
        """The event of a token, after a step in which the host is silent; its token."""
        best = self.golden.feed(slot, position, token, bool(sample))
        token = token if best is None else best
        event = {"slot": slot, "position": position, "token": token, "sampled": sample}
        self.answered += encode(Kind.EVENT, packed(self.layouts.event, event))
        self.sent += STEP
        return token

    def disturb(self, noise: bytes) -> None:
        self.sent += noise + b"\0"
        self.dropped += 1

    def interrupt(self) -> None:
        """A status while the chip computes, which nobody can foretell but for its length."""
        self.say(Kind.QUERY, b"")
        self.answered += [None] * len(encode(Kind.STATUS, bytes(STATUS.size // 8)))

    def query(self, sequences: list[list[int]]) -> None:
        """A status; these were fed in row 0 since the one before."""
        self.signed = signatures(self.etched, [np.array(s) for s in sequences], self.signed)
        self.say(Kind.QUERY, b"")
        status = {
            "identity": identity(self.etched.design),
            "good": self.good,
            "dropped": self.dropped,
            "busy": 0,
            "signatures": [self.signed[tap] for tap in Tap],
        }
        self.answered += encode(Kind.STATUS, packed(STATUS, status))
        self.sent += STEP


@ON_BOTH
def test_chip_on_a_uart(simulator, tmp_path):
    """Commands and generations, some of which end early, amid noise; a status after each."""
    chip = ChipConfig(
        weights=element_format("e2m3"), kv=element_format("int6"), small_float=FloatFormat(8, 10),
        rows=2, outputs=4, depth=4, window=4,
    )  # fmt: skip
    small = {"heads": 2, "kv_heads": 1, "hidden": 32, "vocab": 31, "layers": 1}
    talk = Talk(random_etched(chip, **small))
    talk.query([])

    talk.command(0, 0, 5)
    talk.hear(0, 0, 5)
    talk.disturb(b"\1\2\3")
    talk.query([[5]])

    # A generation, which noise does not end.
    talk.command(0, 0, 8, until=2)
    talk.disturb(np.random.default_rng(1).bytes(30).replace(b"\0", b""))
    fed = [8]
    for position in range(3):
        fed.append(talk.hear(0, position, fed[-1]))
    talk.query([fed[:-1]])

    # One that a query ends, and one that a command ends, both in their first step.
    talk.command(0, 0, 3, until=20)
    talk.interrupt()
    talk.hear(0, 0, 3)
    talk.query([[3]])
    talk.command(0, 0, 4, until=20)
    talk.command(0, 1, 6, until=20)
    talk.hear(0, 0, 4)
    talk.hear(0, 1, 6)
    talk.query([[4, 6]])

    # Where no token is wanted, none is fed back.
    talk.command(0, 0, 9, sample=0, until=2)
    talk.hear(0, 0, 9, sample=0)

    # Two rows of a step; one that does not come alone begins no generation.
    talk.command(0, 1, 11, last=0)
    talk.command(1, 0, 7, until=3)
    talk.hear(0, 1, 11)
    talk.hear(1, 0, 7)
    talk.command(1, 1, 9)
    talk.hear(1, 1, 9)
    check(
        Cable(talk.etched),
        {"i": list(talk.sent)},
        {"o": list(talk.answered)},
        simulator,
        tmp_path,
        patience=400,
    )
