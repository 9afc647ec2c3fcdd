"""Every exception netweight raises on purpose.

NetweightError
├── SettingsError        a recipe, a setting or a name is wrong
│   └── UnknownName      no such format, method, metric, verb (the nearest name is offered)
├── FormatError          a tensor does not fit the number format
│   └── RangeError       a value or scale lies beyond what the format can hold
├── ModelError           a model cannot be read or is not what it says
│   └── NotFiniteError   NaN or Inf in weights or activations
├── DataError            calibration or evaluation data is missing, empty or too short
├── CompressError        a method could not do its work
│   └── PartialError     something the recipe names was left undone
├── ArtifactError        an artifact cannot be written, read or trusted
│   ├── ExistsError      the output folder already holds something
│   ├── CorruptError     bytes differ from the manifest
│   └── ParityError      the file does not compute what the simulation computed
├── EvidenceError        a claim cannot be recomputed or does not hold
├── KernelError          a kernel is missing, or was asked for what it cannot do
└── ResourceError        too little memory or disk, said before starting where possible
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NetweightError(Exception):
    """Base of all: catch this to catch everything netweight raises on purpose."""


class SettingsError(NetweightError):
    """A recipe, a setting or a name is wrong."""


class UnknownName(SettingsError):
    """A name is not in a registry; the message offers the nearest one."""


class FormatError(NetweightError):
    """A tensor does not fit the number format."""


class RangeError(FormatError):
    """A value or scale lies beyond what the format can hold."""


class ModelError(NetweightError):
    """A model cannot be read or is not what it says."""


class NotFiniteError(ModelError):
    """NaN or Inf in weights or activations."""


class DataError(NetweightError):
    """Calibration or evaluation data is missing, empty or too short."""


class CompressError(NetweightError):
    """A method could not do its work."""


class PartialError(CompressError):
    """Something the recipe names was left undone."""


class ArtifactError(NetweightError):
    """An artifact cannot be written, read or trusted."""


class ExistsError(ArtifactError):
    """The output folder already holds something."""


class CorruptError(ArtifactError):
    """Bytes differ from the manifest."""


class ParityError(ArtifactError):
    """The file does not compute what the simulation computed."""


class EvidenceError(NetweightError):
    """A claim cannot be recomputed or does not hold. ``found`` is everything that was looked at, where more was."""

    def __init__(self, message: str, *, found: object = None) -> None:
        super().__init__(message)
        self.found = found


class KernelError(NetweightError):
    """A kernel is missing, or was asked for what it cannot do."""


class ResourceError(NetweightError):
    """Too little memory or disk."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'damping'?"`` for the closest known name, or the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""
