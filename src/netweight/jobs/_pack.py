"""A trained net packed: the artifact computes, bit for bit, what was simulated while it was trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from netweight import formats, runtime
from netweight.artifact import Artifact, open_artifact
from netweight.errors import ParityError, UnknownName
from netweight.jobs.compress import compress
from netweight.progress import Progress
from netweight.train import Qat, Quantized, handle

PACKED = "packed"


def why_not(quantized: Quantized) -> str:
    """Why a net trained like this has no packed form; "" where it has one."""
    recipe = quantized.recipe
    weights, inputs = recipe.forward_w, recipe.forward_x
    if quantized.layers() != quantized.weights():
        return "products of attention were rounded, which packed layers do not do"
    if recipe.learned is not None:
        return "scales of weights and inputs were learned, and such a net is kept as it was trained"
    if weights.format is None:
        return "its weights are not rounded"
    if weights.rule not in get_args(formats.Scaling):
        return f"its weights take scales by {weights.rule}, which the packer does not find"
    try:
        if inputs.format is not None:
            formats.activations(_inputs(recipe))
    except UnknownName as error:
        return str(error)
    return "the forward product draws or turns its inputs" if inputs.rounding != "nearest" or inputs.hadamard else ""


def _inputs(recipe: Qat) -> str:
    rule = recipe.forward_x.rule
    return f"{recipe.forward_x.format}{'' if rule == 'amax' else f'-{rule}'}"


def pack(
    net: nn.Module, quantized: Quantized, images: Sequence[Tensor], out: Path, *, threads: int, progress: Progress
) -> Artifact:
    """An artifact of the layers that were rounded, checked against the net as it was trained.

    Args:
      net: in evaluation mode, its layers rounding.
      images: batches to compare outputs on.
    Raises:
      ParityError: the artifact gives other logits than the net.
    """
    if (out / "netweight.json").is_file():
        return open_artifact(out)
    names = list(quantized.weights())
    step: dict[str, Any] = {"use": "rtn", "format": quantized.recipe.forward_w.format, "only": names}
    if quantized.recipe.forward_w.rule != "amax":
        step["scales"] = quantized.recipe.forward_w.rule
    if quantized.recipe.forward_x.format is not None:
        step["activations"] = _inputs(quantized.recipe)
    plain = copy.deepcopy(net)
    handle(plain).undo()
    made = compress(plain, {"step": [step]}, out=out, threads=threads, calibration=images, progress=progress)
    if not isinstance(made, Artifact):
        raise TypeError("compress gave no artifact")
    check(made, net, images)
    return made


@torch.inference_mode()
def check(artifact: Artifact, net: nn.Module, images: Sequence[Tensor]) -> int:
    """How many logits were compared. Raises: ParityError: one of them differs in any bit."""
    loaded = runtime.load(artifact, kernels="off").module
    count = 0
    for batch in images:
        want, got = net(batch), loaded(batch)
        if not torch.equal(want, got):
            worst = (want - got).abs().max().item()
            raise ParityError(f"{artifact.path} does not compute what was trained: logits differ by up to {worst:g}")
        count += want.numel()
    return count
