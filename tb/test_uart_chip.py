"""A chip on a UART against golden: bytes in, bytes out, and what the signatures say."""

import numpy as np
from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.golden.chip import GoldenChip
from intaglio.golden.etch import Etched
from intaglio.golden.frames import encode
from intaglio.golden.images import images
from intaglio.golden.signature import signatures
from intaglio.hw.config import ChipConfig
from intaglio.hw.formats import FloatFormat, element_format
from intaglio.hw.frames import STATUS
from intaglio.hw.layouts import Layouts
from intaglio.hw.protocol import Kind, Tap, identity
from intaglio.hw.uart import UARTReceiver, UARTTransmitter
from intaglio.hw.uart_chip import UARTChip
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import random_etched

BIT = 4
"""Clock cycles."""
WAIT = b"\0" * 60
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


class Talk:
    """Bytes that a host sends, and those that golden answers with."""

    def __init__(self, etched: Etched):
        self.etched, self.layouts = etched, Layouts(etched.design)
        self.sent, self.answered = b"", b""
        self.good = self.dropped = 0

    def say(self, frame: bytes, answer: bytes = b"") -> None:
        self.sent += frame + WAIT
        self.answered += answer
        self.good += 1

    def command(self, position: int, token: int, sampled: int) -> None:
        """A token in slot 0, wanting the next, which is `sampled`."""
        place = {"slot": 0, "position": position}
        event = self.layouts.event.const({**place, "token": sampled, "sampled": 1})
        self.say(
            self.frame({**place, "token": token, "sample": 1, "last": 1}),
            encode(
                Kind.EVENT, event.as_bits().to_bytes(-(-self.layouts.event.size // 8), "little")
            ),
        )

    def frame(self, command: dict) -> bytes:
        bits = self.layouts.command.const(command).as_bits()
        return encode(Kind.COMMAND, bits.to_bytes(-(-self.layouts.command.size // 8), "little"))

    def query(self, signed: dict[Tap, int]) -> None:
        self.say(encode(Kind.QUERY, b""))
        status = STATUS.const({
            "identity": identity(self.etched.design),
            "good": self.good,
            "dropped": self.dropped,
            "busy": 0,
            "signatures": [signed[tap] for tap in Tap],
        })
        self.answered += encode(Kind.STATUS, status.as_bits().to_bytes(STATUS.size // 8, "little"))


@ON_BOTH
def test_chip_on_a_uart(simulator, tmp_path):
    """Two sequences in row 0, noise after each, and a status after that."""
    chip = ChipConfig(
        weights=element_format("e2m3"), kv=element_format("int6"), small_float=FloatFormat(8, 10),
        rows=2, outputs=4, depth=4, window=4,
    )  # fmt: skip
    odd = {"dim": 40, "hidden": 34, "heads": 3, "kv_heads": 3, "head_dim": 12, "vocab": 31}
    etched = random_etched(chip, layers=1, **odd)
    rng = np.random.default_rng(1)
    talk, signed = Talk(etched), dict.fromkeys(Tap, 0)
    talk.query(signed)
    for length in (2, 1):
        tokens = rng.integers(0, etched.design.model.vocab, length)
        best = GoldenChip(etched).logits(tokens).argmax(axis=1)
        for position, token in enumerate(tokens.tolist()):
            talk.command(position, token, int(best[position]))
        signed = signatures(etched, [tokens], signed)
        for noise in (b"\1\2\3\0", rng.bytes(30).replace(b"\0", b"") + b"\0"):
            talk.sent += noise
            talk.dropped += 1
        talk.query(signed)
    check(
        Cable(etched),
        {"i": list(talk.sent)},
        {"o": list(talk.answered)},
        simulator,
        tmp_path,
        patience=400,
    )
