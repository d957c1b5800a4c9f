"""Scores of segmentations against ground truth. Stands alone: NumPy, SciPy and Pillow, never torch."""
