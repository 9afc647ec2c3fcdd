"""Perplexity by the size of the whole file: llama.cpp's K-quants beside artifacts of ours, one model, one judge.

    python benchmarks/file_bytes.py --library DIR --model-dir reference --calibration-text valid.txt --test-text test_a.txt \\
      --work work --record benchmarks/records/DATE_file-bytes_HARDWARE

Bits per weight are not compared: llama.cpp gives each kind of tensor a type of its own, and a type with more bits where 256 does not divide a
row. The sizes are those of what a user copies: a GGUF file with its tokenizer, all files of an artifact. Ours take GPTQ in the
blocks and 8 bits in the embedding, which is also the head. K-quants are made without an importance matrix. Weights are
decoded from the files and judged in float32, so that what either runtime does to activations plays no part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from compare_peers import PEERS, difference, interval, machine, make_tokens, perplexity
from safetensors.torch import load_file, save_file

import netweight

sys.path.insert(0, str(PEERS))
import kquants
from export_reference import GGUF_FILE, gguf_folder
from with_netweight import decoded

OURS = ("int4-g64", "int3-g64")
PAIRED = (("int3-g64", "Q2_K"), ("int4-g64", "Q3_K_M"))  # ours is the smaller file of each pair
SEED = 0


def ours(format: str, model_dir: Path, windows: torch.Tensor, out: Path) -> int:
    """Makes the artifact and its decoded weights; bytes of all its files."""
    steps = [
        {"use": "gptq", "format": format, "only": ["model.layers.*"]},
        {"use": "rtn", "format": "int8-g64", "only": ["model.embed_tokens"]},
    ]
    batches = [{"input_ids": batch} for batch in windows.split(2)]
    made = netweight.compress(str(model_dir), {"step": steps}, out=out / "packed", calibration=batches, threads=2)
    assert isinstance(made, netweight.Artifact)
    save_file({name: tensor.contiguous() for name, tensor in decoded(made).items()}, out / "weights.safetensors")
    return sum(path.stat().st_size for path in (out / "packed").rglob("*") if path.is_file())


def theirs(kind: str, library: Path, out: Path) -> int:
    """Makes the GGUF file and its decoded weights; bytes of the file."""
    file = out / f"{kind}.gguf"
    kquants.quantize(library, gguf_folder() / GGUF_FILE, kind, file)
    command = [sys.executable, PEERS / "export_reference.py", "--gguf", file, "--out", out / "decoded"]
    subprocess.run([str(part) for part in command], check=True)
    weights = load_file(out / "decoded" / "model.safetensors")
    save_file(weights, out / "weights.safetensors")
    return file.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", type=Path, required=True, help="folder of libllama.so: see peers/kquants.py")
    parser.add_argument("--model-dir", type=Path, required=True, help="folder made by peers/export_reference.py")
    parser.add_argument("--calibration-text", type=Path, required=True)
    parser.add_argument("--test-text", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    given = parser.parse_args()
    given.seed, given.threads, given.window_length = SEED, 2, 1024
    torch.set_num_threads(given.threads)
    given.work.mkdir(parents=True)
    cut: dict[str, Any] = {"samples": given.samples, "length": given.length, "order": "random"}
    tokens = make_tokens(given, given.calibration_text, out=given.work / "calibration.safetensors", **cut)
    windows = load_file(tokens)["tokens"]
    sizes = {"Q4_1, as published": (gguf_folder() / GGUF_FILE).stat().st_size}
    for name in (*kquants.KINDS, *OURS):
        (given.work / name).mkdir()
        out = given.work / name
        sizes[name] = ours(name, given.model_dir, windows, out) if name in OURS else theirs(name, given.library, out)
        print(name, sizes[name], flush=True)
    test = make_tokens(
        given, given.test_text, samples=given.windows, length=1024, order="first", out=given.work / "test.safetensors"
    )
    command = [sys.executable, PEERS / "judge.py", "--model-dir", given.model_dir, "--tokens", test]
    command += ["--threads", given.threads, "--out", given.work / "nll.json"]
    for name in (*kquants.KINDS, *OURS):
        command += ["--weights", f"{name}={given.work / name / 'weights.safetensors'}"]
    subprocess.run([str(part) for part in command], check=True, env=os.environ)
    nll = json.loads((given.work / "nll.json").read_text(encoding="utf-8"))
    nll["nll_per_window"] = {"Q4_1, as published": nll["nll_per_window"].pop("original"), **nll["nll_per_window"]}
    record(given, sizes, nll)


def record(given: argparse.Namespace, sizes: dict[str, int], nll: dict[str, Any]) -> None:
    """Writes results.json and the page."""
    table = nll["nll_per_window"]
    quality = {name: interval((table[name],), perplexity, SEED) for name in sizes}
    facts = machine(given)
    lines = [
        f"# {(__doc__ or '').splitlines()[0]}",
        "",
        f"SmolLM2-135M, {given.windows} windows of {given.window_length} tokens of {given.test_text.name}, calibration {given.samples} x "
        f"{given.length} tokens of {given.calibration_text.name}; 95 % BCa bootstrap over windows. {facts['cpu']}, {facts['date']}.",
        "",
        "| file | MB | perplexity |",
        "|---|---|---|",
    ]
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        found = quality[name]
        who = f"netweight {name}" if name in OURS else f"llama.cpp {name}"
        lines.append(f"| {who} | {size / 1e6:.1f} | {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}] |")
    pairs = {f"{a} minus {b}": difference(table[a], table[b], SEED) for a, b in PAIRED}
    lines += ["", "| paired difference of perplexity | value |", "|---|---|"]
    lines += [f"| {name} | {d['value']:.3f} [{d['low']:.3f}, {d['high']:.3f}] |" for name, d in pairs.items()]
    given.record.mkdir(parents=True)
    results = {"bytes": sizes, "perplexity": quality, "differences": pairs, "nll": nll, "environment": facts}
    (given.record / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (given.record / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
