"""Real English technical text that comes with every Python: the topics of ``pydoc``, in two parts that share no 13-gram.

Topics that repeat each other's passages form one group, and a group never falls apart into both parts. The largest group is
for calibration; the others follow in the order of a hash of their first name until calibration holds five eighths of the text.
"""

from __future__ import annotations

import pydoc_data.topics
from functools import cache

from netweight.data._overlap import shared_groups
from netweight.provenance import sha256_of_bytes

SPLITS = ("train", "test")
NGRAM = 13
SHARE_OF_TRAIN = 5 / 8


def documents(split: str) -> tuple[str, ...]:
    """Topics of one part, by name."""
    train = _names_of_train()
    topics = pydoc_data.topics.topics
    return tuple(topics[name] for name in sorted(topics) if (name in train) == (split == "train"))


@cache
def _names_of_train() -> frozenset[str]:
    topics = pydoc_data.topics.topics
    names = sorted(topics)
    groups = [[names[i] for i in group] for group in shared_groups([topics[name] for name in names], n=NGRAM)]
    size = {group[0]: sum(len(topics[name]) for name in group) for group in groups}
    largest = max(groups, key=lambda group: (size[group[0]], group[0]))
    rest = sorted((g for g in groups if g is not largest), key=lambda group: sha256_of_bytes(group[0].encode()))
    taken, chosen = size[largest[0]], set(largest)
    for group in rest:
        if taken >= SHARE_OF_TRAIN * sum(size.values()):
            break
        taken += size[group[0]]
        chosen |= set(group)
    return frozenset(chosen)
