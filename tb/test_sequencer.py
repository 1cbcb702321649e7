"""The sequencer among units that are played: every job of every step, in order, none too early."""

from itertools import pairwise

import numpy as np
import pytest
from amaranth import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped
from amaranth.sim import Simulator

from intaglio.golden.etch import Etched
from intaglio.golden.images import weight_words
from intaglio.hw.config import LAYER_LINEARS, ChipConfig, Linear
from intaglio.hw.layouts import DrainMode, Layouts, Region
from intaglio.hw.sequencer import Sequencer
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.models import random_etched
from intaglio.tb.streams import pack, unpack

LINEAR_PARTS = {"weight_jobs", "feed_jobs", "drain_jobs"}
PARTS = {
    DrainMode.EMBED: {"embed_jobs", "drain_jobs"},
    DrainMode.QKV: LINEAR_PARTS | {"head_jobs"},
    DrainMode.RESIDUAL: LINEAR_PARTS,
    DrainMode.GATE: LINEAR_PARTS,
    DrainMode.HEAD: LINEAR_PARTS,
}
"""Streams of the jobs that are one operation of the array."""

USES = {
    Linear.QKV: (DrainMode.QKV, Region.RESIDUAL),
    Linear.O: (DrainMode.RESIDUAL, Region.INNER),
    Linear.GATE_UP: (DrainMode.GATE, Region.RESIDUAL),
    Linear.DOWN: (DrainMode.RESIDUAL, Region.INNER),
    Linear.HEAD: (DrainMode.HEAD, Region.RESIDUAL),
}
Rows = list[dict]


def random_steps(etched: Etched, count: int) -> list[Rows]:
    """Steps whose tokens all differ, some full, some that want no token."""
    rng = np.random.default_rng(count)
    design = etched.design
    rows = design.chip.rows
    tokens = rng.permutation(design.model.vocab)[: count * rows].reshape(count, rows)
    used = [rows, *rng.integers(1, rows + 1, count - 1)]
    return [
        [
            {
                "valid": int(row < used[n]),
                "slot": int(rng.integers(design.slots)),
                "position": int(rng.integers(design.context)),
                "token": int(tokens[n, row]),
                # A row that is not used wants nothing, whatever it says.
                "sample": int(n % 3 != 1 or row >= used[n]),
            }
            for row in range(rows)
        ]
        for n in range(count)
    ]


