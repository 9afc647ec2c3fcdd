"""Slices as training reads them, and as a judge does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from netweight import data
from netweight.data import Segmentation


class Drawn:
    """Numbered slices of one data set; ``seed`` decides how each is augmented in each pass."""

    def __init__(self, slices: Segmentation, seed: int) -> None:
        self.slices, self.seed = slices, seed

    def drawn(self, numbers: Sequence[int], epoch: int) -> tuple[Tensor, Tensor]:
        images, masks = self._taken(numbers)
        return data.augment(data.to_unit(images), masks, seed=self.seed, epoch=epoch, indices=numbers)

    def plain(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        images, masks = self._taken(numbers)
        return data.normalise(images), masks

    def positive(self, number: int) -> bool:
        return bool(self.slices.positive[number])

    def _taken(self, numbers: Sequence[int]) -> tuple[np.ndarray, Tensor]:
        rows = np.asarray(numbers, dtype=np.int64)
        return self.slices.images[rows], torch.from_numpy(self.slices.masks[rows])


class Shown:
    """Some slices of a data set as rows of a tensor (N, 3, H, W), made when they are asked for."""

    def __init__(self, slices: Segmentation, numbers: Sequence[int]) -> None:
        self.slices, self.numbers = slices, np.asarray(numbers, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> Tensor:
        return data.normalise(self.slices.images[self.numbers[rows]])
