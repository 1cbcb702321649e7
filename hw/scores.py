"""The first pass of attention: scores of the cached positions, window by window."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.formats import E8M0_BIAS
from intaglio.hw.multiply import multiples, product, product_latency
from intaglio.hw.pipeline import SkidBuffer, delay, sum_tree
from intaglio.hw.run_ahead import RunAhead
from intaglio.hw.tables import SCORE_BITS, SCORE_FRACTION

__all__ = ["ScorePass"]


def saturate(x: Value, limit: int) -> Value:
    """`x` kept within +-`limit`."""
    return Mux(x > limit, limit, Mux(x < -limit, -limit, x))


class ScorePass(wiring.Component):
    """Scores of the positions of a job, window by window; equals ``golden.attention.scores``.

    One position per cycle. A window's scores go to one of two banks while the other is read; its
    record follows when it is complete. The keys of a job are asked for while those of the one
    before come, and taken one cycle after them.

    Members
    -------
    jobs : ``In(stream.Signature(shape.job))``
        Query of one row; positions 0 to `position`, `base` being the address of position 0.
    key_reads, keys :
        To and from the cache.
    write : ``Out(stream.Signature({bank, index, entry}))``
        Scores on their way to the window memory; not to be refused.
    o : ``Out(stream.Signature(shape.window_record))``
    activity : ``Out(shape.activity["scores"])``
    """

    jobs: stream.Interface
    key_reads: stream.Interface
    keys: stream.Interface
    write: stream.Interface
    o: stream.Interface
    activity: data.View

    def __init__(self, shape: AttentionShape):
        self.shape = shape
        # Hold, product, sum; shift (2), round, saturate; sum of the blocks, saturate.
        self.to_dot = 1 + product_latency(shape.cache.bits) + ceil_log2(shape.block)
        self.latency = self.to_dot + 4 + ceil_log2(shape.blocks) + 1
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
            "activity": Out(shape.activity["scores"].shape),
        })

    def _score(self, m: Module, lane: int, query) -> Value:
        """Score of a query head and the key at hand, `latency` enabled cycles later."""
        s = self.shape
        limit = (1 << (SCORE_BITS - 1)) - 1
        enable = self.end.i.ready
        parts = [self._block_score(m, lane, b, query, limit) for b in range(s.blocks)]
        total = sum_tree(m, enable, parts, f"total_{lane}")
        return delay(m, enable, saturate(total, limit), 1, f"score_{lane}")

    def _block_score(self, m: Module, lane: int, b: int, query, limit: int) -> Value:
        """Products, their sum, its shift to fixed point, rounded and saturated."""
        s, key, kv_lane = self.shape, self.keys.p, self.shape.kv_lane(lane)
        name = f"{lane}_{b}"
        first = 2 * (lane * s.blocks + b)
        enables = self.end.enables[first], self.end.enables[first + 1]
        enable, products = enables[0], []
        for n, d in enumerate(range(b * s.block, (b + 1) * s.block)):
            # A query stays for its whole job, and was there before its first key.
            q = multiples(m, 1, query.elements[lane][d], f"query_{lane}_{d}")
            half = enables[2 * n // s.block]
            held = delay(m, half, key.elements[kv_lane][d], 1, f"key_{lane}_{d}")
            products.append(product(m, half, q, held, f"product_{lane}_{d}"))
        dot = sum_tree(m, enable, products, f"dot_{name}")

        # Scores are this far to the right of the largest shift to the left that can matter.
        offset = s.queries.fraction_bits + s.cache.fraction_bits - SCORE_FRACTION + 2 * E8M0_BIAS
        exponent = query.exponents[lane][b] + key.exponents[kv_lane][b]
        distance = Signal(signed(12), name=f"distance_{name}")
        ahead = (SCORE_BITS - 1 + offset) - exponent
        m.d.comb += distance.eq(delay(m, enable, ahead, self.to_dot, f"ahead_{name}"))
        clipped = Mux(distance < 0, 0, Mux(distance > 63, 63, distance[:6]))
        shift = delay(m, enable, clipped, 1, f"shift_{name}")
        moved = Cat(Const(0, SCORE_BITS), delay(m, enable, dot, 1, f"held_{name}")).as_signed()
        wide = delay(m, enable, moved >> shift, 1, f"wide_{name}")
        rounded = delay(m, enable, (wide + 1) >> 1, 1, f"rounded_{name}")
        fixed = Signal(signed(SCORE_BITS), name=f"fixed_{name}")
        with m.If(enable):
            m.d.sync += fixed.eq(saturate(rounded, limit))
        return fixed

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
        parts = s.q_lanes * s.blocks
        m.submodules.end = self.end = end = SkidBuffer(s.window_record, enables=2 * parts)
        connect(m, end.o, flipped(self.o))
        enable = end.i.ready
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
        for n in range(self.latency):
            stages.append(delay(m, enable, stages[-1], 1, f"beat_{n}"))
        scored = stages[-1]
        accept = self.jobs.valid & self.jobs.ready
        m.submodules.run_ahead = run_ahead = RunAhead(s.address_bits, len(job.position))
        connect(m, run_ahead.reads, flipped(self.key_reads))
        m.d.comb += [
            self.activity.active.eq(active),
            self.activity.moved.eq(self.keys.valid & self.keys.ready),
            self.activity.tag.eq(job.tag),
            # The last key of the job before meets its query in the cycle after it was taken.
            self.jobs.ready.eq(run_ahead.begun & ~active & enable),
            run_ahead.valid.eq(self.jobs.valid),
            run_ahead.taken.eq(accept),
            run_ahead.base.eq(self.jobs.p.base),
            run_ahead.last.eq(self.jobs.p.position),
        ]
        with m.If(accept):
            m.d.sync += [job.eq(self.jobs.p), active.eq(1), taken.eq(0)]
        with m.If(self.keys.valid & self.keys.ready):
            m.d.sync += [taken.eq(taken + 1), active.eq(~last)]

        scores = [self._score(m, lane, job.query) for lane in range(s.q_lanes)]
        self._windows(m, scored, scores, enable)
        return m

    def _windows(self, m: Module, scored, scores: list, enable) -> None:
        """Write scores to the bank of their window, and keep its maxima until it is complete."""
        s = self.shape
        bank = Signal()
        first = Signal(init=1)
        address = Signal(s.address_bits)
        described = data.StructLayout({"base": s.address_bits, "tag": s.job["tag"].shape})
        # Jobs whose scores are on their way; a stage of the pipeline holds one at most.
        m.submodules.described = jobs = SyncFIFOBuffered(
            width=described.size, depth=self.latency + 2
        )
        job = data.View(described, jobs.r_data)
        accepted = self.jobs.valid & self.jobs.ready
        m.d.comb += [
            jobs.w_data.eq(delay(m, 1, Cat(self.jobs.p.base, self.jobs.p.tag), 1, "description")),
            jobs.w_en.eq(delay(m, 1, accepted, 1, "accepted")),
            jobs.r_en.eq(scored.valid & scored.last & enable),
        ]
        maxima = Signal(data.ArrayLayout(signed(SCORE_BITS), s.q_lanes))
        codes = Signal(s.codes)
        opening = ~scored.index.any()
        start = Mux(first, job.base, address + s.window)
        complete = scored.last | (scored.index == s.window - 1)
        # A record waits at `end` until a bank is free, and its window keeps the bank till then.
        end = self.end
        written = Signal.like(self.write.p)
        writing = Signal()
        m.d.comb += [
            self.write.valid.eq(writing & enable),
            self.write.payload.eq(written),
        ]
        new_maxima = Signal.like(maxima)
        new_codes = Signal.like(codes)
        for lane, score in enumerate(scores):
            keep = ~opening & (score <= maxima[lane])
            m.d.comb += new_maxima[lane].eq(Mux(keep, maxima[lane], score))
        for lane in range(s.kv_lanes):
            for b in range(s.blocks):
                code, old = scored.codes[lane][b], codes[lane][b]
                m.d.comb += new_codes[lane][b].eq(Mux(opening | (code > old), code, old))

        record = end.i.p
        with m.If(enable):
            m.d.sync += [
                writing.eq(scored.valid),
                written.bank.eq(bank),
                written.index.eq(scored.index),
                written.entry.codes.eq(scored.codes),
                end.i.valid.eq(scored.valid & complete),
                record.maxima.eq(new_maxima),
                record.codes.eq(new_codes),
                record.address.eq(Mux(opening, start, address)),
                record.bank.eq(bank),
                record.last_index.eq(scored.index),
                record.first.eq(first),
                record.last.eq(scored.last),
                record.tag.eq(job.tag),
            ]
            for lane, score in enumerate(scores):
                m.d.sync += written.entry.scores[lane].eq(score)
        with m.If(scored.valid & enable):
            m.d.sync += [maxima.eq(new_maxima), codes.eq(new_codes)]
            with m.If(opening):
                m.d.sync += address.eq(start)
            with m.If(complete):
                m.d.sync += [bank.eq(~bank), first.eq(scored.last)]
