"""How far outputs are from their targets: one file each, found by name, as ``loss = { use = "mse+sw", sw = 0.1 }``."""

from netweight.losses._make import Loss, Terms, make, table

__all__ = ["Loss", "Terms", "make", "table"]
