"""Verbs that use what was made, and the machine it is used on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from netweight.jobs._masks import Segmented
    from netweight.jobs.bench import Benchmark
    from netweight.jobs.doctor import Checkup
    from netweight.jobs.run import Generation
    from netweight.progress import Progress
    from netweight.verbs._types import Folder, Source


def run(
    artifact: Folder | Source,
    *,
    prompt: str | None = None,
    images: str | Path | None = None,
    masks_out: str | Path | None = None,
    threshold: float = 0.5,
    max_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    threads: int = 0,
    require_kernels: bool = False,
    progress: Progress | None = None,
) -> Generation | Segmented:
    """Write text from a prompt, or masks of a folder of pictures.

    Text comes piece by piece. Pictures come to the net's size as its training slices did, and what it says comes back to theirs. A picture that
    cannot be read is named, and the others go on.

    Args:
      artifact: artifact folder of a language model, or the original itself; for pictures a trained run or its packed artifact.
      prompt: text to continue.
      images: folder of pictures (PNG, TIFF, JPEG, WebP, BMP, GIF; patients' folders too) to find lesions in; files named *_mask are left out.
      masks_out: folder for the masks, a/b_mask.png (0 and 255) for a/b.jpg; no file in it is overwritten.
      threshold: least probability of a found pixel.
      max_tokens: most tokens to generate.
      temperature: 0 takes the likeliest token; above 0 samples.
      seed: of the sampling.
      threads: 0 takes as many as torch does.
      require_kernels: an error, not a slow path, where a layer has no packed kernel.
      progress: called as pictures are done; only in Python.
    Returns:
      Pieces of text, or what was done with the pictures and how fast; its ``path`` says how the layers are computed.
    Raises:
      ArtifactError: not an artifact of a language model, or not a net where there are pictures.
      SettingsError: not one of prompt and images.
      KernelError: ``require_kernels``, and a layer has none.
      DataError: no picture can be read.
      ExistsError: a mask would take the place of a file.
    """
    from netweight.jobs.run import run as job

    return job(
        artifact,
        prompt=prompt,
        images=images,
        masks_out=masks_out,
        threshold=threshold,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        threads=threads,
        require_kernels=require_kernels,
        progress=progress,
    )


def bench(
    artifact: Folder,
    *,
    against: Source | None = None,
    prompt_tokens: int = 128,
    rounds: int = 7,
    tokens: int = 16,
    threads: int = 0,
    require_kernels: bool = False,
    into: Module | None = None,
    example: Tensor | None = None,
    json: bool = False,
) -> Benchmark | str:
    """Measure how fast an artifact runs here, and beside what.

    Args:
      artifact: artifact folder, or a trained run for what it was packed to.
      against: what to put beside it: the original, a run or another artifact; its own weights decoded to float32 if absent.
      prompt_tokens: tokens read at once when prefill is measured.
      rounds: repetitions; contestants take turns.
      tokens: tokens written in one repetition, or pictures segmented one by one.
      threads: 0 takes as many as torch does.
      require_kernels: an error, not a slow path, where a layer has no packed kernel.
      into: architecture of an artifact of a plain module.
      example: input of an artifact that is no language model; a segmentation net's own description gives one.
      json: plain data as JSON instead of a table.
    Returns:
      Speeds, memory, and the share of this machine's read speed; its JSON text with ``json``.
    Raises:
      ArtifactError: not an artifact.
      KernelError: ``require_kernels``, and a layer has none.
    """
    from netweight.jobs.bench import bench as job

    return job(
        artifact,
        against=against,
        prompt_tokens=prompt_tokens,
        rounds=rounds,
        tokens=tokens,
        threads=threads,
        require_kernels=require_kernels,
        into=into,
        example=example,
        json=json,
    )


def doctor(*, json: bool = False) -> Checkup | str:
    """Check this machine and installation; say what to mend.

    Args:
      json: plain data as JSON instead of a table.
    Returns:
      The findings; their JSON text with ``json``.
    """
    from netweight.jobs.doctor import doctor as job

    return job(json=json)
