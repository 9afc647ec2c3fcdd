"""A record of a study: its study.json, and a page of what it found.

    python benchmarks/study_page.py STUDY_FOLDER --plan recipes/studies/NAME.toml --record benchmarks/records/DATE_NAME_HARDWARE

The folder is what `netweight study --out` made. Nothing is measured again. Of a study of compression, verdicts and Holm's correction
come from the plan's published figures and all comparisons of study.json; of a study of training, everything is concluded anew from its
cells, by the statistics of this commit, and study.json is written with that. What a reader should know besides goes below the page's
last line by hand.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from netweight import provenance
from netweight.jobs._training_findings import of_rows
from netweight.study import Paired, Recovery, Study, load, settled

Table = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    given = parser.parse_args()
    found, plan = json.loads((given.study / "study.json").read_text(encoding="utf-8")), load(given.plan)
    if plan.job == "train":
        found = _again(found, plan)
    body = list(_recovered(found, plan) if plan.job == "compress" else _trained(found, plan))
    given.record.mkdir(parents=True, exist_ok=True)
    (given.record / "study.json").write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")
    text = "\n".join([f"# {plan.name}", "", *_about(found, plan, given.plan), "", *body]) + "\n"
    (given.record / "README.md").write_text(text, encoding="utf-8")
    print(text)


def _again(found: Table, plan: Study) -> Table:
    """What this commit concludes from the cells."""
    better = found.get("better") or {row["measure"]: row["better"] for row in found["comparisons"]}
    findings = of_rows(plan, found["cells"], better, Path(), phantom=False)
    return {
        **found,
        "concluded": provenance.environment(),
        "comparisons": [asdict(row) for row in findings.comparisons],
        "shares": {name: asdict(one) for name, one in findings.shares.items()},
        "ranks": {name: asdict(one) for name, one in findings.ranks.items()},
        "left_out": list(findings.left_out),
    }


def _about(found: Table, plan: Study, path: Path) -> Iterator[str]:
    failed = [row for row in found["cells"] if "failure" in row]
    environment = found["environment"]
    yield (
        f"`netweight study {path.as_posix()}`: {len(found['cells']) - len(failed)} of {len(found['cells'])} cells done. "
        f"{_machines(found)}, {environment['cores']} cores; commit {environment['commit'][:12] or 'unknown'}"
        + (f", concluded at {found['concluded']['commit'][:12] or 'unknown'}." if "concluded" in found else ".")
    )
    if "judged" in found:
        judged = found["judged"]
        yield (
            f"Judged on all of {judged['data']}: {judged['patients']} patients (slices, where the set names none); commit "
            f"{judged['environment']['commit'][:12] or 'unknown'}."
        )
    for why, count in Counter(row["failure"] for row in failed).items():
        yield f"{count} failed: {why}."
    for row in found["cells"]:
        if row.get("diverged"):
            yield f"Diverged, and judged as it ended: {', '.join(str(row[name]) for name in (*plan.axes, 'seed'))}: {row['ended']}."


def _machines(found: Table) -> str:
    """The processors that cells ran on, or the one that concluded where cells do not say."""
    counted = Counter(row["cpu"] for row in found["cells"] if row.get("cpu"))
    if len(counted) < 2:
        return next(iter(counted), found["environment"]["cpu"])
    return " and ".join(f"{cpu} ({count} cells)" for cpu, count in counted.items())


def _recovered(found: Table, plan: Study) -> Iterator[str]:
    """Every comparison of a study of compression, then every cell."""
    rows = settled([Recovery(**row) for row in found["comparisons"]], plan.compare.published, plan.compare.published_of)
    yield (
        f"Means over seeds; gains are signed so that more is better, 95 % intervals of Student's t; p of Student's t and of the exact sign-flip test after Holm's "
        f"correction over all {len(rows)}; the share of what `{plan.compare.baseline}` lost that came back, with Fieller's interval."
    )
    yield ""
    columns = f"setting measure original {plan.compare.baseline} value gain p,_Holm p_of_signs,_Holm recovered published verdict seeds_to_settle"
    yield _line(*(name.replace("_", " ") for name in columns.split()))
    yield "|---" * 12 + "|"
    for row in rows:
        adjusted = ("–" if p is None else f"{p:.3g}" for p in (row.adjusted_t_p, row.adjusted_p))
        settle = "–" if row.seeds_to_settle is None else str(row.seeds_to_settle)
        yield _line(
            f"{row.setting} {row.value}".strip(), row.measure, _number(row.original), _number(row.baseline), _number(row.other),
            f"{_number(row.difference)} [{_number(row.low)}, {_number(row.high)}]", *adjusted,
            f"{_percent(row.share)} [{_percent(row.share_low)}, {_percent(row.share_high)}]",
            " to ".join(_percent(x) for x in row.published) if row.published else "–", row.verdict, settle,
        )  # fmt: skip
    yield ""
    yield from _cells(found["cells"], plan)


def _trained(found: Table, plan: Study) -> Iterator[str]:
    """Every comparison of a study of training, where the variance is, how the settings rank, then every cell."""
    unit = " and ".join(plan.compare.replicates) or "seed"
    others = [axis for axis in plan.axes if axis not in (plan.compare.axis, *plan.compare.replicates)]
    yield (
        f"Means over {unit}s, {plan.compare.axis} minus `{plan.compare.baseline}`, 95 % intervals of Student's t; ratios of means with Fieller's interval. "
        f"p: Student's t by itself, which decides, then after Holm's correction over all {len(found['comparisons'])} comparisons, then the exact sign-flip test after it."
    )
    if overlap := max((row["overlap"] for row in found["comparisons"]), default=0.0):
        yield (
            f"Folds train on much the same patients: Student's t and all intervals allow for it (Nadeau and Bengio, {overlap:.3g} patients judge for each that "
            "trains), the sign-flip test does not."
        )
    else:
        yield "Other seeds, on the same patients, are what intervals and tests are about; other patients are not."
    yield ""
    yield f"| setting | measure | n | {plan.compare.baseline} | value | difference | ratio | p | p, Holm | p of signs, Holm | verdict | {unit}s to settle |"
    yield "|---" * 12 + "|"
    for row in found["comparisons"]:
        one = Paired(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})
        yield _line(
            one.name, one.measure, f"{one.n} of {one.n + one.missing}" if one.missing else str(one.n), _number(one.baseline_value), _number(one.value),
            f"{_number(one.difference)} {_interval(one.interval)}", f"{_number(one.ratio)} {_interval(one.ratio_interval)}",
            _number(one.t_p), _number(one.adjusted_t_p), _number(one.adjusted_sign_flip_p), one.verdict,
            "–" if one.verdict != "not told" else _number(one.seeds_to_settle),
        )  # fmt: skip
    for measure, shares in found["shares"].items():
        yield ""
        yield f"What is lost of {measure} is due to ({shares['runs']} runs, {shares['missing']} missing, {shares['replicates']} {unit}s; {shares['method']}):"
        yield ""
        yield "| of | share of variance |"
        yield "|---|---|"
        for part in shares["parts"]:
            span = "" if part["low"] is None else f" [{_percent(part['low'])}, {_percent(part['high'])}]"
            yield _line(
                part["name"], "not told from others" if part["share"] is None else f"{_percent(part['share'])}{span}"
            )
    for measure, ranks in found["ranks"].items():
        order = ", ".join(
            f"{name} ({rank:.2g})" for name, rank in zip(ranks["items"], ranks["mean_ranks"], strict=True)
        )
        yield ""
        yield f"{measure}, mean rank over {ranks['blocks']} {' and '.join([*others, unit])}s: {order}; Kendall's W {_number(ranks['w'])}, p {_number(ranks['p_value'])}."
    yield from ("", *(f"Left out: {why}" for why in found["left_out"]))
    yield from _cells(found["cells"], plan)


def _cells(rows: Sequence[Table], plan: Study) -> Iterator[str]:
    """One row per setting with all seeds beside each other."""
    yield "Every cell, seed after seed:"
    yield ""
    names = [measure.name for measure in plan.measures]
    yield _line(*plan.axes, *names)
    yield "|---" * (len(plan.axes) + len(names)) + "|"
    for setting in dict.fromkeys(tuple(row[axis] for axis in plan.axes) for row in rows):
        here = [row for row in rows if tuple(row[axis] for axis in plan.axes) == setting]
        yield _line(*setting, *(", ".join(_number(row.get(name)) for row in here) for name in names))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"[{_number(ends[0])}, {_number(ends[1])}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.3g} %"


if __name__ == "__main__":
    main()
