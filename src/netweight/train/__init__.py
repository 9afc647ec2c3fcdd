"""Training: any module's layers under quantized arithmetic, and the loop that trains a net from scratch."""

from netweight.train._loop import EVALUATED, STATE, History, Lesson, fit
from netweight.train._objective import bce_tversky, distillation
from netweight.train._recipe import TrainRecipe, divided, load_recipe
from netweight.train._settings import Training
from netweight.train._slices import Drawn, Shown

__all__ = [
    "EVALUATED",
    "STATE",
    "Drawn",
    "History",
    "Lesson",
    "Shown",
    "TrainRecipe",
    "Training",
    "bce_tversky",
    "distillation",
    "divided",
    "fit",
    "load_recipe",
]
