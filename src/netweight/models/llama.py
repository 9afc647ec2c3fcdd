"""Llama and the models that share its module names (Touvron et al. 2023, arXiv 2302.13971): RMS norms first, gated MLP."""

from netweight.models._family import Family, Feed, GGUFTable, Heads, Residual

GGUF = GGUFTable(
    model_types={"llama": "llama", "mistral": "mistral", "qwen2": "qwen2", "qwen3": "qwen3"},
    config={
        "context_length": "max_position_embeddings",
        "block_count": "num_hidden_layers",
        "feed_forward_length": "intermediate_size",
        "embedding_length": "hidden_size",
        "rope.dimension_count": "head_dim",
        "attention.key_length": "head_dim",
        "rope.freq_base": "rope_theta",
        "attention.head_count": "num_attention_heads",
        "attention.head_count_kv": "num_key_value_heads",
        "attention.layer_norm_rms_epsilon": "rms_norm_eps",
        "vocab_size": "vocab_size",
    },
    required=(
        "block_count",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
    ),
    tensors={
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "output": "lm_head",
        "blk.{n}.attn_norm": "model.layers.{n}.input_layernorm",
        "blk.{n}.attn_q": "model.layers.{n}.self_attn.q_proj",
        "blk.{n}.attn_k": "model.layers.{n}.self_attn.k_proj",
        "blk.{n}.attn_v": "model.layers.{n}.self_attn.v_proj",
        "blk.{n}.attn_output": "model.layers.{n}.self_attn.o_proj",
        "blk.{n}.attn_q_norm": "model.layers.{n}.self_attn.q_norm",
        "blk.{n}.attn_k_norm": "model.layers.{n}.self_attn.k_norm",
        "blk.{n}.ffn_norm": "model.layers.{n}.post_attention_layernorm",
        "blk.{n}.ffn_gate": "model.layers.{n}.mlp.gate_proj",
        "blk.{n}.ffn_up": "model.layers.{n}.mlp.up_proj",
        "blk.{n}.ffn_down": "model.layers.{n}.mlp.down_proj",
    },
    interleaved=("attn_q", "attn_k"),
    interleaved_in=("llama",),
    refused={"rope_freqs.weight": "it scales the rotary frequencies, which a Llama config here cannot say"},
)

NORMS = (
    Feed("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    Feed("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
)

FAMILY = Family(
    name="llama",
    model_types=("llama", "mistral", "qwen2", "qwen3", "smollm3"),
    kind="causal-lm",
    auto="AutoModelForCausalLM",
    blocks="layers",
    stem=("embed_tokens",),
    norm="norm",
    head="lm_head",
    feeds=(
        *NORMS,
        Feed("mlp.up_proj", ("mlp.down_proj",)),
        Feed("self_attn.v_proj", ("self_attn.o_proj",)),  # left out where grouped heads make the widths differ
    ),
    residual=Residual(norms=NORMS, writers=("self_attn.o_proj", "mlp.down_proj")),
    heads=(Heads("self_attn.v_proj", "self_attn.o_proj"),),
    gguf=GGUF,
)
