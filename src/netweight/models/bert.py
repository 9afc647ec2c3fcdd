"""BERT encoders (Devlin et al. 2018, arXiv 1810.04805).

The norms come after the residual sum, so their output feeds the next sum as well as the next layers: no scale can be folded
into them. The value projection may be scaled against the layer that reads the attention's output, which is linear in it.
"""

from netweight.models._family import Family, Feed, Heads

FAMILY = Family(
    name="bert",
    model_types=("bert",),
    kind="encoder",
    auto="AutoModel",
    blocks="encoder.layer",
    stem=("embeddings",),
    head="cls",
    feeds=(Feed("attention.self.value", ("attention.output.dense",)),),
    heads=(Heads("attention.self.value", "attention.output.dense"),),
    optional=("pooler",),
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
)
