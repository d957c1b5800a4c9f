"""Names beside the points of a panel, where they cover neither points nor each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..figures import FAINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAPS = (10, 16, 24, 36, 50, 66, 84, 104, 126)
"""Points of a typographer between a point and its name."""
DIRECTIONS = 24
NEAR = 12
"""Up to this gap it is plain whose name it is; beyond, a line leads to it."""
APART = 8
"""Points between names on one line, as between words."""
MARK = 7
"""Half the side of the square that a point takes."""
COVERED, OUTSIDE, CROSSED = 50.0, 100.0, 30.0
"""What it costs a name to cover a square pixel of something, to leave the panel by one, and to lead its line through
something for a tenth of its length; each point of its gap costs 1."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: Box) -> float:
        """The area that two have in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def holds(self, x: float, y: float) -> bool:
        return self.left < x < self.right and self.bottom < y < self.top

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.top - self.bottom)


def name_points(
    axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str], obstacles: Sequence[Box] = ()
) -> None:
    """Write each name near its point, one after another where it is in the way of least; the layout must be done.

    Parameters
    ----------
    points : in the units of the axes.
    names : escaped, of one or more lines.
    obstacles : what else is not to be covered.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = figure.dpi / 72
    panel = Box(*axes.bbox.extents)
    places = [(float(x), float(y)) for x, y in axes.transData.transform(list(points))]
    mark = MARK * scale
    taken = [*obstacles, *(Box(x - mark, y - mark, x + mark, y + mark) for x, y in places)]
    for point, place, name in zip(points, places, names, strict=True):
        text = axes.annotate(
            name,
            point,
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=11,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4},
        )
        text.set_in_layout(False)  # or the panels would move away from under their names
        extent = text.get_window_extent()
        gap, dx, dy = min(
            _offsets(extent.width, extent.height, scale),
            key=lambda offset: _cost(place, offset, (extent.width, extent.height), panel, taken),
        )
        text.set_position((dx / scale, dy / scale))
        if text.arrow_patch is not None:
            text.arrow_patch.set_visible(gap > NEAR)
        taken.append(_box(place, dx, dy, extent.width + APART * scale, extent.height))


Offset = tuple[float, float, float]
"""The gap in typographer's points, and in pixels from a point to the middle of its name."""


def _offsets(width: float, height: float, scale: float) -> Iterator[Offset]:
    """The nearest first, and of these from the right around."""
    for gap, step in itertools.product(GAPS, range(DIRECTIONS)):
        angle = 2 * math.pi * step / DIRECTIONS
        across, up = math.cos(angle), math.sin(angle)
        yield gap, across * (gap * scale + width / 2), up * (gap * scale + height / 2)


def _cost(
    place: tuple[float, float], offset: Offset, size: tuple[float, float], panel: Box, taken: Sequence[Box]
) -> float:
    gap, dx, dy = offset
    box = _box(place, dx, dy, *size)
    covered = sum(box.shared(other) for other in taken)
    outside = box.area - box.shared(panel)
    crossed = 0
    if gap > NEAR:
        line = [(place[0] + dx * part / 10, place[1] + dy * part / 10) for part in range(3, 10)]
        crossed = sum(other.holds(*at) for other in taken for at in line)
    return COVERED * covered + OUTSIDE * outside + CROSSED * crossed + gap


def _box(place: tuple[float, float], dx: float, dy: float, width: float, height: float) -> Box:
    x, y = place[0] + dx, place[1] + dy
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
