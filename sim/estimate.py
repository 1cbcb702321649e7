"""A performance model: cycles from shapes and the chip's configuration, without simulating RTL.

An operation begins when its input is there and its engine free, and takes what its
:mod:`~intaglio.sim.terms` say; engines serve the groups in turns as the sequencer does. So a step
of any model is played operation by operation, not cycle by cycle.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from amaranth.utils import ceil_log2

from intaglio.hw.accumulate import TILES
from intaglio.hw.config import LAYER_LINEARS, Design, Linear
from intaglio.hw.formats import BLOCK
from intaglio.hw.images import BANK
from intaglio.hw.small_float import FloatAdd
from intaglio.sim.loads import Decode, Load, Prompt
from intaglio.sim.terms import (
    ADD,
    ATTEND,
    BANKED,
    BEGIN,
    CONTEXT,
    DRAIN,
    EMBED,
    GATHER,
    HOST,
    NORM,
    PREPARE,
    QUANTISE,
    RESCALE,
    RESERVE,
    SAMPLE,
    SCORE,
    STORE,
    SUM,
    linear_terms,
)
from intaglio.sim.traffic import WARM, spread

__all__ = ["Estimate", "estimate_decode", "estimate_prompt", "roof"]

BESIDE = ("ATTEND", "EMBEDDED")
"""What begins without the sequencer's choice."""

MOST_STRETCHES = 12
"""After so many the last one counts, whether or not the steps have become alike."""


@dataclass(frozen=True)
class Estimate:
    """What is expected of a chip under a load."""

    cycles_per_token: float
    first_token: float
    """Cycles from a prompt's first token, or the token before, to the token that is sampled."""
    array: float
    """Share of cycles in which the array takes a word."""
    useful: float
    """Share of its multiplier slots that are useful products."""
    attention: float
    """Share of cycles in which an engine takes a key."""


@dataclass(eq=False)
class Step:
    """Tokens that walk through the program together, and where they are."""

    rows: list[tuple[int, int]]
    """Engine, and positions to attend to, of each row in use."""
    sampled: int
    """How many of them want a token."""
    program: Iterator[str]
    operation: str
    due: int
    """When the operation may begin."""
    normed: int = 0
    """When 1/rms of its residual is in the drain."""
    gathered: list[int] = field(default_factory=list)
    """When the keys and values of each layer so far are in the cache."""


