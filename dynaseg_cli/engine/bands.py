"""A map is worked on in bands of rows: what one operation wrote, the next finds in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch

BAND_BYTES = 1 << 21
"""float32 values of one band on a CPU. One operation's share of a core's cache; too little, and calls outweigh work."""


def band_rows(width: int, channels: int, device: torch.device) -> int:
    """Rows of a band of (H, width, channels) float32: a GPU, which has no such cache, takes all rows at once."""
    return max(1, BAND_BYTES // (width * channels * 4)) if device.type == "cpu" else 1 << 62


def bands(height: int, rows: int) -> Iterator[slice]:
    """Slices of at most `rows` rows that cover `height` once, from the top."""
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
