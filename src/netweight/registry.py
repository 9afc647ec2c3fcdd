"""A folder is a registry: ``compress/gptq.py`` is found as ``use = "gptq"``; files starting with ``_`` and folders are not."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType

from netweight.errors import UnknownName, nearest


def names(package: str) -> tuple[str, ...]:
    """Names of the plug-ins in a package such as ``"netweight.compress"``, sorted."""
    found = importlib.import_module(package)
    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(found.__path__) if not (m.ispkg or m.name.startswith("_")))
    )


def find(package: str, name: str) -> ModuleType:
    """The plug-in ``name`` of ``package``.

    Raises:
      UnknownName: no file of that name; the nearest name is offered.
    """
    known = f"{package}.{name}" in sys.modules and not name.startswith("_")
    if not known and name not in names(package):  # asked for once per layer: no need to read the folder again
        room = package.rsplit(".", 1)[-1]
        raise UnknownName(f"{name!r} is not in {room}{nearest(name, names(package))}")
    return importlib.import_module(f"{package}.{name}")  # waits where another thread is still importing it
