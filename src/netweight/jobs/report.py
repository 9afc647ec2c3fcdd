"""report: one page from the claims, ledgers and manifests of artifacts, or from training runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from netweight.artifact import Artifact, open_artifact
from netweight.claim import Claim
from netweight.errors import ArtifactError, EvidenceError, SettingsError
from netweight.evidence import ReportInput, run_report
from netweight.evidence import report as write
from netweight.files import readable_errors
from netweight.jobs import _overlaps, _run_evidence, _runs
from netweight.jobs._runs import Run
from netweight.jobs._subjects import is_artifact
from netweight.progress import Progress, silent


def report(artifacts: Any, *, out: str | Path | None = None, progress: Progress | None = None) -> Path:
    """See ``netweight.report``."""
    sources = list(artifacts) if isinstance(artifacts, list | tuple) else [artifacts]
    if not sources:
        raise SettingsError("nothing to report on; name at least one artifact folder or training run")
    for source in sources:
        _runs.refuse_begun(source)
    runs = [source for source in sources if _of_training(source)]
    if runs and len(runs) < len(sources):
        other = next(source for source in sources if not _of_training(source))
        if not is_artifact(other):
            raise ArtifactError(f"{_name(other)} is neither a training run nor an artifact")
        raise SettingsError(
            f"{_name(runs[0])} is a training run and {_name(other)} is not; one page shows runs or artifacts: write two"
        )
    return _of_runs(runs, out, progress or silent) if runs else _of_artifacts(sources, out)


def _of_runs(sources: Sequence[Any], out: str | Path | None, progress: Progress) -> Path:
    found, galleries = _run_evidence.inputs_of(sources, progress)
    first = sources[0].path if isinstance(sources[0], Run) else Path(sources[0])
    path = Path(out) if out is not None else first / "report.html"
    with readable_errors(path):
        return run_report(found, galleries, path)


def _of_training(source: Any) -> bool:
    return isinstance(source, Run) or _runs.is_run(source)


def _name(source: Any) -> str:
    return str(source.path if isinstance(source, Run | Artifact) else source)


def _of_artifacts(sources: Sequence[Any], out: str | Path | None) -> Path:
    opened = [source if isinstance(source, Artifact) else open_artifact(source) for source in sources]
    inputs = [input_of(artifact) for artifact in opened]
    path = Path(out) if out is not None else opened[0].path / "report.html"
    with readable_errors(path):
        return write(inputs, path)


def input_of(artifact: Artifact) -> ReportInput:
    """An artifact's evidence as plain data.

    Raises: EvidenceError: it has no claims, or they are about another artifact.
    """
    manifest = asdict(artifact.manifest)
    parity = artifact.run.get("parity", {})
    manifest["formats"] = dict(Counter(row.format for row in artifact.manifest.layers.values()))
    manifest["parity"] = {
        "layers": parity.get("layers", 0),
        "parts": parity.get("parts", 0),
        "end": "bit-identical" if parity.get("parts") else "not run: no calibration batch",
    }
    name = artifact.path.resolve().name
    return ReportInput(
        name=name,
        title=artifact.recipe.name or name,
        claims=_claims(artifact, name),
        ledger=artifact.ledger,
        manifest=manifest,
        recipe_toml=artifact.recipe.to_toml(),
        run=artifact.run,
        overlap=_overlap(artifact.path / _overlaps.FILE),
    )


def _claims(artifact: Artifact, name: str) -> list[Claim]:
    """The artifact's claims under the name its folder has now, and the original's."""
    claims = artifact.claims
    if not claims:
        raise EvidenceError(f"{artifact.path} has no claims yet; run netweight evaluate {artifact.path} first")
    mine = artifact.sha256
    if all(claim.subject_sha256 != mine for claim in claims):
        raise EvidenceError(f"{artifact.path}: its claims are about another artifact; evaluate it again")
    return [replace(claim, subject=name) if claim.subject_sha256 == mine else claim for claim in claims]


def _overlap(path: Path) -> list[dict[str, Any]]:
    """What was found of calibration text in test text; nothing where nobody looked."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except ValueError as error:
        raise EvidenceError(f"{path} is damaged ({error}); evaluate the artifact again") from error
