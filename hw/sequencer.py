"""The etched program: which unit works for which group on which layer, and when."""

from amaranth import Cat, Const, Module, Mux, Shape, ShapeCastable, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hw.config import Design, Linear
from intaglio.hw.layouts import DrainMode, Layouts, Operation, Region

__all__ = ["Sequencer"]


LINEARS = {
    Operation.QKV: (Linear.QKV, DrainMode.QKV, Region.RESIDUAL),
    Operation.O: (Linear.O, DrainMode.RESIDUAL, Region.INNER),
    Operation.GATE_UP: (Linear.GATE_UP, DrainMode.GATE, Region.RESIDUAL),
    Operation.DOWN: (Linear.DOWN, DrainMode.RESIDUAL, Region.INNER),
    Operation.HEAD: (Linear.HEAD, DrainMode.HEAD, Region.RESIDUAL),
}
"""Linear layer of each operation, what the drain does with it, and which vector goes in."""


class Sequencer(wiring.Component):
    """Walk each group through the program; serve in turns whichever group is ready.

    The array with its drain takes one operation at a time, its parts each as soon as they can; the
    attention engine takes one group at a time. A group attends only when every group that started
    before it has written its keys and values of that layer, so consecutive tokens of a slot may be
    in flight together. The head is skipped for a group none of whose rows wants a token.

    Members
    -------
    steps : ``In(stream.Signature(layouts.rows))``
    finished : ``Out(stream.Signature(layouts.finished))``
    embed_jobs, weight_jobs, feed_jobs, drain_jobs, head_jobs, attend_jobs :
        To the units.
    stored, gathered : ``In(stream.Signature(group))``
        Groups whose vector is in the activation store; whose words are in the cache.
    sampled : ``In(stream.Signature(layouts.sampled))``
    activity : ``Out(layouts.group_activity) x groups``
    """

    steps: stream.Interface
    finished: stream.Interface
    embed_jobs: stream.Interface
    weight_jobs: stream.Interface
    feed_jobs: stream.Interface
    drain_jobs: stream.Interface
    head_jobs: stream.Interface
    attend_jobs: stream.Interface
    stored: stream.Interface
    gathered: stream.Interface
    sampled: stream.Interface
    activity: data.View

    def __init__(self, design: Design, layouts: Layouts):
        self.design, self.layouts = design, layouts
        super().__init__({
            "steps": In(stream.Signature(layouts.rows)),
            "finished": Out(stream.Signature(layouts.finished)),
            "embed_jobs": Out(stream.Signature(layouts.tokens)),
            "weight_jobs": Out(stream.Signature(layouts.weight_job)),
            "feed_jobs": Out(stream.Signature(layouts.feed_job)),
            "drain_jobs": Out(stream.Signature(layouts.drain_job)),
            "head_jobs": Out(stream.Signature(layouts.attend_job)),
            "attend_jobs": Out(stream.Signature(layouts.attend_job)),
            "stored": In(stream.Signature(layouts.group)),
            "gathered": In(stream.Signature(layouts.group)),
            "sampled": In(stream.Signature(layouts.sampled)),
            "activity": Out(data.ArrayLayout(layouts.group_activity, design.chip.groups)),
        })

    def elaborate(self, platform):
        m = Module()
        groups = self.design.chip.groups
        self.operation = [Signal(Operation, name=f"operation_{g}") for g in range(groups)]
        self.layer = [Signal(self.layouts.layer, name=f"layer_{g}") for g in range(groups)]
        self.rows = [Signal(self.layouts.rows, name=f"rows_{g}") for g in range(groups)]
        self.tokens = [Signal(self.layouts.tokens, name=f"tokens_{g}") for g in range(groups)]
        self.issued = [Signal(name=f"issued_{g}") for g in range(groups)]
        # A step reads the weights from the first to the last: each group counts where it is.
        address = self.layouts.weight_address
        self.pointer = [Signal(address, name=f"pointer_{g}") for g in range(groups)]

        m.d.comb += [port.ready.eq(1) for port in (self.stored, self.gathered, self.sampled)]
        self._start(m)
        self._issue_to_array(m)
        self._issue_to_attention(m, self._started_before(m))
        for g in range(groups):
            self._advance(m, g)
        self._finish(m)
        for g in range(groups):
            activity = self.activity[g]
            m.d.comb += [
                activity.operation.eq(self.operation[g]),
                activity.layer.eq(self.layer[g]),
                activity.rows.eq(sum(row.valid for row in self.rows[g])),
                activity.sampled.eq(sum(row.valid & row.sample for row in self.rows[g])),
            ]
        return m

    def _of_group(self, group, signals: list):
        """The signal of the group whose number is `group`."""
        shape = signals[0].shape()
        chosen = Cat(*signals).word_select(group, Shape.cast(shape).width)
        return shape(chosen) if isinstance(shape, ShapeCastable) else chosen

    def _pick(self, m: Module, ready: list, name: str) -> tuple[Signal, Signal]:
        """The group picked last, and the next ready one after it."""
        groups = len(ready)
        last = Signal(self.layouts.group, name=f"{name}_last")
        picked = Signal(self.layouts.group)
        m.d.comb += picked.eq(last)
        with m.Switch(last):
            for start in range(groups):
                with m.Case(start):
                    order = [(start + 1 + k) % groups for k in range(groups)]
                    for g in reversed(order):
                        with m.If(ready[g]):
                            m.d.comb += picked.eq(g)
        return last, picked

    def _start(self, m: Module) -> None:
        """Give a step to an idle group."""
        idle = [operation == Operation.IDLE for operation in self.operation]
        self.starting = []
        m.d.comb += self.steps.ready.eq(Cat(*idle).any())
        taken = Const(0)
        for g, is_idle in enumerate(idle):
            start = Signal(name=f"start_{g}")
            m.d.comb += start.eq(self.steps.valid & is_idle & ~taken)
            taken = taken | is_idle
            self.starting.append(start)
            with m.If(start):
                m.d.sync += [
                    self.operation[g].eq(Operation.EMBED),
                    self.layer[g].eq(0),
                    self.pointer[g].eq(0),
                    self.rows[g].eq(self.steps.p),
                    self.issued[g].eq(0),
                ]

    def _started_before(self, m: Module) -> list:
        """For each group, a mask of the groups in flight that started before it."""
        masks = [Signal(len(self.starting), name=f"started_before_{g}") for g in
                 range(len(self.starting))]  # fmt: skip
        active = Cat(*((operation != Operation.IDLE) for operation in self.operation))
        for g, mask in enumerate(masks):
            m.d.sync += mask.eq(Mux(self.starting[g], active, mask & active))
        return masks

    def _issue_to_array(self, m: Module) -> None:
        """Hold one operation of one group until all units have taken their part of it."""
        ready = [
            ~self.issued[g]
            & (self.operation[g] != Operation.IDLE)
            & (self.operation[g] != Operation.ATTEND)
            & (self.operation[g] != Operation.FINISH)
            for g in range(len(self.operation))
        ]
        last, picked = self._pick(m, ready, "array")
        group = Signal(self.layouts.group)
        operation = Signal(Operation)
        layer = Signal(self.layouts.layer)
        address = Signal(self.layouts.weight_address)
        jobs = [self.embed_jobs, self.weight_jobs, self.feed_jobs, self.drain_jobs, self.head_jobs]
        pending = Signal(len(jobs))
        accepted = Cat(*(job.valid & job.ready for job in jobs))
        counting = Signal()
        m.d.sync += [pending.eq(pending & ~accepted), counting.eq(0)]
        m.d.comb += [job.valid.eq(pending[n]) for n, job in enumerate(jobs)]
        with m.If(~pending.any() & Cat(*ready).any()):
            chosen = self._of_group(picked, self.operation)
            m.d.sync += [
                counting.eq(1),
                last.eq(picked),
                group.eq(picked),
                operation.eq(chosen),
                layer.eq(self._of_group(picked, self.layer)),
                address.eq(self._of_group(picked, self.pointer)),
            ]
            for g, issued in enumerate(self.issued):
                with m.If(picked == g):
                    m.d.sync += issued.eq(1)
            with m.Switch(chosen):
                with m.Case(Operation.EMBED):
                    m.d.sync += pending.eq(0b01001)
                with m.Case(Operation.QKV):
                    m.d.sync += pending.eq(0b11110)
                with m.Default():
                    m.d.sync += pending.eq(0b01110)
        # A group is chosen again much later than its pointer moves on.
        for g, pointer in enumerate(self.pointer):
            with m.If(counting & (group == g)):
                m.d.sync += pointer.eq(address + self.weight_jobs.p.words)
        m.d.comb += self.weight_jobs.p.address.eq(address)
        self._describe(m, group, operation, layer)

    def _describe(self, m: Module, group, operation, layer) -> None:
        """The parts of the operation that is being issued."""
        design = self.design
        rows = self._of_group(group, self.rows)
        weights, feed, drain = self.weight_jobs.p, self.feed_jobs.p, self.drain_jobs.p
        # Signals of their own, as Icarus never evaluates a constant part of a chosen payload.
        words = Signal.like(weights.words)
        region = Signal(Region)
        mode = Signal(DrainMode)
        blocks = Signal.like(feed.blocks)
        tiles = Signal.like(feed.tiles)
        with m.Switch(operation):
            for named, (linear, its_mode, its_region) in LINEARS.items():
                shape = design.linear(linear)
                with m.Case(named):
                    m.d.comb += [
                        words.eq(shape.words),
                        region.eq(its_region),
                        blocks.eq(shape.blocks),
                        tiles.eq(shape.tiles),
                        mode.eq(its_mode),
                    ]
            with m.Default():
                m.d.comb += mode.eq(DrainMode.EMBED)
        m.d.comb += [
            weights.words.eq(words),
            feed.group.eq(group),
            feed.region.eq(region),
            feed.blocks.eq(blocks),
            feed.tiles.eq(tiles),
            drain.mode.eq(mode),
            drain.group.eq(group),
            drain.layer.eq(layer),
            drain.down.eq(operation == Operation.DOWN),
            self.head_jobs.p.group.eq(group),
            self.head_jobs.p.layer.eq(layer),
            self.head_jobs.p.rows.eq(rows),
        ]
        for r in range(design.chip.rows):
            m.d.comb += [
                self.embed_jobs.p[r].eq(rows[r].token),
                drain.positions[r].eq(rows[r].position),
            ]

    def _issue_to_attention(self, m: Module, started_before: list) -> None:
        """Send a group whose earlier positions are all in the cache."""
        groups = range(len(self.operation))

        def has_written(other: int, layer) -> Signal:
            """Whether `other` has its keys and values of `layer` in the cache."""
            state = self.operation[other]
            ahead = self.layer[other] > layer
            here = (self.layer[other] == layer) & ~(
                (state == Operation.EMBED) | (state == Operation.QKV)
            )
            return ahead | here

        ready = []
        for g in groups:
            waits = [
                started_before[g][other] & ~has_written(other, self.layer[g])
                for other in groups
                if other != g
            ]
            attending = (self.operation[g] == Operation.ATTEND) & ~self.issued[g]
            ready.append(attending & ~Cat(Const(0, 1), *waits).any())
        last, picked = self._pick(m, ready, "attention")
        job = self.attend_jobs
        with m.If(job.ready):
            m.d.sync += job.valid.eq(0)
        with m.If((~job.valid | job.ready) & Cat(*ready).any()):
            m.d.sync += [
                last.eq(picked),
                job.valid.eq(1),
                job.p.group.eq(picked),
                job.p.layer.eq(self._of_group(picked, self.layer)),
                job.p.rows.eq(self._of_group(picked, self.rows)),
            ]
            for g, issued in enumerate(self.issued):
                with m.If(picked == g):
                    m.d.sync += issued.eq(1)

    def _advance(self, m: Module, g: int) -> None:
        """Go on when the operation's result is where the next one needs it."""
        operation, layer = self.operation[g], self.layer[g]
        stored = self.stored.valid & (self.stored.payload == g)
        gathered = self.gathered.valid & (self.gathered.payload == g)
        sampled = self.sampled.valid & (self.sampled.p.group == g)
        wanted = Cat(*(row.valid & row.sample for row in self.rows[g])).any()
        with m.If(sampled):
            m.d.sync += [
                operation.eq(Operation.FINISH),
                self.tokens[g].eq(self.sampled.p.tokens),
            ]
        with m.If(gathered):
            m.d.sync += [operation.eq(Operation.ATTEND), self.issued[g].eq(0)]
        # What comes next is known long before a result is stored.
        following = Signal(Operation, name=f"following_{g}")
        next_layer = Signal.like(layer, name=f"next_layer_{g}")
        m.d.sync += next_layer.eq(layer)
        with m.Switch(operation):
            with m.Case(Operation.EMBED):
                m.d.sync += following.eq(Operation.QKV)
            with m.Case(Operation.ATTEND):
                m.d.sync += following.eq(Operation.O)
            with m.Case(Operation.O):
                m.d.sync += following.eq(Operation.GATE_UP)
            with m.Case(Operation.GATE_UP):
                m.d.sync += following.eq(Operation.DOWN)
            with m.Case(Operation.DOWN):
                with m.If(layer != self.design.model.layers - 1):
                    m.d.sync += [following.eq(Operation.QKV), next_layer.eq(layer + 1)]
                with m.Elif(wanted):
                    m.d.sync += following.eq(Operation.HEAD)
                with m.Else():
                    m.d.sync += following.eq(Operation.FINISH)
        with m.If(stored):
            m.d.sync += [self.issued[g].eq(0), operation.eq(following), layer.eq(next_layer)]

    def _finish(self, m: Module) -> None:
        """Report finished groups one by one, and free them."""
        done = [operation == Operation.FINISH for operation in self.operation]
        chosen = Signal(self.layouts.group)
        reporting = Signal()
        with m.If(~reporting & Cat(*done).any()):
            m.d.sync += reporting.eq(1)
            for g in reversed(range(len(done))):
                with m.If(done[g]):
                    m.d.sync += chosen.eq(g)
        # Rows and tokens are chosen in a cycle of their own.
        m.d.sync += [
            self.finished.valid.eq(reporting),
            self.finished.p.rows.eq(self._of_group(chosen, self.rows)),
            self.finished.p.tokens.eq(self._of_group(chosen, self.tokens)),
        ]
        with m.If(self.finished.valid & self.finished.ready):
            m.d.sync += [reporting.eq(0), self.finished.valid.eq(0)]
            for g, operation in enumerate(self.operation):
                with m.If(chosen == g):
                    m.d.sync += operation.eq(Operation.IDLE)
