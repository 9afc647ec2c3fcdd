"""What is measured by default, and how a claim's data is found again by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from netweight import data
from netweight.errors import DataError, UnknownName, nearest
from netweight.evaluate import Items, Task, Text, task
from netweight.models import Model

Preset = Literal["quick", "default", "full"]
Encode = Callable[[str], list[int]]

CHOICES = ("arc_easy", "arc_challenge", "piqa", "hellaswag", "winogrande", "boolq", "openbook_qa", "copa")
WINDOWS = {"quick": 8, "default": 16, "full": None}
ITEMS = {"quick": 0, "default": 60, "full": None}
WINDOW = {"quick": 256, "default": 512, "full": 1024}
TIMED = 128  # tokens of the text that is timed
SUFFIXES = (".jsonl", ".csv")
DEFAULT_SETS = ("arc_easy", "piqa")
MARGINS = {
    "perplexity": 1.0,
    "multiple_choice_raw": 0.02,
    "multiple_choice_normalised": 0.02,
    "lambada_accuracy": 0.02,
    "sts_spearman": 0.005,
    "top1_accuracy": 0.02,
}


def check_preset(preset: str) -> None:
    """Raises: UnknownName: no such preset (the nearest name is offered)."""
    if preset not in get_args(Preset):
        raise UnknownName(f"{preset!r} is not a preset{nearest(preset, get_args(Preset))}")


def tasks(preset: Preset, model: Model) -> list[Task]:
    """Tasks for a kind of model, with what data is at hand and no more tokens at once than the model can read.

    Raises: ModelError: a model that reads text has no tokenizer.
    """
    if model.kind == "causal-lm":
        return _language(preset, model.tokenizer(), model.longest)
    if model.kind == "encoder":
        return _encoder(model.tokenizer())
    return [task("bytes")]


def _language(preset: Preset, tokenizer: Any, longest: int | None) -> list[Task]:
    texts = [text("pydoc-topics", "test", tokenizer)]
    if at_hand("wikitext2/test_a") and preset != "quick":
        texts.append(text("wikitext2", "test_a", tokenizer))
    window = min(WINDOW[preset], longest or WINDOW[preset])
    found = [task("bytes")]
    for one in texts:
        settings = {"window": window, "max_windows": WINDOWS[preset], "cluster": "window", "layout": "joined"}
        found += [task(name, one, **settings) for name in ("perplexity", "kl_divergence", "top_token_agreement", "ece")]
    if ITEMS[preset] != 0:
        names = [f"zero-shot/{name}" for name in (CHOICES if preset == "full" else DEFAULT_SETS)]
        for metric, name in (*(("multiple_choice", name) for name in names), ("lambada", "zero-shot/lambada_openai")):
            if at_hand(name):
                found.append(task(metric, items(name, ITEMS[preset], tokenizer), max_tokens=longest))
    length = min(TIMED, longest or TIMED)
    repetitions = {"quick": 5, "default": 10, "full": 30}[preset]
    found.append(task("latency", texts[0], length=length, repetitions=repetitions))
    found.append(task("energy", texts[0], length=length, repetitions=3))
    return found


def _encoder(tokenizer: Any) -> list[Task]:
    if not at_hand("stsb-en/stsb-en-dev"):
        return [task("bytes")]
    pairs = items("stsb-en/stsb-en-dev", None, tokenizer)
    return [task("bytes"), task("sts_spearman", pairs), task("latency", pairs, repetitions=10)]


def text(source: str, split: str, tokenizer: Any) -> Text:
    """A named corpus for the judge."""
    corpus = data.corpus(f"{source}/{split}")
    return Text(
        corpus.documents, encoder_of(tokenizer), corpus.source, corpus.split, corpus.sha256, tokenizer.bos_token_id
    )


def at_hand(source: str) -> bool:
    """Does the data folder hold ``<source>.txt``, ``.jsonl`` or ``.csv``?"""
    return _file(source, (".txt", *SUFFIXES)) is not None


def _file(source: str, suffixes: Sequence[str]) -> Path | None:
    folder = data.folder()
    if folder is None:
        return None
    return next((path for suffix in suffixes if (path := folder / f"{source}{suffix}").is_file()), None)


def items(source: str, first: int | None, tokenizer: Any) -> Items:
    """Items ``<folder>/<file>`` of the data folder, all or the first few; the split says which.

    Raises: DataError: there is no data folder, or no such file in it.
    """
    found = _file(source, SUFFIXES)
    if found is None:
        where = data.folder() or "the folder that NETWEIGHT_DATA names: there is none"
        raise DataError(f"no {source}.jsonl or .csv in {where}")
    file = data.items(found)
    split = "all" if first is None else f"first {first}"
    return Items(file.kind, file.items[:first], source, split, "", encoder_of(tokenizer), tokenizer.bos_token_id)  # pyright: ignore[reportArgumentType]


def find(described: dict[str, Any], tokenizer: Any) -> Text | Items | None:
    """The data a claim was measured on, from what it says of it.

    Raises:
      DataError: it is not at hand, or is not what it was: its hash differs.
    """
    if not described.get("source"):
        return None
    source, split = str(described["source"]), str(described.get("split", ""))
    if tokenizer is None:
        raise DataError(f"{source} cannot be found again by its name")
    if f"{source}/{split}" in data.corpora():
        found: Text | Items = text(source, split, tokenizer)
    else:
        number = split.removeprefix("first ")
        found = items(source, int(number) if number.isdecimal() else None, tokenizer)
    now = found.describe()["sha256"]
    if now != described.get("sha256"):
        raise DataError(
            f"{source}/{split} has hash {now[:12]}, the claim was measured on {str(described.get('sha256'))[:12]}"
        )
    return found


def encoder_of(tokenizer: Any) -> Encode:
    """Ids of a text without special tokens."""

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    return encode
