"""Any other ``nn.Module``: the whole module is one block."""

from netweight.models._family import Family

FAMILY = Family(name="plain", model_types=(), kind="module", auto="AutoModel", blocks="")
