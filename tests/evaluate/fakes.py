"""Small subjects and texts with known behaviour."""

from __future__ import annotations

import torch

from netweight.evaluate import Subject, Text

LETTERS = "abcdefghijklmnopqrstuvwxyz .?!ABC"


def encode(text: str) -> list[int]:
    """One id per letter."""
    return [LETTERS.index(letter) for letter in text]


def bigram(name: str, table_VV: torch.Tensor) -> Subject:
    """The next token's logits depend on the token alone: row of the table."""
    return Subject(name, f"sha-{name}", logits=lambda ids, mask: table_VV[ids])


def random_bigram(name: str, seed: int, *, scale: float = 1.0) -> Subject:
    generator = torch.Generator().manual_seed(seed)
    table = scale * torch.randn(len(LETTERS), len(LETTERS), generator=generator, dtype=torch.float64)
    return bigram(name, table)


def model_of(subject: Subject):
    """The subject as the oracles call a model: ids of one window -> rows of logits."""
    logits = subject.skill("logits")
    return lambda ids: logits(torch.tensor([ids]), None)[0].tolist()


def text(*documents: str, bos_id: int | None = None) -> Text:
    return Text(documents, encode, "made up", bos_id=bos_id)


DOCUMENTS = (
    "the cat sat on the mat.",
    "a dog ran.",
    "what is it that we say when nobody listens?",
    "no!",
    "it was a dark and stormy night, so".replace(",", ""),
)
