"""Studies: a grid of cells, done in processes of their own and resumable, and what can be concluded from it."""

from netweight.study._grid import Cell, Measure, Study, load
from netweight.study._pool import Task, run
from netweight.study._recovery import Recovery, recovery, settled

__all__ = ["Cell", "Measure", "Recovery", "Study", "Task", "load", "recovery", "run", "settled"]
