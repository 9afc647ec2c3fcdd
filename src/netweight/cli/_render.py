"""Show what a verb returned, as tables for people; chosen by class name, so that no noun's room is imported for it."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from netweight.cli._parts import STYLE, duration, interval, new_table, number, size, wrote
from netweight.cli._render_studies import findings, training_findings
from netweight.words import counted

if TYPE_CHECKING:
    from netweight.artifact import Artifact
    from netweight.claim import Claim
    from netweight.jobs._estimate import DryRun
    from netweight.jobs._masks import Segmented
    from netweight.jobs._runs import Run
    from netweight.jobs.bench import Benchmark, Speed
    from netweight.jobs.doctor import Checkup
    from netweight.jobs.verify import Verification
    from netweight.jobs.weigh import Weighing
    from netweight.ledger import Ledger, Row


def show(value: Any) -> None:
    """Print a verb's value on stdout; pieces of text as they come."""
    if value is None:
        return
    if _name(value) == "Generation":
        sys.stderr.write(f"{value.path}\n")
    if isinstance(value, Iterator):
        _stream(value)
        return
    _console().print(rendered(value))


def show_json(value: Any) -> None:
    """Print a value's own JSON text."""
    sys.stdout.write(value.to_json() + "\n")


def exit_code(value: Any) -> int:
    """1 where a check-up found problems; 3 where a dry run did, a picture could not be read, a cell failed or training diverged; else 0: what
    cannot be delivered at all is raised, not returned."""
    if _name(value) == "Checkup" and value.problems():
        return 1
    undone = {
        "DryRun": lambda: value.problems,
        "Segmented": lambda: value.unreadable,
        "Findings": lambda: any("failure" in row for row in value.cells),
        "TrainingFindings": lambda: any("failure" in row or row.get("diverged") for row in value.cells),
        "Run": lambda: value.training["history"]["diverged"],
    }
    return 3 if undone.get(_name(value), bool)() else 0


def rendered(value: Any) -> RenderableType:
    """A value as rich shows it; whatever has no table of its own, as text."""
    if isinstance(value, list | tuple) and value and all(_name(item) == "Claim" for item in value):
        return _claims(value)
    if isinstance(value, list | tuple):
        return Group(*(rendered(item) for item in value))
    return TABLES.get(_name(value), _text)(value)


def _name(value: Any) -> str:
    return type(value).__name__


def _console() -> Console:
    """In a pipe lines are as long as they need to be: a width of 80 would cut names that scripts look for."""
    piped = not sys.stdout.isatty()
    return Console(file=sys.stdout, width=200 if piped else None, soft_wrap=piped, highlight=False)


def _stream(pieces: Iterator[str]) -> None:
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _text(value: Any) -> RenderableType:
    return Text(str(value))


def _checkup(checkup: Checkup) -> RenderableType:
    table = new_table("netweight doctor", "", "what", "found", "way out")
    for finding in checkup.findings:
        mark = Text(finding.status, style=STYLE[finding.status])
        table.add_row(mark, Text(finding.topic), Text(finding.found), Text(finding.way_out))
    problems = len(checkup.problems())
    verdict = f"{problems} problem{'s' * (problems != 1)}" if problems else "no problems"
    return Group(table, Text(verdict, style=STYLE["problem" if problems else "ok"]))


def _weighing(weighing: Weighing) -> RenderableType:
    title = f"{weighing.model}: {weighing.parameters:,} parameters, {size(weighing.stored_bytes)} as stored"
    numeric = ("layers", "parameters", "bytes", "share")
    parts = new_table(
        title, "layer", "kind", "layers", "shape", "parameters", "bytes", "share", "stored as", right=numeric
    )
    for part in weighing.parts:
        parts.add_row(
            Text(part.pattern),
            part.kind,
            str(part.count),
            " × ".join(map(str, part.shape)),
            f"{part.parameters:,}",
            size(part.stored_bytes),
            f"{part.stored_bytes / max(weighing.stored_bytes, 1):.1%}",
            part.stored_as,
        )
    lines: list[RenderableType] = [parts]
    lines += [Text(f"{layer} shares its weight with {other}; counted once") for layer, other in weighing.ties]
    if weighing.projections:
        lines.append(_projections(weighing))
    return Group(*lines, *(Text(f"warning: {warning}", style=STYLE["warning"]) for warning in weighing.warnings))


