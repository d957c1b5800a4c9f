"""The area of interest: the pixels of a photo that count, and the part of the photo in which they lie."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..config import FREE
from .hierarchy import Hierarchy

Values = TypeVar("Values", bound=NDArray[np.integer])


@dataclass(frozen=True, eq=False)
class Area:
    """The pixels of a photo that count: at least one, and not all of them. See `area_of`.

    Only their bounding box, the *box*, is segmented. In it, each pixel that does not count is given the colour of the
    nearest one that does, so that nothing outside the area has an influence, whatever looks at the box.
    """

    counts: NDArray[np.bool_]
    """(H, W)."""

    @cached_property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        found = (np.flatnonzero(self.counts.any(axis=axis)) for axis in (1, 0))
        rows, columns = (slice(int(line[0]), int(line[-1]) + 1) for line in found)
        return rows, columns

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """(h, w) which pixels of the box count."""
        return self.counts[self.box]

    @cached_property
    def pixels(self) -> int:
        """How many pixels count."""
        return int(np.count_nonzero(self.counts))

    def filled(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) the box of an (H, W, 3) photo, in colours of pixels that count."""
        part = np.ascontiguousarray(photo[self.box])
        return part if self.inside.all() else part[self._nearest]

    def seen(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(1, N, 3) the pixels of an (H, W, 3) photo that count."""
        return photo[self.counts][np.newaxis]

    def drawn(self, scribbles: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """(h, w) the box of (H, W) scribbles, `FREE` outside the area; None if nothing is drawn in it."""
        if scribbles is None:
            return None
        part = np.where(self.inside, scribbles[self.box], np.uint8(FREE))
        return None if (part == FREE).all() else part

    def continued(self, values: Values) -> Values:
        """(H, W) an (h, w) map of the box, continued to the edges of the photo by the nearest pixel of the box."""
        widths = [(side.start, length - side.stop) for side, length in zip(self.box, self.counts.shape, strict=True)]
        return cast("Values", np.pad(values, widths, mode="edge"))

    def continued_hierarchy(self, hierarchy: Hierarchy) -> Hierarchy:
        """A hierarchy of the box, its fragments `continued` to the edges of the photo."""
        return dataclasses.replace(hierarchy, fragments=self.continued(hierarchy.fragments))

    def hierarchy_of_box(self, continued: Hierarchy) -> Hierarchy:
        """The inverse of `continued_hierarchy`."""
        return dataclasses.replace(continued, fragments=continued.fragments[self.box])

    def pasted(self, values: Values, outside: int) -> Values:
        """(H, W) an (h, w) map of the box where pixels count, and `outside` elsewhere."""
        whole = np.full(self.counts.shape, outside, values.dtype)
        whole[self.box] = np.where(self.inside, values, values.dtype.type(outside))
        return cast("Values", whole)

    @cached_property
    def _nearest(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Row and column, (h, w) each, of the pixel of the box that counts and is nearest."""
        from scipy.ndimage import distance_transform_edt  # noqa: PLC0415 - only areas that are no rectangle need it

        rows, columns = distance_transform_edt(~self.inside, return_distances=False, return_indices=True)
        return rows, columns


def area_of(counts: NDArray[np.bool_] | None) -> Area | None:
    """The area of the pixels for which an (H, W) mask is true; None if these are all, or there is no mask.

    Raises ValueError if no pixel counts.
    """
    if counts is None or counts.all():
        return None
    if not counts.any():
        raise ValueError("no pixel counts: `mask` is false everywhere")
    return Area(counts)
