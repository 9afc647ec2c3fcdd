"""What is measured by default, and how a claim's data is found again by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from netweight import data
from netweight.errors import DataError
from netweight.evaluate import Items, Task, Text, task

Preset = Literal["quick", "default", "full"]
Encode = Callable[[str], list[int]]

CHOICES = ("arc_easy", "arc_challenge", "piqa", "hellaswag", "winogrande", "boolq", "openbook_qa", "copa")
WINDOWS = {"quick": 8, "default": 32, "full": None}
ITEMS = {"quick": 0, "default": 100, "full": None}
WINDOW = {"quick": 256, "default": 512, "full": 1024}
DEFAULT_SETS = ("arc_easy", "piqa")
MARGINS = {
    "perplexity": 1.0,
    "multiple_choice_raw": 0.02,
    "multiple_choice_normalised": 0.02,
    "lambada_accuracy": 0.02,
    "sts_spearman": 0.005,
}


def tasks(kind: str, preset: Preset, tokenizer: Any) -> list[Task]:
    """Tasks for a kind of model ("causal-lm" or "encoder") with what data is at hand."""
    if kind == "causal-lm":
        return _language(preset, tokenizer)
    if kind == "encoder":
        return _encoder(tokenizer)
    return [task("bytes")]


def _language(preset: Preset, tokenizer: Any) -> list[Task]:
    texts = [text("pydoc-topics", "test", tokenizer)]
    if data.folder() and preset != "quick":
        texts.append(text("wikitext2", "test_a", tokenizer))
    found = [task("bytes")]
    for one in texts:
        settings = {"window": WINDOW[preset], "max_windows": WINDOWS[preset], "cluster": "window", "layout": "joined"}
        found += [task(name, one, **settings) for name in ("perplexity", "kl_divergence", "top_token_agreement", "ece")]
    if data.folder() and ITEMS[preset] != 0:
        names = CHOICES if preset == "full" else DEFAULT_SETS
        found += [task("multiple_choice", items(f"zero-shot/{name}", ITEMS[preset], tokenizer)) for name in names]
        found.append(task("lambada", items("zero-shot/lambada_openai", ITEMS[preset], tokenizer)))
    repetitions = {"quick": 5, "default": 10, "full": 30}[preset]
    found.append(task("latency", texts[0], length=128, repetitions=repetitions))
    found.append(task("energy", texts[0], repetitions=3))
    return found


def _encoder(tokenizer: Any) -> list[Task]:
    if data.folder() is None:
        return [task("bytes")]
    pairs = items("stsb-en/stsb-en-dev", None, tokenizer)
    return [task("bytes"), task("sts_spearman", pairs), task("latency", pairs, repetitions=10)]


def text(source: str, split: str, tokenizer: Any) -> Text:
    """A named corpus for the judge."""
    corpus = data.corpus(f"{source}/{split}")
    return Text(
        corpus.documents, encoder_of(tokenizer), corpus.source, corpus.split, corpus.sha256, tokenizer.bos_token_id
    )


def items(source: str, first: int | None, tokenizer: Any) -> Items:
    """Items ``<folder>/<file>`` of the data folder, all or the first few; the split says which."""
    folder = data.folder()
    if folder is None:
        raise DataError(f"{source} lies in the folder that NETWEIGHT_DATA names, and there is none; set it")
    found = next((p for suffix in (".jsonl", ".csv") if (p := folder / f"{source}{suffix}").is_file()), None)
    if found is None:
        raise DataError(f"no {source}.jsonl or .csv in {folder}")
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
    if f"{source}/{split}" in data.corpora():
        found: Text | Items = text(source, split, tokenizer)
    else:
        first = int(split.removeprefix("first ")) if split.startswith("first ") else None
        found = items(source, first, tokenizer)
    now = found.describe()["sha256"]
    if now != described.get("sha256"):
        raise DataError(
            f"{source}/{split} has hash {now[:12]}, the claim was measured on {str(described.get('sha256'))[:12]}"
        )
    return found


def encoder_of(tokenizer: Any) -> Encode:
    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    return encode


def texts_of(found: Sequence[Task]) -> list[Text]:
    """Each text the tasks read, once."""
    return list({id(t.data): t.data for t in found if isinstance(t.data, Text)}.values())
