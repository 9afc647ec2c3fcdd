"""Drawings of runs: how training went, what rounding does to each layer, how many values attention tells apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from netweight.evidence._numbers import percent, visible
from netweight.evidence._plots import MARKERS
from netweight.evidence._run_input import ROLES, Looked
from netweight.evidence._svg import INK, SERIES, axes, drawing, inline, label, stacked
from netweight.words import counted

TRAIN, VALIDATION = 2, 1  # colours of the two losses
ATTENTION_DTYPE = "bfloat16"
STEEP = 1e4  # largest over smallest rate that plateaus can make


def history_plot(heading: str, history: Mapping[str, Any], name: str) -> str:
    """Losses of every pass with the best one marked, and the optimizer's rate below; "" where no pass was finished."""
    rows = history.get("rows") or []
    if not rows:
        return ""
    passes = [row["epoch"] for row in rows]
    best = history.get("best", 0)
    with drawing():
        losses, rates = stacked(4.3, (2.4, 0.9), left_in=0.95)
        for key, colour, style in (("train", TRAIN, "--"), ("validation", VALIDATION, "-")):
            losses.plot(passes, [row[key] for row in rows], color=SERIES[colour], linestyle=style, marker="." if len(rows) == 1 else "")  # fmt: skip
        if best in passes:
            losses.plot(
                best, rows[passes.index(best)]["validation"], color=SERIES[VALIDATION], marker="*", markersize=13
            )
            losses.axvline(best, color=INK, linewidth=0.8, linestyle=":")
        rates.step(passes, [row["rate"] for row in rows], where="mid", color=INK, linewidth=1.2)
        ends = sorted({min(row["rate"] for row in rows), max(row["rate"] for row in rows)})
        if ends[0] >= ends[-1] / STEEP:
            rates.set_yscale("log")
            rates.set_ylim(ends[0] / 2, ends[-1] * 2)
        else:  # a cosine, whose end is 0
            ends[0] = 0.0
            rates.set_ylim(0, ends[-1] * 1.15)
        rates.set_yticks(ends, [f"{rate:.3g}" for rate in ends])
        rates.yaxis.set_minor_locator(NullLocator())
        losses.set_title(label(heading, 48))
        for plot, name_of in ((losses, "loss"), (rates, "rate")):
            plot.set_ylabel(name_of)
            plot.yaxis.set_label_coords(-0.24, 0.5)
        rates.set_xlabel("pass")
        rates.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        return inline(losses, name=name, title=f"Training of {visible(heading)}", description=_told(rows, best))


def rounding_plots(heading: str, looked: Looked, name: str) -> list[str]:
    """Underflow and saturation of every layer by role, and the relative error of each role over layers."""
    roles = [role for role in ROLES if any(row["role"] == role for row in looked.rounding)]
    if not roles:
        return []
    order = {layer: n for n, layer in enumerate(dict.fromkeys(row["layer"] for row in looked.rounding))}
    with drawing():
        return [
            _by_layer(heading, "flushed", "become 0", looked, roles, order, f"{name}-flushed"),
            _by_layer(heading, "saturated", "are cut off", looked, roles, order, f"{name}-saturated"),
            _by_role(heading, looked, roles, f"{name}-error"),
        ]


def attention_plot(looked: Mapping[str, tuple[int, Looked]], name: str) -> str:
    """Distinct values in a row of attention, block by block, a line per run; "" where no net has attention."""
    there = {heading: found for heading, found in looked.items() if found[1].attention}
    if not there:
        return ""
    words = []
    with drawing():
        plot = axes(4.3, 2.6, left_in=0.62)
        for heading, (number, found) in there.items():
            values = list(found.attention.values())
            plot.plot(range(len(values)), values, color=SERIES[number % len(SERIES)], marker=MARKERS[number % len(MARKERS)], markersize=5)  # fmt: skip
            words.append(
                f"{visible(heading)}: {min(values):.4g} to {max(values):.4g} of at most {found.tokens} values in a row."
            )
        plot.set_ylim(bottom=0)
        plot.set_title("Distinct values in a row of attention")
        plot.set_xlabel("block")
        plot.set_ylabel(f"values, {ATTENTION_DTYPE}")
        plot.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        return inline(plot, name=name, title="Distinct attention values by block", description=" ".join(words))


