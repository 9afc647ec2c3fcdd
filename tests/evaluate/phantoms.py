"""Small made-up masks and probabilities: round lesions, some patients without, scores with ties."""

from __future__ import annotations

import numpy as np


def phantom(
    patients: int = 6, slices: int = 3, size: int = 16, *, seed: int = 0, noise: float = 1.0, ties: bool = True
):
    """(probabilities (N, H, W) float32, masks bool, patients); every third patient has no lesion, one slice is empty."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    masks, names = [], []
    for patient in range(patients):
        for number in range(slices):
            mask = np.zeros((size, size), bool)
            if patient % 3 != 2 and number:
                for _ in range(2):
                    cy, cx = rng.integers(2, size - 2, 2)
                    mask |= (y - cy) ** 2 + (x - cx) ** 2 <= rng.uniform(1, 6)
            masks.append(mask)
            names.append(f"p{patient}")
    masks = np.array(masks)
    return scores(masks, seed=seed + 1, noise=noise, ties=ties), masks, names


def scores(masks: np.ndarray, *, seed: int, noise: float = 1.0, ties: bool = True) -> np.ndarray:
    """Probabilities that tend to be high in the masks; with ties, of two decimals."""
    logits = 3.0 * masks - 1.5 + noise * np.random.default_rng(seed).standard_normal(masks.shape)
    p = 1 / (1 + np.exp(-logits))
    return (p.round(2) if ties else p).astype(np.float32)
