"""Negative log-likelihood of the same test windows under several sets of weights, in one process.

    python benchmarks/peers/judge.py --model-dir DIR --tokens FILE --weights NAME=FILE ... --out FILE

The judge knows names and float32 weights, nothing of who made them. Every set is loaded into one and the same model, so
that code path, tokens and thread count cannot differ. The first position of a window has no context and is not scored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from _measure import quiet_hub, sha256_of_file
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


@torch.no_grad()
def window_nll(model: torch.nn.Module, windows: torch.Tensor) -> list[float]:
    """Mean nats per scored token of each (L,) window; L - 1 tokens are scored."""
    found = []
    for row in windows:
        logits = model(input_ids=row[None], use_cache=False).logits[0, :-1].float()
        found.append(float(torch.nn.functional.cross_entropy(logits, row[1:])))
    return found


def load(model: torch.nn.Module, path: Path) -> None:
    """Put the weights of ``path`` into ``model``; a name that is missing or unknown is an error, but for the tied head."""
    left = model.load_state_dict(load_file(path), strict=False)
    missing = [name for name in left.missing_keys if name != "lm_head.weight"]
    if missing or left.unexpected_keys:
        raise SystemExit(f"{path}: missing {missing[:3]}, unexpected {left.unexpected_keys[:3]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    quiet_hub()
    torch.set_num_threads(given.threads)
    windows = load_file(given.tokens)["tokens"]
    model = AutoModelForCausalLM.from_pretrained(given.model_dir, dtype=torch.float32, local_files_only=True).eval()
    table = {"original": window_nll(model, windows)}
    for item in given.weights:
        name, _, path = item.partition("=")
        load(model, Path(path))
        table[name] = window_nll(model, windows)
    facts = {"tokens_sha256": sha256_of_file(given.tokens), "shape": list(windows.shape), "nll_per_window": table}
    given.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
