"""Second implementations, written another way, that the package is compared with. Loading them loads no netweight."""
