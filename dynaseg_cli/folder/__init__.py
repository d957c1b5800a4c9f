"""One network for a whole folder: fitting it to all images, and statistics of its labels."""
