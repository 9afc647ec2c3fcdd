"""What the blocks of a plain module are fed, batch by batch: any arguments, their tensors kept as states are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from netweight.compress._states import States
from netweight.models import Call


@dataclass(frozen=True)
class _Place:
    number: int  # of a tensor among all that are kept


class Fed(Sequence[Call]):
    """Calls by number of the batch. Each is put together when it is asked for, of tensors that are the asker's own."""

    def __init__(self, calls: Iterable[Call], keep: Callable[[Iterable[Tensor]], States]) -> None:
        """``keep`` takes the tensors, one after the other as the calls are made."""
        self._calls: list[Call] = []
        self._count = 0
        self._tensors = keep(self._taken_apart(calls))

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self._together(self._calls[index])

    def _taken_apart(self, calls: Iterable[Call]) -> Iterator[Tensor]:
        for call in calls:
            tensors: list[Tensor] = []
            self._calls.append(self._apart(call, tensors))
            yield from tensors

    def _apart(self, value: Any, tensors: list[Tensor]) -> Any:
        if isinstance(value, Tensor):
            tensors.append(value)
            self._count += 1
            return _Place(self._count - 1)
        if type(value) in (tuple, list):
            return type(value)(self._apart(item, tensors) for item in value)
        if type(value) is dict:
            return {key: self._apart(item, tensors) for key, item in value.items()}
        return value

    def _together(self, value: Any) -> Any:
        if isinstance(value, _Place):
            return self._tensors[value.number].clone()  # a block may change its input in place
        if type(value) in (tuple, list):
            return type(value)(self._together(item) for item in value)
        if type(value) is dict:
            return {key: self._together(item) for key, item in value.items()}
        return value
