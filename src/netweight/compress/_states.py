"""What runs from one part of a model to the next, batch by batch: in memory, or in a file that goes with the process."""

from __future__ import annotations

import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from netweight.errors import ResourceError


class States(Sequence[Tensor]):
    """One state for each batch, by number; ``put`` gives one a new value."""

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._take(number) for number in range(*index.indices(len(self)))]
        return self._take(index)

    @abstractmethod
    def _take(self, number: int) -> Tensor: ...

    @abstractmethod
    def put(self, number: int, state: Tensor) -> None: ...


class Held(States):
    """States in memory. A state that takes another's place is copied into its memory, so that none of it is given back in holes."""

    def __init__(self, states: Iterable[Tensor]) -> None:
        self._states = [state.clone() for state in states]  # they may be the caller's own: embeddings given as a batch

    def __len__(self) -> int:
        return len(self._states)

    def _take(self, number: int) -> Tensor:
        return self._states[number]

    def put(self, number: int, state: Tensor) -> None:
        held = self._states[number]
        if held.shape == state.shape and held.dtype == state.dtype:
            held.copy_(state)
        else:
            self._states[number] = state.clone()


class Joined(Sequence[Tensor]):
    """Two rows of states, one after the other."""

    def __init__(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        self._parts = first, second

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        first, second = self._parts
        return first[index] if index < len(first) else second[index - len(first)]


@dataclass(frozen=True)
class _Place:
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Spilled(States):
    """States in a file without a name: read when they are asked for, each time into memory of their own.

    Any number of threads may read, and write states of different numbers.
    """

    def __init__(self, states: Iterable[Tensor], folder: Path) -> None:
        """Raises: ResourceError: the folder cannot be written, or its disk is full."""
        self._folder = folder
        with self._readable_errors():
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object)
        self._end = 0
        self._places: list[_Place] = []
        for number, state in enumerate(states):
            self._places.append(_Place(0, (0,), state.dtype))
            self.put(number, state)

    def __len__(self) -> int:
        return len(self._places)

    def _take(self, number: int) -> Tensor:
        place = self._places[number]
        state = torch.empty(place.shape, dtype=place.dtype)
        rest, offset = _bytes_of(state), place.offset
        with self._readable_errors():
            while len(rest):
                if not (count := os.preadv(self._file.fileno(), [rest], offset)):
                    raise OSError("the file is shorter than what was written to it")
                rest, offset = rest[count:], offset + count
        return state

    def put(self, number: int, state: Tensor) -> None:
        place = self._places[number]
        if place.shape != tuple(state.shape) or place.dtype != state.dtype:
            place = _Place(self._end, tuple(state.shape), state.dtype)
            self._end += state.nbytes
            self._places[number] = place
        rest, offset = _bytes_of(state.detach().contiguous()), place.offset
        with self._readable_errors():
            while len(rest):
                count = os.pwrite(self._file.fileno(), rest, offset)
                rest, offset = rest[count:], offset + count

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ResourceError(
                f"what runs between blocks cannot be kept in {self._folder}: {error}; free some space and run the same "
                'command to go on, or use memory = "ample"'
            ) from error


def _bytes_of(state: Tensor) -> memoryview:
    return state.reshape(-1).view(torch.uint8).numpy().data if state.numel() else memoryview(b"")
