"""From finished parts to an artifact folder: shards, manifest, ledger, recipe, and the files transformers wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from netweight import formats
from netweight.artifact import _layout, _manifest
from netweight.artifact._manifest import LayerRecord, Manifest
from netweight.artifact._store import PartRecord, Store, opened, save
from netweight.files import readable_errors, write_atomically
from netweight.ledger import Ledger
from netweight.provenance import sha256_of_file

SHARD_BYTES = 2_000_000_000


def assemble(
    store: Store,
    records: Iterable[PartRecord],
    manifest: Manifest,
    *,
    recipe_toml: str,
    write_config: Callable[[Path], object] | None,
) -> Path:
    """Write the artifact beside its work files, complete but not yet in place.

    Args:
      records: every part, in order.
      manifest: without layers, parts, files and bytes, which are filled in here.
      write_config: puts config.json and tokenizer files into a folder; None for a module of no family.
    Returns:
      The folder with the finished artifact.
    """
    records = list(records)
    folder = store.final
    with readable_errors(folder):
        folder.mkdir(exist_ok=True)
        for stale in folder.iterdir():
            stale.unlink()
        layers = {name: LayerRecord.of(row) for record in records for name, row in record.layers.items()}
        rows = tuple(row for record in records for row in record.rows)
        _shards(store, records, folder)
        if write_config:
            write_config(folder)
            left = [row.module for row in rows if row.action == "left" and row.kind != "embedding"]
            _quantization_config(folder, layers, manifest.layout, left)
        write_atomically(folder / "recipe.toml", recipe_toml.encode())
        write_atomically(folder / "ledger.jsonl", Ledger(rows).to_jsonl().encode())
        files = {
            path.name: sha256_of_file(path) for path in sorted(folder.iterdir()) if path.name not in _manifest.EVIDENCE
        }
        after = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        done = replace(
            manifest,
            layers=layers,
            parts={record.name: record.digest for record in records},
            files=files,
            bytes={**manifest.bytes, "after": after},
        )
        write_atomically(folder / _manifest.NAME, done.to_json().encode())
    return folder


def _shards(store: Store, records: list[PartRecord], folder: Path) -> None:
    """All parts' tensors as model.safetensors, or as numbered shards with an index when they are large."""
    groups: list[list[PartRecord]] = [[]]
    size = 0
    for record in records:
        more = (store.folder / record.file).stat().st_size
        if groups[-1] and size + more > SHARD_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(record)
        size += more
    if len(groups) == 1:
        save(folder / "model.safetensors", _tensors(store, groups[0]))
        return
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        name = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        tensors = _tensors(store, group)
        weight_map |= dict.fromkeys(tensors, name)
        save(folder / name, tensors)
    index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
    write_atomically(folder / "model.safetensors.index.json", json.dumps(index, indent=1).encode())


def _tensors(store: Store, records: list[PartRecord]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for record in records:
        with opened(store.folder / record.file) as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors


def _quantization_config(folder: Path, layers: Mapping[str, LayerRecord], layout: str, left: list[str]) -> None:
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if layers:
        rows = {name: formats.get(row.format) for name, row in layers.items()}
        config["quantization_config"] = _layout.quantization_config(rows, layout, left)  # pyright: ignore[reportArgumentType]
    write_atomically(path, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
