"""The KV cache: one word of keys and one of values for each position, contiguous for each slot."""

from amaranth import Cat, Module, Value, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intaglio.hw import images
from intaglio.hw.banks import choose_word
from intaglio.hw.formats import ElementFormat
from intaglio.hw.pipeline import SkidBuffer, copy, delay

__all__ = ["KVCache", "keys_layout", "values_layout"]


def keys_layout(element: ElementFormat, lanes: int, head_dim: int, blocks: int):
    """What the score pass reads: keys with their exponents, and the exponents of the values."""
    exponents = data.ArrayLayout(data.ArrayLayout(8, blocks), lanes)
    return data.StructLayout({
        "elements": data.ArrayLayout(data.ArrayLayout(signed(element.bits), head_dim), lanes),
        "exponents": exponents,
        "value_exponents": exponents,
    })


def values_layout(element: ElementFormat, lanes: int, head_dim: int):
    """What the context pass reads: the elements of the values."""
    return data.ArrayLayout(data.ArrayLayout(signed(element.bits), head_dim), lanes)


class KVCache(wiring.Component):
    """Two memories with a word for each (slot, layer, lane group, position), in this order.

    A word that was appended can be read from the second cycle after that on. Each read port takes
    an address and gives the word 2 cycles later, 3 with several banks, one per cycle, and waits
    while the word is not taken.

    Parameters
    ----------
    element, lanes, head_dim, blocks :
        Format of the elements, heads in a word, their elements and blocks.
    words :
        Depth of the memories.

    Members
    -------
    append : ``In(stream.Signature({address, keys, values}))``
        Always ready.
    key_reads, value_reads : ``In(stream.Signature(address))``
    keys : ``Out(stream.Signature(keys_layout(...)))``
    values : ``Out(stream.Signature(values_layout(...)))``
    """

    append: stream.Interface
    key_reads: stream.Interface
    keys: stream.Interface
    value_reads: stream.Interface
    values: stream.Interface

    def __init__(
        self, element: ElementFormat, *, lanes: int, head_dim: int, blocks: int, words: int
    ):
        self.words = words
        address = unsigned(max((words - 1).bit_length(), 1))
        keys = keys_layout(element, lanes, head_dim, blocks)
        values = values_layout(element, lanes, head_dim)
        super().__init__({
            "append": In(
                stream.Signature(
                    data.StructLayout({"address": address, "keys": keys, "values": values})
                )
            ),
            "key_reads": In(stream.Signature(address)),
            "keys": Out(stream.Signature(keys)),
            "value_reads": In(stream.Signature(address)),
            "values": Out(stream.Signature(values)),
        })

    def _port(self, m: Module, name: str, requests, words, new: Value) -> None:
        """Words written by `append`, read through a pair of streams."""
        m.submodules[f"{name}_end"] = end = SkidBuffer(words.payload.shape())
        connect(m, end.o, words)
        enable = end.i.ready
        address = self.append.p.address
        place = ceil_log2(images.BANK)
        stored = []
        for bank, start in enumerate(range(0, self.words, images.BANK)):
            mem = memory.Memory(shape=len(new), depth=min(images.BANK, self.words - start), init=[])
            m.submodules[f"{name}_{bank}"] = mem
            write, read = mem.write_port(), mem.read_port()
            here = self.append.valid & ((address >> place) == bank)
            # The memories are far from where words come from, and from each other.
            append = Cat(here, address[: len(write.addr)], new)
            append = copy(m, 1, append, f"{name}_append_{bank}")
            m.d.comb += [
                Cat(write.en, write.addr, write.data).eq(append),
                read.addr.eq(requests.payload),
                read.en.eq(enable),
            ]
            stored.append(read.data)
        word, latency = choose_word(m, enable, stored, requests.payload, f"{name}_word")
        m.d.comb += [
            requests.ready.eq(enable),
            end.i.valid.eq(delay(m, enable, requests.valid, latency, f"{name}_valid")),
            Value.cast(end.i.payload).eq(word),
        ]

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.append.ready.eq(1)
        self._port(
            m, "key_memory", self.key_reads, flipped(self.keys), self.append.p.keys.as_value()
        )
        self._port(
            m,
            "value_memory",
            self.value_reads,
            flipped(self.values),
            self.append.p.values.as_value(),
        )
        return m
