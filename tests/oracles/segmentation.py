"""Metrics of masks by their definitions: loops over thresholds, pixels and patients, nothing sorted, nothing binned."""

from __future__ import annotations

import itertools

import numpy as np


def average_precision(scores, labels) -> float:
    """Sum of (recall gained) * precision over every distinct score, from the highest."""
    scores, labels = np.ravel(scores), np.ravel(labels)
    area, last = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        recall = (chosen & labels).sum() / labels.sum()
        area += (recall - last) * (chosen & labels).sum() / chosen.sum()
        last = recall
    return float(area)


def roc_auc(scores, labels) -> float:
    """Share of pairs (positive, negative) in the right order, ties half."""
    scores, labels = np.ravel(scores).astype(float), np.ravel(labels)
    d = scores[labels][:, None] - scores[~labels][None]
    return float(((d > 0) + 0.5 * (d == 0)).mean())


def recall_within(scores, labels, rate: float) -> float:
    """Best recall among all thresholds whose false-positive rate is at most ``rate``."""
    scores, labels = np.ravel(scores), np.ravel(labels)
    best = 0.0
    for threshold in set(scores.tolist()):
        chosen = scores >= threshold
        if (chosen & ~labels).sum() <= rate * (~labels).sum() + 1e-9:
            best = max(best, (chosen & labels).sum() / labels.sum())
    return float(best)


def components(mask) -> list[set[tuple[int, int]]]:
    """Connected components of one slice by flood fill over eight neighbours."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = []
    while left:
        stack, here = [left.pop()], set()
        while stack:
            y, x = stack.pop()
            here.add((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            stack += near
        found.append(here)
    return found


def aupro(probabilities, masks, limit: float) -> float:
    """Trapezoids under (false-positive rate, mean share of each component found), cut at the limit."""
    lesions = [(n, c) for n, mask in enumerate(masks) for c in components(mask)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(probabilities.ravel().tolist()), reverse=True):
        chosen = probabilities >= threshold
        rate = (chosen & ~masks).sum() / (~masks).sum()
        shares = [np.mean([chosen[(n, *pixel)] for pixel in c]) for n, c in lesions]
        points.append((float(rate), float(np.mean(shares))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def overlaps(probabilities, masks, threshold: float) -> dict[str, float]:
    """Pooled recall, precision, F2, Dice, IoU and soft Dice, pixel by pixel."""
    tp = fp = fn = 0
    for p, true in zip(probabilities.ravel().tolist(), masks.ravel().tolist(), strict=True):
        tp += p >= threshold and true
        fp += p >= threshold and not true
        fn += p < threshold and true
    recall, precision = tp / (tp + fn), tp / (tp + fp)
    soft = (
        2 * float((probabilities.astype(float) * masks).sum()) / float(probabilities.astype(float).sum() + masks.sum())
    )
    return {
        "recall": recall,
        "precision": precision,
        "f2": 5 * precision * recall / (4 * precision + recall),
        "dice": 2 * precision * recall / (precision + recall),
        "iou": tp / (tp + fp + fn),
        "soft_dice": soft,
    }


def lesions(probabilities, masks, threshold: float, share: float) -> tuple[int, int, int]:
    """Lesions found, lesions, and predicted components that touch none."""
    found = count = false = 0
    for p, mask in zip(probabilities, masks, strict=True):
        for c in components(mask):
            count += 1
            found += sum(p[pixel] >= threshold for pixel in c) >= share * len(c) - 1e-9
        false += sum(not any(mask[pixel] for pixel in c) for c in components(p >= threshold))
    return found, count, false


def calibration_error(probabilities, masks, bins: int = 15) -> float:
    """Bin i holds (i/15, (i+1)/15]; 0 is in the first."""
    p, m = probabilities.ravel().astype(float), masks.ravel()
    error = 0.0
    for i in range(bins):
        inside = (p > i / bins) & (p <= (i + 1) / bins) | ((p == 0) & (i == 0))
        error += abs(p[inside].sum() - m[inside].sum())
    return error / p.size
