"""Training: any module's layers under quantized arithmetic, and the loop that trains a net from scratch."""

from netweight.train._diagnose import Diagnosis, diagnose
from netweight.train._hooks import hooks
from netweight.train._loop import EVALUATED, STATE, History, Hook, Lesson, check_lesson, fit
from netweight.train._objective import bce_tversky, distillation
from netweight.train._optimizer import optimizer
from netweight.train._oscillation import OscillationReset
from netweight.train._qat import Operand, Qat, Reset, catalogue, recipe
from netweight.train._quantize import Quantized, Row, handle, quantize
from netweight.train._recipe import TrainRecipe, divided, load_recipe
from netweight.train._settings import Training
from netweight.train._slices import Drawn, Shown

__all__ = [
    "EVALUATED",
    "STATE",
    "Diagnosis",
    "Drawn",
    "History",
    "Hook",
    "Lesson",
    "Operand",
    "OscillationReset",
    "Qat",
    "Quantized",
    "Reset",
    "Row",
    "Shown",
    "TrainRecipe",
    "Training",
    "bce_tversky",
    "catalogue",
    "check_lesson",
    "diagnose",
    "distillation",
    "divided",
    "fit",
    "handle",
    "hooks",
    "load_recipe",
    "optimizer",
    "quantize",
    "recipe",
]
