"""Cut token windows out of a text file: calibration at seeded places, or evaluation end to end.

    python benchmarks/peers/make_tokens.py --model-dir DIR --text FILE --samples 128 --length 512 --seed 0 --out FILE

The whole text is tokenized once, as it stands. ``--order random`` takes windows that start at places drawn without
replacement from a grid of non-overlapping windows; ``--order first`` takes the first ones.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from _measure import sha256_of_file
from safetensors.torch import save_file
from transformers import AutoTokenizer


def windows(ids: list[int], *, samples: int, length: int, order: str, seed: int) -> torch.Tensor:
    """(samples, length) int64 non-overlapping windows of ``ids``, in the order of the text."""
    whole = len(ids) // length
    if whole < samples:
        raise SystemExit(f"{samples} windows of {length} tokens asked for, the text holds {whole}; ask for fewer")
    table = torch.tensor(ids[: whole * length], dtype=torch.int64).reshape(whole, length)
    if order == "first":
        return table[:samples].contiguous()
    generator = torch.Generator().manual_seed(seed)
    return table[torch.randperm(whole, generator=generator)[:samples].sort().values].contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-dir", type=Path, required=True, help="folder with the tokenizer")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--order", choices=("random", "first"), default="random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.model_dir, local_files_only=True)
    ids = tokenizer(given.text.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
    tokens = windows(ids, samples=given.samples, length=given.length, order=given.order, seed=given.seed)
    facts = {
        "text": given.text.name,
        "text_sha256": sha256_of_file(given.text),
        "order": given.order,
        "seed": given.seed,
        "shape": list(tokens.shape),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({"tokens": tokens}, given.out, metadata={"made_of": json.dumps(facts)})
    print(json.dumps(facts | {"sha256": sha256_of_file(given.out)}))


if __name__ == "__main__":
    main()
