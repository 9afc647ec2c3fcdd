"""When the rate is halved and when training ends: plateaus of the validation loss, as plain state that can be kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from netweight.train._settings import Training

SHRINK = 0.5
BETTER = 1e-4  # relative, as torch's ReduceLROnPlateau counts


@dataclass
class Pace:
    """``share`` of the rate after the plateaus so far; ``over`` once training is to end."""

    share: float = 1.0
    least: float = math.inf  # validation loss that the rate's plateaus are counted from
    waited: int = 0
    mark: float = math.inf  # validation loss that the end is counted from
    idle: int = 0
    over: bool = False

    def after(self, epoch: int, loss: float, settings: Training) -> None:
        """Take notice of a pass's validation loss. ``epoch`` counts from 1."""
        if loss < self.least * (1 - BETTER):
            self.least, self.waited = loss, 0
        else:
            self.waited += 1
        if settings.schedule == "plateau" and self.waited > settings.patience:
            self.share, self.waited = self.share * SHRINK, 0
        if loss < self.mark - settings.min_delta:
            self.mark, self.idle = loss, 0
        else:
            self.idle += 1
        self.over = epoch >= settings.epochs or (epoch >= settings.stop_from and self.idle >= settings.stop_after)
