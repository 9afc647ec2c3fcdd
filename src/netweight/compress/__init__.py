"""Post-training methods: one file each, and the one walker that applies them block by block."""

from netweight.compress._plugin import Moments, Solution

__all__ = ["Moments", "Solution"]
