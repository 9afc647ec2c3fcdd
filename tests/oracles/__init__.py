"""Second implementations, written another way, that the package is compared with. Nothing here imports netweight at load time."""
