"""One fixed piece of work that latency and energy are measured on, the same for every subject."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from netweight.errors import DataError, SettingsError
from netweight.evaluate._items import Data, Labelled, Masked, Text
from netweight.evaluate._subject import Subject

Work = Callable[[Subject], None]


def workload(data: Data, *, batch: int, length: int) -> Work:
    """A function that makes a subject do the work once and waits until it is done.

    Text: ``logits`` of ``batch`` windows of ``length`` tokens, no padding. Pairs: ``embed`` of ``batch`` first sentences.
    Labelled inputs: ``classify`` of ``batch`` inputs. Images with masks: ``segment`` of ``batch`` images. The work begins
    at the data's start.

    Raises:
      DataError: the data holds less than one batch. SettingsError: a kind of items without a workload.
    """
    if isinstance(data, Text):
        tokens = [token for document in data.documents for token in data.encode(document)][: batch * length]
        _need(len(tokens), batch * length, "tokens", data.source)
        ids_BT = torch.tensor(tokens, dtype=torch.int64).view(batch, length)
        return lambda subject: _finish(subject.skill("logits")(ids_BT, None))
    if isinstance(data, Labelled):
        _need(len(data.inputs), batch, "inputs", data.source)
        return lambda subject: _finish(subject.skill("classify")(data.inputs[:batch]))
    if isinstance(data, Masked):
        images = data.images[slice(batch)] if data.images is not None else ()
        _need(len(images), batch, "images", data.source)
        return lambda subject: _finish(subject.skill("segment")(images))
    if data.kind != "pairs":
        raise SettingsError(
            f"{data.source}: no workload is defined for {data.kind}; use text, pairs, labelled inputs or masks"
        )
    texts = [pair.first for pair in data.items[:batch]]
    _need(len(texts), batch, "pairs", data.source)
    return lambda subject: _finish(subject.skill("embed")(texts))


def _need(have: int, want: int, what: str, source: str) -> None:
    if have < want:
        raise DataError(f"{source}: {have} {what}, the workload needs {want}; choose a smaller batch or length")


def _finish(output: Any) -> None:
    """Wait for an accelerator: reading one element ends when everything before it has."""
    if isinstance(output, torch.Tensor) and output.device.type != "cpu":
        output.flatten()[0].item()
