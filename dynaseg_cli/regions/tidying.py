"""Tidied labels: every region of a cut gets the one label that most of it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from ..config import FREE, CutConfig
from .area import Area
from .hierarchy import Hierarchy, build_hierarchy
from .segments import BAND_PIXELS, connected_regions, number_by_area, numbers_by_area

Labels = NDArray[np.uint8] | NDArray[np.uint16]

MOST_CELLS = 1 << 20
"""Regions times labels up to which their pixels are counted in a table; of more, most do not occur together."""


@dataclass(frozen=True)
class Tidied:
    """The labels of an image as a cut leaves them."""

    labels: Labels
    """(H, W)."""
    regions: NDArray[np.int32]
    """(H, W) connected regions, 0..R-1 by falling area, and -1 outside an area."""
    numbers: NDArray[np.int32]
    """(N,) the number that each of the raw labels 0..N-1 has now. Labels that are gone have numbers that none has."""
    hierarchy: Hierarchy | None
    """From which the regions were cut, of the area's box; None if none was needed."""
    outside: int | None = None
    """The label outside an area, 0 for background or 255 or 65535; None without an area."""

    @property
    def first(self) -> int:
        """The number in files of region 0: 1 beside a background."""
        return int(self.outside == 0)


def tidy(
    raw: Labels,
    image: NDArray[np.uint8],
    cut: CutConfig,
    hierarchy: Hierarchy | None = None,
    scribbles: NDArray[np.uint8] | None = None,
    *,
    renumber: bool = True,
    area: Area | None = None,
    background: bool = False,
) -> Tidied:
    """Cut the regions of an image and give each one label.

    In an area, its box alone is cut. Regions that its border divides fall into their connected parts, and only what
    counts decides the order of labels and regions.

    Parameters
    ----------
    raw : (H, W) labels as the network gave them. A cut that `is_raw` leaves them as they are.
    image : (H, W, 3) uint8 RGB.
    hierarchy : over these labels, if there is one already.
    scribbles : (H, W) uint8 with labels, and `FREE` elsewhere. Drawn pixels keep their labels, drawn labels their
        numbers.
    renumber : whether labels are numbered 0..K-1 by falling area afterwards, or keep their numbers.
    area : the pixels that count, if these are not all. The hierarchy is then one of the area's box.
    background : whether what is outside the area is label 0, so that labels begin with 1.
    """
    if area is None:
        return _tidy(raw, image, cut, hierarchy, scribbles, renumber=renumber)
    if hierarchy is None and not cut.is_raw:
        hierarchy = build_hierarchy(raw[area.box], area.filled(image))
    drawn = area.drawn(scribbles)
    box = _tidy(raw[area.box], image[area.box], cut, hierarchy, drawn, renumber=renumber)
    return _within(area, box, drawn, renumber=renumber, background=background)


def _tidy(
    raw: Labels,
    image: NDArray[np.uint8],
    cut: CutConfig,
    hierarchy: Hierarchy | None,
    scribbles: NDArray[np.uint8] | None,
    *,
    renumber: bool,
) -> Tidied:
    if cut.is_raw:
        parts = connected_regions(raw)
        regions = numbers_by_area(np.bincount(parts.reshape(-1)))[parts]
        return Tidied(raw, regions, np.arange(int(raw.max()) + 1, dtype=np.int32), hierarchy)
    if hierarchy is None:
        hierarchy = build_hierarchy(raw, image)
    regions = cut_regions(hierarchy, cut)
    if scribbles is not None:
        regions = split_between_strokes(regions, raw, scribbles)
    labels, numbers = tidied_labels(raw, regions, scribbles), np.arange(int(raw.max()) + 1, dtype=np.int32)
    if renumber:
        kept = [] if scribbles is None else np.unique(scribbles[scribbles != FREE]).tolist()
        numbered = number_by_area(labels, kept)
        labels, known = numbered.labels, len(numbered.numbers)
        numbers = np.append(numbered.numbers, numbers[known:])
    return Tidied(labels, regions, numbers, hierarchy)


def _within(area: Area, box: Tidied, drawn: NDArray[np.uint8] | None, *, renumber: bool, background: bool) -> Tidied:
    """The labels of an area's box without those outside the area, in a map of the whole photo."""
    inside, numbers = area.inside, box.numbers
    labels = box.labels.astype(np.int32)
    parts = connected_regions(np.where(inside, box.regions, -1))
    regions = numbers_by_area(np.bincount(parts[inside], minlength=int(parts.max()) + 1))[parts]
    if renumber:
        kept = [] if drawn is None else np.unique(drawn[drawn != FREE]).tolist()
        found = number_by_area(labels[inside], kept).numbers
        every = np.arange(1 + max(int(labels.max()), int(numbers.max())), dtype=np.int32)
        every[: len(found)] = found[: len(every)]
        labels, numbers = every[labels], every[numbers]
    first = int(background)
    highest = int(labels[inside].max()) + first
    dtype = np.uint8 if highest < np.iinfo(np.uint8).max + first else np.uint16
    outside = 0 if background else int(np.iinfo(dtype).max)
    return Tidied(
        area.pasted((labels + first).astype(dtype), outside),
        area.pasted(regions, -1),
        numbers + np.int32(first),
        box.hierarchy,
        outside,
    )


