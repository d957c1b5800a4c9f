"""One image as the formats are written from it: what several of them need is made once, and only if one does."""

from __future__ import annotations

from functools import cached_property

from ..errors import ImageError
from .images import ExportImage, Map, Segments
from .masks import MaskPair, mask_pair
from .run_length import Runs, find_runs


class Source:
    """An image whose map is in memory, and found to be sound.

    Parameters
    ----------
    number : of the image among all that are exported, from 1.
    labels : how many labels there are in all images.

    Raises
    ------
    ImageError
        If the map is none, or of segments or labels that there are not; and what reading it raises.
    """

    def __init__(self, number: int, image: ExportImage, labels: int) -> None:
        self.number = number
        self.image = image
        self.segments = image.read()
        _refuse_unsound(self.segments, self.runs, labels)

    @cached_property
    def runs(self) -> Runs:
        return find_runs(self.segments.of_pixel)

    @property
    def categories(self) -> Map:
        """(P,) the category of each segment that occurs: its label + 1, as 0 is what no segment is."""
        return self.segments.labels[self.runs.segments] + 1

    @cached_property
    def masks(self) -> MaskPair:
        """Raises ImageError if there are more labels or segments than VOC's 8 bits hold."""
        return mask_pair(self.segments, self.runs.segments)


def _refuse_unsound(segments: Segments, runs: Runs, labels: int) -> None:
    found = runs.segments
    if found[0] < 0 or found[-1] >= len(segments.labels):
        raise ImageError(
            f"its map has segments {found[0]} to {found[-1]}, where 0 to {len(segments.labels) - 1} are known:"
            " make it again with --overwrite"
        )
    known = segments.labels[found]
    if known.min() < 0 or known.max() >= labels:
        raise ImageError(
            f"its map has labels {known.min()} to {known.max()}, where 0 to {labels - 1} are known:"
            " make it again with --overwrite"
        )
