"""Data: text by name, calibration batches with their provenance, and whether two texts share passages."""

from netweight.data._calibration import Calibration, calibration, from_batches
from netweight.data._corpus import Corpus, corpora, corpus
from netweight.data._folder import folder
from netweight.data._items import ChoiceItem, ContextChoiceItem, ContinuationItem, ItemFile, PairItem, items
from netweight.data._overlap import Overlap, shared_ngrams

__all__ = [
    "Calibration",
    "ChoiceItem",
    "ContextChoiceItem",
    "ContinuationItem",
    "Corpus",
    "ItemFile",
    "Overlap",
    "PairItem",
    "calibration",
    "corpora",
    "corpus",
    "folder",
    "from_batches",
    "items",
    "shared_ngrams",
]
