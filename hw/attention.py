"""The attention engine: two pipelined passes over windows of positions."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intaglio.hw.formats import E8M0_BIAS, ElementFormat, FloatFormat
from intaglio.hw.kv_cache import keys_layout, values_layout
from intaglio.hw.lookup import Lookup, Reciprocal
from intaglio.hw.pipeline import delay
from intaglio.hw.small_float import FloatConvert, FloatMultiply, float_layout
from intaglio.hw.tables import EXP2, PROBABILITY_FRACTION, SCORE_BITS, SCORE_FRACTION

__all__ = ["AttentionEngine", "AttentionShape"]

MAXIMUM_BITS = SCORE_BITS - SCORE_FRACTION + 1
"""Width of the ceiling of a score."""


class AttentionShape:
    """Shapes and layouts that the parts of an attention engine share.

    Parameters
    ----------
    fmt, queries, cache :
        Small float; element formats of the queries and of the cached keys and values.
    q_lanes, kv_lanes, head_dim, blocks :
        Query heads and key/value heads of a word, elements and blocks of each head.
    window, context :
        Positions of a window, and of a slot.
    address_bits :
        Width of an address of the cache.
    tag :
        Shape of what accompanies a job to its results.
    """

    def __init__(
        self,
        *,
        fmt: FloatFormat,
        queries: ElementFormat,
        cache: ElementFormat,
        q_lanes: int,
        kv_lanes: int,
        head_dim: int,
        blocks: int,
        window: int,
        context: int,
        address_bits: int,
        tag,
    ):
        self.fmt, self.queries, self.cache = fmt, queries, cache
        self.q_lanes, self.kv_lanes = q_lanes, kv_lanes
        self.head_dim, self.blocks, self.block = head_dim, blocks, head_dim // blocks
        self.window, self.address_bits = window, address_bits
        self.keys = keys_layout(cache, kv_lanes, head_dim, blocks)
        self.values = values_layout(cache, kv_lanes, head_dim)
        # The heads of a word against their exact sums: no carry is ever lost.
        growth = ceil_log2(context)
        self.total_bits = PROBABILITY_FRACTION + cache.bits + growth
        self.norm_bits = PROBABILITY_FRACTION + 1 + growth

        elements = data.ArrayLayout(signed(queries.bits), head_dim)
        self.query = data.StructLayout({
            "elements": data.ArrayLayout(elements, q_lanes),
            "exponents": data.ArrayLayout(data.ArrayLayout(8, blocks), q_lanes),
        })
        self.job = data.StructLayout({
            "query": self.query,
            "position": unsigned(ceil_log2(context)),
            "base": address_bits,
            "tag": tag,
        })
        self.codes = data.ArrayLayout(data.ArrayLayout(8, blocks), kv_lanes)
        self.window_entry = data.StructLayout({
            "scores": data.ArrayLayout(signed(SCORE_BITS), q_lanes),
            "codes": self.codes,
        })
        self.window_record = data.StructLayout({
            "maxima": data.ArrayLayout(signed(SCORE_BITS), q_lanes),
            "codes": self.codes,
            "address": address_bits,
            "bank": 1,
            "last_index": ceil_log2(window),
            "first": 1,
            "last": 1,
            "tag": tag,
        })
        total = data.ArrayLayout(signed(self.total_bits), head_dim)
        self.result = data.StructLayout({
            "totals": data.ArrayLayout(total, q_lanes),
            "norms": data.ArrayLayout(self.norm_bits, q_lanes),
            "codes": self.codes,
            "tag": tag,
        })
        self.context_pair = data.StructLayout({
            "pair": data.ArrayLayout(float_layout(fmt), 2),
            "last": 1,
            "tag": tag,
        })

    def kv_lane(self, q_lane: int) -> int:
        """The key/value head that a query head of the word shares."""
        return q_lane * self.kv_lanes // self.q_lanes


class ScorePass(wiring.Component):
    """Scores of the positions of a job, window by window; equals ``golden.attention.scores``.

    One position per cycle. A window's scores go to one of two banks while the other is read; its
    record follows when it is complete. A job begins when the pipeline of the one before is empty.

    Members
    -------
    jobs : ``In(stream.Signature(shape.job))``
        Query of one row; positions 0 to `position`, `base` being the address of position 0.
    key_reads, keys :
        To and from the cache.
    write : ``Out(stream.Signature({bank, index, entry}))``
        Scores on their way to the window memory; not to be refused.
    o : ``Out(stream.Signature(shape.window_record))``
    """

    jobs: stream.Interface
    key_reads: stream.Interface
    keys: stream.Interface
    write: stream.Interface
    o: stream.Interface

    def __init__(self, shape: AttentionShape):
        self.shape = shape
        super().__init__({
            "jobs": In(stream.Signature(shape.job)),
            "key_reads": Out(stream.Signature(unsigned(shape.address_bits))),
            "keys": In(stream.Signature(shape.keys)),
            "write": Out(
                stream.Signature(
                    data.StructLayout({
                        "bank": 1,
                        "index": ceil_log2(shape.window),
                        "entry": shape.window_entry,
                    }),
                    always_ready=True,
                )
            ),
            "o": Out(stream.Signature(shape.window_record)),
        })

    def _score(self, m: Module, lane: int, query, enable) -> Signal:
        """Products, block sums, fixed point, sum over the blocks: a register each."""
        s, key = self.shape, self.keys.p
        kv_lane = s.kv_lane(lane)
        product_bits = s.queries.bits + s.cache.bits - 1
        dot_bits = product_bits + ceil_log2(s.block)
        limit = (1 << (SCORE_BITS - 1)) - 1
        offset = s.queries.fraction_bits + s.cache.fraction_bits - SCORE_FRACTION + 2 * E8M0_BIAS
        parts = []
        for b in range(s.blocks):
            name = f"{lane}_{b}"
            products = []
            for d in range(b * s.block, (b + 1) * s.block):
                product = Signal(signed(product_bits), name=f"product_{lane}_{d}")
                with m.If(enable):
                    m.d.sync += product.eq(query.elements[lane][d] * key.elements[kv_lane][d])
                products.append(product)
            dot = Signal(signed(dot_bits), name=f"dot_{name}")
            # Scores are this far to the right of the largest shift to the left that can matter.
            distance = Signal(signed(12), name=f"distance_{name}")
            clipped = Signal(6, name=f"clipped_{name}")
            fixed = Signal(signed(SCORE_BITS), name=f"fixed_{name}")
            wide = Signal(signed(dot_bits + SCORE_BITS), name=f"wide_{name}")
            rounded = Signal(signed(dot_bits + SCORE_BITS), name=f"rounded_{name}")
            exponent = query.exponents[lane][b] + key.exponents[kv_lane][b]
            m.d.comb += [
                clipped.eq(Mux(distance < 0, 0, Mux(distance > 63, 63, distance))),
                wide.eq(Cat(Const(0, SCORE_BITS), dot).as_signed() >> clipped),
                rounded.eq((wide + 1) >> 1),
            ]
            with m.If(enable):
                m.d.sync += [
                    dot.eq(sum(products)),
                    fixed.eq(saturate(rounded, limit)),
                ]
            held = delay(m, enable, (SCORE_BITS - 1 + offset) - exponent, 1, f"exponent_{name}")
            with m.If(enable):
                m.d.sync += distance.eq(held)
            parts.append(fixed)
        score = Signal(signed(SCORE_BITS), name=f"score_{lane}")
        with m.If(enable):
            m.d.sync += score.eq(saturate(sum(parts, Const(0, 1)), limit))
        return score

    def elaborate(self, platform):
        m = Module()
        s = self.shape
        job = Signal(s.job)
        active = Signal()
        beat = data.StructLayout({
            "valid": 1,
            "index": ceil_log2(s.window),
            "last": 1,
            "codes": s.codes,
        })
        enable = Signal()
        taken = Signal.like(job.position)  # position of the next key to arrive
        last = taken == job.position
        incoming = Signal(beat)
        m.d.comb += [
            incoming.valid.eq(self.keys.valid & active),
            incoming.index.eq(taken[: ceil_log2(s.window)]),
            incoming.last.eq(last),
            incoming.codes.eq(self.keys.p.value_exponents),
            self.keys.ready.eq(enable & active),
        ]
        stages = [incoming]
        for n in range(4):
            stages.append(delay(m, enable, stages[-1], 1, f"beat_{n}"))
        scored = stages[-1]
        empty = ~Cat(*(stage.valid for stage in stages[1:])).any()

        # One job at a time: its addresses run ahead, its keys follow.
        asked = Signal.like(job.position)
        asking = Signal()
        m.d.comb += [
            self.jobs.ready.eq(~active & ~asking & empty),
            self.key_reads.valid.eq(asking),
            self.key_reads.payload.eq(job.base + asked),
        ]
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [job.eq(self.jobs.p), active.eq(1), asking.eq(1), asked.eq(0), taken.eq(0)]
        with m.If(asking & self.key_reads.ready):
            m.d.sync += [asked.eq(asked + 1), asking.eq(asked != job.position)]
        with m.If(self.keys.valid & self.keys.ready):
            m.d.sync += [taken.eq(taken + 1), active.eq(~last)]

        scores = [self._score(m, lane, job.query, enable) for lane in range(s.q_lanes)]
        self._windows(m, job, scored, scores, enable)
        return m

    def _windows(self, m: Module, job, scored, scores: list, enable) -> None:
        """Write scores to the bank of their window, and keep its maxima until it is complete."""
        s = self.shape
        bank = Signal()
        first = Signal(init=1)
        address = Signal(s.address_bits)
        maxima = Signal(data.ArrayLayout(signed(SCORE_BITS), s.q_lanes))
        codes = Signal(s.codes)
        opening = ~scored.index.any()
        start = Mux(first, job.base, address + s.window)
        complete = scored.last | (scored.index == s.window - 1)
        record = self.o.p
        m.d.comb += [
            # A record waits at `o` until a bank is free, and its window keeps the bank till then.
            enable.eq(~scored.valid | ~self.o.valid | self.o.ready),
            self.write.valid.eq(scored.valid & enable),
            self.write.p.bank.eq(bank),
            self.write.p.index.eq(scored.index),
            self.write.p.entry.codes.eq(scored.codes),
        ]
        new_maxima = Signal.like(maxima)
        new_codes = Signal.like(codes)
        for lane, score in enumerate(scores):
            m.d.comb += [
                self.write.p.entry.scores[lane].eq(score),
                new_maxima[lane].eq(Mux(opening | (score > maxima[lane]), score, maxima[lane])),
            ]
        for lane in range(s.kv_lanes):
            for b in range(s.blocks):
                code, old = scored.codes[lane][b], codes[lane][b]
                m.d.comb += new_codes[lane][b].eq(Mux(opening | (code > old), code, old))

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(scored.valid & enable):
            m.d.sync += [maxima.eq(new_maxima), codes.eq(new_codes)]
            with m.If(opening):
                m.d.sync += address.eq(start)
            with m.If(complete):
                m.d.sync += [
                    self.o.valid.eq(1),
                    record.maxima.eq(new_maxima),
                    record.codes.eq(new_codes),
                    record.address.eq(Mux(opening, start, address)),
                    record.bank.eq(bank),
                    record.last_index.eq(scored.index),
                    record.first.eq(first),
                    record.last.eq(scored.last),
                    record.tag.eq(job.tag),
                    bank.eq(~bank),
                    first.eq(scored.last),
                ]


def saturate(x: Value, limit: int) -> Value:
    """`x` kept within +-`limit`."""
    return Mux(x > limit, limit, Mux(x < -limit, -limit, x))


class ContextPass(wiring.Component):
    """Softmax-weighted sums of values; equals ``golden.attention.merge_windows``.

    One position per cycle, and one cycle more for each window, in which what came before is
    rescaled: maxima are integers, so that is a shift.

    Members
    -------
    i : ``In(stream.Signature(shape.window_record))``
        Taken when the window before has been read.
    read : ``Out(stream.Signature({bank, index}))``, ``entry : In(shape.window_entry)``
        The window memory: `entry` is what `read` named in the cycle before.
    value_reads, values :
        To and from the cache.
    o : ``Out(stream.Signature(shape.result))``
        The sums of a job.
    """

    i: stream.Interface
    read: data.View
    entry: data.View
    value_reads: stream.Interface
    values: stream.Interface
    o: stream.Interface

    def __init__(self, shape: AttentionShape):
        self.shape = shape
        super().__init__({
            "i": In(stream.Signature(shape.window_record)),
            "read": Out(data.StructLayout({"bank": 1, "index": ceil_log2(shape.window)})),
            "entry": In(shape.window_entry),
            "value_reads": Out(stream.Signature(unsigned(shape.address_bits))),
            "values": In(stream.Signature(shape.values)),
            "o": Out(stream.Signature(shape.result)),
        })

    def elaborate(self, platform):
        m = Module()
        s = self.shape
        enable = Signal()
        window = Signal(s.window_record)
        active = Signal()
        opened = Signal()  # the cycle after a window was taken, in which its scale is known
        index = Signal(ceil_log2(s.window))
        asked = Signal(ceil_log2(s.window))
        asking = Signal()

        take = self.values.valid & self.values.ready
        m.d.comb += [
            self.i.ready.eq(~active & ~asking),
            self.value_reads.valid.eq(asking),
            self.value_reads.payload.eq(window.address + asked),
            self.values.ready.eq(enable & active & ~opened),
            # The entry that will be needed in the next cycle.
            self.read.bank.eq(Mux(active, window.bank, self.i.p.bank)),
            self.read.index.eq(Mux(active, index + take, 0)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                window.eq(self.i.p), active.eq(1), opened.eq(1), asking.eq(1), asked.eq(0),
                index.eq(0),
            ]  # fmt: skip
        with m.If(asking & self.value_reads.ready):
            m.d.sync += [asked.eq(asked + 1), asking.eq(asked != window.last_index)]
        with m.If(opened & enable):
            m.d.sync += opened.eq(0)
        with m.If(take):
            m.d.sync += [index.eq(index + 1), active.eq(index != window.last_index)]

        beat = data.StructLayout({"valid": 1, "open": 1, "first": 1, "last": 1})
        incoming = Signal(beat)
        m.d.comb += [
            incoming.valid.eq(take),
            incoming.open.eq(opened & enable),
            incoming.first.eq(window.first),
            incoming.last.eq(take & window.last & (index == window.last_index)),
        ]
        self._accumulate(m, window, incoming, enable)
        return m

    def _accumulate(self, m: Module, window, incoming, enable) -> None:
        """Weights of the values at hand, products, sums."""
        s = self.shape
        maxima, codes, rise, rescale = self._scale(m, window, incoming)
        # Cycles from an entry to its powers of two, and to the sums: weights, products.
        to_powers = 1 + Lookup.LATENCY
        to_sums = to_powers + 2
        summing = delay(m, enable, incoming, to_sums, "beat")
        fold = Signal(data.ArrayLayout(data.ArrayLayout(8, s.blocks), s.kv_lanes))
        with m.If(enable):
            for lane in range(s.kv_lanes):
                m.d.sync += [
                    fold[lane][b].eq(codes[lane][b] - self.entry.codes[lane][b])
                    for b in range(s.blocks)
                ]
        held_fold = delay(m, enable, fold, Lookup.LATENCY, "fold")
        values = delay(m, enable, self.values.p, to_powers + 1, "values")
        rising = delay(m, enable, rise, to_sums, "rise")
        rescaling = delay(m, enable, rescale, to_sums, "rescale")
        held_codes = delay(m, enable, codes, to_sums, "codes")
        tag = delay(m, enable, window.tag, to_sums, "tag")
        closing = summing.valid & summing.last
        m.d.comb += enable.eq(~closing | ~self.o.valid | self.o.ready)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(enable & closing):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.p.codes.eq(held_codes),
                self.o.p.tag.eq(tag),
            ]
        for lane in range(s.q_lanes):
            kv_lane = s.kv_lane(lane)
            exp2, down = self._exp2(m, lane, maxima[lane], enable)
            weight = weigh(m, exp2, down, enable, f"weight_{lane}")
            norm = Signal(s.norm_bits, name=f"norm_{lane}")
            term = delay(m, enable, weight, 1, f"norm_term_{lane}")
            self._sum(m, norm, self.o.p.norms[lane], term, rising[lane], summing, enable)
            folded = [
                weigh(m, exp2, down + held_fold[kv_lane][b], enable, f"folded_{lane}_{b}")
                for b in range(s.blocks)
            ]
            for d in range(s.head_dim):
                b = d // s.block
                name = f"{lane}_{d}"
                product = Signal(
                    signed(PROBABILITY_FRACTION + s.cache.bits), name=f"product_{name}"
                )
                total = Signal(signed(s.total_bits), name=f"total_{name}")
                with m.If(enable):
                    m.d.sync += product.eq(folded[b] * values[kv_lane][d])
                self._sum(
                    m, total, self.o.p.totals[lane][d], product, rescaling[lane][b], summing, enable
                )

    def _scale(self, m: Module, window, incoming):
        """Running maxima and value exponents, and how far each new window raises them."""
        s = self.shape
        maxima = Signal(data.ArrayLayout(signed(MAXIMUM_BITS), s.q_lanes))
        codes = Signal(s.codes)
        rise = Signal(data.ArrayLayout(6, s.q_lanes))
        rescale = Signal(data.ArrayLayout(data.ArrayLayout(6, s.blocks), s.q_lanes))
        for lane in range(s.q_lanes):
            kv_lane = s.kv_lane(lane)
            ceiling = Signal(signed(MAXIMUM_BITS), name=f"ceiling_{lane}")
            higher = Signal(signed(MAXIMUM_BITS + 1), name=f"higher_{lane}")
            up = Signal(MAXIMUM_BITS, name=f"up_{lane}")
            m.d.comb += [
                ceiling.eq((window.maxima[lane] + ((1 << SCORE_FRACTION) - 1)) >> SCORE_FRACTION),
                higher.eq(ceiling - maxima[lane]),
                up.eq(Mux(higher > 0, higher, 0)),
                rise[lane].eq(Mux(up > 63, 63, up)),
            ]
            with m.If(incoming.open & (window.first | (higher > 0))):
                m.d.sync += maxima[lane].eq(ceiling)
            for b in range(s.blocks):
                code, old = window.codes[kv_lane][b], codes[kv_lane][b]
                both = Signal(MAXIMUM_BITS + 1, name=f"both_{lane}_{b}")
                m.d.comb += [
                    both.eq(up + Mux(code > old, code - old, 0)),
                    rescale[lane][b].eq(Mux(both > 63, 63, both)),
                ]
        for lane in range(s.kv_lanes):
            for b in range(s.blocks):
                code, old = window.codes[lane][b], codes[lane][b]
                with m.If(incoming.open & (window.first | (code > old))):
                    m.d.sync += codes[lane][b].eq(code)
        return maxima, codes, rise, rescale

    def _exp2(self, m: Module, lane: int, maximum, enable) -> tuple[Value, Value]:
        """Fraction's power of two from the table, and the shift that completes it."""
        x = Signal(signed(SCORE_BITS + 2), name=f"x_{lane}")
        with m.If(enable):
            m.d.sync += x.eq(self.entry.scores[lane] - (maximum << SCORE_FRACTION))
        m.submodules[f"exp2_{lane}"] = table = Lookup(EXP2)
        m.d.comb += [table.enable.eq(enable), table.x.eq(x[:SCORE_FRACTION])]
        down = Signal(MAXIMUM_BITS + 1, name=f"down_{lane}")
        m.d.comb += down.eq(-(x >> SCORE_FRACTION))
        return table.o, delay(m, enable, down, Lookup.LATENCY, f"down_{lane}")

    def _sum(self, m: Module, total, result, term, distance, summing, enable) -> None:
        """Add `term`, or rescale at a window's opening; hand over at a job's last position."""
        with m.If(enable):
            with m.If(summing.open):
                m.d.sync += total.eq(Mux(summing.first, 0, total >> distance))
            with m.Elif(summing.valid):
                m.d.sync += total.eq(total + term)
                with m.If(summing.last):
                    m.d.sync += result.eq(total + term)


