"""The verbs: weigh, compress, train, evaluate, study, report, verify, run, bench, doctor. Each delegates once to the job of its name.

These signatures are also the command line: a positional parameter is an argument, a keyword-only one an option, and the
text under ``Args:`` its help. What cannot be typed (batches, a progress callback) is for Python only. Nothing heavy is
imported before a verb is called.
"""

from netweight.verbs._judging import evaluate, report, verify, weigh
from netweight.verbs._making import compress, study, train
from netweight.verbs._using import bench, doctor, run

__all__ = [
    "bench",
    "compress",
    "doctor",
    "evaluate",
    "report",
    "run",
    "study",
    "train",
    "verify",
    "weigh",
]
