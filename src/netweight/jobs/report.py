"""report: one page from the claims, ledgers and manifests of artifacts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from netweight.artifact import Artifact, open_artifact, readable_errors
from netweight.evidence import ReportInput
from netweight.evidence import report as write
from netweight.jobs.evaluate import OVERLAP


def report(artifacts: Any, *, out: str | Path | None = None) -> Path:
    """See ``netweight.report``."""
    sources = list(artifacts) if isinstance(artifacts, list | tuple) else [artifacts]
    opened = [source if isinstance(source, Artifact) else open_artifact(source) for source in sources]
    inputs = [input_of(artifact) for artifact in opened]
    path = Path(out) if out is not None else opened[0].path / "report.html"
    with readable_errors(path):
        return write(inputs, path)


def input_of(artifact: Artifact) -> ReportInput:
    """An artifact's evidence as plain data."""
    overlap = artifact.path / OVERLAP
    manifest = asdict(artifact.manifest)
    parity = artifact.run.get("parity", {})
    manifest["formats"] = dict(Counter(row.format for row in artifact.manifest.layers.values()))
    manifest["parity"] = {
        "layers": parity.get("layers", 0),
        "blocks": parity.get("parts", 0),
        "end": "bit-identical" if parity.get("parts") else "not run: no calibration batch",
    }
    name = artifact.path.resolve().name
    return ReportInput(
        name=name,
        title=artifact.recipe.name or name,
        claims=artifact.claims,
        ledger=artifact.ledger,
        manifest=manifest,
        recipe_toml=artifact.recipe.to_toml(),
        run=artifact.run,
        overlap=json.loads(overlap.read_text(encoding="utf-8")) if overlap.is_file() else [],
    )
