"""What all parts of the program use: places of the scratch memory, and steps that come often."""

from collections.abc import Callable

from intaglio.hw.formats import BLOCK, E8M0_BIAS
from intaglio.hw.protocol import Tap
from intaglio.hw.shared.assembler import Assembler, Label, Place, Region
from intaglio.hw.shared.memory_map import ELEMENTS, MemoryMap
from intaglio.hw.shared.operations import Index, Mask, Operation

__all__ = ["I", "J", "K", "Writer"]

I, J, K = Index.I, Index.J, Index.K  # noqa: E741


class Writer(Assembler):
    """Writes the program of a design; the constants are small-float codes."""

    def __init__(self, places: MemoryMap, inverse_dim: int, eps: int):
        super().__init__()
        self.map, self.design = places, (design := places.design)
        self.inverse_dim, self.eps = inverse_dim, eps
        model, chip = design.model, design.chip
        fmt = chip.small_float
        self.fraction_bits = fmt.fraction_bits
        # What a block's exponent needs on top, so that its elements have the activations' bits.
        self.coarser = fmt.fraction_bits - chip.activations.fraction_bits
        padded = {n: -(-n // BLOCK) * BLOCK for n in (model.dim, model.q_dim, model.hidden)}
        self.residual = self.region(padded[model.dim])
        self.hidden = self.region(padded[model.hidden])
        self.context = self.region(padded[model.q_dim])
        self.heads = self.region(model.q_dim + 2 * model.kv_dim)
        self.elements = self.region(max(padded.values()) // ELEMENTS)
        self.exponents = self.region(max(padded.values()) // BLOCK)
        self.queries = self.region(model.q_dim // ELEMENTS)
        self.query_exponents = self.region(model.heads * design.head_blocks)
        self.rope = self.region(model.head_dim)
        self.scores = self.region(chip.window)
        self.value_exponents = [self.region(chip.window) for _ in range(design.head_blocks)]
        self.total = self.region(model.head_dim)
        self.position, self.token = self.word(), self.word()
        self.inverse, self.sum = self.word(), self.word()
        self.first, self.second, self.third = self.word(), self.word(), self.word()
        self.layer, self.keys = self.word(), self.word()
        self.head_start, self.sharing = self.word(), self.word()
        self.key_address, self.value_address = self.word(), self.word()
        self.unscored, self.unweighed = self.word(), self.word()
        self.maximum, self.norm = self.word(), self.word()
        self.largest, self.seen = (self.region(design.head_blocks) for _ in range(2))

    def factor(self, source: Place | int) -> None:
        """Set the factor; the accumulator has it too."""
        self.step(Operation.LOAD, source)
        self.step(Operation.SET_FACTOR, 0)

    def count_down(self, word: Place, end: Label) -> None:
        """Take one from `word`; when it was zero, go to `end`."""
        self.step(Operation.LOAD, word)
        self.step(Operation.SUBTRACT, 1, to=word)
        self.go(Operation.JUMP_NEGATIVE, end)

    def show(self, tap: Tap, values: Region, count: int, start: int = 0) -> None:
        """The words go past a tap."""
        self.set_index(K, start)
        again = self.here()
        self.step(Operation.LOAD, values.at(K), tap=tap)
        self.advance(K, 1, again, until=count)

    def largest_exponent(self, values: Region, size: int, mask: Mask) -> None:
        """The exponent of the block of `values` that begins at J, which goes on to its end."""
        stride = min(size, ELEMENTS)
        self.step(Operation.LOAD, 0)
        again = self.here()
        for n in range(stride):
            self.step(Operation.LARGER_EXPONENT, values.at(J, n))
        self.advance(J, stride, again, mask=mask)

    def quantise_block(self, values: Region, mask: Mask, keep: Callable[[], None]) -> None:
        """Elements of the block of `values` at I; `keep` takes each word from the buffer."""
        again = self.here()
        for n in range(ELEMENTS):
            self.step(Operation.QUANTISE, values.at(I, n))
        keep()
        self.advance(I, ELEMENTS, again, mask=mask)

    def quantise(self, values: Region, count: int, squares: bool = False) -> None:
        """All blocks of `values`, as the array takes them; with `squares` also ``inverse``."""
        blocks = -(-count // BLOCK)
        self.set_index(I, 0)
        self.set_index(J, 0)
        if squares:
            self.set_index(K, 0)
            self.step(Operation.LOAD, 0, to=self.sum)
        block = self.here()
        self.largest_exponent(values, BLOCK, Mask.BLOCK)
        self.step(Operation.ADD, 0, to=self.exponents.at(Index.I_BLOCK))
        if squares:
            self.sum_squares(values)
            self.step(Operation.LOAD, self.exponents.at(Index.I_BLOCK))
        self.step(Operation.SET_FACTOR, self.coarser)
        self.quantise_block(
            values, Mask.BLOCK,
            lambda: self.step(Operation.BUFFER, to=self.elements.at(Index.I_WORD)),
        )  # fmt: skip
        self.advance(I, 0, block, until=blocks * BLOCK)

    def sum_squares(self, values: Region) -> None:
        """Add the squares of the block at K, whose exponent is in the accumulator, to the sum."""
        self.step(Operation.SET_FACTOR, 0)
        self.step(Operation.SUBTRACT, 2 * (E8M0_BIAS + self.fraction_bits), to=self.first)
        self.step(Operation.LOAD, 0)
        again = self.here()
        for n in range(ELEMENTS):
            self.step(Operation.SQUARE, values.at(K, n))
        self.advance(K, ELEMENTS, again, mask=Mask.BLOCK)
        self.step(Operation.CONVERT, self.first)
        self.step(Operation.FLOAT_ADD, self.sum, to=self.sum)

    def normalise(self) -> None:
        """Quantise the residual, and find the inverse of its root mean square."""
        self.quantise(self.residual, self.design.model.dim, squares=True)
        self.step(Operation.LOAD, self.sum)
        self.step(Operation.FLOAT_MULTIPLY, self.inverse_dim)
        self.step(Operation.FLOAT_ADD, self.eps)
        self.step(Operation.RECIPROCAL_ROOT, to=self.inverse)
