"""A task: one metric, its settings, and the data to measure it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from netweight import registry
from netweight.errors import DataError, SettingsError
from netweight.evaluate._items import Data
from netweight.settings import Settings, parse

ROOM = "netweight.evaluate.metrics"


@dataclass(frozen=True)
class Quantity:
    """One kind of claim a metric makes.

    Attributes:
      name: the claim's ``metric``.
      ideal: the value against the reference that means "no change", for a quantity that is itself a comparison with the
        reference (KL divergence 0, agreement 1); None for a quantity that each subject has on its own.
    """

    name: str
    unit: str
    better: Literal["lower", "higher", "neither"]
    ideal: float | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """A metric by its file name, its settings, and data (None for metrics that need none)."""

    metric: str
    settings: Settings
    data: Data | None = None

    @property
    def plugin(self) -> ModuleType:
        return registry.find(ROOM, self.metric)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return self.plugin.QUANTITIES

    def to_settings(self) -> dict[str, Any]:
        """Plain data that, with the same data set, makes the same task again; every claim's ``settings`` starts with it."""
        return {"task": self.metric} | self.settings.model_dump(mode="json")

    @staticmethod
    def from_settings(settings: Mapping[str, Any], data: Data | None = None) -> Task:
        """The task a claim was measured with; the claim's ``run`` entry (batch size, resamples) is not part of it.

        Raises:
          SettingsError: no task named, unknown task or setting, value outside its limits.
          DataError: the metric measures on another kind of data.
        """
        values = {key: value for key, value in settings.items() if key not in ("task", "run")}
        if not isinstance(settings.get("task"), str):
            raise SettingsError(
                f"task = {settings.get('task')!r}: must name a metric: {', '.join(registry.names(ROOM))}"
            )
        return task(settings["task"], data, **values)


def task(metric: str, data: Data | None = None, /, **settings: Any) -> Task:
    """A task from a metric's name, its data, and settings by keyword; defaults fill the rest.

    Raises:
      UnknownName: no such metric.
      SettingsError: unknown setting, or a value outside its limits.
      DataError: the metric measures on another kind of data.
    """
    plugin = registry.find(ROOM, metric)
    kind = "none" if data is None else data.kind
    if kind not in plugin.DATA:
        raise DataError(f"{metric} measures on {' or '.join(plugin.DATA)}, got {kind}")
    return Task(metric, parse(plugin.Settings, settings, f"task {metric}"), data)
