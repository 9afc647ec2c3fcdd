"""train: a net from scratch by a recipe, judged on patients that neither training nor the choice of weights has seen."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netweight import data, models, provenance
from netweight.claim import Claim
from netweight.data import Segmentation, Split
from netweight.errors import CorruptError, DataError, ExistsError
from netweight.evaluate import run as judge
from netweight.files import readable_errors, write_atomically
from netweight.jobs import _pack, _runs, _seen
from netweight.jobs._runs import Run
from netweight.jobs.evaluate import threads_of
from netweight.progress import Progress, silent
from netweight.train import (
    EVALUATED,
    STATE,
    Drawn,
    Lesson,
    Quantized,
    Shown,
    TrainRecipe,
    check_lesson,
    divided,
    fit,
    hooks,
    load_recipe,
)

COMPARED = 8  # slices that the packed net and the simulation must agree on to the bit


def train(
    recipe: Any,
    *,
    data: str | Path,
    out: str | Path,
    teacher: str | Path | None = None,
    device: str = "cpu",
    threads: int = 0,
    progress: Progress | None = None,
) -> Run:
    """See ``netweight.train``."""
    chosen, where = load_recipe(recipe), models.device(device)
    folder, progress = Path(out), progress or silent
    slices = opened(data, chosen)
    split = divided(slices, chosen.data.split)
    master = None if teacher is None else _runs.read(teacher)
    _check_teacher(master, slices, split)
    if _runs.is_run(folder):
        return _finished(folder, chosen, slices, master)
    net, quantized = _runs.built(chosen, slices.images.shape[1])
    with readable_errors(folder), threads_of(threads):
        lesson = Lesson(
            net.to(where),
            Drawn(slices, chosen.seed),
            split.train,
            split.validation,
            teacher=_teacher(master, where),
            hooks=hooks(quantized),
        )
        check_lesson(lesson, chosen.training)
        _claim(folder, _key(chosen, slices, split, master, where))
        history = fit(lesson, chosen.training, seed=chosen.seed, folder=folder, progress=progress)
        trained = time.monotonic()
        net.to("cpu")
        training = {
            "data": {**slices.provenance, "given": str(data)},
            "split": {**split.provenance, "equal": [[slices.names[k] for k in pair] for pair in split.duplicates]},
            "seen": _seen.write(folder, slices, split),
            "image": int(slices.images.shape[1]),
            "history": {key: getattr(history, key) for key in ("rows", "best", "steps", "ended", "diverged")},
            "layers": [asdict(row) for row in quantized.rows],
            "packed": _packed(net, quantized, slices, split, folder, progress),
            "teacher": None if master is None else master.weights_sha256,
            "environment": provenance.environment(device=_named(where), threads=torch.get_num_threads()),
        }
        run = _runs.with_weights(folder, net, chosen, training)
        claims = _judged(run, net, slices, split, _command(recipe, data, out, teacher, device, threads), progress)
        _runs.finish(run, claims, history.seconds + time.monotonic() - trained)
        for name in (STATE, _runs.BEGUN):
            (folder / name).unlink(missing_ok=True)
    return run


def opened(source: str | Path, recipe: TrainRecipe) -> Segmentation:
    """Slices at the size that the recipe asks for. Raises: DataError: as ``data.segmentation``; not square."""
    slices = data.segmentation(source, size=recipe.data.size)
    height, width = slices.images.shape[1:3]
    if height != width:
        raise DataError(
            f"{slices.source} has slices of {height} x {width} pixels, and nets take squares; set size under [data]"
        )
    return slices


def _finished(folder: Path, recipe: TrainRecipe, slices: Segmentation, teacher: Run | None) -> Run:
    """A run that is done already, if it is this one."""
    found = _runs.read(folder)
    known = {
        "recipe": (found.recipe.sha256, recipe.sha256),
        "slices": (found.training["data"]["sha256"], slices.sha256),
        "teacher": (found.training["teacher"], None if teacher is None else teacher.weights_sha256),
    }
    if different := [name for name, (there, here) in known.items() if there != here]:
        raise ExistsError(
            f"{folder} holds another finished run (other {', '.join(different)}); choose another folder or remove it"
        )
    return found


def _claim(folder: Path, key: Mapping[str, Any]) -> None:
    """Begin in an empty folder, or go on in one that this very run began."""
    mark = folder / _runs.BEGUN
    if folder.exists() and not folder.is_dir():
        raise ExistsError(f"{folder} is a file; name a folder for the run")
    if folder.exists() and any(folder.iterdir()):
        if not mark.is_file():
            raise ExistsError(f"{folder} already holds something that is not a run; choose another folder or remove it")
        before = _begun(mark)
        if different := [name for name, value in key.items() if before.get(name) != value]:
            raise ExistsError(
                f"{folder} holds the beginning of another run (other {', '.join(different)}); choose another folder or remove it"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, json.dumps(dict(key), sort_keys=True))


def _begun(mark: Path) -> dict[str, Any]:
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CorruptError(f"{mark} is damaged; remove {mark.parent} to start over")
    return found


def _key(
    recipe: TrainRecipe, slices: Segmentation, split: Split, teacher: Run | None, device: torch.device
) -> dict[str, Any]:
    return {
        "recipe": recipe.sha256,
        "slices": slices.sha256,
        "split": split.sha256,
        "teacher": None if teacher is None else teacher.weights_sha256,
        "versions": provenance.versions(),
        "device": device.type,
    }


def _check_teacher(teacher: Run | None, slices: Segmentation, split: Split) -> None:
    """A teacher must not have seen what its student is tested on."""
    if teacher is None:
        return
    if teacher.training["data"]["sha256"] != slices.sha256 or teacher.training["split"]["sha256"] != split.sha256:
        raise DataError(
            f"{teacher.name} was trained on other slices or another split: it may have seen the student's test patients"
        )


def _teacher(run: Run | None, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    return None if run is None else _runs.net_of(run)[0].to(device)


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _packed(
    net: nn.Module, quantized: Quantized, slices: Segmentation, split: Split, folder: Path, progress: Progress
) -> dict[str, Any]:
    """The net with packed weights beside the run, compared with the simulation on training slices; or why there is none."""
    if reason := _pack.why_not(quantized):
        return {"reason": reason}
    shown = Shown(slices, split.train)
    images = [shown[slice(k, k + 1)] for k in range(min(COMPARED, len(shown)))]
    artifact = _pack.pack(net, quantized, images, folder / _pack.PACKED, threads=1, progress=progress)
    return {"sha256": artifact.sha256, "bytes": artifact.nbytes, "slices_compared": len(images)}


def _judged(
    run: Run, net: nn.Module, slices: Segmentation, split: Split, command: str, progress: Progress
) -> list[Claim]:
    who = _runs.subject(run.name, run.weights_sha256, net, os.path.getsize(run.path / _runs.WEIGHTS))
    tasks = _runs.tasks_on(slices, split.test, "test")
    found = judge([who], tasks=tasks, batch_size=EVALUATED, command=command, seed=run.recipe.seed, progress=progress)
    return run.noted(found)


def _command(
    recipe: Any, source: str | Path, out: str | Path, teacher: str | Path | None, device: str, threads: int
) -> str:
    if not isinstance(recipe, str | Path):
        return ""
    words = ["netweight", "train", str(recipe), "--data", str(source), "--out", str(out)]
    words += ["--teacher", str(teacher)] if teacher is not None else []
    words += ["--device", device] if device != "cpu" else []
    return shlex.join([*words, *(["--threads", str(threads)] if threads else [])])
