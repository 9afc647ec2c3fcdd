"""A claim: one measured number with everything needed to doubt it, and to measure it again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from netweight.errors import EvidenceError
from netweight.files import write_atomically

Provenance = Literal["measured", "estimated", "unavailable"]


@dataclass(frozen=True)
class Comparison:
    """A paired difference, subject minus reference, on the same items."""

    reference: str
    difference: float
    low: float
    high: float
    margin: float | None = None  # in the claim's unit, worst tolerated change, a positive number
    verdict: Literal["non-inferior", "inferior", "undecided"] | None = None
    p_value: float | None = None
    test: str = ""


@dataclass(frozen=True)
class Claim:
    """One measured number.

    ``low``/``high`` bound it with confidence ``level``; both are None only where nothing is random (bytes)
    or ``provenance`` is "unavailable". ``settings`` and ``data`` together with ``subject_sha256`` say what to
    run to get the number again, and ``command`` does it.
    """

    metric: str
    value: float | None
    unit: str
    n: int  # independent items: documents, questions, repetitions
    low: float | None
    high: float | None
    interval: str  # how low and high were made: "BCa bootstrap over documents, 2000 resamples"
    subject: str  # what was measured, by name
    subject_sha256: str
    better: Literal["lower", "higher", "neither"] = "neither"
    level: float = 0.95
    provenance: Provenance = "measured"
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)  # source, split, sha256, documents, tokens
    seeds: dict[str, int] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)  # device, threads, versions, commit
    command: str = ""
    note: str = ""
    comparison: Comparison | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @staticmethod
    def from_json(line: str) -> Claim:
        """Raises: EvidenceError: the line is not a claim."""
        try:
            row = json.loads(line)
            comparison = row.pop("comparison", None)
            return Claim(**row, comparison=Comparison(**comparison) if comparison else None)
        except (ValueError, TypeError, AttributeError) as error:
            raise EvidenceError(f"not a claim: {line[:120]!r} ({error})") from error


def read_claims(path: str | Path) -> list[Claim]:
    """Claims of a ``claims.jsonl``; an absent file holds none."""
    path = Path(path)
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EvidenceError(f"{path} is damaged: {error}") from error
    return [Claim.from_json(line) for line in text.splitlines() if line.strip()]


def write_claims(path: str | Path, claims: Iterable[Claim]) -> None:
    """Replace ``path`` by these claims, atomically."""
    write_atomically(Path(path), "".join(claim.to_json() + "\n" for claim in claims))
