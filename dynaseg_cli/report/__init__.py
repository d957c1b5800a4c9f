"""The report of a folder of segmentations, for a browser: one page, and a few files for each image."""
