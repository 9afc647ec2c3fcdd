"""The report's drawings: size against quality with error bars, and the error of every layer by block and kind."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from netweight.claim import Claim
from netweight.evidence._numbers import scale, visible
from netweight.evidence._svg import SERIES, axes, drawing, inline, label
from netweight.evidence._table import key_of
from netweight.evidence._words import SIZE, data_name, metric_name, value_and_interval
from netweight.ledger import Ledger, Row

MARKERS = "osD^vPX*"
SIGNS = "●■◆▲▼✚✖★"  # the markers as the page's legend writes them
MOST_PANELS = 12
MOST_PLOTS = 6

Places = Mapping[str, tuple[str, int]]  # by module: the panel it belongs to, and its place across


@dataclass(frozen=True)
class Legend:
    """How one subject is drawn: its sign, and the number of its colour in the style sheet."""

    subject: str
    sign: str
    colour: int


@dataclass(frozen=True)
class Point:
    subject: str
    number: int
    size_bytes: float
    claim: Claim


def legend(subjects: Sequence[str]) -> tuple[Legend, ...]:
    """Subjects in column order, the original first."""
    return tuple(Legend(s, SIGNS[n % len(SIGNS)], n % len(SERIES)) for n, s in enumerate(subjects))


def quality_plots(claims_by_subject: Mapping[str, Sequence[Claim]]) -> list[str]:
    """One SVG per quality metric that at least two subjects of known size have: size across, quality up, interval as a bar."""
    points: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    for number, (subject, claims) in enumerate(claims_by_subject.items()):
        size = next((c.value for c in claims if c.metric == SIZE), None)
        for claim in _first_of_each(claims) if size else ():
            points[key_of(claim)].append(Point(subject, number, float(size or 0), claim))
    several = [found for found in points.values() if len(found) > 1][:MOST_PLOTS]
    largest = max((point.size_bytes for found in several for point in found), default=1.0)
    with drawing():
        return [_quality_plot(found, largest, f"quality-{number}") for number, found in enumerate(several)]


def error_plots(ledgers: Mapping[str, Ledger], numbers: Mapping[str, int]) -> list[str]:
    """Relative error of every quantized layer: an SVG per layer kind, block number across, one scale for all.

    Solid lines with markers are the output's error on calibration data, dashed lines the weight's. A layer without a
    number leaves a gap. ``numbers`` holds each subject's place in the legend. Empty where no error was recorded.
    """
    rows = {subject: [row for row in ledger.quantized() if _errors(row)] for subject, ledger in ledgers.items()}
    if not any(rows.values()):
        return []
    place, across = _places([row for found in rows.values() for row in found], ledgers)
    highest = max(error for found in rows.values() for row in found for error in _errors(row)) or 1.0
    kinds = list(dict.fromkeys(place[row.module][0] for found in rows.values() for row in found))
    with drawing():
        return [
            _error_plot(kind, across, highest, f"error-{n}", {
                (subject, numbers[subject]): sorted(((place[r.module][1], r) for r in found if place[r.module][0] == kind), key=_first)
                for subject, found in rows.items()
            })
            for n, kind in enumerate(kinds)
        ]  # fmt: skip


def _first_of_each(claims: Sequence[Claim]) -> list[Claim]:
    """The first claim of each metric that has a value with an interval and a better direction, and is no size, time or energy."""
    kept = {}
    for claim in claims:
        cost = scale(claim.unit, 1.0).unit in ("bytes", "s", "J") or "/s" in claim.unit
        if claim.value is not None and claim.low is not None and claim.better != "neither" and not cost:
            kept.setdefault(key_of(claim), claim)
    return list(kept.values())


def _quality_plot(points: Sequence[Point], largest_bytes: float, name: str) -> str:
    claim = points[0].claim
    sizes, values = scale("bytes", largest_bytes), scale(claim.unit, claim.value, metric=claim.metric)
    plot = axes(4.3, 2.9, left_in=0.72)
    for point in points:
        value, low, high = (
            float(x or 0) / values.factor for x in (point.claim.value, point.claim.low, point.claim.high)
        )
        plot.errorbar(
            point.size_bytes / sizes.factor, value, yerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
            color=SERIES[point.number % len(SERIES)], marker=MARKERS[point.number % len(MARKERS)], markersize=7, capsize=4,
        )  # fmt: skip
    plot.set_xlim(left=0, right=largest_bytes / sizes.factor * 1.12)
    plot.margins(y=0.15)
    plot.set_xlabel(f"size on disk, {sizes.unit}")
    what = ", ".join(filter(None, [metric_name(claim.metric), data_name(claim)]))
    plot.set_title(label(what, 48))
    plot.set_ylabel(label(", ".join(filter(None, [values.unit, f"{claim.better} is better"])), 34))
    return inline(plot, name=name, title=f"Size on disk against {visible(what)}", description=_points_told(points))


def _points_told(points: Sequence[Point]) -> str:
    words = []
    for point in points:
        value, interval = value_and_interval(point.claim)
        size = scale("bytes", point.size_bytes)
        words.append(
            f"{visible(point.subject)}: {point.size_bytes / size.factor:.4g} {size.unit}, {value}, interval {interval}."
        )
    return " ".join(words)


def _error_plot(
    kind: str, across: str, highest: float, name: str, rows: Mapping[tuple[str, int], list[tuple[int, Row]]]
) -> str:
    plot = axes(4.3, 2.1, left_in=0.5)
    for (_, number), placed in rows.items():
        for attribute, style in (("output_error", "-"), ("weight_error", "--")):
            y = [_or_gap(getattr(row, attribute)) for _, row in placed]
            marker = MARKERS[number % len(MARKERS)] if style == "-" or len(y) == 1 else "none"
            hollow = "none" if style == "--" else SERIES[number % len(SERIES)]
            plot.plot(
                [at for at, _ in placed], y, color=SERIES[number % len(SERIES)], linestyle=style, marker=marker, markersize=3.2,
                markerfacecolor=hollow,
            )  # fmt: skip
    plot.set_ylim(0, highest * 1.08)
    plot.set_title(label(kind, 44))
    plot.set_xlabel(across)
    plot.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    plot.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    return inline(plot, name=name, title=f"Relative error, {visible(kind)}", description=_errors_told(rows))


def _errors_told(rows: Mapping[tuple[str, int], Sequence[tuple[int, Row]]]) -> str:
    words = []
    for (subject, _), placed in rows.items():
        for attribute, what in (("output_error", "output"), ("weight_error", "weight")):
            known = sorted(
                (getattr(row, attribute), row.module) for _, row in placed if getattr(row, attribute) is not None
            )
            if known:
                middle, (worst, module) = known[len(known) // 2][0], known[-1]
                words.append(
                    f"{visible(subject)}, {what}: median {middle:.3g}, largest {worst:.3g} at {visible(module)}."
                )
    return " ".join(words)


def _places(rows: Sequence[Row], ledgers: Mapping[str, Ledger]) -> tuple[Places, str]:
    """Kind and block number of each module where names have that form, or else its kind and place in the model's order."""
    split = {row.module: re.fullmatch(r"(?:(.*?)\.)?(\d+)\.(.+)", row.module) for row in rows}
    blocks = {m.group(1) for m in split.values() if m}
    kinds = {m.group(3) if m else module for module, m in split.items()}
    numbers = {m.group(2) for m in split.values() if m}
    if len(blocks) == 1 and len(numbers) > 1 and len(kinds) <= MOST_PANELS:
        return {module: (m.group(3), int(m.group(2))) if m else (module, 0) for module, m in split.items()}, "block"
    order = {
        module: n for n, module in enumerate(dict.fromkeys(row.module for ledger in ledgers.values() for row in ledger))
    }
    return {row.module: (row.kind, order[row.module]) for row in rows}, "layer, in the model's order"


def _errors(row: Row) -> list[float]:
    return [error for error in (row.output_error, row.weight_error) if error is not None]


def _first(placed: tuple[int, Row]) -> int:
    return placed[0]


def _or_gap(value: float | None) -> float:
    return float("nan") if value is None else value
