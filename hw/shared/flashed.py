"""The main memory of an iCE40UP5K, whose large RAMs get their contents from an SPI flash."""

from amaranth import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.hw.config import Design
from intaglio.hw.flash import FLASH_BYTES, FlashPins, FlashReader
from intaglio.hw.formats import ConfigError
from intaglio.hw.shared.main_memory import memory_ports, place_of_request
from intaglio.hw.shared.memory_map import MemoryMap

__all__ = ["FlashedMemory", "flashed_memory"]

BANK = 1 << 14
"""Words of an SB_SPRAM256KA, of 16 bits each; source: Lattice TN-02022."""

SPRAM_WORDS = 2 * BANK
"""All four of them, words of 32 bits."""


class SPRAM(wiring.Component):
    """The four single-port RAMs as one.

    Members
    -------
    address : ``In(15)``
    enable, write : ``In(1)``, ``In(1)``
    i, o : ``In(32)``, ``Out(32)``
        What is read is there in the next cycle, and stays until the next access.
    """

    address: Signal
    enable: Signal
    write: Signal
    i: Signal
    o: Signal

    def __init__(self):
        super().__init__({
            "address": In(range(SPRAM_WORDS)),
            "enable": In(1),
            "write": In(1),
            "i": In(32),
            "o": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        upper = Signal()  # the bank of the last access
        with m.If(self.enable):
            m.d.sync += upper.eq(self.address[-1])
        outputs = []
        for bank in range(2):
            halves = []
            for half in range(2):
                o = Signal(16, name=f"o_{bank}_{half}")
                m.submodules[f"ram_{bank}_{half}"] = Instance(
                    "SB_SPRAM256KA",
                    i_CLOCK=ClockSignal(),
                    i_ADDRESS=self.address[:-1],
                    i_DATAIN=self.i.word_select(half, 16),
                    i_MASKWREN=Const(0b1111, 4),
                    i_WREN=self.write,
                    i_CHIPSELECT=self.enable & (self.address[-1] == bank),
                    i_STANDBY=0,
                    i_SLEEP=0,
                    i_POWEROFF=1,
                    o_DATAOUT=o,
                )
                halves.append(o)
            outputs.append(Cat(*halves))
        m.d.comb += self.o.eq(Mux(upper, outputs[1], outputs[0]))
        return m


class FlashedMemory(wiring.Component):
    """Main memory in SPRAM, filled from a flash after reset.

    Parameters
    ----------
    etched :
        Words that are filled, from address 0 on.
    start :
        Address of their first byte in the flash; words are in four bytes, the lowest first.
    weights :
        Words of weights that are in the flash in front of those, and stay there: they are streamed
        whenever they are wanted. 0 if the weights are among the etched words.

    Members
    -------
    flash : ``Out(FlashPins)``

    See :func:`~intaglio.hw.shared.main_memory.memory_ports` for the others.
    """

    request: Signal
    weights: Signal
    write: Signal
    granted: Signal
    i: Signal
    o: Signal
    address: Signal
    move: Signal
    to: Signal
    restart: Signal
    ready: Signal
    flash: wiring.PureInterface

    def __init__(self, *, etched: int, start: int, weights: int = 0):
        self.etched, self.start, self.streamed = etched, start, weights
        bits = (SPRAM_WORDS - 1).bit_length()
        super().__init__({**memory_ports(bits), "flash": Out(FlashPins)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = SPRAM()
        m.submodules.reader = reader = FlashReader(self.start)
        connect(m, reader.pins, flipped(self.flash))
        place = place_of_request(m, self)
        streams = Signal()  # the request is for the flash
        m.d.comb += [
            streams.eq(self.weights & bool(self.streamed)),
            self.granted.eq(~streams | reader.o.valid),
            ram.address.eq(place),
            ram.enable.eq(self.request & ~streams),
            ram.write.eq(self.write),
            ram.i.eq(self.i),
        ]
        filled = Signal(range(self.etched + 1))
        with m.FSM():
            with m.State("reset"):
                m.d.comb += [reader.begin.eq(1), reader.word.eq(self.streamed)]
                with m.If(reader.ready):
                    m.next = "fill"
            with m.State("fill"):
                m.d.comb += [
                    reader.o.ready.eq(1), ram.address.eq(filled), ram.enable.eq(reader.o.valid),
                    ram.write.eq(1), ram.i.eq(reader.o.payload),
                ]  # fmt: skip
                with m.If(reader.o.valid):
                    m.d.sync += filled.eq(filled + 1)
                    with m.If(filled == self.etched - 1):
                        m.next = "filled"
            with m.State("filled"):
                m.d.comb += [
                    self.ready.eq(reader.ready),
                    reader.begin.eq(self.restart & bool(self.streamed)),
                    reader.o.ready.eq(self.request & streams),
                ]
        word, from_flash = Signal(32), Signal()
        with m.If(self.request & self.granted):
            m.d.sync += [word.eq(reader.o.payload), from_flash.eq(streams)]
        m.d.comb += self.o.eq(Mux(from_flash, word, ram.o))
        return m


def flashed_memory(design: Design, start: int) -> FlashedMemory:
    """The memory of `design`: its weights in SPRAM if they fit, else streamed from the flash.

    Raises :exc:`ConfigError` if the rest does not fit either, or if the flash is too small.
    """
    whole, rest = MemoryMap(design), MemoryMap(design, streamed=True)
    end = start + 4 * whole.cache
    if end > FLASH_BYTES:
        raise ConfigError(
            f"The model takes {4 * whole.cache} bytes of the flash, and from byte {start} on there "
            f"are {FLASH_BYTES - start}: choose a smaller model"
        )
    if whole.words <= SPRAM_WORDS:
        return FlashedMemory(etched=whole.cache, start=start)
    if rest.words > SPRAM_WORDS:
        raise ConfigError(
            f"Embedding, RoPE and the KV cache ({design.slots} x {design.context} positions) take "
            f"{rest.words} words of 32 bits, and there are {SPRAM_WORDS}: choose a smaller "
            "--context or fewer --slots"
        )
    return FlashedMemory(etched=rest.cache, start=start, weights=whole.weights)
