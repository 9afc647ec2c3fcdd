"""GPT-2 (Radford et al. 2019): layer norms with a bias, weights stored as (inputs, outputs), query, key and value in one layer."""

from netweight.models._family import Family, Feed, Heads

FAMILY = Family(
    name="gpt2",
    model_types=("gpt2",),
    kind="causal-lm",
    auto="AutoModelForCausalLM",
    blocks="h",
    stem=("wte", "wpe"),
    norm="ln_f",
    head="lm_head",
    feeds=(Feed("ln_1", ("attn.c_attn",)), Feed("ln_2", ("mlp.c_fc",))),
    heads=(Heads("attn.c_attn", "attn.c_proj", shares=3),),
)
