"""A core of etched memories and nothing else: builds in seconds."""

import numpy as np
from amaranth import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from intaglio.fpga.bram import bits_of
from intaglio.hw.images import ETCHED

__all__ = ["ROMs"]


class ROMs(wiring.Component):
    """Memories of random words; `tx` is the parity of all that the address from `rx` reads.

    Parameters
    ----------
    shapes :
        Width and words of each memory, by name.
    seed :
        Of the words.
    """

    rx: Signal
    tx: Signal
    busy: Signal
    dropped: Signal

    def __init__(self, shapes: dict[str, tuple[int, int]], seed: int):
        random = np.random.default_rng(seed)
        self.shapes = shapes
        self.words = {
            name: [int(f"0b{''.join(map(str, bits))}", 0) for bits in random.integers(0, 2, (n, w))]
            for name, (w, n) in shapes.items()
        }
        super().__init__({"rx": In(1), "tx": Out(1), "busy": Out(1), "dropped": Out(1)})

    @property
    def bits(self) -> dict[str, np.ndarray]:
        """Bits (words, width) of each memory."""
        return {n: bits_of(words, self.shapes[n][0]) for n, words in self.words.items()}

    def elaborate(self, platform):
        m = Module()
        address = Signal(16)
        m.d.sync += address.eq(Cat(self.rx, address))
        parities = []
        for name, (width, depth) in self.shapes.items():
            rom = memory.Memory(shape=width, depth=depth, init=self.words[name], attrs=ETCHED)
            m.submodules[name] = rom
            port = rom.read_port()
            parity = Signal(name=f"parity_{name}")
            m.d.comb += port.addr.eq(address)
            m.d.sync += parity.eq(port.data.xor())
            parities.append(parity)
        m.d.comb += [self.tx.eq(Cat(*parities).xor()), self.busy.eq(address[-1])]
        return m