class Play:
    """Engines and steps in time; every method moves one of them on."""

    def __init__(self, design: Design, loads: Sequence[Load], ahead: int = 1):
        self.design = design
        self.terms = {linear: linear_terms(design, linear) for linear in Linear}
        self.through = DRAIN + (FloatAdd.LATENCY if design.model.has_bias else 0)
        self.begin = BEGIN + (BANKED if design.weight_words > BANK else 0)
        table = design.model.vocab * design.model.dim // 2
        self.embed = EMBED + (BANKED if table > BANK else 0)
        self.picked = 0  # when the sequencer may choose again
        self.array = 0  # when the array can take the next operation's words
        self.drain = 0  # when the drain can take the next operation's pairs
        self.held: deque[tuple[int, int]] = deque(maxlen=2 * design.chip.groups)
        """From when to when the drain had its last jobs, waiting for pairs or taking them."""
        self.scores = [0] * design.chip.engines
        self.contexts = [0] * design.chip.engines
        self.outputs = [0] * design.chip.engines
        self.words = self.keys = self.products = self.in_layers = 0
        self.waiting = deque((load, 0) for _ in range(ahead) for load in loads)
        self.groups: list[tuple[Step, Load] | None] = [None] * design.chip.groups
        self.order: list[Step] = []  # those in flight, the earliest first
        self.last = 0
        self._start(0)

    def _program(self, sampled: int) -> Iterator[str]:
        """The operations of one step."""
        yield "EMBED"
        for _ in range(self.design.model.layers):
            for linear in LAYER_LINEARS:
                yield linear.name
                if linear is Linear.QKV:
                    yield "ATTEND"
        if sampled:
            yield Linear.HEAD.name

    def _start(self, when: int) -> None:
        """Give idle groups the steps that wait: commands, a row per cycle, then the embedding."""
        for g, group in enumerate(self.groups):
            while group is None and self.waiting:
                load, since = self.waiting.popleft()
                rows, sampled = load.rows()
                if not rows:
                    continue
                program = self._program(sampled)
                due = max(when, since + HOST + 2 * len(rows))
                step = Step(rows, sampled, program, next(program), due)
                group = self.groups[g] = step, load
                self.order.append(step)

    def _go_on(self, step: Step, when: int) -> None:
        """The result of an operation is there."""
        following = next(step.program, None)
        if following is not None:
            step.operation, step.due = following, when
            return
        g, load = next(
            (g, group[1]) for g, group in enumerate(self.groups) if group and group[0] is step
        )
        load.ended.append(when)
        self.order.remove(step)
        self.groups[g] = None
        self.waiting.append((load, when))
        self._start(when + self.design.chip.rows + 1)

    def _due(self, step: Step) -> float:
        """When a step may begin its operation; attention waits for the keys of earlier steps."""
        if step.operation != "ATTEND":
            return step.due
        layer = len(step.gathered) - 1
        earlier = self.order[: self.order.index(step)]
        if any(len(other.gathered) <= layer for other in earlier):
            return inf
        return max([step.due, *(other.gathered[layer] for other in earlier)])

    def turn(self) -> None:
        """Let whoever is next begin its operation."""
        count = len(self.groups)
        due = {g: self._due(group[0]) for g, group in enumerate(self.groups) if group}
        beside = [g for g in due if self._step(g).operation in BESIDE]
        others = [g for g in due if g not in beside]
        moment = max(self.picked, min((due[g] for g in others), default=inf))
        first = min(beside, key=due.__getitem__, default=None)
        if first is not None and due[first] <= moment:
            step = self._step(first)
            play = self._attend if step.operation == "ATTEND" else self._embedded
            play(step, int(due[first]))
            return
        turns = [(self.last + 1 + k) % count for k in range(count)]
        self.last = next(g for g in turns if g in others and due[g] <= moment)
        step = self._step(self.last)
        play = self._embed if step.operation == "EMBED" else self._multiply
        play(step, int(moment))

    def _step(self, g: int) -> Step:
        group = self.groups[g]
        assert group is not None
        return group[0]

    def _embed(self, step: Step, moment: int) -> None:
        """The embedding, from the table; of several rows it is kept until all are there."""
        rows, pairs = self.design.chip.rows, self.design.model.dim // 2
        self.picked = moment + 2
        if rows > 1:
            step.operation, step.due = "EMBEDDED", moment + self.embed + rows * pairs
        else:
            begin = max(moment + self.embed, self.drain)
            self.drain = begin + pairs
            self._go_on(step, self._stored(step, begin, 1, pairs))

    def _embedded(self, step: Step, due: int) -> None:
        """The embedding of several rows, through the drain: before all jobs but the one it has."""
        pairs = self.design.model.dim // 2
        begin = max([due, *(end for since, end in self.held if since <= due)])
        self.drain = max(self.drain, begin) + pairs
        self._go_on(step, self._stored(step, begin, 1, pairs))

    def _stored(self, step: Step, begin: int, rate: int, pairs: int) -> int:
        """When a vector is announced whose pairs come at this rate, or all at `begin`.

        Its last block is held until it is whole, and follows the one before.
        """
        last_block = (pairs - 1) % (BLOCK // 2)
        whole = begin + rate * (pairs - 1)
        if rate and pairs > BLOCK // 2:
            whole = max(whole, begin + pairs - last_block - 2 + BLOCK // 2)
        leaves = whole + self.through + 2
        step.normed = leaves + last_block + NORM
        return leaves + QUANTISE - 2 + self.design.chip.depth // 2 + STORE

    def _multiply(self, step: Step, moment: int) -> None:
        """An operation of the array and the drain."""
        linear = Linear[step.operation]
        t, shape = self.terms[linear], self.design.linear(linear)
        useful = step.sampled if linear is Linear.HEAD else len(step.rows)
        products = useful * shape.inputs * shape.outputs
        self.products += products
        self.in_layers += products * (linear is not Linear.HEAD)
        self.words += t.words
        first = max(moment + self.begin, self.array)
        self.picked = max(moment + 2, first - self.begin + 2)
        # The drain may be the slower one; the array is ahead of it by some tiles at most.
        begin = max(self.drain, self._summed(first + t.tile) + ADD)
        if linear not in (Linear.O, Linear.DOWN):
            begin = max(begin, step.normed)
        end = max(self._summed(first + t.words) + ADD + t.last_pair, begin + t.pairs - 1)
        self.held.append((max(self.drain, moment + self.begin), end + 1))
        self.drain = end + 1
        ahead = TILES * t.pairs // shape.tiles
        self.array = max(first + t.words, begin + t.pairs - ahead - SUM)
        if linear is Linear.QKV:
            held = self.design.model.head_block // 2 - 1
            gathered = end + self.through + QUANTISE + held + self.design.chip.rows + GATHER
            step.gathered.append(gathered)
            self._go_on(step, gathered)
        elif linear is Linear.HEAD:
            self._go_on(step, end + self.through + SAMPLE)
        else:
            pairs = shape.outputs // (4 if linear is Linear.GATE_UP else 2)
            self._go_on(step, self._stored(step, end, 0, pairs))

    def _summed(self, words_end: int) -> int:
        """When the sums of a block, whose words end then, have their turn to be added."""
        turns = self.design.words_per_block
        sums = words_end - 1 + SUM + ceil_log2(self.design.chip.depth)
        return sums + (turns - 1 - sums) % turns

    def _attend(self, step: Step, due: int) -> None:
        """The attention of a step, each row in its engine."""
        design = self.design
        pairs = design.q_lanes * design.model.head_dim // 2
        end = 0
        for engine, positions in step.rows:
            for _ in range(design.lane_groups):
                values = self._attend_row(engine, positions, due)
                self.outputs[engine] = values + RESERVE + pairs
                end = max(end, values + CONTEXT + pairs)
        last_block = (design.model.q_dim // 2 - 1) % (BLOCK // 2)
        self._go_on(step, end + QUANTISE + last_block + STORE)

    def _attend_row(self, engine: int, positions: int, due: int) -> int:
        """One pass over the keys, and one over the values a window behind; its last value."""
        window = self.design.chip.window
        full, rest = divmod(positions, window)
        shift = RESCALE * sum(1 / head for head in range(1, self.design.q_lanes + 1))
        different = min(full, int(shift) + 2)
        self.keys += positions
        key = max(due + ATTEND, self.scores[engine] + 1)
        free = self.contexts[engine] + 1
        for n in range(different):
            key, free = self._window(key, free, window, int(shift / n) if n else 0)
        # The others are alike: nothing is shifted, and their records are waited for.
        alike = (full - different) * (window + PREPARE - 1)
        key, free = key + alike, free + alike
        if rest:
            key, free = self._window(key, free, rest, int(shift / full) if full else 0)
        # The last value of a row is taken when its result has a place.
        last = max(free - 1, self.outputs[engine])
        self.scores[engine], self.contexts[engine] = key, last + 1
        return last

    def _window(self, key: int, free: int, length: int, shift: int) -> tuple[int, int]:
        """When the scores of a window are through, and when its values."""
        record = key + length - 1 + SCORE
        # The scores stand still until the record is taken.
        turn = max(record + PREPARE, free)
        return turn - SCORE, turn + 1 + shift + length


def _used(
    play: Play, cycles: float, tokens: float, steps: int, before: tuple[int, int, int]
) -> Estimate:
    """An estimate from what was played since there were so many words, products and keys."""
    chip = play.design.chip
    words, products, keys = before
    multipliers = chip.rows * chip.outputs * chip.depth
    return Estimate(
        cycles_per_token=cycles / tokens,
        first_token=cycles / steps,
        array=(play.words - words) / cycles,
        useful=(play.products - products) / (multipliers * cycles),
        attention=(play.keys - keys) / (chip.engines * cycles),
    )


def _decoding(design: Design, sequences: int, positions: int) -> list[Decode]:
    return [
        Decode(slots, positions, design.chip.engines)
        for slots in spread(sequences, design.chip.rows)
    ]


def estimate_decode(design: Design, sequences: int, positions: int, steps: int = 4) -> Estimate:
    """Sequences that decode for ever, each attending to so many positions.

    Plays until two stretches of so many steps take the same time, within a thousandth.
    """
    loads = _decoding(design, sequences, positions)
    play = Play(design, loads)
    ended = loads[0].ended
    while len(ended) < WARM:
        play.turn()
    lasted = [inf]
    while True:
        before = play.words, play.products, play.keys
        until = len(ended) + steps
        while len(ended) < until:
            play.turn()
        cycles = ended[-1] - ended[-1 - steps]
        if abs(cycles - lasted[-1]) <= cycles / 1000 or len(lasted) == MOST_STRETCHES:
            return _used(play, cycles, steps * sequences, steps, before)
        lasted.append(cycles)


def estimate_prompt(design: Design, length: int, others: int, positions: int) -> Estimate:
    """A prompt from its first token to the one that follows it, alone or among sequences."""
    engine = (design.slots - 1) % design.chip.engines
    prompt = Prompt(length, design.chip.rows, engine)
    middle = positions + length // (2 * design.chip.rows) + 1
    running = _decoding(design, others, middle) if others else []
    play = Play(design, [prompt, *running], ahead=1 if others else design.chip.groups)
    while len(prompt.ended) * design.chip.rows < length:
        play.turn()
    shapes = map(design.linear, LAYER_LINEARS)
    of_a_row = design.model.layers * sum(shape.inputs * shape.outputs for shape in shapes)
    tokens = play.in_layers / of_a_row
    return _used(play, prompt.ended[-1], tokens, 1, (0, 0, 0))


def roof(design: Design, sequences: int, positions: int) -> float:
    """Cycles per token of decoding below which no chip of this shape comes.

    The busier of its engines never waits.
    """
    steps = -(-sequences // design.chip.rows)
    array = design.weight_words * steps / sequences
    keys = design.model.layers * design.lane_groups * positions
    return max(array, keys / min(design.chip.engines, sequences))
