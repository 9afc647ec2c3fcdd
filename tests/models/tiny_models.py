"""Tiny random models of every family."""

from __future__ import annotations

import torch
import transformers

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tiny_module(model_type: str, *, kv_heads: int = 4, tied: bool = True, seed: int = 0, dtype=torch.float32):
    """A random model of a transformers type, small enough to run in milliseconds."""
    config = transformers.AutoConfig.for_model(
        model_type, **SIZES, num_key_value_heads=kv_heads, tie_word_embeddings=tied, head_dim=8
    )
    auto = transformers.AutoModel if model_type == "bert" else transformers.AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = auto.from_config(config, dtype=dtype).eval()
        for (
            name,
            parameter,
        ) in module.named_parameters():  # norms start at one and biases at zero: make every one matter
            torch.nn.init.normal_(parameter, std=0.3)
            if "norm" in name.lower() or ".ln_" in name:
                parameter.data.add_(1.0)
    return module
