"""How the rate falls and when training ends: plateaus of the validation loss, as plain state that can be kept, or a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from netweight.train._settings import Training

SHRINK = 0.5
BETTER = 1e-4  # relative, as torch's ReduceLROnPlateau counts


@dataclass
class Pace:
    """``share`` of the rate after the plateaus so far, where they count; ``over`` once training is to end."""

    share: float = 1.0
    least: float = math.inf  # validation loss that the rate's plateaus are counted from
    waited: int = 0
    mark: float = math.inf  # validation loss that the end is counted from
    idle: int = 0
    over: bool = False

    def left(self, done: float, settings: Training) -> float:
        """Share of the full rate after a share ``done`` of all steps. Source of the cosine: Loshchilov & Hutter, arXiv 1608.03983."""
        return self.share if settings.schedule == "plateau" else 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def after(self, epoch: int, loss: float, settings: Training) -> None:
        """Take notice of a pass's validation loss. ``epoch`` counts from 1."""
        if loss < self.least * (1 - BETTER):
            self.least, self.waited = loss, 0
        else:
            self.waited += 1
        if self.waited > settings.patience:
            self.share, self.waited = self.share * SHRINK, 0
        if loss < self.mark - settings.min_delta:
            self.mark, self.idle = loss, 0
        else:
            self.idle += 1
        self.over = epoch >= settings.epochs or (epoch >= settings.stop_from and self.idle >= settings.stop_after)
