"""Training: any module's layers under quantized arithmetic, and the loop that trains a net from scratch."""

from netweight.train._loop import EVALUATED, STATE, History, Lesson, fit
from netweight.train._objective import bce_tversky, distillation
from netweight.train._settings import Training

__all__ = [
    "EVALUATED",
    "STATE",
    "History",
    "Lesson",
    "Training",
    "bce_tversky",
    "distillation",
    "fit",
]
