"""netweight: make a neural network smaller, faster and cheaper, and prove what that cost.

The verbs (``netweight.compress(...)``) and nouns (``netweight.Claim``) are imported when first asked for:
``import netweight`` loads neither torch nor pydantic. Four verbs share their name with a room, ``compress``,
``train``, ``evaluate`` and ``study``: as an attribute of ``netweight`` they are always the verb; the room is reached by
``from netweight.evaluate import ...``.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from netweight.artifact import Artifact as Artifact
    from netweight.claim import Claim as Claim
    from netweight.claim import Comparison as Comparison
    from netweight.data import Calibration as Calibration
    from netweight.errors import NetweightError as NetweightError
    from netweight.formats import Format as Format
    from netweight.formats import QTensor as QTensor
    from netweight.ledger import Ledger as Ledger
    from netweight.ledger import Row as Row
    from netweight.models import Family as Family
    from netweight.models import Model as Model
    from netweight.recipe import Recipe as Recipe
    from netweight.recipe import Step as Step
    from netweight.verbs import bench as bench
    from netweight.verbs import compress as compress
    from netweight.verbs import doctor as doctor
    from netweight.verbs import evaluate as evaluate
    from netweight.verbs import report as report
    from netweight.verbs import run as run
    from netweight.verbs import study as study
    from netweight.verbs import train as train
    from netweight.verbs import verify as verify
    from netweight.verbs import weigh as weigh

_VERBS = ("weigh", "compress", "train", "evaluate", "study", "report", "verify", "run", "bench", "doctor")
_NOUNS = {
    "Artifact": "artifact",
    "Calibration": "data",
    "Claim": "claim",
    "Comparison": "claim",
    "Family": "models",
    "Format": "formats",
    "Ledger": "ledger",
    "Model": "models",
    "NetweightError": "errors",
    "QTensor": "formats",
    "Recipe": "recipe",
    "Row": "ledger",
    "Step": "recipe",
}
__all__ = ["__version__", *_VERBS, *_NOUNS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """A verb or a noun, on first use (PEP 562)."""
    if name in _VERBS:
        value = getattr(importlib.import_module("netweight.verbs"), name)
    elif name in _NOUNS:
        value = getattr(importlib.import_module(f"netweight.{_NOUNS[name]}"), name)
    else:
        raise AttributeError(f"module 'netweight' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Importing the room ``netweight.compress`` would bind it over the verb of that name; here the verb keeps it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _VERBS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