def _projections(weighing: Weighing) -> Table:
    numeric = ("bits per weight", "layers", "whole model", "of stored")
    table = new_table("layers inside blocks converted, the rest as stored", "format", *numeric, "note", right=numeric)
    for row in weighing.projections:
        misfits = f"does not fit {counted(len(row.misfits), 'layer')}, such as {row.misfits[0]}" if row.misfits else ""
        share = f"{row.total_bytes / max(weighing.stored_bytes, 1):.1%}"
        bits = f"{row.bits_per_weight:.3f}" if row.layers else "–"
        table.add_row(row.format, bits, str(row.layers), size(row.total_bytes), share, Text(misfits))
    return table


def _claims(claims: Sequence[Claim]) -> RenderableType:
    numeric = ("value", "95 % interval", "n", "difference")
    table = new_table("claims", "subject", "metric", "value", "unit", *numeric[1:], "verdict", right=numeric)
    for claim in claims:
        against = claim.comparison
        table.add_row(
            Text(claim.subject),
            Text(" on ".join(part for part in (claim.metric, _source(claim)) if part)),
            number(claim.value) if claim.provenance == "measured" else f"{number(claim.value)} ({claim.provenance})",
            claim.unit,
            interval(claim.low, claim.high),
            str(claim.n),
            f"{against.difference:+.4g} {interval(against.low, against.high)}" if against else "",
            (against.verdict or "") if against else "",
        )
    return table


def _source(claim: Claim) -> str:
    """The data a claim was measured on; "" for one that needs none."""
    return "/".join(str(part) for part in (claim.data.get("source"), claim.data.get("split")) if part)


def _ledger(ledger: Ledger) -> RenderableType:
    numeric = ("before", "after", "weight error", "output error")
    table = new_table("ledger", "module", "kind", "action", "format", *numeric, "why, notes", right=numeric)
    for row in ledger:
        remarks = "; ".join([*([row.reason] if row.reason else []), *row.notes])
        table.add_row(
            Text(row.module),
            row.kind,
            row.action,
            row.format,
            size(row.bytes_before),
            size(row.bytes_after),
            number(row.weight_error),
            number(row.output_error),
            Text(remarks, style=STYLE["warning"] if row.fallback else ""),
        )
    before, after = (sum(getattr(row, key) for row in ledger) for key in ("bytes_before", "bytes_after"))
    return Group(table, Text(f"{counted(len(ledger), 'module')}: {size(before)} before, {size(after)} after"))


def _dry_run(plan: DryRun) -> RenderableType:
    expected = plan.estimate
    before, after = plan.bytes_before, plan.bytes_after
    lines = [
        f"weights: {size(before)} now, {size(after)} then ({_ratio(before, after)})",
        f"expected: {duration(expected.seconds)}, {size(expected.peak_bytes)} of memory at most, "
        f"{size(expected.disk_bytes)} of disk; nothing was written",
    ]
    problems = [Text(f"problem: {problem}", style=STYLE["problem"]) for problem in plan.problems]
    return Group(_ledger(plan.ledger), *map(Text, lines), *problems)


def _artifact(artifact: Artifact) -> RenderableType:
    numeric = ("layers", "before", "after", "output error, median", "worst")
    table = new_table(f"{artifact.path}", "format", *numeric, "worst layer", right=numeric)
    rows = artifact.ledger.quantized()
    for name in sorted({row.format for row in rows}):
        table.add_row(*_format_row(name, [row for row in rows if row.format == name]))
    before, after = artifact.manifest.bytes["before"], artifact.manifest.bytes["after"]
    lines = [f"weights: {size(before)} before, {size(after)} after ({_ratio(before, after)})"]
    if artifact.run:
        lines.append(f"took {duration(artifact.run['seconds'])}, {size(artifact.run['peak_bytes'])} of memory at most")
    noted = sum(bool(row.notes) for row in rows)
    lines += [f"{noted} layers have notes: see ledger.jsonl"] if noted else []
    problems = [Text(f"left undone: {problem}", style=STYLE["warning"]) for problem in artifact.manifest.problems]
    return Group(table, *map(Text, lines), *problems)


def _format_row(name: str, rows: Sequence[Row]) -> tuple[RenderableType, ...]:
    errors = {row.module: row.output_error for row in rows if row.output_error is not None}
    worst = max(errors, key=lambda module: errors[module], default="")
    return (
        name,
        str(len(rows)),
        size(sum(row.bytes_before for row in rows)),
        size(sum(row.bytes_after for row in rows)),
        number(statistics.median(errors.values()) if errors else None),
        number(errors.get(worst)),
        Text(worst),
    )


def _ratio(before: float, after: float) -> str:
    return f"{before / after:.2f} times smaller" if after else "empty"


def _verification(verification: Verification) -> RenderableType:
    table = new_table(verification.artifact, "", "what", "found")
    for check in verification.checks:
        table.add_row(Text(check.status, style=STYLE[check.status]), Text(check.what), Text(check.detail))
    return table


