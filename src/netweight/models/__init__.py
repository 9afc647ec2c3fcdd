"""Models: ``load`` anything, stream its weights, and know where its blocks, layers, norms and ties are."""

from netweight.models._family import Family, Feed, families, family_of
from netweight.models._load import load
from netweight.models._model import Model, blocks, feeds
from netweight.models._stream import materialize, release
from netweight.models._weights import WeightSource

__all__ = [
    "Family",
    "Feed",
    "Model",
    "WeightSource",
    "blocks",
    "families",
    "family_of",
    "feeds",
    "load",
    "materialize",
    "release",
]
