"""Opening a model, whatever kind of file it is in."""

from pathlib import Path

from intaglio.golden import huggingface, llama2c
from intaglio.golden.checkpoint import Checkpoint, CheckpointError
from intaglio.hw.config import ModelConfig

__all__ = ["DEFAULT_MODEL", "load", "load_config"]

DEFAULT_MODEL = Path(__file__).parent / "default_model"
"""The story model that comes with the project."""


def load(path: Path | None) -> Checkpoint:
    """Read a llama2.c ``.bin``, a Hugging Face folder, or (None) the default model.

    Raises :exc:`CheckpointError`. Pickled files are never opened.
    """
    path = DEFAULT_MODEL if path is None else path
    if path.is_dir():
        return huggingface.read(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: name a llama2.c .bin or a model folder")
    if path.suffix == ".safetensors" or path.name == "config.json":
        raise CheckpointError(f"{path} is one file of a model: name its folder, {path.parent}")
    return llama2c.read(path)


def load_config(path: Path | None) -> tuple[str, ModelConfig]:
    """Name and shape of a model; a ``config.json`` of Hugging Face's will do, without weights.

    Raises :exc:`CheckpointError`.
    """
    if path is not None and path.suffix == ".json" and path.is_file():
        return path.resolve().parent.name, huggingface.read_config(path)[0]
    checkpoint = load(path)
    return checkpoint.name, checkpoint.config
