"""One decoder-only transformer, written from the papers in float64: the oracle of the native decode loop.

Keys and values are rounded to float16, as the loop keeps them; nothing else is rounded. Sources: Touvron et al., arXiv 2302.13971
(Llama); Su et al., arXiv 2104.09864 (rotary positions, the two halves of a head apart); Radford et al. 2019 (GPT-2).
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def llama_logits(
    weights: dict[str, Array], tokens: list[int], *, heads: int, kv_heads: int, eps: float, theta: float
) -> Array:
    """(T, V) logits of a text; ``weights`` by their Hugging Face names."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    x = w["model.embed_tokens.weight"][tokens]
    blocks = 1 + max(int(name.split(".")[2]) for name in w if name.startswith("model.layers."))
    for n in range(blocks):
        at = f"model.layers.{n}."
        h = rms(x, w[at + "input_layernorm.weight"], eps)
        q, k, v = (
            h @ w[f"{at}self_attn.{p}_proj.weight"].T + w.get(f"{at}self_attn.{p}_proj.bias", 0.0) for p in "qkv"
        )
        q, k = rotated(q, heads, theta), rotated(k, kv_heads, theta)
        x = (
            x
            + attention(q, k, v, heads, kv_heads) @ w[at + "self_attn.o_proj.weight"].T
            + w.get(at + "self_attn.o_proj.bias", 0.0)
        )
        h = rms(x, w[at + "post_attention_layernorm.weight"], eps)
        gate, up = h @ w[at + "mlp.gate_proj.weight"].T, h @ w[at + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"].T
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    return rms(x, w["model.norm.weight"], eps) @ head.T


def gpt2_logits(weights: dict[str, Array], tokens: list[int], *, heads: int, eps: float) -> Array:
    """(T, V) logits; weights of linear layers are (inputs, outputs), as GPT-2 keeps them."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: len(tokens)]
    blocks = 1 + max(int(name.split(".")[2]) for name in w if name.startswith("transformer.h."))
    for n in range(blocks):
        at = f"transformer.h.{n}."

        def linear(values: Array, name: str, at: str = at) -> Array:
            return values @ w[f"{at}{name}.weight"] + w[f"{at}{name}.bias"]

        h = layer_norm(x, w[at + "ln_1.weight"], w[at + "ln_1.bias"], eps)
        q, k, v = np.split(linear(h, "attn.c_attn"), 3, axis=1)
        x = x + linear(attention(q, k, v, heads, heads), "attn.c_proj")
        h = linear(layer_norm(x, w[at + "ln_2.weight"], w[at + "ln_2.bias"], eps), "mlp.c_fc")
        x = x + linear(0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3))), "mlp.c_proj")
    x = layer_norm(x, w["transformer.ln_f.weight"], w["transformer.ln_f.bias"], eps)
    return x @ w.get("lm_head.weight", w["transformer.wte.weight"]).T


def rms(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def rotated(x: Array, heads: int, theta: float) -> Array:
    tokens, width = x.shape[0], x.shape[1] // heads
    angles = np.outer(np.arange(tokens), theta ** (-np.arange(0, width, 2) / width))[:, None, :]
    a, b = np.split(x.reshape(tokens, heads, width), 2, axis=-1)
    return np.concatenate(
        (a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)), -1
    ).reshape(x.shape)


def attention(q: Array, k: Array, v: Array, heads: int, kv_heads: int) -> Array:
    tokens, width = q.shape[0], q.shape[1] // heads
    q = q.reshape(tokens, heads, width)
    k, v = (part.astype(np.float16).astype(np.float64).reshape(tokens, kv_heads, width) for part in (k, v))
    out = np.empty_like(q)
    for head in range(heads):
        scores = q[:, head] @ k[:, head * kv_heads // heads].T / np.sqrt(width)
        scores[np.triu_indices(tokens, 1)] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, head] = shares / shares.sum(-1, keepdims=True) @ v[:, head * kv_heads // heads]
    return out.reshape(tokens, heads * width)
