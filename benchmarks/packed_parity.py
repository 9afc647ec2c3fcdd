"""Does the packed model compute what the decoded one does? Logits, perplexity and greedy text of one artifact, four ways.

    python benchmarks/packed_parity.py --artifact DIR --text test.txt --out benchmarks/records/DATE_packed-parity_HARDWARE

The reference is the decoded model in float64. Two float32 evaluations of the same model differ from it by rounding alone, so

- the packed model with float32 activations must not be further from it than ``SLACK`` times what the decoded model in float32 is;
- the packed model with 8-bit activations must not be further from the decoded model in float64 *whose layers round their
  inputs by the same rule*, written here once more in torch, than ``SLACK`` times what that model in float32 is;
- the native loop, which keeps keys and values in float16, not further than ``SLACK`` times what that model is when its keys
  and values are rounded so.

Distances are root mean squares over all logits. What 8-bit activations cost is the difference of the perplexities, with its
interval over windows. Greedy text is written by the native loop and by transformers' own with the decoded model.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _numbers import keep
from torch import Tensor, nn

from netweight import provenance, runtime
from netweight.runtime import kernels

SLACK = 4.0  # sums of other lengths and orders, and 8-bit roundings that fall to the other side
BLOCK = 64  # columns that share an activation scale
PROMPTS = (
    "Explain what a hash table is.",
    "Write a short story about a lighthouse keeper.",
    "What is the capital of France, and why is it famous?",
    "List three uses of a paper clip.",
)


def rounded(x: Tensor) -> Tensor:
    """(..., I): 8 bits with a scale per block, to the nearest even, in the type of x."""
    blocks = x.unflatten(-1, (-1, BLOCK))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    whole = torch.where(scale > 0, (blocks / scale.clamp_min(torch.finfo(x.dtype).tiny)).round(), 0.0)
    return (whole * scale).flatten(-2)


def with_rounding(module: nn.Module, layers: set[str], *, half: bool = False) -> nn.Module:
    """The module with rounded inputs of these linear layers; ``half``: and keys and values in float16."""
    for name, part in module.named_modules():
        if name in layers and isinstance(part, nn.Linear):
            part.register_forward_pre_hook(lambda _, args: (rounded(args[0]),))
            if half and name.endswith(("k_proj", "v_proj")):
                part.register_forward_hook(lambda _, args, y: y.half().to(y.dtype))
    return module


def nll(logits_TV: Tensor, ids_T: Tensor) -> float:
    return float(nn.functional.cross_entropy(logits_TV[:-1].double(), ids_T[1:]))


def greedy(model: Any, prompt: str, count: int) -> str:
    return "".join(runtime.generate(model, prompt, max_tokens=count))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=48, help="of greedy text for each prompt")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    loaded = {way: runtime.load(given.artifact, kernels=way) for way in ("off", "exact", "auto")}  # pyright: ignore[reportArgumentType]
    plain = loaded["off"].module
    packed = loaded["auto"].module.named_modules()
    layers = {name for name, part in packed if isinstance(part, runtime.PackedLinear)}
    ways: dict[str, Callable[[Tensor], Tensor]] = {}
    modules = {
        "float64": copy.deepcopy(plain).double(),
        "float32": plain,
        "packed, float32 activations": loaded["exact"].module,
        "rounded inputs, float64": with_rounding(copy.deepcopy(plain).double(), layers),
        "rounded inputs, float32": with_rounding(copy.deepcopy(plain), layers),
        "rounded inputs, float16 keys and values": with_rounding(copy.deepcopy(plain), layers, half=True),
        "packed": loaded["auto"].module,
    }
    for name, module in modules.items():
        ways[name] = lambda ids_T, module=module: module(input_ids=ids_T.unsqueeze(0)).logits[0]
    decoder = runtime.NativeDecoder(loaded["auto"].model, longest=given.length)

    def native(ids_T: Tensor) -> Tensor:
        return decoder.forward((decoder.session(),), (ids_T,), all_positions=True)

    ways["packed, native loop"] = native
    tokenizer = loaded["auto"].model.tokenizer()
    ids = tokenizer(given.text.read_text(encoding="utf-8"), return_tensors="pt")["input_ids"][0]
    losses: dict[str, list[float]] = {name: [] for name in ways}
    squares = dict.fromkeys(PAIRS, 0.0)
    agree = dict.fromkeys(PAIRS, 0)
    seen = 0
    with torch.inference_mode():
        for number in range(given.windows):
            ids_T = ids[number * given.length : (number + 1) * given.length]
            found = {name: way(ids_T) for name, way in ways.items()}
            for name, logits in found.items():
                losses[name].append(nll(logits, ids_T))
            for one, other in PAIRS:
                gap = found[one].double() - found[other].double()
                squares[one, other] += float(gap.square().mean(-1).sum())
                agree[one, other] += int((found[one].argmax(-1) == found[other].argmax(-1)).sum())
            seen += len(ids_T)
            print(f"window {number + 1} of {given.windows}", file=sys.stderr)
    rms = {pair: (total / seen) ** 0.5 for pair, total in squares.items()}
    texts = {
        way: [greedy(loaded[way].model, prompt, given.tokens) for prompt in PROMPTS] for way in ("off", "exact", "auto")
    }
    same = {way: sum(a == b for a, b in zip(texts["off"], texts[way], strict=True)) for way in ("exact", "auto")}
    bounds = {
        "packed, float32 activations": ("float32", "float64"),
        "packed": ("rounded inputs, float32", "rounded inputs, float64"),
    }
    bounds["packed, native loop"] = ("rounded inputs, float16 keys and values", "rounded inputs, float64")
    page = [
        f"# Packed and decoded, {given.artifact.name}\n",
        f"{provenance.cpu_model()}, {kernels.isa()}; {given.windows} windows of {given.length} tokens; {loaded['auto'].summary()}.\n",
        "| | perplexity | root mean square of logits' difference | from | bound | same likeliest token |",
        "|---|---|---|---|---|---|",
    ]
    record: dict[str, Any] = {"machine": provenance.cpu_model(), "isa": kernels.isa(), "rows": [], "greedy": same}
    failed = []
    for one, other in PAIRS:
        limit = SLACK * rms[bounds[one]] if one in bounds else None
        perplexity = float(np.exp(np.mean(losses[one])))
        record["rows"].append(
            {"name": one, "from": other, "rms": rms[one, other], "bound": limit, "perplexity": perplexity,
             "agreement": agree[one, other] / seen, "nll": losses[one]}
        )  # fmt: skip
        shown = "–" if limit is None else f"{limit:.3g}"
        page.append(
            f"| {one} | {perplexity:.4f} | {rms[one, other]:.3g} | {other} | {shown} | {agree[one, other] / seen:.4%} |"
        )
        if limit is not None and rms[one, other] > limit:
            failed.append(one)
    gap = np.array(losses["packed"]) - np.array(losses["float32"])
    error = 1.96 * gap.std(ddof=1) / len(gap) ** 0.5
    page.append(
        f"\n8-bit activations: mean negative log-likelihood {gap.mean():+.5f} ± {error:.5f} (95 %, over windows)."
    )
    page.append(
        f"Greedy text of {given.tokens} tokens equals the decoded model's for {same['exact']} of {len(PROMPTS)} prompts with "
        f"float32 activations, for {same['auto']} with 8-bit ones."
    )
    record["nll_of_packed_minus_decoded"] = {"mean": float(gap.mean()), "half_width": float(error), "windows": len(gap)}
    keep(given.out, record, page)
    if failed:
        sys.exit(f"beyond the bound: {', '.join(failed)}")


PAIRS = (
    ("float32", "float64"),
    ("packed, float32 activations", "float64"),
    ("rounded inputs, float32", "rounded inputs, float64"),
    ("packed", "rounded inputs, float64"),
    ("rounded inputs, float16 keys and values", "rounded inputs, float64"),
    ("packed, native loop", "rounded inputs, float64"),
)

if __name__ == "__main__":
    main()
