"""A language model small enough for every room: two llama blocks and a tokenizer of bytes."""

from __future__ import annotations

import tokenizers
import torch
import transformers

WORDS = ("the", "value", "of", "an", "object", "is", "called", "when", "statement", "expression")


def tiny_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Bytes and a few merges: any text has tokens, and none is unknown."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=256
    )


def tiny_llama(*, tied: bool = True, seed: int = 0) -> transformers.LlamaForCausalLM:
    """Random weights, wide enough that rounding them shows."""
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=300, max_position_embeddings=256, tie_word_embeddings=tied, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = transformers.LlamaForCausalLM(config).eval()
        for name, parameter in module.named_parameters():
            if "norm" not in name:
                torch.nn.init.normal_(parameter, std=0.2)
    return module
