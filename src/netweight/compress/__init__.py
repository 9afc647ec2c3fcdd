"""Post-training methods: one file each, and the one walker that applies them block by block."""

from netweight.compress._hands import Waiting
from netweight.compress._parallel import pool, return_memory
from netweight.compress._part import Part, parts
from netweight.compress._plugin import Moments, Rotated, Solution
from netweight.compress._rotate import as_planned, rotated
from netweight.compress._select import Assignment, Plan, plan
from netweight.compress._solve import digest_of
from netweight.compress._tune import tune
from netweight.compress._walk import walk

__all__ = [
    "Assignment",
    "Moments",
    "Part",
    "Plan",
    "Rotated",
    "Solution",
    "Waiting",
    "as_planned",
    "digest_of",
    "parts",
    "plan",
    "pool",
    "return_memory",
    "rotated",
    "tune",
    "walk",
]
