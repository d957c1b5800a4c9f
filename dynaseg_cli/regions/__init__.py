"""Label maps as connected regions, and regions as a hierarchy. NumPy and SciPy only: every other room may use it."""