def cut_regions(hierarchy: Hierarchy, cut: CutConfig) -> NDArray[np.int32]:
    """The regions that a cut takes from a hierarchy, (H, W) int32, 0..R-1 by falling area."""
    if isinstance(cut.regions, int):
        return hierarchy.cut_to(cut.regions)
    granularity = cut.common_granularity
    assert granularity is not None
    return hierarchy.cut(granularity)


def tidied_labels(raw: Labels, regions: NDArray[np.int32], scribbles: NDArray[np.uint8] | None = None) -> Labels:
    """Give every region the label that most of its pixels have; of several with equally many, the smallest.

    Parameters
    ----------
    raw : (H, W) labels.
    regions : (H, W) 0..R-1.
    scribbles : (H, W) uint8 with labels, and `FREE` elsewhere. Where something is drawn on a region, only the drawn
        pixels decide. A pixel that is drawn on has its own label in any case.

    Returns
    -------
    (H, W) labels of the type of `raw`.
    """
    label_of = main_labels(regions, raw)
    if scribbles is None:
        return _like(raw, label_of)[regions]
    drawn = scribbles != FREE
    of_strokes = _most_frequent(regions[drawn], scribbles[drawn], len(label_of))
    labels = np.where(of_strokes < 0, label_of, of_strokes)[regions]
    labels[drawn] = scribbles[drawn]
    return _like(raw, labels)


def main_labels(regions: NDArray[np.int32], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """(R,) the label that most pixels of each of the regions 0..R-1 of an (H, W) map have; of equals the smallest.

    Pixels of region -1 are left out.
    """
    if regions.min() < 0:
        counts = regions >= 0
        regions, labels = regions[counts], labels[counts]
    return _most_frequent(regions.reshape(-1), labels.reshape(-1), int(regions.max()) + 1)


def split_between_strokes(regions: NDArray[np.int32], raw: Labels, scribbles: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Split every region on which several labels are drawn into the connected parts of its raw labels.

    Who draws two labels wants to tell two things apart, however alike they look.

    Parameters
    ----------
    regions : (H, W) 0..R-1.
    scribbles : (H, W) uint8 with labels, and `FREE` elsewhere.

    Returns
    -------
    (H, W) int32, 0..R-1 by falling area.
    """
    drawn = scribbles != FREE
    count = int(regions.max()) + 1
    pairs = np.unique(regions[drawn].astype(np.int64) * FREE + scribbles[drawn])
    several = np.bincount(pairs // FREE, minlength=count) > 1
    if not several.any():
        return regions
    parts = connected_regions(np.where(several[regions], regions + count * (1 + raw.astype(np.int64)), regions))
    split: NDArray[np.int32] = numbers_by_area(np.bincount(parts.reshape(-1)))[parts]
    return split


def _like(raw: Labels, labels: NDArray[np.int64]) -> Labels:
    return labels.astype(np.uint8) if raw.dtype == np.uint8 else labels.astype(np.uint16)


def _most_frequent(groups: NDArray[np.int32], values: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """(count,) the most frequent value in each group, of equals the smallest; -1 for a group without values.

    `groups`, (N,) in 0..count-1, and `values`, (N,) not negative, belong together.
    """
    shape = count, int(values.max(initial=0)) + 1
    bands = [slice(start, start + BAND_PIXELS) for start in range(0, len(groups), BAND_PIXELS)]
    if count * shape[1] <= MOST_CELLS:
        table = np.zeros(shape, dtype=np.int64)
        for some in bands:
            cells = groups[some].astype(np.int64) * shape[1] + values[some]
            table += np.bincount(cells, minlength=table.size).reshape(shape)
        return np.where(table.any(axis=1), table.argmax(axis=1), -1)
    counts = coo_array(shape, dtype=np.int64).tocsr()
    for some in bands:
        ones = np.ones(len(groups[some]), dtype=np.int64)
        counts = counts + coo_array((ones, (groups[some], values[some])), shape=shape).tocsr()
    found = counts.tocoo()
    # The last one assigned stays: the most frequent, and of these the smallest.
    order = np.lexsort((-found.col.astype(np.int64), found.data))
    most = np.full(count, -1, dtype=np.int64)
    most[found.row[order]] = found.col[order]
    return most
