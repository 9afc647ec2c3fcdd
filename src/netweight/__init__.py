"""netweight: make a neural network smaller, faster and cheaper, and prove what that cost."""

from __future__ import annotations

__version__ = "0.1.0"
