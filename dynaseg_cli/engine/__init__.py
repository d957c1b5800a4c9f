"""Runs the method fast on a device: from an image to labels and what is made of them. No command line."""
