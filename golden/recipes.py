"""The models that come with the project: their shapes, their training, what their cards say."""

from dataclasses import dataclass

__all__ = ["CARD", "RECIPES", "Recipe", "Shape"]

CARD = """\
---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# The {name} model of Intaglio

A Llama of {parameters:,} parameters that writes little stories for children. {purpose}

| | |
|---|---|
| Parameters | {parameters:,} in bfloat16; the embedding is also the output matrix |
| Width | {hidden_size}, feed-forward {intermediate_size} |
| Layers | {num_hidden_layers} |
| Heads | {num_attention_heads} of {head_dim}, {num_key_value_heads} for keys and values |
| Tokens | {vocab_size}, BPE; any printable ASCII text survives the round trip |
| Context | {max_position_embeddings} positions |

## Training

The corpus is not a file but a grammar, `golden/corpus.py`: {plots} plots told about a cast that is
drawn anew for each story. The command

    python -m intaglio.golden.train --shape {name} --steps {steps} --seed {seed} --rate {rate}

trained the tokenizer and the model on {stories:,} stories in {minutes:.0f} minutes on
{cores}. The cross entropy of {held_out_tokens:,} tokens of stories from another seed, with the
weights rounded to bfloat16, is **{loss:.4f}** nats per token; the grammar rolls dice, so that it
cannot be zero. Half of the training sees the matrices through a little noise, because a chip
sees them through a coarse number format.

## What it can and cannot do

{abilities}
It has some {words} words, and knows nothing: it does not answer questions, follow instructions or
speak any language but this little English.

## Samples

At temperature 0, of these weights, in 32-bit arithmetic; the prompt is in bold.

{samples}

## License

MIT, like the project; nothing but the project's own code went into it.
"""
"""The model card, with a hole for each fact."""


@dataclass(frozen=True)
class Shape:
    """Shape of the model; the names are those of ``config.json``."""

    vocab_size: int = 512
    hidden_size: int = 64
    intermediate_size: int = 160
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 16
    max_position_embeddings: int = 256
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model of the project."""

    shape: Shape
    steps: int
    """Optimiser steps."""
    rate: float
    """Peak learning rate."""
    purpose: str
    """Why it is there, for its card."""
    abilities: str
    """What its samples show that it can and cannot do, for its card."""


RECIPES = {
    "default": Recipe(
        shape=Shape(),
        steps=3500,
        rate=0.006,
        purpose="It is there so that\nthe project can etch a chip without a download, and so that "
        "what the chip says can be read.",
        abilities="""\
It writes whole stories of the plots it knows, nearly always keeps names, pronouns and things
straight, and ends them with `</s>`. It continues the beginning of such a story; of any other
beginning it makes such a story as well as it can. A name or a word that its corpus does not have
soon turns into one that it has. Now and then a friend gets the name of the hero, and where somebody
learns something, "mom" tends to become "Grandma".""",
    ),
    "small": Recipe(
        shape=Shape(
            vocab_size=256, hidden_size=32, intermediate_size=96, num_hidden_layers=4, head_dim=8
        ),
        steps=6000,
        rate=0.012,
        purpose="It is there for\nFPGAs that cannot hold the default model.",
        abilities="""\
It writes whole stories of the plots it knows, in good sentences, nearly always keeps the hero's
pronoun, and ends them with `</s>`. More often than the default model it confuses people: a friend
gets the name of the hero, or the hero does what the friend should. A thing may turn into another
of its kind, a pie into a pizza. A name that its corpus does not have soon turns into one that it
has; after a beginning that is nothing like its stories, some of its words are none.""",
    ),
}
"""By the name that ``--shape`` takes."""
