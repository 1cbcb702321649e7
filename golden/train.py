"""Trainer of the models that come with the project: ``python -m intaglio.golden.train``.

Needs PyTorch (the extra ``train``), no accelerator, and an hour or so. The result is a Hugging
Face folder of a Llama: what any other checkpoint for this project looks like.
"""

import json
import math
import re
import string
import textwrap
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Any

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

from intaglio.golden.corpus import PLOTS, stories
from intaglio.golden.recipes import CARD, RECIPES, Shape

UNKNOWN, BOS, EOS = 0, 1, 2
SPECIAL = ["<unk>", "<s>", "</s>"]
BATCH = 64
"""Stories in a step."""
QUERIES = 64
"""Positions that attend together: most of what lies in their future is then never computed."""
HELD_OUT_SEED = 1_000_003
PROMPTS = (
    "", "Once upon a time", "Tom had a red", "Lily went to the", "There was a little dog",
    "One day, Mia", "In the garden, Ben", "It was a rainy day.",
)  # fmt: skip
"""Beginnings of the samples in the model card."""


class Norm(nn.Module):
    """Root mean square normalisation with a learned gain."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.hidden_size))
        self.eps = shape.rms_norm_eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    """Causal attention; every few query heads share a key/value head."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.head_dim = shape.head_dim
        self.shared_by = shape.num_attention_heads // shape.num_key_value_heads
        q_dim = shape.num_attention_heads * shape.head_dim
        kv_dim = shape.num_key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, q_dim, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, kv_dim, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, kv_dim, bias=False)
        self.o_proj = nn.Linear(q_dim, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Mix positions: ``(batch, positions, hidden_size)`` in and out."""
        q, k, v = (
            project(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = k.repeat_interleave(self.shared_by, 1), v.repeat_interleave(self.shared_by, 1)
        ends = range(QUERIES, x.shape[1] + QUERIES, QUERIES)
        y = torch.cat([attend(q[:, :, e - QUERIES : e], k[:, :, :e], v[:, :, :e]) for e in ends], 2)
        return self.o_proj(y.transpose(1, 2).flatten(-2))


class Mlp(nn.Module):
    """Feed-forward network with a SiLU gate."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every position by itself."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and feed-forward network, each behind a norm and beside the residual stream."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.input_layernorm = Norm(shape)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Add what the layer has to say to the residual stream."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The decoder; its parameters have the names of a Hugging Face Llama without ``model.``."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape)
        half = torch.arange(0, shape.head_dim, 2) / shape.head_dim
        angles = torch.outer(
            torch.arange(shape.max_position_embeddings), shape.rope_theta**-half
        ).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = 1 / math.sqrt(2 * shape.num_hidden_layers) if into_residual else 1
                nn.init.normal_(parameter, std=scale / math.sqrt(parameter.shape[1]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next token at every position."""
        positions = tokens.shape[1]
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, self.cos[:positions], self.sin[:positions])
        return self.norm(x) @ self.embed_tokens.weight.T


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions; an element turns with the one half a head away."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Give the queries of the last positions the values that they may see."""
    scores = q / math.sqrt(q.shape[-1]) @ k.transpose(-1, -2)
    future = torch.full(scores.shape[-2:], -math.inf, dtype=scores.dtype)
    return (scores + future.triu(1 + k.shape[2] - q.shape[2])).softmax(-1) @ v


def train_tokenizer(vocab_size: int, texts: Iterator[str]) -> Tokenizer:
    """Train a BPE of whole or part words; a space belongs to the word after it.

    A space is put before the text and taken away again at the end, so that a word is the same token
    at the beginning of a text as within it, and every printable ASCII text survives the round trip.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Prepend("\u2581"),
        normalizers.Replace(" ", "\u2581"),
    ])
    words = Regex("\u2581?[A-Za-z]+|\u2581?[^A-Za-z\u2581]|\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(words, "isolated")
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=[*string.ascii_letters, *string.digits, *string.punctuation, "\n"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos = SPECIAL[BOS]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, BOS)]
    )
    return tokenizer


def batches(tokenizer: Tokenizer, seed: int, context: int) -> Iterator[Tensor]:
    """Yield batches of whole stories of about the same length, padded with -1.

    The rare story that does not fit the context is left out.
    """
    rng, encodings = Random(seed), map(tokenizer.encode, stories(seed))
    source = (torch.tensor([*line.ids, EOS]) for line in encodings if len(line.ids) < context)
    while True:
        lines = sorted(islice(source, 16 * BATCH), key=len)
        groups = [lines[start : start + BATCH] for start in range(0, len(lines), BATCH)]
        rng.shuffle(groups)
        for group in groups:
            yield nn.utils.rnn.pad_sequence(group, batch_first=True, padding_value=-1)


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    """Return the mean cross entropy of a token, in nats."""
    logits = model(batch[:, :-1].clamp(min=0))
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=-1)


def train_model(
    model: Llama, source: Iterator[Tensor], steps: int, peak: float, progress: Progress
) -> None:
    """Train `model`: AdamW, a short warm-up, then a cosine down to nothing.

    In the second half, every step sees the matrices through a little noise: the chip will see them
    through a coarse number format.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    gains = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
    )
    warmup = min(100, steps // 10 + 1)
    task = progress.add_task("loss  -   ", total=steps)
    smooth = 0.0
    for step, batch in enumerate(islice(source, steps)):
        rate = min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = peak * rate
        noise = disturb(matrices, 0.02 if step > steps // 2 else 0.0)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        for parameter, change in zip(matrices, noise, strict=True):
            parameter.data -= change
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        progress.update(task, advance=1, description=f"loss {smooth:.3f}")


def disturb(matrices: list[nn.Parameter], amount: float) -> list[Tensor]:
    """Add noise of `amount` times the root mean square of each matrix; return what was added."""
    noise = [
        torch.randn_like(matrix) * matrix.data.square().mean().sqrt() * amount
        for matrix in matrices
    ]
    for matrix, change in zip(matrices, noise, strict=True):
        matrix.data += change
    return noise


@torch.no_grad()
def held_out_loss(model: Llama, source: Iterator[Tensor]) -> tuple[float, int]:
    """Return the mean loss of a token of 16 batches, and how many tokens that were."""
    total, tokens = 0.0, 0
    for batch in islice(source, 16):
        count = int((batch[:, 1:] >= 0).sum())
        total, tokens = total + count * float(loss_of(model, batch)), tokens + count
    return total / tokens, tokens


@torch.no_grad()
def write_story(model: Llama, tokenizer: Tokenizer, prompt: str, limit: int) -> str:
    """Continue `prompt` at temperature 0."""
    tokens = tokenizer.encode(prompt).ids
    while len(tokens) < limit and tokens[-1] != EOS:
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokenizer.decode(tokens)


def config_of(shape: Shape) -> dict[str, Any]:
    """Return ``config.json``."""
    config = asdict(shape)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "rope_parameters": {"rope_theta": config.pop("rope_theta"), "rope_type": "default"},
        **config,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }


def save(model: Llama, shape: Shape, tokenizer: Tokenizer, output: Path) -> None:
    """Write the checkpoint, all of it but the model card."""
    output.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value.bfloat16() for name, value in model.state_dict().items()}
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(output / "tokenizer.json"))
    generation = {"bos_token_id": BOS, "eos_token_id": EOS, "do_sample": False}
    for name, content in (("config", config_of(shape)), ("generation_config", generation)):
        (output / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def card_of(model: Llama, name: str, tokenizer: Tokenizer, threads: int, **facts: Any) -> str:
    """Return the model card: what the trainer knows, and samples."""
    recipe, samples = RECIPES[name], ""
    for prompt in PROMPTS:
        told = write_story(model, tokenizer, prompt, recipe.shape.max_position_embeddings)
        marked = f"**{prompt}**" if prompt else "**(nothing)** "
        lines = textwrap.wrap(marked + told.removeprefix(prompt), 98)
        samples += "\n".join(f"> {line}" for line in lines) + "\n\n"
    words = {word.lower() for text in islice(stories(1), 5000) for word in re.findall(r"\w+", text)}
    return CARD.format(
        **asdict(recipe.shape),
        **facts,
        name=name,
        purpose=recipe.purpose,
        abilities=recipe.abilities,
        cores="one processor core" if threads == 1 else f"{threads} processor cores",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        plots=len(PLOTS),
        words=round(len(words), -1),
        samples=samples.rstrip(),
    )


def known(name: str) -> str:
    """Return `name` if there is such a model."""
    if name not in RECIPES:
        raise typer.BadParameter(f"{name!r} is unknown: choose one of {', '.join(RECIPES)}")
    return name


def main(
    output: Annotated[Path, typer.Option(help="Folder for the checkpoint.")] = Path("model"),
    name: Annotated[
        str, typer.Option("--shape", help=f"One of {', '.join(RECIPES)}.", callback=known)
    ] = "default",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, if not the usual.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and stories.")] = 1,
    rate: Annotated[float | None, typer.Option(help="Peak rate, if not the usual.")] = None,
    threads: Annotated[int, typer.Option(help="Processor cores to use.")] = 2,
) -> None:
    """Train a model of the project and write its checkpoint."""
    started = time.monotonic()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    console, shape = Console(), RECIPES[name].shape
    steps, rate = steps or RECIPES[name].steps, rate or RECIPES[name].rate
    tokenizer = train_tokenizer(shape.vocab_size, islice(stories(seed), 20_000))
    model = Llama(shape)
    source, unseen = (
        batches(tokenizer, start, shape.max_position_embeddings) for start in (seed, HELD_OUT_SEED)
    )
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        train_model(model, source, steps, rate, progress)
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    loss, tokens = held_out_loss(model, unseen)
    minutes = (time.monotonic() - started) / 60
    save(model, shape, tokenizer, output)
    card = card_of(
        model, name, tokenizer, threads,
        steps=steps, seed=seed, rate=rate, loss=loss, minutes=minutes, stories=steps * BATCH,
        held_out_tokens=tokens,
    )  # fmt: skip
    (output / "README.md").write_text(card)
    console.print(f"Held-out loss {loss:.4f} after {minutes:.1f} minutes; see {output}/README.md")


if __name__ == "__main__":
    typer.run(main)
