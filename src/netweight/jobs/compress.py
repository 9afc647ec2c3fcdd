"""compress: follow a recipe, write an artifact, and refuse to finish unless the file computes what the simulation computed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from netweight import artifact as artifacts
from netweight import data, models, provenance
from netweight import recipe as recipes
from netweight.artifact import Artifact, Manifest, PartRecord, Store
from netweight.compress import Part, Plan, as_planned, parts, plan, rotated, tune, walk
from netweight.data import Calibration
from netweight.errors import DataError, ExistsError, PartialError, SettingsError
from netweight.files import readable_errors, write_atomically
from netweight.jobs import _estimate, _parity
from netweight.jobs._estimate import DryRun
from netweight.ledger import Ledger
from netweight.models import Layer, Model
from netweight.progress import Progress, silent
from netweight.recipe import Recipe
from netweight.words import counted

BATCH_TOKENS = 1024  # per forward pass: large enough for fast products, small enough for memory
TRAIN_TOKENS = 512  # the same where blocks are trained: a step takes several such batches, one on each thread


def compress(
    model: Any,
    recipe: Any,
    *,
    out: str | Path,
    dry_run: bool = False,
    allow_partial: bool = False,
    threads: int = 0,
    memory: Literal["lean", "ample"] = "lean",
    calibration: Iterable[Any] | None = None,
    progress: Progress | None = None,
) -> Artifact | DryRun:
    """See ``netweight.compress``."""
    begun = time.monotonic()
    progress = progress or silent
    out = Path(out)
    if threads < 0:
        raise SettingsError(f"threads = {threads}: must be 1 or more, or 0 for one per core")
    threads = threads or os.cpu_count() or 1
    if out.exists() and not dry_run:
        raise ExistsError(f"{out} already exists; choose another folder or remove it")
    plan_of = recipes.load(recipe)
    given = None if calibration is None else data.from_batches(calibration)
    found = rotated(_opened(model), plan_of)
    divided = _cut(found.model, plan_of, given)
    layers = models.layers(divided)
    feeds = [feed for block in models.blocks(divided) for feed in models.feeds(divided, block)]
    before: dict[str, Any] = {"rotated": found.layers, "notes": found.notes, "feeds": [feed.layers for feed in feeds]}
    chosen = plan(plan_of, layers, allow_partial=allow_partial or dry_run, **before)
    source = as_planned(divided, chosen)
    ledger = _planned(source, chosen)
    sizes = _sizes(source, ledger)
    asked = _estimate.work(source, chosen, plan_of, given, batch_tokens=BATCH_TOKENS)
    expected = _estimate.estimate(source, chosen, layers, sizes[1], threads, memory, asked)
    if dry_run:
        return DryRun(ledger, expected, *sizes, chosen.problems)
    _estimate.require(expected, out)
    seen = _calibration(source, chosen, plan_of, given)
    store = Store(out, _fingerprint(source, plan_of, seen))
    layout = _layout(source, chosen, layers)
    original = models.copied(source) if source.live and chosen.tuning else source  # the walker changes a live module
    _walk(source, chosen, plan_of.seed, seen, store, layout, threads, memory, progress)
    total = len(parts(source))
    records = store.records(total)
    problems = (*chosen.problems, *_left_undone(chosen, records))
    if problems and not allow_partial:
        raise PartialError(f"left undone: {'; '.join(problems[:5])}; or pass allow_partial")
    manifest = _manifest(source, chosen, plan_of, seen, layout, problems)
    write_config = None if source.config is None else lambda folder: models.save_tokenizer_and_config(source, folder)
    toml = plan_of.to_toml()
    final = artifacts.assemble(store, records, manifest, recipe_toml=toml, write_config=write_config)
    if chosen.tuning:
        rounded = artifacts.open_artifact(final)
        tuned = _tune(original, source, rounded, chosen, plan_of.seed, seen, store, records, layout, threads, progress)
        final = artifacts.assemble(tuned, tuned.records(total), manifest, recipe_toml=toml, write_config=write_config)
    result = artifacts.open_artifact(final)
    _refuse_fallbacks(result.ledger, allow_partial)
    checked = _parity.check(source, result, seen.batches, threads=threads, progress=progress)
    run = {
        "seconds": time.monotonic() - begun,
        "peak_bytes": _estimate.peak_bytes(),
        "threads": threads,
        "parity": checked,
    }
    with readable_errors(final):
        write_atomically(final / "run.json", json.dumps(run, indent=1, sort_keys=True).encode())
    store.publish(final)
    return artifacts.open_artifact(out)


def _opened(model: Any) -> Model:
    """A model to work on: a copy of what the caller gave, so that the caller's stays as it is."""
    if isinstance(model, Model | nn.Module):
        return models.copied(model if isinstance(model, Model) else models.load(model))
    return models.load(model)


