"""Label maps as files, for the tests of the evaluation and of its command."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from PIL import Image

Labels = NDArray[np.integer[Any]]


def matlab(variables: dict[str, Any], **options: Any) -> bytes:
    """The content of a .mat file, as scipy writes it."""
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, **options)
    return stream.getvalue()


def bsds500(*segmentations: Any, **options: Any) -> bytes:
    """The content of a .mat file laid out as BSDS500's: a cell an annotator."""
    cells = np.empty((1, len(segmentations)), dtype=object)
    for index, labels in enumerate(segmentations):
        cells[0, index] = {"Segmentation": labels, "Boundaries": np.zeros((2, 2), np.uint8)}
    return matlab({"groundTruth": cells}, **options)


def save_labels(path: Path, *maps: Labels | list[list[int]]) -> Path:
    """Write a label map, or a ``.mat`` of one an annotator, in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = [np.array(labels, np.uint8) if isinstance(labels, list) else labels for labels in maps]
    if path.suffix == ".mat":
        path.write_bytes(bsds500(*arrays))
    elif path.suffix == ".npy":
        np.save(path, arrays[0])
    else:
        Image.fromarray(arrays[0]).save(path)
    return path


def save_all(folder: Path, **maps: list[list[int]]) -> Path:
    """A folder of PNG label maps by name."""
    for name, labels in maps.items():
        save_labels(folder / f"{name}.png", labels)
    return folder
