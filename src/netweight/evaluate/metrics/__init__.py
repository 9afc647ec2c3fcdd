"""Metrics, one file each; the file's name is the task's name.

A file defines ``SUMMARY``, ``DATA`` (kinds of data it measures on), ``QUANTITIES`` (the claims it makes), ``Settings``, and
one of ``measure(bench, data, settings) -> {subject: {quantity: sample}}``; to share a pass over text with others,
``score(view) -> values_NK`` and ``of_sums(sums_RK) -> statistic_R`` with settings that extend ``TextSettings``; to share a pass
over images with masks, ``of_masks(scored, settings) -> {subject: {quantity: sample}}`` from every subject's probabilities.
"""