def _cut(source: Model, recipe: Recipe, given: Calibration | None) -> Model:
    """The model in the blocks that the recipe names, if it names any: which run, and when, is seen on the first batch."""
    if not recipe.blocks:
        return source
    if given is not None and given.batches:
        return models.cut(source, recipe.blocks, given.batches[0])
    if source.kind == "module" and not source.family.blocks:
        raise _no_batches(source, "the recipe names blocks, which are found by running the module")
    return models.cut(source, recipe.blocks, {"input_ids": torch.zeros((1, 2), dtype=torch.int64)})


def _planned(source: Model, assigned: Plan) -> Ledger:
    stored = {name: models.stored_bytes(source, name) for name in assigned.assignments}
    kept = {name: models.kept_bytes(source, models.weight_name(name)) for name in assigned.assignments}
    return assigned.ledger(stored, kept)


def _sizes(source: Model, ledger: Ledger) -> tuple[int, int]:
    """Bytes of all weights as they are stored now, and as they are expected in the artifact."""
    names = [name for name in source.weights.names() if name not in source.tied]
    planned = [row for row in ledger if row.action == "planned"]
    done = {models.weight_name(row.module) for row in planned}
    kept = sum(models.kept_bytes(source, name) for name in names if name not in done)
    return sum(map(source.weights.nbytes, names)), kept + sum(row.bytes_after for row in planned)