class Units:
    """The units around a sequencer: each takes jobs and answers when it likes, in order.

    `log` tells what happened and in which cycle, by a kind and a payload: an operation began (its
    jobs by stream), or a stream that is no job moved.
    """

    def __init__(self, etched: Etched, steps: list[Rows], latency: int, seed: int):
        self.design, self.latency = etched.design, latency
        self.sequencer = Sequencer(self.design, Layouts(self.design))
        self.rng = np.random.default_rng(seed)
        self.cycle = 0
        self.operation: dict[str, dict] = {}
        self.offers: dict[str, list] = {"host": [], "array": [], "attention": []}
        """What each will give to the sequencer: cycle, stream, payload."""
        self.log: list[tuple] = []
        due = 0
        for rows in steps:  # in bursts, so that all groups begin together, or one goes on alone
            due += int(self.rng.integers(0, 10 * latency) if self.rng.random() < 0.5 else 1)
            self.offers["host"].append((due, "steps", rows))

    def _offer(self, unit: str, port: str, payload) -> None:
        """Give something after some time, which begins when all before has been given."""
        queue = self.offers[unit]
        begin = max([self.cycle, *(due for due, _, _ in queue)])
        queue.append((begin + int(self.rng.integers(1, self.latency + 1)), port, payload))

    def _note(self, kind: str, payload) -> None:
        self.log.append((self.cycle, kind, payload))

    def _accepts(self, port: str) -> bool:
        """Whether something can be taken: the units have room for little, and choose the moment."""
        if port == "attend_jobs":
            return not self.offers["attention"]
        room = port == "finished" or len(self.offers["array"]) < 2
        return bool(room and self.rng.random() < 4 / (4 + self.latency))

    def _take(self, port: str, payload) -> None:
        """Something that the sequencer gave."""
        if port == "finished":
            self._note(port, payload)
        elif port == "attend_jobs":
            self._note("operation", {port: payload})
            self._offer("attention", "stored", payload["group"])
        else:
            if not self.operation:
                self._note("operation", self.operation)
            assert port not in self.operation, "two operations at once"
            self.operation[port] = payload
            self._operate()

    def _operate(self) -> None:
        """When the array has all parts of an operation, it begins."""
        drain = self.operation.get("drain_jobs")
        if drain is None or set(self.operation) != PARTS[DrainMode(drain["mode"])]:
            return
        self.operation = {}
        mode = DrainMode(drain["mode"])
        if mode in (DrainMode.EMBED, DrainMode.HEAD):
            del drain["layer"]  # means nothing there
        match mode:
            case DrainMode.QKV:
                self._offer("array", "gathered", drain["group"])
            case DrainMode.HEAD:
                size = self.design.chip.rows
                tokens = self.rng.integers(0, self.design.model.vocab, size).tolist()
                self._offer("array", "sampled", {"group": drain["group"], "tokens": tokens})
            case _:
                self._offer("array", "stored", drain["group"])

    def run(self, steps: int, cycles: int) -> None:
        """Play until all steps are finished; fail if that takes more than `cycles`."""
        members = self.sequencer.signature.members
        ports = {name: getattr(self.sequencer, name) for name in members if name != "activity"}
        into = ("steps", "stored", "gathered", "sampled")
        out = [name for name in ports if name not in into]
        watched = [ports[name].ready for name in into] + [ports[name].valid for name in out]
        watched += [Value.cast(ports[name].payload) for name in out]

        async def bench(ctx):
            while sum(kind == "finished" for _, kind, _ in self.log) < steps:
                assert self.cycle < cycles, "the sequencer is stuck, or slow"
                offered = {}
                for queue in self.offers.values():
                    if queue and queue[0][0] <= self.cycle:
                        offered.setdefault(queue[0][1], queue)
                for name in into:
                    ctx.set(ports[name].valid, name in offered)
                    if name in offered:
                        payload = ports[name].payload
                        bits = pack(payload.shape(), offered[name][0][2])
                        ctx.set(Value.cast(payload), bits)
                accepts = {name: self._accepts(name) for name in out}
                for name, accept in accepts.items():
                    ctx.set(ports[name].ready, accept)
                _, _, *seen = await ctx.tick().sample(*watched)
                readies, valids = seen[: len(into)], seen[len(into) :][: len(out)]
                for name, ready in zip(into, readies, strict=True):
                    if name in offered and ready:
                        self._note(name, offered[name].pop(0)[2])
                for name, valid, bits in zip(out, valids, seen[-len(out) :], strict=True):
                    if accepts[name] and valid:
                        self._take(name, unpack(ports[name].payload.shape(), bits))
                self.cycle += 1

        simulator = Simulator(self.sequencer)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()


