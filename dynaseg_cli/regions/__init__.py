"""Segments of label maps: connected regions, their neighbours and their hierarchy. NumPy and SciPy only."""
