"""What verbs take, for type checkers alone: nothing is imported when a verb is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch.nn import Module

    from netweight.artifact import Artifact
    from netweight.models import Model

    Source: TypeAlias = str | Path | Model | Module
    Folder: TypeAlias = str | Path | Artifact
