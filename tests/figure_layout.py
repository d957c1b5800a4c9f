"""What the tests of all figures expect of their layout."""

from __future__ import annotations

from matplotlib.figure import Figure


def assert_nothing_is_clipped_or_overlaps(figure: Figure) -> None:
    """Every text lies inside the picture, and no panel, its labels included, on another."""
    figure.draw_without_rendering()
    whole = figure.bbox
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for index, box in enumerate(boxes):
        assert box is not None
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
        for other in boxes[:index]:
            assert other is not None
            assert not box.shrunk(0.98, 0.98).overlaps(other.shrunk(0.98, 0.98))
