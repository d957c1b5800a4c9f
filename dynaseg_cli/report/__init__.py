"""A report of a folder of segmentations, for a browser: what is shown of each image, and the page that shows it."""
