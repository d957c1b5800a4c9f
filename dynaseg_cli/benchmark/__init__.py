"""Methods side by side on the same images: seconds and quality."""
