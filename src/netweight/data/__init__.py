"""Data: text by name, calibration batches with their provenance, whether two texts share passages; slices with masks, split by patient."""

from netweight.data._calibration import Calibration, calibration, from_batches
from netweight.data._corpus import Corpus, corpora, corpus
from netweight.data._folder import folder
from netweight.data._items import ChoiceItem, ContextChoiceItem, ContinuationItem, ItemFile, PairItem, items
from netweight.data._overlap import Overlap, shared_ngrams
from netweight.data._segmentation import (
    Augmentation,
    PhantomSettings,
    Segmentation,
    Split,
    augment,
    folds,
    from_arrays,
    holdout,
    leave_one_site_out,
    normalise,
    phantom,
    segmentation,
    segmentations,
    split,
    to_unit,
)

__all__ = [
    "Augmentation",
    "Calibration",
    "ChoiceItem",
    "ContextChoiceItem",
    "ContinuationItem",
    "Corpus",
    "ItemFile",
    "Overlap",
    "PairItem",
    "PhantomSettings",
    "Segmentation",
    "Split",
    "augment",
    "calibration",
    "corpora",
    "corpus",
    "folder",
    "folds",
    "from_arrays",
    "from_batches",
    "holdout",
    "items",
    "leave_one_site_out",
    "normalise",
    "phantom",
    "segmentation",
    "segmentations",
    "shared_ngrams",
    "split",
    "to_unit",
]
