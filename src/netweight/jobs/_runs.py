"""A run: the folder in which ``train`` leaves a trained net, what it was made of, and what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn

from netweight import data, models, provenance
from netweight.claim import Claim, read_claims, write_claims
from netweight.data import Segmentation, Split
from netweight.errors import ArtifactError, CorruptError
from netweight.evaluate import Masked, Subject, mask_metrics, task
from netweight.files import write_atomically
from netweight.settings import read_toml
from netweight.train import Quantized, Shown, TrainRecipe, divided, load_recipe, quantize

TRAINING, RECIPE, WEIGHTS, CLAIMS = "training.json", "recipe.toml", "weights.safetensors", "claims.jsonl"
BEGUN = "begun.json"  # in place of the training's record while it is not finished
NEEDED = ("data", "split", "history", "layers", "packed", "weights_sha256", "image")
TIMES = "run.json"  # the only file that differs from one making to the next


@dataclass(frozen=True)
class Run:
    """A finished run as it lies on the disk.

    ``training`` holds the slices' and the split's provenance, the history, the layers and their arithmetic. ``label``: what it is called
    instead of by its folder's name.
    """

    path: Path
    recipe: TrainRecipe
    training: Mapping[str, Any]
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.path.resolve().name

    @property
    def weights_sha256(self) -> str:
        return str(self.training["weights_sha256"])

    @property
    def seconds(self) -> float | None:
        """What making it took; None where that was not kept."""
        try:
            return float(json.loads((self.path / TIMES).read_text(encoding="utf-8"))["seconds"])
        except (OSError, ValueError, KeyError):
            return None

    @property
    def diverged(self) -> str:
        """Why training ended with weights that it did not choose, because something was not finite; empty where it ended as asked."""
        history = self.training["history"]
        return f"training diverged: {history['ended']}" if history.get("diverged") else ""

    def claims(self) -> list[Claim]:
        """What was measured of it."""
        return read_claims(self.path / CLAIMS)

    def noted(self, claims: Iterable[Claim], sha256: str = "") -> list[Claim]:
        """The claims, those about this net (or what it was packed to, of this hash) with what their reader should know of its training."""
        return [
            replace(claim, note="; ".join(filter(None, (claim.note, self.diverged))))
            if claim.subject_sha256 == (sha256 or self.weights_sha256)
            else claim
            for claim in claims
        ]


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs, labelled with as much of their path as tells apart those in folders of one name, such as the cells of a study."""
    places = {run.path.resolve() for run in runs}
    labels = {}
    for name in {place.name for place in places}:
        alike = [place for place in places if place.name == name]
        count = 1
        while len({place.parts[-count:] for place in alike}) < len(alike):
            count += 1
        labels |= {place: "/".join(place.parts[-count:]) for place in alike}
    return [replace(run, label=labels[run.path.resolve()]) for run in runs]


def is_run(source: Any) -> bool:
    """Is this the folder of a finished run?"""
    return isinstance(source, str | Path) and (Path(source) / TRAINING).is_file()


def is_begun(source: Any) -> bool:
    """Is this the folder of a run that is not finished?"""
    return isinstance(source, str | Path) and not is_run(source) and (Path(source) / BEGUN).is_file()


def refuse_begun(source: Any) -> None:
    """Raises: ArtifactError: the folder of a run that is not finished."""
    if is_begun(source):
        raise ArtifactError(
            f"{source} holds a run that is not finished; the `netweight train` command that began it goes on with it"
        )


def read(folder: str | Path) -> Run:
    """Raises: ArtifactError: not a run, or not finished. CorruptError: its record is damaged, or its weights are not those that were kept."""
    folder = Path(folder)
    refuse_begun(folder)
    if not is_run(folder):
        raise ArtifactError(f"{folder} is not a finished run: it has no {TRAINING}; make one with `netweight train`")
    recipe, training = load_recipe(read_toml(folder / RECIPE)), _record(folder / TRAINING)
    if training.get("recipe_sha256", recipe.sha256) != recipe.sha256:
        raise CorruptError(f"{folder / RECIPE} is not the recipe that the net was trained by")
    if not (folder / WEIGHTS).is_file():
        raise CorruptError(f"{folder} has no {WEIGHTS}: train the run again in another folder")
    if provenance.sha256_of_file(folder / WEIGHTS) != training["weights_sha256"]:
        raise CorruptError(f"{folder / WEIGHTS} is not what was trained: its hash differs from that in {TRAINING}")
    return Run(folder, recipe, training)


