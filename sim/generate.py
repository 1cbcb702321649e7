"""Text out of a chip: the loop around its tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from intaglio.golden.checkpoint import Checkpoint, CheckpointError
from intaglio.golden.tokenizer import load_tokenizer

__all__ = ["Chip", "Generation", "generate", "prompt_tokens", "tokenizer_of"]


class Chip(Protocol):
    """What generates: golden, a simulated chip, or one on a board."""

    @property
    def cycles(self) -> int:
        """Clock cycles so far."""
        ...

    def feed(self, slot: int, position: int, token: int, sample: bool) -> int | None:
        """One token through the model; the next token if `sample`."""
        ...

    def generate(self, slot: int, position: int, token: int, until: int) -> Iterator[int]:
        """The next token at each position from `position` to `until`, where it is fed back."""
        ...


@dataclass
class Generation:
    """Tokens of one sequence, the prompt's first, and the cycles that each step took."""

    tokens: list[int]
    prompt: int
    """Tokens of the prompt."""
    cycles: list[int] = field(default_factory=list)

    @property
    def generated(self) -> list[int]:
        """Tokens that the chip made."""
        return self.tokens[self.prompt :]


def tokenizer_of(checkpoint: Checkpoint, file: Path | None) -> Tokenizer:
    """The tokenizer `file`, else the one beside the model; raises :exc:`CheckpointError`."""
    path = file or checkpoint.tokenizer
    if path is None:
        raise CheckpointError(f"There is no tokenizer beside {checkpoint.name}: use --tokenizer")
    return load_tokenizer(path, checkpoint.config.vocab)


def prompt_tokens(checkpoint: Checkpoint, tokenizer: Tokenizer, text: str, most: int) -> list[int]:
    """Tokens of a prompt, which may take at most `most` positions; begins with the BOS token."""
    try:
        encoding = tokenizer.encode(text)
    except TypeError:  # what the terminal gave was no UTF-8
        raise CheckpointError(f"The prompt {text!r} is not valid text") from None
    tokens = encoding.ids
    for token, (start, end) in zip(tokens, encoding.offsets, strict=True):
        if token == tokenizer.token_to_id("<unk>"):
            raise CheckpointError(
                f"The prompt has {text[start:end]!r}, which the tokenizer of {checkpoint.name} "
                "does not know"
            )
    if checkpoint.bos is not None and tokens[:1] != [checkpoint.bos]:
        tokens = [checkpoint.bos, *tokens]
    if not tokens:
        raise CheckpointError(f"{checkpoint.name} has no token to begin with: give a --prompt")
    if beyond := [t for t in tokens if t >= checkpoint.config.vocab]:
        raise CheckpointError(
            f"The prompt has token {beyond[0]}, but {checkpoint.name} knows only "
            f"{checkpoint.config.vocab}"
        )
    if len(tokens) > most:
        raise CheckpointError(f"The prompt has {len(tokens)} tokens, but only {most} fit")
    return tokens


def generate(
    chip: Chip, checkpoint: Checkpoint, tokenizer: Tokenizer, generation: Generation, steps: int
) -> Iterator[str]:
    """Feed `steps` tokens, the prompt first; yield text as it becomes known, the prompt's too.

    Ends early with the sequence. `generation` is filled meanwhile.
    """
    stops = checkpoint.eos | ({checkpoint.bos} if checkpoint.bos is not None else set())
    text = DecodeStream(skip_special_tokens=True)
    tokens = generation.tokens
    yield "".join(text.step(tokenizer, token) or "" for token in tokens)
    for token in _sampled(chip, generation, steps):
        if token in stops:
            return
        tokens.append(token)
        yield text.step(tokenizer, token) or ""


def _sampled(chip: Chip, generation: Generation, steps: int) -> Iterator[int]:
    """Feed the prompt, then let the chip go on; the cycles of each step are noted."""
    prompt = generation.tokens[: generation.prompt]
    last, before = len(prompt) - 1, chip.cycles

    def note() -> None:
        nonlocal before
        generation.cycles.append(chip.cycles - before)
        before = chip.cycles

    for position in range(last):
        chip.feed(0, position, prompt[position], False)
        note()
    for token in chip.generate(0, last, prompt[last], steps - 1):
        note()
        yield token
