"""The fixed palettes of labels, the same in every image, and the palette of VOC."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Palette = Literal["calm", "palette"]

SIZE = 256
"""Number of colours; label n takes colour n modulo 256."""
_DIGITS: dict[Palette, str] = {
    "calm": (
        "9abdc95869df97ac96852558cae79d734a723374407cb56ba91767ac63b805648cddd798facbeaed7a45959b54e9971345a5959cd960"
        "7af822a8bba3625843448388c74bdbb67ab7757db40468ad76ab898ef545a867474cf673264649e8a8a5275ec767b079438d777bd858"
        "7379c8740da565978dbca99ca9e656534a6868b9443ccc7aa796ec956dcea5539c542b77eaf6babba536d98643d848bbf9c349779975"
        "460455fcc57c75a2aca9b0a9c8a7457ddccb8889a7568fa9646c6469bcdecd969eeb7adacbe3434c99aed898be763cbbaa89d896b4bc"
        "5479679b6054996dd836a934782789872652bbfe965a7e87a808de868537571648dc5aeb6ca3515da6666968ed363097b8d158ccd8ce"
        "cb5947db8aaf7dbbad77698c55338abc7b834744835ae7b7b6aac9bcfa99cdcca4abd8952596ab98598a886883145ea43ee38476b476"
        "7238777ac4468cca52c9236544436794007afbf73087c932b938ea998750a7baa5769b71cc6a43a63bb8caf824765b56685ae9b9a630"
        "749addb64c84"
    ),
    "palette": (
        "47aed7710c735cf337f9aa46a8d750aedbb4697649534c8afb95b7963878abc83685864377c8af4ef464ccc9a4b65c9d88b2578b9ddb"
        "586dc5d9673036abe90a9a85dae9708c794453866628a6df76186805299c62679e8d97a8735167569347b69c9266bdabbde623dbdc82"
        "548a95558ec70cb47768ccb62875449abb55ca863684645ad86b89689c6683267bb9e74589b2bcc9a98a659fa8ace855acb981888cad"
        "7258649698ea8981636707ec49c843349dcd87a75a9ba2acd776475a7bc6a73b86a43d89dba78dadaca37bf7ae9cdbbf0988a9485e87"
        "82296bb74fccaac75797b99a7749c89db540cd8994565c8da64740a58cdffaeb98b8b9eeab5633aa5b57bb9852625db59ad562da6148"
        "dcbaae5943515ba8ccea498c9ddb78436b7b886aa866a663682947edaf97b93873259cc7cdc8486467696a58ca85978aba4360eb6a9b"
        "246473cbca66785244baf93482486a655940fca6379d8445bcf97799d9eb354dc83428bdfabbbd695966ccefce6317aca505784c999e"
        "44365236657c"
    ),
}
"""Three hexadecimal digits for each colour, as in CSS: 47a is (68, 119, 170).

Each colour is as far as possible from those before it: by farthest-point sampling in Oklab (Ottosson 2020), where
distance is perceived difference, among colours that are neither too dark, too pale nor too garish, for the viewer who
tells two colours apart the least: with normal vision or, weighted by the root of 2, without one kind of cone (Machado
et al. 2009, doi:10.1109/TVCG.2009.113). The first colours of "calm", which large labels have, are paler and less
saturated as well. The derivation is in the tests.
"""


@functools.cache
def label_palette(palette: Palette = "calm") -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB."""
    return np.array([17 * int(digit, 16) for digit in _DIGITS[palette]], dtype=np.uint8).reshape(SIZE, 3)


def label_color(label: int, palette: Palette = "calm") -> tuple[int, int, int]:
    """The RGB colour of one label, 0..255 each."""
    red, green, blue = label_palette(palette)[label % SIZE].tolist()
    return red, green, blue


def palette_colors(count: int, palette: Palette = "calm") -> NDArray[np.uint8]:
    """(count, 3) uint8 RGB: the colours of labels 0..count-1."""
    return label_palette(palette)[np.arange(count) % SIZE]


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
