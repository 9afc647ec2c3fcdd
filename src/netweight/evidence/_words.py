"""One claim in words: value and interval in a readable unit, difference from the reference, verdict. Nothing missing reads as zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from netweight.claim import Claim, Comparison
from netweight.evidence._numbers import Scale, decimals, number, scale, shared_decimals, with_unit

Tone = Literal["good", "bad", "warn", "plain", "missing"]

SIZE = "bytes_on_disk"
BITS = "bits_per_weight"
NAMES = {
    SIZE: "size on disk",
    BITS: "bits per weight",
    "bytes_in_memory": "size in memory",
    "kl_divergence": "KL divergence",
    "ece": "calibration error (ECE)",
    "top1_accuracy": "top-1 accuracy",
    "top1_ece": "top-1 calibration error (ECE)",
    "top_token_agreement": "top-token agreement",
    "lambada_accuracy": "LAMBADA accuracy",
    "lambada_perplexity": "LAMBADA perplexity",
    "multiple_choice_raw": "multiple choice, raw",
    "multiple_choice_normalised": "multiple choice, length-normalised",
    "sts_spearman": "STS Spearman",
    "auprc": "AUPRC",
    "auprc_ratio": "AUPRC over the reference's",
    "roc_auc": "ROC-AUC",
    "recall_at_fpr": "recall at a fixed false-positive rate",
    "aupro": "AUPRO",
    "pixel_recall": "recall of pixels",
    "pixel_precision": "precision of pixels",
    "pixel_f2": "F2 of pixels",
    "pixel_dice": "Dice over all pixels",
    "pixel_iou": "IoU over all pixels",
    "pixel_soft_dice": "soft Dice over all pixels",
    "patient_recall": "recall per patient",
    "patient_dice": "Dice per patient",
    "patient_iou": "IoU per patient",
    "lesion_recall": "lesions found",
    "false_lesions_per_slice": "false lesions per slice",
    "pixel_ece": "calibration error of pixels (ECE)",
}


NO_MARGIN = "; no margin stated"  # how a verdict ends that says only whether the interval excludes 0


@dataclass(frozen=True)
class Places:
    """Decimals that the cells of a row share; None leaves each number as many as its own interval supports."""

    value: int | None = None
    difference: int | None = None


OWN_PLACES = Places()


@dataclass(frozen=True)
class Cell:
    """What one subject scored, in words: every field is ready to print, empty where there is nothing to say.

    ``n`` is how many items it is about, 0 where that is not known; ``caution`` says why a verdict means little.
    """

    value: str
    interval: str = ""
    difference: str = ""
    verdict: str = ""
    tone: Tone = "plain"
    provenance: str = "missing"
    note: str = ""
    n: int = 0
    caution: str = ""

    def lines(self) -> tuple[str, ...]:
        return tuple(line for line in (self.value, self.interval, self.difference, self.verdict, self.note) if line)


def metric_name(metric: str) -> str:
    return NAMES.get(metric, metric.replace("_", " "))


def data_name(claim: Claim) -> str:
    """Where the items came from: ``source/split``, as far as the claim records it."""
    source, split = str(claim.data.get("source") or ""), str(claim.data.get("split") or "")
    return source if not split or source.endswith(f"/{split}") else f"{source}/{split}".strip("/")


def claim_cell(claim: Claim, *, original: str = "", places: Places = OWN_PLACES) -> Cell:
    """One claim in words; the verdict names the reference when that is not ``original``."""
    if claim.provenance == "unavailable" or claim.value is None:
        why = f"unavailable: {claim.note}" if claim.note else "unavailable"
        return Cell(why, tone="missing", provenance="unavailable")
    value, interval = value_and_interval(claim, places.value)
    difference, verdict, tone = "", "", "plain"
    if claim.comparison is not None and not is_exact(claim):
        difference, verdict, tone = _compared(claim, claim.comparison, places.difference)
        if claim.comparison.reference != original:
            difference += f" against {claim.comparison.reference}"
    note = "estimated, not measured" if claim.provenance == "estimated" else ""
    return Cell(value, interval, difference, verdict, tone, claim.provenance, note, claim.n)


def is_exact(claim: Claim) -> bool:
    """Is nothing about this number random? Then it has no interval, and needs none."""
    counted = scale(claim.unit, 1.0).unit == "bytes" or claim.metric == BITS
    return claim.low is None and claim.provenance == "measured" and (counted or claim.interval == "exact")


def shared_places(claims: Sequence[Claim]) -> Places:
    """The decimals of claims that stand in one row, of which each would otherwise take its own."""
    shown = [(claim, scale(claim.unit, claim.value, metric=claim.metric).factor) for claim in claims]
    if len({factor for _, factor in shown}) != 1:
        return OWN_PLACES  # kB beside MB: equal decimals would not be equal digits
    pairs = [(claim.comparison, factor) for claim, factor in shown if claim.comparison]
    return Places(
        shared_decimals([(_divided(claim.low, factor), _divided(claim.high, factor)) for claim, factor in shown]),
        shared_decimals([(pair.low / factor, pair.high / factor) for pair, factor in pairs]),
    )


def value_and_interval(claim: Claim, places: int | None = None) -> tuple[str, str]:
    """The value with its unit, and its interval in words, in the same unit and to the same place.

    Without ``places`` the interval decides how many.
    """
    shown = scale(claim.unit, claim.value, metric=claim.metric)
    low, high, value = (_divided(x, shown.factor) for x in (claim.low, claim.high, claim.value))
    places = decimals(low, high) if places is None else places
    text = with_unit(number(value, places), shown.unit)
    if low is None or high is None:
        return text, "exact" if is_exact(claim) else "no interval"
    return text, f"{number(low, places)} to {number(high, places)} ({claim.level * 100:g}\u00a0%)"


def _compared(claim: Claim, comparison: Comparison, places: int | None) -> tuple[str, str, Tone]:
    """Difference and verdict in words, and how good the news is."""
    shown = scale(claim.unit, claim.value, metric=claim.metric)
    low, high = comparison.low / shown.factor, comparison.high / shown.factor
    places = decimals(low, high) if places is None else places
    middle, lower, upper = (number(x, places, signed=True) for x in (comparison.difference / shown.factor, low, high))
    difference = f"difference {with_unit(middle, shown.difference_unit)} ({lower} to {upper})"
    return difference, *_verdict(claim, comparison, shown, places)


def _verdict(claim: Claim, comparison: Comparison, shown: Scale, places: int | None) -> tuple[str, Tone]:
    worse_low, worse_high = _worsening(claim, comparison)
    if comparison.margin is None or comparison.verdict is None:
        return _direction(claim, worse_low, worse_high)
    margin = "margin " + with_unit(number(comparison.margin / shown.factor), shown.difference_unit)
    most, least = (
        with_unit(number(abs(x) / shown.factor, places), shown.difference_unit) for x in (worse_high, worse_low)
    )
    follows = (
        "non-inferior"
        if worse_high < comparison.margin
        else "inferior"
        if worse_low > comparison.margin
        else "undecided"
    )
    if comparison.verdict != follows:
        return f"{comparison.verdict} is stated, but the interval and {margin} say {follows}", "bad"
    if follows == "non-inferior":
        return (
            f"non-inferior: at {f'most {most} worse' if worse_high > 0 else f'least {most} better'}, {margin}",
            "good",
        )
    if follows == "inferior":
        return f"inferior: at least {least} worse, {margin}", "bad"
    return f"undecided: up to {most} worse, {margin}", "warn"


def _worsening(claim: Claim, comparison: Comparison) -> tuple[float, float]:
    """The interval of the change for the worse; where neither direction is better, of its size."""
    low, high = comparison.low, comparison.high
    if claim.better == "neither":
        return max(0.0, low, -high), max(abs(low), abs(high))
    return (low, high) if claim.better == "lower" else (-high, -low)


def _direction(claim: Claim, worse_low: float, worse_high: float) -> tuple[str, Tone]:
    if claim.better == "neither":
        return ("different" if worse_low > 0 else "no clear difference") + NO_MARGIN, "plain"
    if worse_low <= 0 <= worse_high:
        return f"no clear difference{NO_MARGIN}", "plain"
    return (f"worse{NO_MARGIN}", "warn") if worse_low > 0 else (f"better{NO_MARGIN}", "good")


def _divided(value: float | None, factor: float) -> float | None:
    return None if value is None else value / factor
