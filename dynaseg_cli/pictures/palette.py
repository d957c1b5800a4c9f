"""The fixed palette of labels, the same in every image, and the palette of VOC."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

SIZE = 256
"""Number of colours; label n takes colour n modulo 256."""
_DIGITS = (
    "47aed7710c735cf337f9aa46a8d750aedbb4697649534c8afb95b7963878abc83685864377c8af4ef464ccc9a4b65c9d88b2578b9ddb"
    "586dc5d9673036abe90a9a85dae9708c794453866628a6df76186805299c62679e8d97a8735167569347b69c9266bdabbde623dbdc82"
    "548a95558ec70cb47768ccb62875449abb55ca863684645ad86b89689c6683267bb9e74589b2bcc9a98a659fa8ace855acb981888cad"
    "7258649698ea8981636707ec49c843349dcd87a75a9ba2acd776475a7bc6a73b86a43d89dba78dadaca37bf7ae9cdbbf0988a9485e87"
    "82296bb74fccaac75797b99a7749c89db540cd8994565c8da64740a58cdffaeb98b8b9eeab5633aa5b57bb9852625db59ad562da6148"
    "dcbaae5943515ba8ccea498c9ddb78436b7b886aa866a663682947edaf97b93873259cc7cdc8486467696a58ca85978aba4360eb6a9b"
    "246473cbca66785244baf93482486a655940fca6379d8445bcf97799d9eb354dc83428bdfabbbd695966ccefce6317aca505784c999e"
    "44365236657c"
)
"""Three hexadecimal digits for each colour, as in CSS: 47a is (68, 119, 170).

Each colour is as far as possible from those before it: by farthest-point sampling in Oklab (Ottosson 2020), where
distance is perceived difference, among colours that are neither too dark, too pale nor too garish, for the viewer who
tells two colours apart the least: with normal vision or, weighted by the root of 2, without one kind of cone (Machado
et al. 2009, doi:10.1109/TVCG.2009.113). The derivation is in the tests.
"""


@functools.cache
def label_palette() -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB."""
    return np.array([17 * int(digit, 16) for digit in _DIGITS], dtype=np.uint8).reshape(SIZE, 3)


def label_color(label: int) -> tuple[int, int, int]:
    """The RGB colour of one label, 0..255 each."""
    red, green, blue = label_palette()[label % SIZE].tolist()
    return red, green, blue


def palette_colors(count: int) -> NDArray[np.uint8]:
    """(count, 3) uint8 RGB: the colours of labels 0..count-1."""
    return label_palette()[np.arange(count) % SIZE]


@functools.lru_cache(maxsize=2)
def voc_colors(count: int) -> NDArray[np.uint8]:
    """(count, 3) uint8 RGB, the palette of VOC, continued by its rule, which repeats no colour below 2^24.

    The bits of an index are dealt to red, green and blue in turn, and the first of each colour is its highest (VOC2012
    development kit, VOClabelcolormap).
    """
    indices = np.arange(count)
    colors = np.zeros((count, 3), dtype=np.uint8)
    for place in range(8):
        for channel in range(3):
            bits = (indices >> (3 * place + channel)) & 1
            colors[:, channel] |= (bits << (7 - place)).astype(np.uint8)
    return colors