def _calibration(source: Model, assigned: Plan, recipe: Recipe, given: Calibration | None) -> Calibration:
    """What the model is run on: the recipe's text, the caller's batches, or a short fixed probe where no step needs data."""
    if given is not None and given.batches:
        batches = _probe_first(given.batches)
        return replace(given, batches=batches if assigned.needs_data else batches[:1])
    if given is not None and assigned.needs_data:
        raise DataError("the calibration batches are empty, and a step of the recipe needs to see what layers are fed")
    if assigned.needs_data and source.kind != "module":
        tokenizer = source.tokenizer()
        if source.longest is not None and recipe.calibration.length > source.longest:
            raise DataError(
                f"calibration windows of {recipe.calibration.length} tokens are longer than the {source.longest} "
                f"{source.name} can read; set length = {source.longest} or less under [calibration]"
            )
        rows = max(1, (TRAIN_TOKENS if assigned.trains else BATCH_TOKENS) // recipe.calibration.length)
        seen = data.calibration(recipe.calibration, tokenizer, seed=recipe.seed, rows=rows)
        return replace(seen, batches=_probe_first(seen.batches))
    if source.kind == "module":
        return _without_batches(source, assigned)
    generator = torch.Generator().manual_seed(recipe.seed)
    vocabulary = int(getattr(source.config, "vocab_size", 2))
    tokens = min(_estimate.PROBE_TOKENS, source.longest or _estimate.PROBE_TOKENS)
    ids = torch.randint(vocabulary, (1, tokens), generator=generator)
    return data.from_batches([{"input_ids": ids}], source="random tokens, to compare the file with the simulation only")


def _probe_first(batches: list[Any]) -> list[Any]:
    """The same rows with the first in a batch of its own: it is what the file is compared with the simulation on."""
    if not batches or not isinstance(batches[0], Mapping):
        return batches
    first = dict(batches[0])
    rows = {value.shape[0] if isinstance(value, torch.Tensor) and value.dim() else 0 for value in first.values()}
    if len(rows) != 1 or next(iter(rows)) < 2:
        return batches
    return [{k: v[:1] for k, v in first.items()}, {k: v[1:] for k, v in first.items()}, *batches[1:]]


def _without_batches(source: Model, assigned: Plan) -> Calibration:
    if assigned.needs_data:
        raise _no_batches(source, f"a step of the recipe needs to see what {source.name}'s layers are fed")
    return data.from_batches([])


def _no_batches(source: Model, why: str) -> DataError:
    return DataError(f"{why}; pass calibration=<batches>, an iterable of what {source.name} takes")


def _fingerprint(source: Model, recipe: Recipe, seen: Calibration) -> dict[str, Any]:
    return {
        "model": source.sha256,
        "recipe": recipe.sha256,
        "calibration": provenance.sha256_of_json(dict(seen.provenance)),
        "versions": provenance.versions(),
    }


def _layout(source: Model, assigned: Plan, layers: Mapping[str, Layer]) -> artifacts.Layout:
    """compressed-tensors' layout where it can express every quantized layer, else our own.

    Its readers scale activations by absmax / 127.5, which is another function than the one that was simulated.
    """
    chosen = [a for a in assigned.assignments.values() if a.format is not None]
    if any(a.activations for a in chosen):
        return "netweight"
    if source.config is None or any(layers[a.name].kind != "linear" for a in chosen):
        return "netweight"
    return artifacts.layout_for(a.format for a in chosen if a.format is not None)


def _walk(
    source: Model,
    assigned: Plan,
    seed: int,
    seen: Calibration,
    store: Store,
    layout: artifacts.Layout,
    threads: int,
    memory: Literal["lean", "ample"],
    progress: Progress,
) -> None:
    """Compress what is not yet done, part by part."""
    total, done = len(parts(source)), store.done()
    if done == total:
        return

    def put_back(module: nn.Module) -> None:
        for record in store.records(done):
            matrices, tensors = store.weights(record, layout)
            for name, matrix in matrices.items():
                models.set_matrix(module.get_submodule(name), matrix)
                models.round_inputs(module.get_submodule(name), record.layers[name].get("activations", ""))
            module.load_state_dict(tensors, strict=False)

    hidden = store.hidden() if done else []
    progress("compress", done, total)
    ample = memory == "ample"
    options: dict[str, Any] = {
        "waiting": "hold" if ample else "repeat",
        "scratch": None if ample else store.folder,
        "seed": seed,
        "put_back": put_back if done else None,
    }
    for part in walk(source, assigned, seen.batches, threads=threads, start=done, hidden=hidden, **options):
        record, tensors = _record(part, assigned, layout)
        store.put(part.index, record, tensors, part.hidden)
        progress("compress", part.index + 1, total, part.name)
        del part, record, tensors  # or they would be in memory with the next part's


def _tune(
    original: Model,
    source: Model,
    rounded: Artifact,
    assigned: Plan,
    seed: int,
    seen: Calibration,
    store: Store,
    records: list[PartRecord],
    layout: artifacts.Layout,
    threads: int,
    progress: Progress,
) -> Store:
    """All parts again, tuned together."""
    tuned, total = store.stage("tuned"), len(records)
    if tuned.done() == total:
        return tuned

    def student() -> Model:
        return _parity.from_artifact(source, rounded)

    rows = {row.module: row for record in records for row in record.rows}
    qtensors = {name: rounded.qtensor(name) for name in rounded.manifest.layers}
    options: dict[str, Any] = {"threads": threads, "seed": seed, "progress": progress}
    for part in tune(original, student, qtensors, rows, assigned, seen.batches, **options):
        tuned.put(part.index, *_record(part, assigned, layout), part.hidden)
        del part
    return tuned


def _record(part: Part, assigned: Plan, layout: artifacts.Layout) -> tuple[PartRecord, dict[str, torch.Tensor]]:
    tensors = dict(part.tensors)
    for layer, q in part.qtensors.items():
        tensors |= artifacts.store(layer, q, layout)
    described: dict[str, dict[str, Any]] = {}
    for layer, q in part.qtensors.items():
        described[layer] = {"format": q.format.name, "shape": list(q.shape), "sha256": part.layer_digests[layer]}
        if activations := assigned.assignments[layer].activations:
            described[layer]["activations"] = activations
    return PartRecord(part.name, f"part-{part.index}.safetensors", part.rows, described, part.digest), tensors


def _left_undone(assigned: Plan, records: Iterable[PartRecord]) -> list[str]:
    """Layers that the plan meant to round and the walker had to leave."""
    rows = [row for record in records for row in record.rows if row.action == "left"]
    return [f"{row.module}: {row.reason}" for row in rows if assigned.assignments[row.module].rounding]


def _manifest(
    source: Model, assigned: Plan, recipe: Recipe, seen: Calibration, layout: str, problems: tuple[str, ...]
) -> Manifest:
    before = sum(source.weights.nbytes(name) for name in source.weights.names() if name not in source.tied)
    first = seen.batches[0] if seen.batches else None
    about: dict[str, Any] = {"name": source.name, "sha256": source.sha256, "kind": source.kind}
    about["family"] = source.family.name
    if isinstance(source.module, models.nets.Net) and source.module.description is not None:
        about["net"] = models.nets.describe(source.module)  # so that it is built again without anybody's own code
    return Manifest(
        model=about,
        recipe_sha256=recipe.sha256,
        seed=recipe.seed,
        layout=layout,
        layers={},
        parts={},
        tied=dict(source.tied),
        calibration=dict(seen.provenance) if assigned.needs_data else None,
        probe={"shape": list(first["input_ids"].shape)} if isinstance(first, Mapping) and "input_ids" in first else {},
        versions=provenance.versions(),
        bytes={"before": before},
        problems=problems,
    )


def _refuse_fallbacks(ledger: Ledger, allow_partial: bool) -> None:
    if (fallen := ledger.fallbacks()) and not allow_partial:
        listed = "; ".join(f"{row.module}: {', '.join(row.notes)}" for row in fallen[:5])
        raise PartialError(
            f"not done as the recipe asks, {counted(len(fallen), 'layer')}: {listed}; or pass allow_partial"
        )