def _benchmark(found: Benchmark) -> RenderableType:
    read = f", read speed {found.read_gb_s.value:.3g} GB/s" if found.read_gb_s else ""
    title = f"{found.artifact}: {found.isa} kernels, {found.threads} threads{read}"
    if found.contestants[0].latency is not None:
        return _net_benchmark(title, found)
    numeric = ("written /s", "read /s", "share of read speed", "MB per step", "in memory", "load s")
    table = new_table(title, "", *numeric, "path", right=numeric)
    for row in found.contestants:
        share = "–" if row.read_share is None else f"{row.read_share:.2f}"
        table.add_row(
            row.name,
            _speed(row.decode),
            _speed(row.prefill),
            share,
            f"{row.bytes_per_step / 1e6:.1f}",
            size(row.bytes_in_memory),
            f"{row.load_s:.2f}",
            row.path,
        )
    unit = f"tokens, {found.prompt_tokens} read at once" if found.contestants[0].decode else "inputs"
    return Group(table, Text(f"speeds in {unit}; median [95 % interval of the median] over rounds"))


def _net_benchmark(title: str, found: Benchmark) -> RenderableType:
    numeric = ("images /s", "p50", "p99", "in memory", "load s")
    table = new_table(title, "", *numeric, "path", right=numeric)
    for row in found.contestants:
        times = [f"{s * 1e3:.4g} ms" for s in (row.latency.p50_s, row.latency.p99_s)] if row.latency else ["–", "–"]
        table.add_row(row.name, _speed(row.prefill), *times, size(row.bytes_in_memory), f"{row.load_s:.2f}", row.path)
    n = max(row.latency.n for row in found.contestants if row.latency)
    words = "one picture at a time; median [95 % interval of the median] over rounds, latencies over"
    return Group(table, Text(f"{words} {n} pictures"))


def _speed(speed: Speed | None) -> str:
    if speed is None:
        return "–"
    bounds = "" if speed.low is None or speed.high is None else f" [{speed.low:.4g}, {speed.high:.4g}]"
    return f"{speed.value:.4g}{bounds} n={speed.n}"


def _run(run: Run) -> RenderableType:
    history = run.training["history"]
    passes = len(history["rows"])
    head = Text(
        f"{run.name}: {counted(passes, 'pass')}, the best {history['best']} ({history['ended']}); "
        f"{run.recipe.net.use} {run.recipe.net.size}, {run.recipe.qat.use}; {_how_packed(run)}"
    )
    alike = run.training["split"].get("equal", [])
    some = ", ".join(f"{one} = {other}" for one, other in alike[:3]) + (", …" if len(alike) > 3 else "")
    twins = [Text(f"pairs of equal images in different parts: {len(alike)} ({some})", style=STYLE["warning"])] if alike else []  # fmt: skip
    return Group(head, *twins, _claims(run.claims()), wrote(run.path))


def _how_packed(run: Run) -> str:
    packed, layers = run.training["packed"], run.training["layers"]
    if "bytes" not in packed:
        return f"not packed: {packed['reason']}"
    rounded = sum(row["quantized"] for row in layers)
    return f"{rounded} of {len(layers)} layers rounded, packed into {size(packed['bytes'])}"


def _segmented(found: Segmented) -> RenderableType:
    numeric = ("images /s", "net alone /s", "net p50", "net p99", "in memory")
    title = f"{found.net}: {counted(len(found.masks), 'mask')}, {found.positive} not empty"
    table = new_table(title, *numeric, right=numeric)
    table.add_row(
        number(found.images_per_s),
        number(found.net_images_per_s),
        f"{found.p50_s * 1e3:.4g} ms",
        f"{found.p99_s * 1e3:.4g} ms",
        size(found.bytes_in_memory),
    )
    how = (
        f"one picture at a time at {found.image} pixels, {found.threads} threads, n = {len(found.masks)}; "
        f"probabilities from {found.threshold:g} are found, at the pictures' own sizes"
    )
    passed = [Text(f"passed over: {why}", style=STYLE["warning"]) for _, why in found.unreadable]
    return Group(Text(found.path), table, Text(how), *passed)


TABLES: dict[str, Callable[[Any], RenderableType]] = {
    "Artifact": _artifact,
    "Benchmark": _benchmark,
    "Checkup": _checkup,
    "Claim": lambda claim: _claims([claim]),
    "DryRun": _dry_run,
    "Findings": findings,
    "Ledger": _ledger,
    "Path": wrote,
    "PosixPath": wrote,
    "Run": _run,
    "TrainingFindings": training_findings,
    "Segmented": _segmented,
    "Verification": _verification,
    "Weighing": _weighing,
}
