"""Labels as the segments that are exported."""

from __future__ import annotations

import numpy as np

from dynaseg_cli.export.images import labels_as_segments


def test_a_label_is_a_segment_of_its_own_number() -> None:
    labels = np.array([[0, 3], [3, 1]], np.uint8)
    segments = labels_as_segments(labels)
    assert segments.of_pixel is labels
    assert segments.labels.tolist() == [0, 1, 2, 3]