def weigh(m: Module, power: Value, down: Value, enable: Value, name: str) -> Signal:
    """Softmax weight ``power / 2**down``, rounded half up, in a register."""
    distance = Mux(down > 31, 31, down)[:5]
    weight = Signal(PROBABILITY_FRACTION + 1, name=name)
    with m.If(enable):
        m.d.sync += weight.eq(((Cat(Const(0, 1), power) >> distance) + 1) >> 1)
    return weight


class ContextOutput(wiring.Component):
    """Divide a job's sums by its weights and hand them out in pairs; ``golden.attention.attend``.

    One pair per cycle: to small float, times the reciprocal of the head's sum of weights.

    Members
    -------
    i : ``In(stream.Signature(shape.result))``
    o : ``Out(stream.Signature(shape.context_pair))``
        Pairs of the first head, then of the second, ...; `last` marks the last one of a job.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: AttentionShape):
        self.shape = shape
        super().__init__({
            "i": In(stream.Signature(shape.result)),
            "o": Out(stream.Signature(shape.context_pair)),
        })

    def elaborate(self, platform):
        m = Module()
        s = self.shape
        pairs = s.head_dim // 2
        enable = Signal()
        lane = Signal(range(max(s.q_lanes, 2)))
        pair = Signal(range(max(pairs, 2)))
        ending = (lane == s.q_lanes - 1) & (pair == pairs - 1)
        m.d.comb += [
            enable.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(enable & ending),
        ]
        with m.If(enable & self.i.valid):
            m.d.sync += pair.eq(pair + 1)
            with m.If(pair == pairs - 1):
                m.d.sync += [pair.eq(0), lane.eq(Mux(ending, 0, lane + 1))]

        fmt = s.fmt
        m.submodules.norm = norm = FloatConvert(fmt, integer_bits=s.norm_bits + 1, exponent_bits=2)
        m.submodules.reciprocal = reciprocal = Reciprocal(fmt)
        flat = Cat(
            *(self.i.p.codes[s.kv_lane(q)][d // s.block] for q in range(s.q_lanes)
              for d in range(0, s.head_dim, 2))
        )  # fmt: skip
        place = lane * pairs + pair
        code = flat.word_select(place, 8)
        m.d.comb += [
            norm.enable.eq(enable),
            norm.integer.eq(self.i.p.norms[lane]),
            norm.exponent.eq(0),
            reciprocal.enable.eq(enable),
            reciprocal.a.eq(norm.o),
        ]
        totals = self.i.p.totals.as_value().word_select(place, 2 * s.total_bits)
        wait = Reciprocal.LATENCY  # both conversions take the same time
        for k in range(2):
            m.submodules[f"total_{k}"] = total = FloatConvert(
                fmt, integer_bits=s.total_bits, exponent_bits=10
            )
            m.submodules[f"divide_{k}"] = divide = FloatMultiply(fmt)
            integer = Signal(signed(s.total_bits), name=f"integer_{k}")
            exponent = Signal(signed(10), name=f"exponent_{k}")
            m.d.comb += [
                integer.eq(totals.word_select(k, s.total_bits)),
                exponent.eq(code - (E8M0_BIAS + s.cache.fraction_bits)),
                total.enable.eq(enable),
                total.integer.eq(delay(m, enable, integer, wait, f"integer_{k}")),
                total.exponent.eq(delay(m, enable, exponent, wait, f"exponent_{k}")),
                divide.enable.eq(enable),
                divide.a.eq(total.o),
                divide.b.eq(reciprocal.o),
                self.o.p.pair[k].eq(divide.o),
            ]
        latency = FloatConvert.LATENCY + Reciprocal.LATENCY + FloatMultiply.LATENCY
        m.d.comb += [
            self.o.valid.eq(delay(m, enable, self.i.valid, latency, "valid")),
            self.o.p.last.eq(delay(m, enable, ending, latency, "last")),
            self.o.p.tag.eq(delay(m, enable, self.i.p.tag, latency, "tag")),
        ]
        return m


class AttentionEngine(wiring.Component):
    """Attention of one query row over the cached positions of its slot.

    Score pass and context pass work on neighbouring windows at the same time, so a job of n
    positions takes about ``n + n / window + window + 30`` cycles until its first result, and
    consecutive jobs overlap.

    Members
    -------
    jobs : ``In(stream.Signature(shape.job))``
    key_reads, keys, value_reads, values :
        To and from :class:`~intaglio.hw.kv_cache.KVCache`.
    o : ``Out(stream.Signature(shape.context_pair))``
        Context of the job's query heads.
    """

    jobs: stream.Interface
    key_reads: stream.Interface
    keys: stream.Interface
    value_reads: stream.Interface
    values: stream.Interface
    o: stream.Interface

    def __init__(self, shape: AttentionShape):
        self.shape = shape
        address = unsigned(shape.address_bits)
        super().__init__({
            "jobs": In(stream.Signature(shape.job)),
            "key_reads": Out(stream.Signature(address)),
            "keys": In(stream.Signature(shape.keys)),
            "value_reads": Out(stream.Signature(address)),
            "values": In(stream.Signature(shape.values)),
            "o": Out(stream.Signature(shape.context_pair)),
        })

    def elaborate(self, platform):
        m = Module()
        s = self.shape
        m.submodules.scores = scores = ScorePass(s)
        m.submodules.context = context = ContextPass(s)
        m.submodules.output = output = ContextOutput(s)
        m.submodules.windows = windows = memory.Memory(
            shape=s.window_entry.size, depth=2 * s.window, init=[]
        )
        write, read = windows.write_port(), windows.read_port()
        m.d.comb += [
            write.addr.eq(Cat(scores.write.p.index, scores.write.p.bank)),
            write.data.eq(scores.write.p.entry),
            write.en.eq(scores.write.valid),
            read.addr.eq(Cat(context.read.index, context.read.bank)),
            context.entry.eq(read.data),
        ]
        connect(m, flipped(self.jobs), scores.jobs)
        connect(m, scores.key_reads, flipped(self.key_reads))
        connect(m, flipped(self.keys), scores.keys)
        connect(m, scores.o, context.i)
        connect(m, context.value_reads, flipped(self.value_reads))
        connect(m, flipped(self.values), context.values)
        connect(m, context.o, output.i)
        connect(m, output.o, flipped(self.o))
        return m
