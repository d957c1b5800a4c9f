from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from skimage.color import rgb2lab

from dynaseg_cli.pictures.palette import SIZE, Palette, label_color, label_palette, palette_colors, voc_colors

DEFICIENT_WEIGHT = 2**0.5
"""With 1, a palette has next to no hues but blue and yellow."""
DICHROMATS = np.array(
    [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
"""What linear sRGB looks like to those who lack L, M or S cones (protanopia, deuteranopia, tritanopia): Machado et al.
2009, doi:10.1109/TVCG.2009.113, severity 1."""


def difference(colors: np.ndarray) -> float:
    """Least difference of any two colours in CIELAB, computed by scikit-image."""
    return float(pdist(rgb2lab(colors[None] / 255)[0]).min())


BOTH = pytest.mark.parametrize("name", get_args(Palette))


@BOTH
def test_palette_has_a_different_colour_for_each_label(name: Palette) -> None:
    palette = label_palette(name)
    assert palette.shape == (SIZE, 3)
    assert palette.dtype == np.uint8
    assert len(np.unique(palette, axis=0)) == SIZE


@BOTH
def test_colours_differ_to_the_eye(name: Palette) -> None:
    """2.3 is the least difference that is noticed (Mahy 1994)."""
    assert difference(label_palette(name)) > 2.3
    assert difference(label_palette(name)[:12]) > 15


def simulated(rgb: np.ndarray, deficiency: int) -> np.ndarray:
    """8-bit sRGB as a dichromat sees it, by the matrices of Machado et al. 2009."""
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    seen = (linear @ DICHROMATS[deficiency].T).clip(0, 1)
    return np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055) * 255


@BOTH
@pytest.mark.parametrize("deficiency", range(3))
def test_colours_differ_to_those_who_see_fewer(deficiency: int, name: Palette) -> None:
    seen = simulated(label_palette(name), deficiency)
    assert difference(seen[:8]) > 10
    assert difference(seen[:16]) > 6


def test_dichromats_see_greys_as_greys_and_confuse_what_they_should() -> None:
    np.testing.assert_allclose(DICHROMATS.sum(2), 1, atol=1e-5)
    red_and_green = np.array([[160, 60, 20], [95, 90, 20]])
    for deficiency in (0, 1):
        assert difference(simulated(red_and_green, deficiency)) < difference(red_and_green) / 2


def as_seen(rgb: NDArray[np.integer]) -> NDArray[np.float64]:
    """Colours (N, 3), 0..255, in Oklab, (4, N, 3): for normal vision, and for those who lack L, M or S cones."""
    linear = _linear(rgb / 255)
    return np.stack([_oklab(linear), *(_oklab((linear @ matrix.T).clip(0, 1)) for matrix in DICHROMATS)])


def _linear(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB in 0..1 without its gamma."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _oklab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear sRGB in 0..1, (N, 3), to Oklab."""
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lab: NDArray[np.float64] = np.cbrt(linear @ to_lms.T) @ to_lab.T
    return lab


@dataclass(frozen=True)
class Limits:
    """Colours that the label `number` may have: Oklab's lightness between two limits, chroma below one."""

    darkest: float
    palest: float
    most_chroma: float

    @classmethod
    def of(cls, name: Palette, number: int) -> Limits:
        if name == "palette":
            return cls(0.36, 0.90, 0.14)
        dark, strong = min(1, number / 12), min(1, number / 16)
        return cls(0.62 - 0.26 * dark, 0.86 + 0.04 * dark, 0.07 + 0.07 * strong)


FIRST: dict[Palette, tuple[int, int, int]] = {"calm": (150, 170, 190), "palette": (70, 115, 170)}
"""The first colour is the one most like this."""


@BOTH
def test_each_colour_is_as_far_as_possible_from_those_before_it(name: Palette) -> None:
    steps = np.arange(0, 256, 17)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    oklab = _oklab(_linear(rgb / 255))
    lightness, chroma = oklab[:, 0], np.hypot(oklab[:, 1], oklab[:, 2])
    seen = as_seen(rgb)
    weights = np.array([1.0] + [DEFICIENT_WEIGHT] * len(DICHROMATS))
    likeness = -((seen[0] - _oklab(_linear(np.array([FIRST[name]]) / 255))) ** 2).sum(1)
    distance, chosen = likeness, []
    for number in range(SIZE):
        limits = Limits.of(name, number)
        allowed = (lightness > limits.darkest) & (lightness < limits.palest) & (chroma < limits.most_chroma)
        chosen.append(int(np.where(allowed, distance, -np.inf).argmax()))
        apart = (np.linalg.norm(seen - seen[:, chosen[-1:]], axis=2) * weights[:, None]).min(0)
        distance = np.minimum(distance, apart) if number else apart
    assert label_palette(name).tolist() == rgb[chosen].tolist()


def test_largest_labels_have_calm_colours() -> None:
    calm, strong = (np.hypot(*_oklab(_linear(label_palette(name)[:4] / 255))[:, 1:].T) for name in ("calm", "palette"))
    assert calm.max() < 0.085 < np.median(strong)


def test_palettes_stay_as_they_were_published() -> None:
    assert label_palette()[:3].tolist() == [[153, 170, 187], [221, 204, 153], [85, 136, 102]]
    assert label_palette("palette")[:3].tolist() == [[68, 119, 170], [238, 221, 119], [119, 17, 0]]


def test_label_beyond_the_palette_starts_it_again() -> None:
    assert label_color(0) == tuple(label_palette()[0].tolist())
    assert palette_colors(SIZE + 8)[-1].tolist() == list(label_color(7))
    assert label_color(SIZE + 7) == label_color(7) != label_color(8)


def test_colours_of_voc_are_known() -> None:
    known = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]]
    assert voc_colors(7).tolist() == known
    assert voc_colors(256)[[20, 255]].tolist() == [[0, 64, 128], [224, 224, 192]]


def test_no_colour_of_voc_is_that_of_two_labels() -> None:
    assert len(np.unique(voc_colors(1 << 15), axis=0)) == 1 << 15
