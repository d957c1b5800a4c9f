"""Runs the method fast on a device: arrays in, arrays out, no file and no command line."""
