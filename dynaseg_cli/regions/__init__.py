"""Label maps as connected regions. NumPy and SciPy only: engine, batch and evaluation may all use it."""
