"""The chip: instances and connections."""

from amaranth import Module, Mux, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import connect, flipped

from intaglio.hw.accumulate import BlockAccumulate
from intaglio.hw.activations import ActivationStore, SlicePacker
from intaglio.hw.array import MatmulArray
from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.config import Design
from intaglio.hw.counters import Counters
from intaglio.hw.drain import Drain
from intaglio.hw.embed import Embed
from intaglio.hw.engines import Engines
from intaglio.hw.heads import HeadWords
from intaglio.hw.host import HostLink
from intaglio.hw.images import Images
from intaglio.hw.layouts import DrainMode, Layouts, Region
from intaglio.hw.norm import Norm
from intaglio.hw.pipeline import SkidBuffer
from intaglio.hw.ports import chip_ports
from intaglio.hw.protocol import Tap
from intaglio.hw.quantiser import BlockExponent, Quantiser
from intaglio.hw.sampler import Sampler
from intaglio.hw.sequencer import Sequencer
from intaglio.hw.shared.chip import SharedChip
from intaglio.hw.shared.flashed import FlashedMemory
from intaglio.hw.signature import StreamSignature
from intaglio.hw.weights import EtchedROM

__all__ = ["Chip", "make_chip"]

QUEUED = 4
"""Jobs that may wait for a unit behind the array."""


