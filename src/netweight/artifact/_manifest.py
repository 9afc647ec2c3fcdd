"""The manifest of an artifact: what each layer is, where everything came from, and the hash of every file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from netweight.errors import ArtifactError, CorruptError

NAME = "netweight.json"
EVIDENCE = (NAME, "claims.jsonl", "overlap.json", "report.html", "run.json")  # not hashed by the manifest
SCHEMA = 2  # 1: no layer has activations; it is written still where none has, so that older readers take it


@dataclass(frozen=True)
class LayerRecord:
    """One quantized weight: its format, its (O, I) shape as a matrix, and the hash of its decoded float32 values.

    ``activations``: what the layer's input is rounded to when the model runs; "" for nothing.
    """

    format: str
    shape: tuple[int, int]
    sha256: str
    activations: str = ""

    @staticmethod
    def of(row: dict[str, Any]) -> LayerRecord:
        """From its table in a file."""
        return LayerRecord(row["format"], tuple(row["shape"]), row["sha256"], row.get("activations", ""))


@dataclass(frozen=True)
class Manifest:
    """A function of model, recipe, calibration text and versions alone: no dates, no times, no paths."""

    model: dict[str, Any]  # name, sha256, kind, family, bytes
    recipe_sha256: str
    seed: int
    layout: str
    layers: dict[str, LayerRecord]
    parts: dict[str, str]  # part -> hash of its output on the first calibration batch
    tied: dict[str, str]
    calibration: dict[str, Any] | None
    probe: dict[str, Any]  # the first calibration batch: shape and hash
    versions: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)  # file -> sha256, all but the manifest and the evidence
    bytes: dict[str, int] = field(default_factory=dict)  # before, after: weight files
    problems: tuple[str, ...] = ()  # what --allow-partial let pass
    schema: int = SCHEMA

    def to_json(self) -> str:
        table = asdict(self)
        if not any(record.activations for record in self.layers.values()):
            table["schema"] = 1
            for row in table["layers"].values():
                del row["activations"]
        return json.dumps(table, indent=1, sort_keys=True, allow_nan=False) + "\n"


def read(folder: Path) -> Manifest:
    """Raises: ArtifactError: no manifest there, or a newer schema. CorruptError: it is damaged."""
    path = folder / NAME
    if not path.is_file():
        raise ArtifactError(f"{folder} is not a netweight artifact: it has no {NAME} (nor is it a trained run)")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] > SCHEMA:
            raise ArtifactError(
                f"{path} has schema {values['schema']}, this netweight reads up to {SCHEMA}; upgrade it"
            )
        layers = {name: LayerRecord.of(row) for name, row in values.pop("layers").items()}
        return Manifest(**{**values, "layers": layers, "problems": tuple(values["problems"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"{path} is damaged: {error!r}") from error