def _by_layer(
    heading: str, key: str, what: str, looked: Looked, roles: Sequence[str], order: Mapping[str, int], name: str
) -> str:
    plot = axes(4.3, 2.3, left_in=0.78)
    told = []
    for role in roles:
        rows = [row for row in looked.rounding if row["role"] == role]
        number = list(ROLES).index(role) + 1
        at, shares = [order[row["layer"]] for row in rows], [row[key] for row in rows]
        plot.plot(at, shares, color=SERIES[number], linewidth=0.7, alpha=0.4)
        plot.plot(
            at, shares, color=SERIES[number], marker=MARKERS[number % len(MARKERS)], markersize=4, linestyle="none"
        )
        worst = max(rows, key=lambda row: row[key])
        told.append(f"{ROLES[role]}: median {percent(median(r[key] for r in rows))}, most {percent(worst[key])} at {visible(worst['layer'])}.")  # fmt: skip
    highest = max((row[key] for row in looked.rounding), default=0.0)
    plot.set_ylim(0, max(highest * 1.08, 1e-3))
    plot.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=_places(highest)))
    plot.yaxis.set_major_locator(
        MaxNLocator(nbins=5, steps=[1, 2, 5, 10])
    )  # no 2.5 %, which whole per cents cannot say
    plot.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    plot.set_title(label(f"{heading}: {what}", 48))
    plot.set_xlabel("layer, in the net's order")
    plot.set_ylabel("share of values")
    return inline(plot, name=name, title=f"Values that {what}, {visible(heading)}", description=" ".join(told))


def _by_role(heading: str, looked: Looked, roles: Sequence[str], name: str) -> str:
    plot = axes(4.3, 2.3, left_in=0.78)
    told = []
    for place, role in enumerate(roles):
        errors = [row["error"] for row in looked.rounding if row["role"] == role]
        number = list(ROLES).index(role) + 1
        spread = [place + 0.22 * math.sin(2.4 * n) for n in range(len(errors))]
        plot.plot(spread, errors, color=SERIES[number], marker=MARKERS[number % len(MARKERS)], markersize=3.5, linestyle="none")  # fmt: skip
        plot.plot([place - 0.33, place + 0.33], [median(errors)] * 2, color=INK, linewidth=2)
        told.append(f"{ROLES[role]}: median {median(errors):.3g}, {min(errors):.3g} to {max(errors):.3g} over {len(errors)} layers.")  # fmt: skip
    plot.set_ylim(0, max(row["error"] for row in looked.rounding) * 1.1 or 1.0)
    plot.yaxis.set_major_locator(MaxNLocator(nbins=5))
    plot.set_xticks(range(len(roles)), [str(n + 1) for n in range(len(roles))])
    plot.set_title(label(f"{heading}: relative error", 48))
    plot.set_xlabel("operand, in the legend's order")
    plot.set_ylabel("error / size")
    return inline(plot, name=name, title=f"Relative error by operand, {visible(heading)}", description=" ".join(told))


def _told(rows: Sequence[Mapping[str, Any]], best: int) -> str:
    first, last = rows[0], rows[-1]
    found = next((row for row in rows if row["epoch"] == best), last)
    return (
        f"{counted(len(rows), 'pass')}. Training loss from {first['train']:.4g} to {last['train']:.4g}, validation loss from "
        f"{first['validation']:.4g} to {last['validation']:.4g}, lowest {found['validation']:.4g} after pass {best}. "
        f"Rate from {first['rate']:.3g} to {last['rate']:.3g}."
    )


def _places(highest: float) -> int:
    return 0 if highest >= 0.05 else 1 if highest >= 0.005 else 2