class Chip(wiring.Component):
    """A transformer, etched; equals ``golden.chip.GoldenChip`` token for token, logit for logit.

    Parameters
    ----------
    design :
        Model and chip configuration.
    images :
        What is etched.

    Members
    -------
    See :func:`~intaglio.hw.ports.chip_ports`.
    """

    commands: stream.Interface
    events: stream.Interface
    logits: wiring.PureInterface
    signatures: data.View
    activity: data.View
    counters: data.View

    def __init__(self, design: Design, images: Images):
        self.design, self.images = design, images
        self.layouts = layouts = Layouts(design)
        chip, model = design.chip, design.model
        self.shape = AttentionShape(
            fmt=chip.small_float,
            queries=chip.activations,
            cache=chip.kv,
            q_lanes=design.q_lanes,
            kv_lanes=design.kv_lanes,
            head_dim=model.head_dim,
            blocks=design.head_blocks,
            window=chip.window,
            context=design.context,
            address_bits=layouts.cache_address.width,
            tag=layouts.query_tag,
        )
        super().__init__(chip_ports(layouts, chip.small_float, chip.rows))

    def elaborate(self, platform):
        m = Module()
        m.submodules.host = host = HostLink(self.layouts)
        m.submodules.sequencer = sequencer = Sequencer(self.design, self.layouts)
        connect(m, flipped(self.commands), host.commands)
        connect(m, host.events, flipped(self.events))
        connect(m, host.steps, sequencer.steps)
        connect(m, sequencer.finished, host.finished)

        drain = self._array(m, sequencer)
        self._write_back(m, sequencer, drain)
        self._sample(m, sequencer, drain)
        self._sign_drain(m, drain)
        self._observe(m, sequencer, drain)
        return m

    def _queue(
        self, m: Module, name: str, given: stream.Interface, taken: stream.Interface
    ) -> None:
        """Jobs wait here, so that the sequencer can go on."""
        width = Value.cast(given.payload).shape().width
        m.submodules[name] = jobs = SyncFIFOBuffered(width=width, depth=QUEUED)
        m.submodules[f"{name}_end"] = end = SkidBuffer(width)
        m.d.comb += [
            jobs.w_data.eq(given.payload),
            jobs.w_en.eq(given.valid),
            given.ready.eq(jobs.w_rdy),
            end.i.payload.eq(jobs.r_data),
            end.i.valid.eq(jobs.r_rdy),
            jobs.r_en.eq(end.i.ready),
            Value.cast(taken.payload).eq(end.o.payload),
            taken.valid.eq(end.o.valid),
            end.o.ready.eq(taken.ready),
        ]

    def _observe(self, m: Module, sequencer: Sequencer, drain: Drain) -> None:
        """What everybody is doing, and its counters."""
        array, feed, finished = self.array, sequencer.feed_jobs, sequencer.finished
        activity = self.activity
        m.submodules.counters = counters = Counters(self.layouts)
        m.d.comb += [
            activity.array.weights.eq(array.weights.valid),
            activity.array.activations.eq(array.activations.valid),
            activity.array.moved.eq(array.weights.valid & array.weights.ready),
            activity.feed.moved.eq(feed.valid & feed.ready),
            activity.feed.group.eq(feed.p.group),
            activity.drain.eq(drain.activity),
            activity.engines.eq(self.engines.activity),
            activity.groups.eq(sequencer.activity),
            activity.finished.moved.eq(finished.valid & finished.ready),
            activity.finished.rows.eq(sum(row.valid for row in finished.p.rows)),
            counters.activity.eq(activity),
            self.counters.eq(counters.o),
        ]

    def _drain_jobs(self, m: Module, sequencer: Sequencer, embed: Embed, drain: Drain) -> None:
        """The drain's jobs in order; but an embedding goes when it is complete, and then first."""
        given, taken = sequencer.drain_jobs, drain.jobs
        shape = given.p.shape()
        results, embeddings = (stream.Signature(shape).create() for _ in range(2))
        kept, queued = (stream.Signature(shape).create() for _ in range(2))
        is_embedding = given.p.mode == DrainMode.EMBED
        m.d.comb += [
            results.p.eq(given.p),
            embeddings.p.eq(given.p),
            results.valid.eq(given.valid & ~is_embedding),
            embeddings.valid.eq(given.valid & is_embedding),
            given.ready.eq(Mux(is_embedding, embeddings.ready, results.ready)),
        ]
        self._queue(m, "drain_jobs", results, queued)
        self._queue(m, "embedding_jobs", embeddings, kept)
        first = kept.valid & embed.complete
        m.d.comb += [
            taken.p.eq(Mux(first, kept.p.as_value(), queued.p.as_value())),
            taken.valid.eq(first | queued.valid),
            kept.ready.eq(taken.ready & first),
            queued.ready.eq(taken.ready & ~first),
        ]

    def _sign(self, m: Module, tap: Tap, moved, payload) -> None:
        """Give `tap` its signature."""
        m.submodules[f"signature_{tap.name.lower()}"] = unit = StreamSignature(len(payload))
        m.d.comb += [
            unit.moved.eq(moved),
            unit.payload.eq(payload),
            self.signatures[tap].eq(unit.o),
        ]

    def _sign_drain(self, m: Module, drain: Drain) -> None:
        """What leaves the drain by either way; never by both at once."""
        pairs, logits = drain.o, drain.logits
        moved = (pairs.valid & pairs.ready) | (logits.valid & logits.ready)
        chosen = Mux(logits.valid, logits.p.pairs[0].as_value(), pairs.p.pairs[0].as_value())
        self._sign(m, Tap.DRAIN, moved, chosen)

    def _array(self, m: Module, sequencer: Sequencer) -> Drain:
        """Embedding, weights and activations through the array to the drain."""
        design, images, layouts = self.design, self.images, self.layouts
        chip, model = design.chip, design.model
        fmt = chip.small_float
        m.submodules.embed = embed = Embed(
            fmt, chip.weights, rows=chip.rows, dim=model.dim, pairs=images.embedding,
            exponents=images.embedding_exponents, tokens=layouts.tokens,
        )  # fmt: skip
        m.submodules.weights = weights = EtchedROM(
            chip.weights, outputs=chip.outputs, depth=chip.depth,
            exponents=design.exponents_per_word, image=images.weights, job=layouts.weight_job,
        )  # fmt: skip
        m.submodules.activations = self.activations = activations = ActivationStore(
            rows=chip.rows,
            groups=chip.groups,
            depth=chip.depth,
            bits=chip.activations.bits,
            residual_words=-(-model.dim // 32) * design.words_per_block,
            inner_words=-(-max(model.q_dim, model.hidden) // 32) * design.words_per_block,
            word=layouts.store_word,
            job=layouts.feed_job,
        )
        m.submodules.array = self.array = array = MatmulArray(
            rows=chip.rows, outputs=chip.outputs, depth=chip.depth,
            weight_bits=chip.weights.integer_bits, activation_bits=chip.activations.bits,
        )  # fmt: skip
        m.submodules.accumulate = accumulate = BlockAccumulate(
            fmt, rows=chip.rows, outputs=chip.outputs, depth=chip.depth, sum_bits=array.sum_bits,
            fraction_bits=chip.weights.fraction_bits + chip.activations.fraction_bits,
        )  # fmt: skip
        m.submodules.drain = drain = Drain(design, layouts, rope=images.rope, bias=images.bias)
        connect(m, sequencer.embed_jobs, embed.jobs)
        connect(m, sequencer.weight_jobs, weights.jobs)
        connect(m, sequencer.feed_jobs, activations.jobs)
        self._drain_jobs(m, sequencer, embed, drain)
        connect(m, weights.o, array.weights)
        connect(m, activations.o, array.activations)
        connect(m, array.o, accumulate.i)
        connect(m, accumulate.o, drain.results)
        connect(m, embed.o, drain.embedding)
        connect(m, activations.done, sequencer.stored)
        for tap, port, payload in (
            (Tap.WEIGHTS, weights.o, weights.o.payload),
            (Tap.EMBEDDING, embed.o, embed.o.p[0]),
            (Tap.ARRAY, array.o, array.o.p.sums[0]),
        ):
            self._sign(m, tap, port.valid & port.ready, payload.as_value())
        return drain

    def _write_back(self, m: Module, sequencer: Sequencer, drain: Drain) -> None:
        """The drain's pairs through the quantiser: to the store, to the norm, to attention."""
        chip, layouts = self.design.chip, self.layouts
        fmt, tag = chip.small_float, layouts.drain_tag
        m.submodules.block_exponent = block_exponent = BlockExponent(fmt, rows=chip.rows, tag=tag)
        m.submodules.quantiser = quantiser = Quantiser(
            fmt, [chip.activations, chip.kv], rows=chip.rows, tag=tag
        )
        m.submodules.norm = norm = Norm(
            fmt, rows=chip.rows, inverse_dim=self.images.inverse_dim, eps=self.images.eps,
            tag=layouts.group,
        )  # fmt: skip
        connect(m, drain.o, block_exponent.i)
        connect(m, norm.o, drain.inverse)

        # The residual goes two ways; a pair moves when both can take it.
        blocks = block_exponent.o
        is_residual = (blocks.p.tag.mode == DrainMode.EMBED) | (
            blocks.p.tag.mode == DrainMode.RESIDUAL
        )
        m.d.comb += [
            quantiser.i.payload.eq(blocks.payload),
            quantiser.select.eq(blocks.p.tag.cached),
            quantiser.i.valid.eq(blocks.valid & (~is_residual | norm.i.ready)),
            norm.i.valid.eq(blocks.valid & is_residual & quantiser.i.ready),
            blocks.ready.eq(quantiser.i.ready & (~is_residual | norm.i.ready)),
            norm.i.p.pairs.eq(blocks.p.pairs),
            norm.i.p.exponents.eq(blocks.p.exponents),
            norm.i.p.last.eq(blocks.p.last),
            norm.i.p.end.eq(blocks.p.tag.end),
            norm.i.p.tag.eq(blocks.p.tag.group),
        ]
        self._route(m, sequencer, quantiser)

    def _route(self, m: Module, sequencer: Sequencer, quantiser: Quantiser) -> None:
        """Queries, keys and values to attention; everything else to the activation store."""
        design, layouts = self.design, self.layouts
        chip = design.chip
        m.submodules.packer = packer = SlicePacker(
            rows=chip.rows, depth=chip.depth, bits=chip.activations.bits, word=layouts.store_word,
            tag=layouts.drain_tag,
        )  # fmt: skip
        m.submodules.heads = heads = HeadWords(
            design, layouts, self.shape, pair_bits=max(chip.activations.bits, chip.kv.bits)
        )
        rounded = quantiser.o
        to_heads = rounded.p.tag.mode == DrainMode.QKV
        m.d.comb += [
            heads.i.valid.eq(rounded.valid & to_heads),
            packer.i.valid.eq(rounded.valid & ~to_heads),
            rounded.ready.eq((heads.i.ready & to_heads) | (packer.i.ready & ~to_heads)),
            heads.i.p.elements.eq(rounded.p.elements),
            heads.i.p.exponents.eq(rounded.p.exponents),
            heads.i.p.last.eq(rounded.p.last),
            packer.i.p.exponents.eq(rounded.p.exponents),
            packer.i.p.end.eq(rounded.p.tag.end),
            packer.i.p.tag.eq(rounded.p.tag),
        ]
        for row in range(chip.rows):
            m.d.comb += [
                packer.i.p.elements[row][k].eq(rounded.p.elements[row][k]) for k in range(2)
            ]
        from_drain, from_attention = self.activations.writes
        slices = packer.o.p
        gate = slices.tag.mode == DrainMode.GATE
        m.d.comb += [
            from_drain.valid.eq(packer.o.valid),
            packer.o.ready.eq(from_drain.ready),
            from_drain.p.group.eq(slices.tag.group),
            from_drain.p.region.as_value().eq(gate),
            from_drain.p.word.eq(slices.word),
            from_drain.p.rows.eq(-1),
            from_drain.p.elements.eq(slices.elements),
            from_drain.p.exponents.eq(slices.exponents),
            from_drain.p.done.eq(slices.tag.announce),
            from_drain.p.end.eq(slices.end),
        ]
        assert (Region.RESIDUAL.value, Region.INNER.value) == (0, 1)
        self._attention(m, sequencer, heads, from_attention)

    def _attention(self, m: Module, sequencer: Sequencer, heads: HeadWords, writes) -> None:
        m.submodules.engines = self.engines = engines = Engines(
            self.design, self.layouts, self.shape, append=heads.append.p.shape(),
            queries=heads.queries.p.shape(), write=writes.p.shape(),
        )  # fmt: skip
        self._queue(m, "head_jobs", sequencer.head_jobs, heads.jobs)
        connect(m, sequencer.attend_jobs, engines.jobs)
        connect(m, heads.append, engines.append)
        connect(m, heads.queries, engines.queries)
        connect(m, heads.done, sequencer.gathered)
        connect(m, engines.writes, writes)
        context = engines.contexts
        self._sign(m, Tap.ATTENTION, context.valid, context.payload.pair.as_value())

    def _sample(self, m: Module, sequencer: Sequencer, drain: Drain) -> None:
        chip, layouts = self.design.chip, self.layouts
        m.submodules.sampler = sampler = Sampler(
            chip.small_float, rows=chip.rows, vocab=self.design.model.vocab, group=layouts.group,
            tokens=layouts.tokens,
        )  # fmt: skip
        connect(m, drain.logits, sampler.i)
        connect(m, sampler.o, sequencer.sampled)
        m.d.comb += [
            self.logits.valid.eq(drain.logits.valid & drain.logits.ready),
            self.logits.payload.eq(drain.logits.payload),
        ]


def make_chip(
    design: Design, images: Images, memory: FlashedMemory | None = None
) -> Chip | SharedChip:
    """The chip of a design: with an array, or with one unit of each kind, and `memory`."""
    return SharedChip(design, images, memory) if design.shared else Chip(design, images)
