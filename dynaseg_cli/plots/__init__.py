"""Everything that needs matplotlib: the pictures of `evaluate --plot` and `benchmark --plot`."""
