"""Slices with masks: sources (one file each), splits by patient, and what training does to a slice."""

from netweight.data._segmentation._augment import Augmentation, augment, normalise, to_unit
from netweight.data._segmentation._folds import folds, holdout, leave_one_site_out
from netweight.data._segmentation._known import Known, Seen, known, known_patients, seen
from netweight.data._segmentation._phantom import PhantomSettings, phantom
from netweight.data._segmentation._pictures_alone import picture, pictures, square, unsquare
from netweight.data._segmentation._read import segmentation, segmentations
from netweight.data._segmentation._segmentation import Segmentation, from_arrays
from netweight.data._segmentation._split import Split, split

__all__ = [
    "Augmentation",
    "Known",
    "PhantomSettings",
    "Seen",
    "Segmentation",
    "Split",
    "augment",
    "folds",
    "from_arrays",
    "holdout",
    "known",
    "known_patients",
    "leave_one_site_out",
    "normalise",
    "phantom",
    "picture",
    "pictures",
    "seen",
    "segmentation",
    "segmentations",
    "split",
    "square",
    "to_unit",
    "unsquare",
]
