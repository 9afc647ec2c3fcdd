"""The judge: measures subjects side by side on the same data and hands back claims with intervals.

It never knows the defendant: a ``Subject`` is callables and byte counts, not a recipe or a method.
Metrics are files in ``metrics/``: see ``docs/architecture.md`` for what one defines.
"""

from netweight.data import ChoiceItem, ContextChoiceItem, ContinuationItem, PairItem
from netweight.evaluate._bench import Bench
from netweight.evaluate._bootstrap import bootstrap
from netweight.evaluate._items import Images, Items, Labelled, Masked, Text
from netweight.evaluate._paired import holm, verdict
from netweight.evaluate._ranking import average_precision, roc_auc
from netweight.evaluate._run import run
from netweight.evaluate._samples import Additive
from netweight.evaluate._segmentation import mask_metrics, segmentation
from netweight.evaluate._statistics import Interval, median_interval
from netweight.evaluate._subject import Subject
from netweight.evaluate._task import Quantity, Task, task
from netweight.evaluate._tokens import TokenView

__all__ = [
    "Additive",
    "Bench",
    "ChoiceItem",
    "ContextChoiceItem",
    "ContinuationItem",
    "Images",
    "Interval",
    "Items",
    "Labelled",
    "Masked",
    "PairItem",
    "Quantity",
    "Subject",
    "Task",
    "Text",
    "TokenView",
    "average_precision",
    "bootstrap",
    "holm",
    "mask_metrics",
    "median_interval",
    "roc_auc",
    "run",
    "segmentation",
    "task",
    "verdict",
]
