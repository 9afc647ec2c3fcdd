"""The compiled library: found in this package, opened once, and asked what it can do. Rooms declare what they call in it.

Built at install time, never at import. ``NETWEIGHT_ISA`` names the instruction set to use, one of ``levels()``.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Mapping, Sequence
from ctypes import c_char_p, c_int
from functools import cache

from netweight.errors import KernelError, NotFiniteError, SettingsError, nearest

ABI = 3
MODULE = "netweight._native"
ISA_VARIABLE = "NETWEIGHT_ISA"
BUILD = "install a C++17 compiler, then `pip install -c constraints.txt --force-reinstall --no-deps -e .`"

Signatures = Mapping[str, tuple[object, Sequence[object]]]
SIGNATURES: Signatures = {
    "nw_abi": (c_int, ()),
    "nw_isa": (c_char_p, ()),
    "nw_isa_levels": (c_char_p, ()),
    "nw_set_isa": (c_int, (c_char_p,)),
    "nw_set_threads": (None, (c_int,)),
    "nw_threads": (c_int, ()),
}


@cache
def library() -> ctypes.CDLL:
    """The library, with the instruction set that ``NETWEIGHT_ISA`` asks for and as many threads as torch has.

    Raises:
      KernelError: it was not built, or belongs to another version. SettingsError: no such instruction set here.
    """
    import torch

    found = importlib.util.find_spec(MODULE)
    if found is None or not found.origin:
        raise KernelError(f"this installation has no compiled kernels; {BUILD}")
    try:
        loaded = ctypes.CDLL(found.origin)
    except OSError as error:
        raise KernelError(f"cannot load {found.origin}: {error}; {BUILD}") from error
    declare(loaded, SIGNATURES)
    if loaded.nw_abi() != ABI:
        raise KernelError(f"{found.origin} speaks version {loaded.nw_abi()} of the interface, not {ABI}; {BUILD}")
    if asked := os.environ.get(ISA_VARIABLE):
        _set_isa(loaded, asked)
    loaded.nw_set_threads(torch.get_num_threads())
    return loaded


def declare(loaded: ctypes.CDLL, signatures: Signatures) -> ctypes.CDLL:
    """Result and arguments of each function, for ctypes. Raises: KernelError: the library lacks one of them."""
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name, None)
        if function is None:
            raise KernelError(f"{loaded._name} has no {name}: it belongs to another version; {BUILD}")
        function.restype, function.argtypes = result, arguments
    return loaded


@cache
def missing() -> str | None:
    """Why there is no compiled library here; None when there is."""
    try:
        library()
    except KernelError as error:
        return str(error)
    return None


def levels() -> tuple[str, ...]:
    """Instruction sets that this build has and this CPU can run, best first."""
    return tuple(library().nw_isa_levels().decode().split())


def isa() -> str:
    """The instruction set in use."""
    return library().nw_isa().decode()


def set_isa(name: str) -> None:
    """Use this instruction set from now on. Raises: SettingsError: not one of ``levels()``."""
    _set_isa(library(), name)


def _set_isa(loaded: ctypes.CDLL, name: str) -> None:
    if loaded.nw_set_isa(name.encode()) != 0:
        known = loaded.nw_isa_levels().decode().split()
        raise SettingsError(
            f"{ISA_VARIABLE} {name!r}: this build on this CPU has {', '.join(known)}{nearest(name, known)}"
        )


def threads() -> int:
    """How many threads share one call, the caller's included."""
    return library().nw_threads()


def set_threads(count: int) -> None:
    """As many threads share one call from now on. Raises: SettingsError: less than one."""
    if count < 1:
        raise SettingsError(f"threads = {count}: must be at least 1")
    library().nw_set_threads(count)


def describe() -> str:
    """One line: the instruction set and the threads, or why there are none."""
    if (why := missing()) is not None:
        return f"no compiled kernels: {why}"
    return f"{isa()} kernels, {threads()} threads (this machine also has: {', '.join(levels()[1:])})"


MESSAGES = {
    -1: (KernelError, "a matrix or a request the kernels do not know"),
    -2: (KernelError, "a scale is infinite, not a number, or negative where it must not be"),
    -3: (KernelError, "a code stands for NaN"),
    -4: (MemoryError, "not enough memory"),
    -5: (NotFiniteError, "the input holds NaN or infinity"),
}


def checked(status: int, what: str) -> None:
    """Raises what a status means, with ``what`` went wrong in front."""
    if status < 0:
        kind, meaning = MESSAGES.get(status, (KernelError, f"status {status}"))
        raise kind(f"{what}: {meaning}")
