"""Tiny random models as folders, their batches, and recipes in one line: what tests of compression share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from netweight import models
from netweight.jobs.compress import compress as job

VOCABULARY, HIDDEN = 128, 64


def llama(*, blocks: int = 2, tied: bool = True, kv_heads: int = 4, inner: int = 128, seed: int = 0) -> nn.Module:
    return _random(
        "llama",
        seed,
        hidden_size=HIDDEN,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        head_dim=16,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
    )


def gpt2(*, seed: int = 0) -> nn.Module:
    return _random("gpt2", seed, n_embd=HIDDEN, n_layer=2, n_head=4, n_positions=64)


def bert(*, seed: int = 0) -> nn.Module:
    sizes = {"hidden_size": HIDDEN, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return _random("bert", seed, max_position_embeddings=64, **sizes)


def _random(model_type: str, seed: int, **sizes: Any) -> nn.Module:
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.AutoConfig.for_model(model_type, vocab_size=VOCABULARY, **special, **sizes)
    auto = transformers.AutoModel if model_type == "bert" else transformers.AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = auto.from_config(config, dtype=torch.float32).eval()
        for name, parameter in module.named_parameters():  # norms start at 1, biases at 0: make every one matter
            nn.init.normal_(parameter, std=0.2)
            if ("norm" in name.lower() or ".ln_" in name) and name.endswith("weight"):
                parameter.data.mul_(4).exp_()  # channels of very different size, as real ones are
    return module


def saved(module: nn.Module, folder: Path) -> Path:
    module.save_pretrained(folder)
    return folder


def token_batches(count: int = 3, rows: int = 2, length: int = 16, *, seed: int = 1) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [{"input_ids": torch.randint(3, VOCABULARY, (rows, length), generator=generator)} for _ in range(count)]


def recipe(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"step": list(steps), **more}


def step(use: str, format: str | None = None, **more: Any) -> dict[str, Any]:
    return {"use": use, **({"format": format} if format else {}), **more}


def compress(model: Any, out: Path, *steps: dict[str, Any], **options: Any) -> Any:
    """``netweight.compress`` on one thread with tiny batches, unless told otherwise."""
    options = {"threads": 1, "calibration": token_batches(), **options}
    return job(model, recipe(*steps), out=out, **options)


def decoded(artifact: Any) -> dict[str, Tensor]:
    """Layer -> its decoded (O, I) weight, read from the file."""
    return {name: artifact.qtensor(name).decode() for name in artifact.manifest.layers}


def matrix(module: nn.Module, layer: str) -> Tensor:
    return models.matrix_of(module.get_submodule(layer)).clone()


def hashed_files(folder: Path) -> dict[str, bytes]:
    """Every file but run.json, which holds times."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "run.json"}


def foreign_load(folder: Path, auto: Any = transformers.AutoModelForCausalLM) -> nn.Module:
    """As a user without netweight would load it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return auto.from_pretrained(folder).eval()
