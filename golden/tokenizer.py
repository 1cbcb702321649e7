"""Text to tokens and back, by ``tokenizers``; llama2.c's files are converted to it.

The conversion follows sentencepiece's BPE: of all neighbouring pieces that make a piece of the
vocabulary, those with the highest score merge first.
"""

import struct
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from intaglio.golden.checkpoint import CheckpointError

__all__ = ["load_tokenizer"]

UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"
SPACE = "\u2581"


def load_tokenizer(path: Path, vocab: int) -> Tokenizer:
    """The tokenizer in `path`: a tokenizer.json, or a tokenizer.bin of llama2.c.

    Raises :exc:`CheckpointError` if the file is damaged, or makes tokens beyond `vocab`.
    """
    if not path.is_file():
        raise CheckpointError(f"The tokenizer {path} does not exist, or is no file")
    if path.suffix == ".json":
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library has no class of its own for this
            raise CheckpointError(f"{path} is not a tokenizer ({error})") from None
    else:
        tokenizer = _from_pieces(*_read_llama2c(path, vocab))
    size = tokenizer.get_vocab_size()
    if size > vocab:
        raise CheckpointError(
            f"The tokenizer {path} has {size} tokens, but the model has {vocab}; they do not "
            "belong together"
        )
    return tokenizer


def _read_llama2c(path: Path, vocab: int) -> tuple[list[str], list[float]]:
    """Pieces and scores of a tokenizer.bin: a u32, then for each token f32, i32 and the bytes."""
    raw, offset = path.read_bytes(), 4
    pieces, scores = [], []
    try:
        for _ in range(vocab):
            score, length = struct.unpack_from("<fi", raw, offset)
            piece = raw[offset + 8 : offset + 8 + length]
            offset += 8 + length
            if length < 0 or len(piece) != length:
                raise ValueError
            pieces.append(piece.decode())
            scores.append(score)
    except (struct.error, ValueError):
        raise CheckpointError(
            f"{path} is no tokenizer of {vocab} tokens: it ends in or before token {len(pieces)}"
        ) from None
    if offset != len(raw):
        raise CheckpointError(
            f"{path} is no tokenizer of {vocab} tokens: {len(raw) - offset} bytes are left over"
        )
    return [UNKNOWN, BOS, EOS, *(p.replace(" ", SPACE) for p in pieces[3:])], scores


def _merges(pieces: list[str], scores: list[float]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, in the order in which they are to be tried."""
    ids = {piece: n for n, piece in enumerate(pieces)}
    ways = []
    for piece, score in zip(pieces, scores, strict=True):
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                ways.append((-score, ids[left], ids[right], left, right))
    return [(left, right) for *_, left, right in sorted(ways)]


def _from_pieces(pieces: list[str], scores: list[float]) -> Tokenizer:
    vocabulary = {piece: n for n, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=_merges(pieces[3:], scores[3:]),
            unk_token=UNKNOWN,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in (UNKNOWN, BOS, EOS)])
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)
    ])  # fmt: skip
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, 1)]
    )
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace(SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])
    return tokenizer
