"""The activation store: quantised vectors of all rows and groups, fed to the array in slices."""

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intaglio.hw.formats import BLOCK
from intaglio.hw.layouts import Region
from intaglio.hw.pipeline import SkidBuffer, delay

__all__ = ["ActivationStore", "SlicePacker"]


class SlicePacker(wiring.Component):
    """Gather pairs of elements into slices of `depth` elements.

    A slice leaves in the cycle after its last pair came; the last one of a vector may be partly
    filled, with what was there before in the rest.

    Parameters
    ----------
    rows, depth, bits :
        Rows side by side, elements of a slice, width of an element.
    word, tag :
        Shapes of a slice's number, and of what accompanies the pairs.

    Members
    -------
    i : ``In(stream.Signature({elements, exponents, end, tag}))``
        `end` marks the last pair of a vector.
    o : ``Out(stream.Signature({elements, exponents, word, end, tag}))``
        `word` counts the slices of a vector from 0.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, rows: int, depth: int, bits: int, word, tag):
        self.rows, self.depth, self.bits = rows, depth, bits
        exponents = data.ArrayLayout(8, rows)

        def elements(count: int) -> data.ArrayLayout:
            return data.ArrayLayout(data.ArrayLayout(signed(bits), count), rows)

        super().__init__({
            "i": In(
                stream.Signature(
                    data.StructLayout({
                        "elements": elements(2),
                        "exponents": exponents,
                        "end": 1,
                        "tag": tag,
                    })
                )
            ),
            "o": Out(
                stream.Signature(
                    data.StructLayout({
                        "elements": elements(depth),
                        "exponents": exponents,
                        "word": word,
                        "end": 1,
                        "tag": tag,
                    })
                )
            ),
        })

    def elaborate(self, platform):
        m = Module()
        pairs = self.depth // 2
        pair = Signal(range(max(pairs, 2)))
        word = Signal.like(self.o.p.word)
        full = (pair == pairs - 1) | self.i.p.end
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                pair.eq(Mux(full, 0, pair + 1)),
                self.o.valid.eq(full),
                self.o.p.exponents.eq(self.i.p.exponents),
                self.o.p.end.eq(self.i.p.end),
                self.o.p.tag.eq(self.i.p.tag),
                self.o.p.word.eq(word),
            ]
            for row in range(self.rows):
                slots = self.o.p.elements[row].as_value()
                m.d.sync += slots.word_select(pair, 2 * self.bits).eq(
                    self.i.p.elements[row].as_value()
                )
            with m.If(full):
                m.d.sync += word.eq(Mux(self.i.p.end, 0, word + 1))
        return m


class ActivationStore(wiring.Component):
    """Two vectors (:class:`~intaglio.hw.layouts.Region`) for each row of each group.

    Two writers share a port, the first one before the second. The first writes a vector slice by
    slice, in order, and may announce it before the end: a job that reads it waits for what has not
    come. A job reads a vector once for each
    tile of its linear layer; slices leave one per cycle, the first 3 cycles after its job, which is
    taken as the last slice of the one before is read.

    Parameters
    ----------
    rows, groups, depth, bits :
        Rows and groups held; elements of a slice; width of an element.
    residual_words, inner_words :
        Slices of the two vectors.
    write, job :
        Layouts of the streams, see Members.

    Members
    -------
    writes :
        ``In(stream.Signature({group, region, word, rows, elements, exponents, done, end}))`` x 2.
        `rows` is a mask. `done` marks the slice with which a group's vector may be read, `end` the
        last of a vector.
    jobs : ``In(stream.Signature({group, region, blocks, tiles}))``
    o : ``Out(stream.Signature({elements, exponents, first, last}))``
        As the array takes them.
    done : ``Out(stream.Signature(group))``
        Groups whose vector may be read; the write that says so waits until this is taken.
    """

    writes: list[stream.Interface]
    jobs: stream.Interface
    o: stream.Interface
    done: stream.Interface

    def __init__(
        self, *, rows: int, groups: int, depth: int, bits: int, residual_words: int,
        inner_words: int, word, job,
    ):  # fmt: skip
        self.rows, self.depth, self.bits = rows, depth, bits
        self.residual_words = residual_words
        self.group_words = residual_words + inner_words
        self.words = groups * self.group_words
        group = job["group"].shape
        elements = data.ArrayLayout(data.ArrayLayout(signed(bits), depth), rows)
        exponents = data.ArrayLayout(8, rows)
        write = data.StructLayout({
            "group": group,
            "region": Region,
            "word": word,
            "rows": rows,
            "elements": elements,
            "exponents": exponents,
            "done": 1,
            "end": 1,
        })
        super().__init__({
            "writes": In(stream.Signature(write)).array(2),
            "jobs": In(stream.Signature(job)),
            "o": Out(
                stream.Signature(
                    data.StructLayout({
                        "elements": elements,
                        "exponents": exponents,
                        "first": 1,
                        "last": 1,
                    })
                )
            ),
            "done": Out(stream.Signature(group)),
        })

    def _address(self, group, region, word):
        """Where a slice is. The starts are a table: a product would go the way to a DSP block."""
        starts = Array(
            first + start
            for first in range(0, self.words, self.group_words)
            for start in (0, self.residual_words)
        )
        return starts[Cat(region, group)] + word

    def _missing(self, m: Module, job, number) -> Value:
        """Whether slice `number` of the vector of `job` has been announced and has not come."""
        write = self.writes[0]
        incomplete = Signal()
        group, region = Signal.like(write.p.group), Signal.like(write.p.region)
        come = Signal(len(write.p.word) + 1)
        with m.If(write.valid & write.ready):
            m.d.sync += [
                incomplete.eq((incomplete | write.p.done) & ~write.p.end),
                group.eq(write.p.group),
                region.eq(write.p.region),
                come.eq(write.p.word + 1),
            ]
        same = (job.group == group) & (job.region == region)
        return incomplete & same & (number >= come)

    def elaborate(self, platform):
        m = Module()
        words_per_block = BLOCK // self.depth
        first, second = self.writes
        write = Signal(first.p.shape())
        write_valid = Signal()
        accept = Signal()
        m.d.comb += [
            first.ready.eq(accept),
            second.ready.eq(accept & ~first.valid),
            accept.eq(~write.done | self.done.ready),
            write_valid.eq(first.valid | second.valid),
            write.eq(Mux(first.valid, first.p.as_value(), second.p.as_value())),
            self.done.valid.eq(write_valid & write.done),
            self.done.payload.eq(write.group),
        ]
        address = Signal(range(max(self.words, 2)))
        m.d.comb += address.eq(self._address(write.group, write.region, write.word))

        job = Signal(self.jobs.p.shape())
        block = Signal.like(job.blocks)
        word = Signal(range(words_per_block))
        enable = Signal()
        m.submodules.end = end = SkidBuffer(self.o.p.shape())
        connect(m, end.o, flipped(self.o))
        active = Signal()
        slice_number = Cat(word, block)
        last_word, last_block = word == words_per_block - 1, block == job.blocks - 1
        ending = enable & last_word & last_block & (job.tiles == 1)
        read_address = Signal(range(max(self.words, 2)))
        m.d.comb += [
            enable.eq(end.i.ready),
            active.eq(job.tiles.any() & ~self._missing(m, job, slice_number)),
            self.jobs.ready.eq(~job.tiles.any() | (active & ending)),
            read_address.eq(self._address(job.group, job.region, slice_number)),
            # Two cycles: the memory, and a register as it answers late in its cycle.
            end.i.valid.eq(delay(m, enable, active, 2, "valid")),
            end.i.p.first.eq(delay(m, enable, ~block.any(), 2, "first")),
            end.i.p.last.eq(delay(m, enable, last_block, 2, "last")),
        ]
        with m.If(enable & active):
            m.d.sync += word.eq(word + 1)
            with m.If(last_word):
                m.d.sync += block.eq(Mux(last_block, 0, block + 1))
                with m.If(last_block):
                    m.d.sync += job.tiles.eq(job.tiles - 1)
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += job.eq(self.jobs.p)

        shift = ceil_log2(words_per_block)
        for row in range(self.rows):
            stored = {
                "elements": (self.depth * self.bits, self.words, address, read_address),
                "exponents": (
                    8, -(-self.words // words_per_block) + 1, address >> shift,
                    read_address >> shift,
                ),
            }  # fmt: skip
            for name, (width, depth, write_at, read_at) in stored.items():
                ram = memory.Memory(shape=width, depth=depth, init=[])
                m.submodules[f"{name}_{row}"] = ram
                write_port, read_port = ram.write_port(), ram.read_port()
                m.d.comb += [
                    write_port.addr.eq(write_at),
                    write_port.data.eq(getattr(write, name)[row]),
                    write_port.en.eq(write_valid & accept & write.rows[row]),
                    read_port.addr.eq(read_at),
                    read_port.en.eq(enable),
                    Value.cast(getattr(end.i.p, name)[row]).eq(
                        delay(m, enable, read_port.data, 1, f"{name}_{row}")
                    ),
                ]
        return m