def linear_jobs(etched: Etched, linear: Linear, layer: int, group: int, rows: Rows) -> dict:
    """Jobs of a linear layer, from the shapes and the order of what is etched."""
    design, matrix = etched.design, etched.matrices[linear]
    order = [(kind, n) for n in range(design.model.layers) for kind in LAYER_LINEARS]
    order.append((Linear.HEAD, 0))

    def words(kind: Linear, n: int) -> int:
        of_kind = etched.matrices[kind]
        return len(weight_words(design, kind, of_kind.integers[n], of_kind.exponents[n]))

    address = sum(words(*before) for before in order[: order.index((linear, layer))])
    mode, region = USES[linear]
    outputs, blocks = matrix.exponents.shape[1:]
    tiles = -(-outputs // design.chip.outputs)
    jobs = {
        "weight_jobs": {"address": address, "words": words(linear, layer)},
        "feed_jobs": {"group": group, "region": region.value, "blocks": blocks, "tiles": tiles},
        "drain_jobs": {
            "mode": mode.value, "down": int(linear is Linear.DOWN), "group": group, "layer": layer,
            "positions": [row["position"] for row in rows],
        },
    }  # fmt: skip
    if linear is Linear.QKV:
        jobs["head_jobs"] = {"group": group, "layer": layer, "rows": rows}
    return jobs


def expected_history(etched: Etched, group: int, rows: Rows, tokens: list[int]) -> list[tuple]:
    """All that happens to a step in a group, in order; `tokens` are those that are sampled."""
    positions = [row["position"] for row in rows]
    drain = {"mode": DrainMode.EMBED.value, "down": 0, "group": group, "positions": positions}
    embed = {"embed_jobs": [row["token"] for row in rows], "drain_jobs": drain}
    history = [("operation", embed), ("stored", group)]
    for layer in range(etched.design.model.layers):
        for linear in LAYER_LINEARS:
            history.append(("operation", linear_jobs(etched, linear, layer, group, rows)))
            if linear is Linear.QKV:
                attend = {"group": group, "layer": layer, "rows": rows}
                history += [("gathered", group), ("operation", {"attend_jobs": attend})]
            history.append(("stored", group))
    if any(row["valid"] and row["sample"] for row in rows):
        head = linear_jobs(etched, Linear.HEAD, 0, group, rows)
        del head["drain_jobs"]["layer"]
        history += [("operation", head), ("sampled", {"group": group, "tokens": tokens})]
    history.append(("finished", {"rows": rows, "tokens": tokens}))
    return history


def histories(log: list[tuple], steps: list[Rows]) -> list[list[tuple]]:
    """What happened to each step: place in the log, kind, payload."""
    found: list[list[tuple]] = [[] for _ in steps]
    tokens = [[row["token"] for row in rows] for rows in steps]
    step_of = {}
    for place, (_, kind, payload) in enumerate(log):
        if kind == "steps":
            continue
        if kind == "finished":
            step = steps.index(payload["rows"])
        elif kind == "operation":
            group = payload["attend_jobs" if "attend_jobs" in payload else "drain_jobs"]["group"]
            if "embed_jobs" in payload:
                step_of[group] = tokens.index(payload["embed_jobs"])
            step = step_of[group]
        else:
            step = step_of[payload["group"] if kind == "sampled" else payload]
        found[step].append((place, kind, payload))
    return found


def assert_attention(log: list[tuple], found: list[list[tuple]]) -> None:
    """A step attends in a layer when those before it have their keys there, and soon after that."""
    cycles = [cycle for cycle, _, _ in log]
    gathered = [[place for place, kind, _ in h if kind == "gathered"] for h in found]
    begun, freed = [], []
    for history in found:
        pairs = [
            (place, answer)
            for (place, kind, payload), (answer, _, _) in pairwise(history)
            if kind == "operation" and "attend_jobs" in payload
        ]
        begun.append([place for place, _ in pairs])
        freed += [answer for _, answer in pairs]
    for step, places in enumerate(begun):
        for layer, place in enumerate(places):
            ready = max(earlier[layer] for earlier in gathered[: step + 1])
            assert ready < place
            last = max([ready, *(answer for answer in freed if answer < place)])
            assert cycles[place] - cycles[last] < 20


def assert_served_in_turns(log: list[tuple], history: list[tuple], groups: int) -> None:
    """Other groups' operations go before one that is ready only once each."""
    uses_array = [kind == "operation" and "drain_jobs" in payload for _, kind, payload in log]
    for (ready, kind, _), (place, _, _) in pairwise(history):
        if kind != "operation" and uses_array[place]:
            assert sum(uses_array[ready:place]) <= groups


def play(groups: int, latency: int, seed: int) -> tuple[Etched, list[Rows], list[tuple]]:
    """The log of 30 steps in a chip of two rows; bounds the cycles that they take."""
    chip = ChipConfig(rows=2, groups=groups, outputs=8, depth=4, slots=5)
    etched = random_etched(chip, dim=40, vocab=64)
    steps = random_steps(etched, 30)
    operations = len(steps) * (2 + 5 * etched.design.model.layers)
    units = Units(etched, steps, latency, seed)
    units.run(len(steps), cycles=operations * (2 * latency + 20) + len(steps) * 10 * latency)
    return etched, steps, units.log


@pytest.mark.parametrize("latency", [2, 40])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_sequencer(groups, latency):
    etched, steps, log = play(groups, latency, seed=1)
    found = histories(log, steps)
    for rows, history in zip(steps, found, strict=True):
        group = history[0][2]["drain_jobs"]["group"]
        sampled = [payload["tokens"] for _, kind, payload in history if kind == "sampled"]
        tokens = sampled[0] if sampled else history[-1][2]["tokens"]
        happened = [(kind, payload) for _, kind, payload in history]
        assert happened == expected_history(etched, group, rows, tokens)
        assert_served_in_turns(log, history, groups)
    assert_attention(log, found)
    begun = [history[0][0] for history in found]
    ended = [history[-1][0] for history in found]
    together = [sum(b <= place for b in begun) - sum(e < place for e in ended) for place in begun]
    assert max(together) == groups


def test_overtaking():
    """Now and then a step has its keys before an earlier one; it must wait with its attention."""
    for seed in range(20):
        _, steps, log = play(groups=3, latency=40, seed=seed)
        found = histories(log, steps)
        assert_attention(log, found)
        gathered = [[place for place, kind, _ in h if kind == "gathered"] for h in found]
        if any(list(places) != sorted(places) for places in zip(*gathered, strict=True)):
            return
    pytest.fail("no step overtook another: the stimulus is too tame")


class AnsweredAtOnce(wiring.Component):
    """A sequencer of one group whose units answer in the cycle after they took their jobs.

    The n-th step that samples gets the token n for each of its rows.
    """

    JOBS = ("embed_jobs", "weight_jobs", "feed_jobs", "drain_jobs", "head_jobs", "attend_jobs")

    def __init__(self, sequencer: Sequencer):
        self.sequencer = sequencer
        given = ("steps", "finished", *self.JOBS)
        super().__init__({name: sequencer.signature.members[name] for name in given})

    def elaborate(self, platform):
        m = Module()
        m.submodules.sequencer = sequencer = self.sequencer
        connect(m, flipped(self.steps), sequencer.steps)
        connect(m, sequencer.finished, flipped(self.finished))
        for name in self.JOBS:
            connect(m, getattr(sequencer, name), flipped(getattr(self, name)))
        drain, attend = self.drain_jobs, self.attend_jobs
        mode = drain.p.mode
        drained = drain.valid & drain.ready
        attended = attend.valid & attend.ready
        ends = (mode == DrainMode.QKV) | (mode == DrainMode.HEAD)
        sampled = Signal(range(self.sequencer.design.model.vocab))
        m.d.sync += [
            sequencer.stored.valid.eq(attended | (drained & ~ends)),
            sequencer.gathered.valid.eq(drained & (mode == DrainMode.QKV)),
            sequencer.sampled.valid.eq(drained & (mode == DrainMode.HEAD)),
            sampled.eq(sampled + sequencer.sampled.valid),
        ]
        m.d.comb += [token.eq(sampled) for token in sequencer.sampled.p.tokens]
        return m


@ON_BOTH
def test_jobs_of_one_group(simulator, tmp_path):
    """Every job of every step as generated Verilog gives it, with stalls on every stream."""
    etched = random_etched(ChipConfig(rows=2, outputs=8, depth=4, slots=5))
    steps = random_steps(etched, count=7)
    jobs: dict[str, list] = {name: [] for name in AnsweredAtOnce.JOBS}
    finished, tokens, sampled = [], [0, 0], 0
    for rows in steps:
        if any(row["valid"] and row["sample"] for row in rows):
            tokens, sampled = [sampled, sampled], sampled + 1
        *history, (_, end) = expected_history(etched, 0, rows, tokens)
        finished.append(end)
        for _, parts in (happening for happening in history if happening[0] == "operation"):
            for name, job in parts.items():
                jobs[name].append(job)
    last = etched.design.model.layers - 1
    for job in jobs["drain_jobs"]:  # the layer of an embedding and of a head
        job.setdefault("layer", last if job["mode"] == DrainMode.HEAD.value else 0)
    unit = AnsweredAtOnce(Sequencer(etched.design, Layouts(etched.design)))
    check(unit, {"steps": steps}, {**jobs, "finished": finished}, simulator, tmp_path)
