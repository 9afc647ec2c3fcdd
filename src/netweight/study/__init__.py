"""Studies: a grid of cells, done in processes of their own and resumable, and what can be concluded from it."""

from netweight.study._anova import Anova, Part, anova
from netweight.study._grid import OF_A_RUN, Cell, Measure, Study, load
from netweight.study._paired import Paired, corrected, paired
from netweight.study._pool import Pool, Task, run
from netweight.study._rankings import Rankings, rankings
from netweight.study._recovery import Recovery, recovery, settled
from netweight.study._table import lost

__all__ = [
    "OF_A_RUN",
    "Anova",
    "Cell",
    "Measure",
    "Paired",
    "Part",
    "Pool",
    "Rankings",
    "Recovery",
    "Study",
    "Task",
    "anova",
    "corrected",
    "load",
    "lost",
    "paired",
    "rankings",
    "recovery",
    "run",
    "settled",
]
