"""File formats of images: what of them Pillow does not read as it should, told and read within limits."""
