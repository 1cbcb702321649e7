"""The drain: everything that happens to results on their way out of the array."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.hw.config import Design, Linear
from intaglio.hw.formats import BLOCK
from intaglio.hw.images import ETCHED
from intaglio.hw.layouts import DrainMode, Layouts, index
from intaglio.hw.lookup import Sigmoid
from intaglio.hw.multiply import times
from intaglio.hw.pipeline import SkidBuffer, delay
from intaglio.hw.quantiser import pairs_layout
from intaglio.hw.small_float import FloatAdd, FloatMultiply, float_layout, negate, one

__all__ = ["Drain"]

PRODUCT, SUM = FloatMultiply.LATENCY, FloatAdd.LATENCY
READ = 2
"""Cycles from an address to a word: the memory, and a register as it answers late in its cycle."""
BRANCH = Sigmoid.LATENCY + PRODUCT
"""Cycles from the scaled pair to what leaves: the longest way, through the gate."""
CHOICE = 1
"""Cycles to choose what is added, beside the longest way."""


class Drain(wiring.Component):
    """Scale, add the bias, then rotate, gate, or add to the residual; one pair per cycle and row.

    Equals ``golden.drain`` (`scale`, `rotate`, `gate`) and the residual addition of
    ``golden.chip``. Latency is 25 enabled cycles, 33 with biases. Results of padding are dropped. A
    job that scales waits until its group's 1/rms has come.

    Parameters
    ----------
    design, layouts :
        The chip's.
    rope, bias :
        Images: codes of (cosine, sine) for each (position, pair of a head); codes of the two
        biases for each (layer, linear layer, pair), or nothing.

    Members
    -------
    jobs : ``In(stream.Signature(layouts.drain_job))``
    results : ``In(stream.Signature(pairs_layout(...)))``
        From the block accumulation, whole tiles.
    embedding : ``In(stream.Signature(pairs_layout(...)))``
    inverse : ``In(stream.Signature({inverse, tag: group}))``
        1/rms of the residual that was written last.
    o : ``Out(stream.Signature({pairs, last, tag: layouts.drain_tag}))``
        To the quantiser: `last` closes a block.
    logits : ``Out(stream.Signature({pairs, last, group}))``
    activity : ``Out({active, group})``
        Whether there is a job, and its group.
    """

    jobs: stream.Interface
    results: stream.Interface
    embedding: stream.Interface
    inverse: stream.Interface
    o: stream.Interface
    logits: stream.Interface
    activity: data.View

    def __init__(self, design: Design, layouts: Layouts, *, rope: list[int], bias: list[int]):
        self.design, self.layouts, self.rope, self.bias = design, layouts, rope, bias
        chip = design.chip
        self.fmt, self.rows = chip.small_float, chip.rows
        self.code = float_layout(self.fmt)
        pairs = pairs_layout(self.fmt, self.rows)
        inverse = {"inverse": data.ArrayLayout(self.code, self.rows), "tag": layouts.group}
        super().__init__({
            "jobs": In(stream.Signature(layouts.drain_job)),
            "results": In(stream.Signature(pairs)),
            "embedding": In(stream.Signature(pairs)),
            "inverse": In(stream.Signature(data.StructLayout(inverse))),
            "o": Out(
                stream.Signature(
                    data.StructLayout({"pairs": pairs, "last": 1, "tag": layouts.drain_tag})
                )
            ),
            "logits": Out(
                stream.Signature(
                    data.StructLayout({"pairs": pairs, "last": 1, "group": layouts.group})
                )
            ),
            "activity": Out(layouts.activity["drain"].shape),
        })
        most = max(self._pairs(mode)[1] for mode in DrainMode)
        self.beat = data.StructLayout({
            "valid": 1,
            "mode": DrainMode,
            "group": layouts.group,
            "index": ceil_log2(most + 1),
            "pair": index(design.model.head_dim // 2),
            "odd": 1,
            "rotate": 1,
            "cached": 1,
            "announce": 1,
            "last": 1,
            "end": 1,
        })

    def _pairs(self, mode: DrainMode) -> tuple[int, int]:
        """Pairs that a job keeps, and pairs that come."""
        half = self.design.model.dim // 2
        if mode is DrainMode.EMBED:
            return half, half
        linear = {
            DrainMode.RESIDUAL: Linear.O,
            DrainMode.QKV: Linear.QKV,
            DrainMode.GATE: Linear.GATE_UP,
            DrainMode.HEAD: Linear.HEAD,
        }[mode]
        shape = self.design.linear(linear)
        return -(-shape.outputs // 2), shape.tiles * self.design.chip.outputs // 2

    def _announcing(self, mode: DrainMode) -> int:
        """The pair of a job that completes the first slice of the last block of its vector."""
        per_pair = 2 if mode is DrainMode.GATE else 1
        pairs = self._pairs(mode)[0] // per_pair
        first = (pairs - 1) // (BLOCK // 2) * (BLOCK // 2)
        return per_pair * min(first + self.design.chip.depth // 2, pairs) - 1

    def elaborate(self, platform):
        m = Module()
        copies = (15 if self.bias else 13) * self.rows
        m.submodules.end = self.end = end = SkidBuffer(self.o.p.shape(), enables=copies)
        self.enables = iter(end.enables)  # one for each unit and each long delay of a row
        enable = end.i.ready
        job, taken, pairs = self._take_pairs(m, enable)
        incoming = delay(m, enable, taken, 1, "incoming")
        source = delay(m, enable, pairs, 1, "source")
        scale = self._inverses(m, enable, job)
        job = delay(m, enable, job, 1, "job")  # of `incoming`

        # Scale and bias; then what the branches need is read and the beat goes on beside them.
        scaled = PRODUCT + (SUM if self.bias else 0)
        biases = self._biases(m, enable, job, incoming)
        at_branch = delay(m, enable, incoming, scaled, "branch_beat")
        at_residual = delay(m, enable, at_branch, PRODUCT - READ, "residual_beat")
        at_sum = delay(m, enable, at_residual, READ, "sum_beat")
        leaving = delay(m, enable, at_sum, BRANCH - PRODUCT, "leaving")
        rope = self._rope(m, enable, job, incoming, scaled - READ)
        residual = self._residual_read(m, enable, at_residual)

        outgoing = Signal(self.o.p.pairs.shape())
        for row in range(self.rows):
            y = self._scale(m, row, source[row], scale[row], biases)
            self._branches(m, row, y, rope[row], residual[row], at_branch, at_sum, leaving,
                           outgoing[row], enable)  # fmt: skip
        self._residual_write(m, enable, leaving, outgoing)
        self._leave(m, leaving, outgoing)
        return m

    def _take_pairs(self, m: Module, enable):
        """One job after the other; pairs from the array or the embedding, with their place."""
        model, design = self.design.model, self.design
        job = Signal(self.layouts.drain_job)
        active = Signal()
        number = Signal(self.beat["index"].shape)
        kept = Signal.like(number)
        total = Signal.like(number)
        announcing = Signal.like(number)
        with m.Switch(job.mode):
            for mode in DrainMode:
                with m.Case(mode):
                    m.d.comb += [
                        kept.eq(self._pairs(mode)[0] - 1),
                        total.eq(self._pairs(mode)[1] - 1),
                        announcing.eq(self._announcing(mode)),
                    ]

        # Place in the words of the cache: pair of a head, head of a word.
        pair = Signal(self.beat["pair"].shape)
        head = Signal(range(design.q_lanes + 2 * design.kv_lanes))
        end_of_head = pair == model.head_dim // 2 - 1
        end_of_word = head == design.q_lanes + 2 * design.kv_lanes - 1

        # Of the job and of the pair at hand, known a cycle before.
        embed = Signal()
        final = Signal()
        source = Mux(embed, self.embedding.p.as_value(), self.results.p.as_value())
        take = Signal()
        m.d.comb += [
            self.embedding.ready.eq(active & enable & embed),
            self.results.ready.eq(active & enable & ~embed),
            take.eq(enable & active & Mux(embed, self.embedding.valid, self.results.valid)),
        ]
        incoming = Signal(self.beat)
        qkv, gate = job.mode == DrainMode.QKV, job.mode == DrainMode.GATE
        # A block of the gate takes twice the pairs, as two make one.
        place = Mux(gate, number >> 1, number)[: ceil_log2(BLOCK // 2)]
        full = Mux(
            qkv,
            (pair & (model.head_block // 2 - 1)) == model.head_block // 2 - 1,
            (place == BLOCK // 2 - 1) | (number == kept),
        )
        m.d.comb += [
            incoming.valid.eq(take & (number <= kept)),
            incoming.mode.eq(job.mode),
            incoming.group.eq(job.group),
            incoming.index.eq(number),
            incoming.pair.eq(pair),
            incoming.odd.eq(number[0]),
            incoming.rotate.eq(qkv & (head < design.q_lanes + design.kv_lanes)),
            incoming.cached.eq(qkv & (head >= design.q_lanes)),
            incoming.last.eq(full),
            incoming.announce.eq(number == announcing),
            incoming.end.eq(number == kept),
        ]
        with m.If(take):
            m.d.sync += [
                number.eq(Mux(final, 0, number + 1)), pair.eq(pair + 1), active.eq(~final),
                final.eq(number + 1 == total),
            ]  # fmt: skip
            with m.If(end_of_head):
                m.d.sync += [pair.eq(0), head.eq(Mux(end_of_word, 0, head + 1))]
            with m.If(final):
                m.d.sync += [pair.eq(0), head.eq(0)]
        single = [self.jobs.p.mode == mode for mode in DrainMode if self._pairs(mode)[1] == 1]
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [
                embed.eq(self.jobs.p.mode == DrainMode.EMBED), final.eq(Cat(*single).any()),
            ]  # fmt: skip
        self._take_job(m, job, active, take & final)
        return job, incoming, data.View(self.o.p.pairs.shape(), source)

    def _take_job(self, m: Module, job, active, ending) -> None:
        """A job that scales waits for its group's 1/rms; one that writes the residual voids it."""
        waiting = Signal(self.design.chip.groups)
        mode = self.jobs.p.mode
        writes = (mode == DrainMode.EMBED) | (mode == DrainMode.RESIDUAL)
        allowed = writes | ~waiting.bit_select(self.jobs.p.group, 1)
        m.d.comb += [
            self.jobs.ready.eq((~active | ending) & allowed),
            self.inverse.ready.eq(1),
            self.activity.active.eq(active),
            self.activity.group.eq(job.group),
        ]
        with m.If(self.inverse.valid):
            m.d.sync += waiting.bit_select(self.inverse.p.tag, 1).eq(0)
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [job.eq(self.jobs.p), active.eq(1)]
            with m.If(writes):
                m.d.sync += waiting.bit_select(self.jobs.p.group, 1).eq(1)

    def _inverses(self, m: Module, enable, job):
        """1/rms of each row of the job's group; 1 where nothing is scaled."""
        layout = data.ArrayLayout(self.code, self.rows)
        held = [Signal(layout, name=f"inverse_{g}") for g in range(self.design.chip.groups)]
        for g, inverse in enumerate(held):
            with m.If(self.inverse.valid & (self.inverse.p.tag == g)):
                m.d.sync += inverse.eq(self.inverse.p.inverse)
        scaling = (job.mode != DrainMode.EMBED) & (job.mode != DrainMode.RESIDUAL)
        chosen = Cat(*held).word_select(job.group, layout.size)
        ones = Cat(*[one(self.fmt).as_value()] * self.rows)
        return delay(m, enable, data.View(layout, Mux(scaling, chosen, ones)), 1, "inverse")

    def _biases(self, m: Module, enable, job, incoming):
        """Codes of the biases of a pair, when its product is there; None if nothing has one."""
        if not self.bias:
            return None
        offset, offsets = 0, {}
        for linear in (Linear.QKV, Linear.O, Linear.GATE_UP, Linear.DOWN):
            offsets[linear] = offset
            offset += self.design.linear(linear).outputs // 2
        m.submodules.bias = rom = memory.Memory(
            shape=2 * self.fmt.bits, depth=len(self.bias), init=self.bias, attrs=ETCHED
        )
        port = rom.read_port()
        start = Signal(range(offset))
        none = Signal()
        with m.Switch(job.mode):
            with m.Case(DrainMode.RESIDUAL):
                m.d.comb += start.eq(Mux(job.down, offsets[Linear.DOWN], offsets[Linear.O]))
            with m.Case(DrainMode.GATE):
                m.d.comb += start.eq(offsets[Linear.GATE_UP])
            with m.Case(DrainMode.EMBED, DrainMode.HEAD):
                m.d.comb += none.eq(1)
        address = times(job.layer, offset) + start + incoming.index
        m.d.comb += [
            port.addr.eq(delay(m, enable, address, PRODUCT - READ, "bias_address")),
            port.en.eq(enable),
        ]
        word = Mux(delay(m, enable, none, PRODUCT - 1, "no_bias"), 0, port.data)
        return delay(m, enable, word, 1, "bias")

    def _rope(self, m: Module, enable, job, incoming, when: int) -> list:
        """Cosine and sine for each row's position, read at `when`."""
        half = self.design.model.head_dim // 2
        pair_layout = data.ArrayLayout(self.code, 2)
        m.submodules.rope = rom = memory.Memory(
            shape=pair_layout.size, depth=len(self.rope), init=self.rope, attrs=ETCHED
        )
        angles = []
        for row in range(self.rows):
            port = rom.read_port()
            address = Signal(range(len(self.rope)), name=f"rope_address_{row}")
            m.d.comb += [
                address.eq(times(job.positions[row], half) + incoming.pair),
                port.addr.eq(delay(m, enable, address, when, f"rope_address_{row}")),
                port.en.eq(enable),
            ]
            held = delay(m, enable, port.data, 1, f"rope_{row}")
            angles.append(data.View(pair_layout, held))
        return angles

    def _residual_read(self, m: Module, enable, beat):
        """The residual stream of all rows at a beat's place, `READ` cycles later."""
        half = self.design.model.dim // 2
        pairs = self.o.p.pairs.shape()
        m.submodules.residual = self.residual = memory.Memory(
            shape=pairs.size, depth=self.design.chip.groups * half, init=[]
        )
        port = self.residual.read_port()
        m.d.comb += [port.addr.eq(times(beat.group, half) + beat.index), port.en.eq(enable)]
        return data.View(pairs, delay(m, enable, port.data, 1, "residual_word"))

    def _residual_write(self, m: Module, enable, leaving, outgoing) -> None:
        half = self.design.model.dim // 2
        port = self.residual.write_port()
        writes = (leaving.mode == DrainMode.EMBED) | (leaving.mode == DrainMode.RESIDUAL)
        m.d.comb += [
            port.addr.eq(times(leaving.group, half) + leaving.index),
            port.data.eq(outgoing),
            port.en.eq(enable & leaving.valid & writes),
        ]

    def _multiply(self, m: Module, name: str, a, b):
        m.submodules[name] = unit = FloatMultiply(self.fmt)
        m.d.comb += [unit.enable.eq(next(self.enables)), unit.a.eq(a), unit.b.eq(b)]
        return unit.o

    def _add(self, m: Module, name: str, a, b):
        m.submodules[name] = unit = FloatAdd(self.fmt)
        m.d.comb += [unit.enable.eq(next(self.enables)), unit.a.eq(a), unit.b.eq(b)]
        return unit.o

    def _scale(self, m: Module, row: int, pair, inverse, biases) -> list:
        """``pair * inverse + bias``."""
        scaled = [self._multiply(m, f"scale_{row}_{k}", pair[k], inverse) for k in range(2)]
        if biases is None:
            return scaled
        return [
            self._add(m, f"bias_{row}_{k}", y, biases.word_select(k, self.fmt.bits))
            for k, y in enumerate(scaled)
        ]

    def _branches(
        self, m: Module, row: int, y, rope, residual, at_branch, at_sum, leaving, out, enable
    ) -> None:
        """Rotation, gate and residual side by side; `out` is what the beat's mode asks for."""
        (a, b), (cosine, sine) = y, rope
        by = Mux(at_branch.mode == DrainMode.GATE, b.as_value(), cosine.as_value())
        product = self._multiply(m, f"a_by_cosine_or_b_{row}", a, by)
        b_sine = self._multiply(m, f"b_by_sine_{row}", b, sine)
        a_sine = self._multiply(m, f"a_by_sine_{row}", a, sine)
        b_cosine = self._multiply(m, f"b_by_cosine_{row}", b, cosine)
        left, right = (product, a_sine), (negate(self.fmt, b_sine), b_cosine)

        adds_residual = at_sum.mode == DrainMode.RESIDUAL
        sums = []
        for k in range(2):
            straight = delay(m, enable, y[k], PRODUCT, f"straight_{row}_{k}")
            other = Mux(adds_residual, residual[k].as_value(), 0)
            augend = Mux(at_sum.rotate, left[k].as_value(), straight.as_value())
            addend = Mux(at_sum.rotate, right[k].as_value(), other)
            held = next(self.enables)
            terms = [
                data.View(self.code, delay(m, held, term, CHOICE, f"{name}_{row}_{k}"))
                for name, term in (("augend", augend), ("addend", addend))
            ]
            total = self._add(m, f"sum_{row}_{k}", *terms)
            left_over = BRANCH - PRODUCT - CHOICE - SUM
            sums.append(delay(m, held, total, left_over, f"sum_{row}_{k}"))

        m.submodules[f"sigmoid_{row}"] = sigmoid = Sigmoid(self.fmt)
        m.d.comb += [sigmoid.enable.eq(next(self.enables)), sigmoid.a.eq(a)]
        gated = delay(
            m, next(self.enables), product, Sigmoid.LATENCY - PRODUCT, f"gate_by_up_{row}"
        )
        hidden = self._multiply(m, f"gate_{row}", gated, sigmoid.o)
        before = Signal(self.code, name=f"hidden_before_{row}")
        with m.If(enable & leaving.valid):
            m.d.sync += before.eq(hidden)
        with m.If(leaving.mode == DrainMode.GATE):
            m.d.comb += [out[0].eq(before), out[1].eq(hidden)]
        with m.Else():
            m.d.comb += [out[k].eq(sums[k]) for k in range(2)]

    def _leave(self, m: Module, leaving, outgoing) -> None:
        end = self.end
        gate = leaving.mode == DrainMode.GATE
        head = end.o.p.tag.mode == DrainMode.HEAD
        m.d.comb += [
            end.i.valid.eq(leaving.valid & (~gate | leaving.odd)),
            end.i.p.pairs.eq(outgoing),
            end.i.p.last.eq(leaving.last),
            *(end.i.p.tag[name].eq(leaving[name]) for name, _ in end.i.p.tag.shape()),
            self.o.payload.eq(end.o.payload),
            self.logits.p.pairs.eq(end.o.p.pairs),
            self.logits.p.last.eq(end.o.p.tag.end),
            self.logits.p.group.eq(end.o.p.tag.group),
            self.o.valid.eq(end.o.valid & ~head),
            self.logits.valid.eq(end.o.valid & head),
            end.o.ready.eq(Mux(head, self.logits.ready, self.o.ready)),
        ]