def _record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptError(f"{path} is damaged: {error}; train the run again in another folder") from error
    absent = [key for key in NEEDED if not isinstance(found, dict) or key not in found]
    if absent:
        raise CorruptError(f"{path} is damaged: it has no {absent[0]!r}; train the run again in another folder")
    return found


def with_weights(folder: Path, net: nn.Module, recipe: TrainRecipe, training: Mapping[str, Any]) -> Run:
    """Write the weights; the run is not finished yet."""
    content = save({name: tensor.contiguous() for name, tensor in net.state_dict().items()})
    write_atomically(folder / WEIGHTS, content)
    hashes = {"weights_sha256": provenance.sha256_of_bytes(content), "recipe_sha256": recipe.sha256}
    return Run(folder, recipe, {**training, **hashes})


def finish(run: Run, claims: Sequence[Claim], seconds: float) -> None:
    """Write what was measured, the recipe, the time it took and, last of all, what says that the run is finished."""
    write_atomically(run.path / TIMES, json.dumps({"seconds": seconds}))
    write_claims(run.path / CLAIMS, claims)
    write_atomically(run.path / RECIPE, run.recipe.to_toml())
    write_atomically(run.path / TRAINING, json.dumps(run.training, indent=1, sort_keys=True, allow_nan=False))


def net_of(run: Run) -> tuple[nn.Module, Quantized]:
    """The trained net as it was simulated, in evaluation mode."""
    net, quantized = built(run.recipe, int(run.training["image"]))
    net.load_state_dict(load_file(run.path / WEIGHTS))
    return net.eval(), quantized


def built(recipe: TrainRecipe, image: int) -> tuple[nn.Module, Quantized]:
    """The recipe's net with its first weights, and its layers under the recipe's arithmetic."""
    given = recipe.net
    net = models.nets.build(
        given.use, given.size, image=image, patch=given.patch, dropout=given.dropout, seed=recipe.seed
    )
    skip = models.nets.unquantized(recipe.net.use) if recipe.qat.skip is None else recipe.qat.skip
    return net, quantize(net, recipe.qat.qat(), skip=skip, attention=recipe.qat.attention, seed=recipe.seed)


def subject(name: str, sha256: str, net: nn.Module, on_disk: int) -> Subject:
    """A net as the judge sees it."""

    def segment(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return net(images)

    return Subject(name=name, sha256=sha256, segment=segment, bytes_on_disk=on_disk)


def masked(slices: Segmentation, numbers: Sequence[int], part: str) -> Masked:
    """Some slices as the judge takes them."""
    rows = list(numbers)
    digest = provenance.sha256_of_json([slices.sha256, sorted(slices.names[k] for k in rows)])
    return Masked(
        Shown(slices, rows), slices.masks[rows], [slices.patients[k] for k in rows], slices.source, part, digest
    )


def tasks_on(slices: Segmentation, numbers: Sequence[int], part: str) -> list[Any]:
    """Every metric of masks on these slices."""
    where = masked(slices, numbers, part)
    return [task(name, where) for name in mask_metrics()]


def slices_of(run: Run, source: str | Path | None = None) -> tuple[Segmentation, Split]:
    """The slices a run was trained on, and its split, found again.

    Raises: CorruptError: they are not what they were.
    """
    known = run.training["data"]
    slices = data.segmentation(source or known["given"], size=run.recipe.data.size)
    if slices.sha256 != known["sha256"]:
        raise CorruptError(f"{slices.source} is not what {run.name} was trained on: other slices, masks or names")
    return slices, split_of(run, slices)


def split_of(run: Run, slices: Segmentation) -> Split:
    """The run's own split of the slices it was trained on. Raises: CorruptError: another comes out than was trained by."""
    found = divided(slices, run.recipe.data.split)
    if found.sha256 != run.training["split"]["sha256"]:
        raise CorruptError(
            f"{slices.source} is no longer divided as when {run.name} was trained: training patients could be tested on. "
            "Use the version of netweight that trained it"
        )
    return found
