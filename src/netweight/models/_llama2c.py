"""llama2.c checkpoints (version 0): seven integers, then float32 tensors in a fixed order; a tokenizer file beside them.

The format keeps rotary pairs side by side; transformers keeps two halves, so query and key rows are reordered on the way in.
Source: the ``legacy_export`` and ``build_tokenizer`` layouts of the llama2.c project.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast

from netweight.errors import ModelError
from netweight.models._gguf import halves
from netweight.models._weights import Entry, FileSource

HEADER = struct.Struct("<7i")
NEWER_MAGIC = b"24ka"  # "ak42", little-endian: versions 1 and later
BOS, EOS = 1, 2


@dataclass(frozen=True)
class Sizes:
    """The header. A negative vocabulary in the file means that the classifier is not the embedding."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    length: int
    tied: bool

    @property
    def head_width(self) -> int:
        return self.hidden // self.heads

    def stacked(self) -> list[tuple[str, tuple[int, ...]]]:
        """(name, shape) in file order; ``{n}`` marks what is stored for all layers in a row, "" what is skipped."""
        d, f, kv, half = self.hidden, self.intermediate, self.kv_heads * self.head_width, self.head_width // 2
        layer = "model.layers.{n}."
        rows = [
            ("model.embed_tokens.weight", (self.vocabulary, d)),
            (layer + "input_layernorm.weight", (d,)),
            (layer + "self_attn.q_proj.weight", (d, d)),
            (layer + "self_attn.k_proj.weight", (kv, d)),
            (layer + "self_attn.v_proj.weight", (kv, d)),
            (layer + "self_attn.o_proj.weight", (d, d)),
            (layer + "post_attention_layernorm.weight", (d,)),
            (layer + "mlp.gate_proj.weight", (f, d)),
            (layer + "mlp.down_proj.weight", (d, f)),
            (layer + "mlp.up_proj.weight", (f, d)),
            ("model.norm.weight", (d,)),
            ("", (2, self.length, half)),  # tables of cosines and sines
        ]
        return rows if self.tied else [*rows, ("lm_head.weight", (self.vocabulary, d))]

    def entries(self, path: Path) -> tuple[dict[str, Entry], int]:
        """Where each tensor lies, and where the file must end."""
        entries, at = {}, HEADER.size
        for name, shape in self.stacked():
            nbytes = 4 * math.prod(shape)
            for n in range(self.layers if "{n}" in name else 1):
                if name:
                    entries[name.replace("{n}", str(n))] = Entry(path, "F32", shape, at, nbytes)
                at += nbytes
        return entries, at


class Llama2cSource(FileSource):
    """A llama2.c checkpoint under transformers names."""

    def __init__(self, path: Path) -> None:
        self.sizes = read_sizes(path)
        super().__init__(self.sizes.entries(path)[0])

    def load(self, name: str) -> Tensor:
        weight = super().load(name)
        heads = {"q_proj": self.sizes.heads, "k_proj": self.sizes.kv_heads}.get(name.split(".")[-2])
        return halves(weight, heads) if heads else weight


def is_checkpoint(path: Path) -> bool:
    """Do the header and the file's size agree?"""
    try:
        read_sizes(path)
    except ModelError:
        return False
    return True


def read_sizes(path: Path) -> Sizes:
    """Raises: ModelError: not a version 0 checkpoint, or its size does not fit its header."""
    with open(path, "rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size or head[:4] == NEWER_MAGIC:
        raise ModelError(f"{path} is not a llama2.c checkpoint of version 0 (the legacy export)")
    hidden, intermediate, layers, heads, kv_heads, vocabulary, length = numbers = HEADER.unpack(head)
    if (
        min(hidden, intermediate, layers, heads, kv_heads, abs(vocabulary), length) <= 0
        or hidden % heads
        or heads % kv_heads
    ):
        raise ModelError(f"{path} is not a llama2.c checkpoint: its header reads {numbers}")
    sizes = Sizes(hidden, intermediate, layers, heads, kv_heads, abs(vocabulary), length, tied=vocabulary > 0)
    need, have = sizes.entries(path)[1], path.stat().st_size
    if have != need:
        raise ModelError(
            f"{path} holds {have} bytes where its llama2.c header asks for {need}: truncated, or another format"
        )
    return sizes


def config_of(path: Path) -> Any:
    """The ``LlamaConfig`` that a checkpoint's header describes; llama2.c fixes the norm's epsilon and the rotary base."""
    sizes = read_sizes(path)
    return LlamaConfig(
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        vocab_size=sizes.vocabulary,
        max_position_embeddings=sizes.length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=sizes.tied,
        bos_token_id=BOS,
        eos_token_id=EOS,
        architectures=["LlamaForCausalLM"],
    )


def tokenizer_of(path: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-pair tokenizer of a llama2.c ``tokenizer.bin``.

    The file gives each piece a score and merges the pair whose union scores best; as ranks, pairs ordered by that score.
    Raises: ModelError: missing or truncated file, or fewer pieces than the model's vocabulary.
    """
    pieces = _pieces(path, vocabulary)
    ids = {piece: index for index, (piece, _) in reversed(list(enumerate(pieces)))}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=_merges(pieces, ids), unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in ("<unk>", "<s>", "</s>")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def _pieces(path: Path, vocabulary: int) -> list[tuple[str, float]]:
    if not path.is_file():
        raise ModelError(f"no tokenizer: {path} is missing; put the model's tokenizer.bin there")
    data, at = path.read_bytes(), 4
    pieces: list[tuple[str, float]] = []
    while at < len(data) and len(pieces) < vocabulary:
        if at + 8 > len(data):
            break
        score, length = struct.unpack_from("<fi", data, at)
        pieces.append((data[at + 8 : at + 8 + length].decode("utf-8", errors="replace"), score))
        at += 8 + length
    if len(pieces) < vocabulary or at > len(data):
        raise ModelError(f"{path} is truncated: {len(pieces)} of {vocabulary} pieces; fetch it again")
    for index, name in ((0, "<unk>"), (BOS, "<s>"), (EOS, "</s>")):
        pieces[index] = (name, pieces[index][1])
    return pieces


def _merges(pieces: list[tuple[str, float]], ids: dict[str, int]) -> list[tuple[str, str]]:
    ranked = []
    for index, (piece, score) in enumerate(pieces):
        if index <= EOS or ids[piece] != index:
            continue
        for cut in range(1, len(piece)):
            if piece[:cut] in ids and piece[cut:] in ids:
                ranked.append((-score, index, cut, piece[:cut], piece[cut:]))
    return [(left, right) for *_, left, right in sorted(ranked)]
