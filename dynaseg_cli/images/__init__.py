"""Image files in: photos to RGB pixels, label maps and scribbles to arrays. Never torch."""
