"""Steps into the words of a program, and names into places of the scratch memory."""

from dataclasses import dataclass

from intaglio.hw.shared.cycles import CYCLES
from intaglio.hw.shared.operations import READERS, Field, Index, Mask, Operation, step_layout

__all__ = ["Assembler", "Label", "Place", "Program", "Region"]

DERIVED = {
    Index.I: (Index.I, Index.I_WORD, Index.I_BLOCK, Index.I_HEAD_BLOCK),
    Index.J: (Index.J,),
    Index.K: (Index.K,),
}
"""What is made of an index."""


@dataclass(frozen=True)
class Place:
    """A scratch word: an address, to which an index may be added."""

    address: int
    index: Index = Index.NONE


@dataclass(frozen=True)
class Region:
    """Some scratch words in a row."""

    start: int
    words: int

    def __getitem__(self, number: int) -> Place:
        assert 0 <= number < self.words
        return Place(self.start + number)

    @property
    def all(self) -> list[Place]:
        """All of them."""
        return [self[n] for n in range(self.words)]

    def at(self, index: Index, number: int = 0) -> Place:
        """The word that `index` names, counted from word `number`."""
        return Place(self.start + number, index)


class Label:
    """A step that others go to; where it is becomes known when it is placed."""

    step: int


@dataclass(frozen=True)
class Program:
    """What the shared chip does."""

    steps: list[int]
    """Words of `layout`."""
    scratch: list[int]
    """Scratch words at reset, signed: constants, and zeros."""
    bits: int
    """Of an address of the scratch memory, of the number of a step, and of an index."""

    @property
    def layout(self):
        """Layout of a step."""
        return step_layout(self.bits)


def _changes(step: dict, following: dict) -> bool:
    """Whether a step may change the scratch word that the following one is about to read."""
    if following["operation"] not in READERS:
        return False
    read = following["source_index"]
    if step["operation"] in (Operation.SET_INDEX, Operation.NEXT):
        return read in DERIVED[step["source_index"]]
    if not step.get("store"):
        return False
    written = step["target_index"]
    apart = read == written == Index.NONE and step["target"] != following["source"]
    return not apart


class Assembler:
    """Collects steps, and gives out scratch words."""

    def __init__(self):
        self._steps: list[dict] = []
        self._scratch: list[int] = []
        self._constants: dict[int, Place] = {}

    def region(self, words: int, value: int = 0) -> Region:
        """Scratch words that nothing else uses, and their value at reset."""
        region = Region(len(self._scratch), words)
        self._scratch += [value] * words
        return region

    def word(self) -> Place:
        """A scratch word that nothing else uses."""
        return self.region(1)[0]

    def constant(self, value: int) -> Place:
        """A scratch word that holds `value` and is never written."""
        if value not in self._constants:
            self._constants[value] = self.region(1, value)[0]
        return self._constants[value]

    def step(
        self, operation: Operation, source: Place | int = 0, *, to: Place | None = None,
        count: int = 0, tap: int | None = None,
    ) -> None:  # fmt: skip
        """An operation on the word `source`, or on the constant of this value.

        What the accumulator gets also goes `to` a scratch word, and past a tap.
        """
        if isinstance(source, int):
            source = self.constant(source)
        self._steps.append({
            "operation": operation,
            "source": source.address,
            "source_index": source.index,
            "target": to.address if to else 0,
            "target_index": to.index if to else Index.NONE,
            "store": int(to is not None),
            "count": count,
            "tap": 0 if tap is None else 1 + tap,
        })

    def command(self, field: Field, *, to: Place | None = None) -> None:
        """The field of the command."""
        self.step(Operation.COMMAND, to=to, count=field.value)

    def place(self, label: Label) -> None:
        """The next step is the one that `label` names."""
        label.step = len(self._steps)

    def here(self) -> Label:
        """A label of the next step."""
        label = Label()
        self.place(label)
        return label

    def go(self, operation: Operation, label: Label) -> None:
        """A jump."""
        self._steps.append({"operation": operation, "target": label})

    def set_index(self, index: Index, value: int) -> None:
        """Sets an index."""
        self._steps.append({
            "operation": Operation.SET_INDEX, "source": value, "source_index": index
        })  # fmt: skip

    def advance(
        self, index: Index, step: int, again: Label | None = None, *, until: int = 0,
        mask: Mask = Mask.ALL,
    ) -> None:  # fmt: skip
        """Adds `step` to an index, and goes to `again` if it is not `until` under the mask."""
        after = Label()
        self._steps.append({
            "operation": Operation.NEXT, "source": until, "source_index": index,
            "target": again or after, "count": step, "mask": mask,
        })  # fmt: skip
        self.place(after)

    def program(self) -> Program:
        """The words."""
        most = max(step.get("source", 0) for step in self._steps)  # limits of indices, too
        bits = (max(len(self._scratch), len(self._steps), most) - 1).bit_length()
        layout = step_layout(bits)
        steps = []
        for step, following in zip(self._steps, [*self._steps[1:], self._steps[0]], strict=True):
            target = step.get("target", 0)
            number = target.step if isinstance(target, Label) else target
            # A limit that is the number of all values an index can have is its beginning.
            limit = step.get("source", 0) % (1 << bits)
            made = {
                "target": number,
                "source": limit,
                "hold": int(_changes(step, following)),
                "cycles": CYCLES.get(step["operation"], 0),
            }
            steps.append(layout.const({**step, **made}).as_bits())
        return Program(steps, self._scratch, bits)
