"""Maps to be exported, and the libraries of the formats' own world that read them back."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dynaseg_cli.config import ExportConfig, Format
from dynaseg_cli.export.exporting import ExportFailure, write_exports
from dynaseg_cli.export.folder import ExportFolder
from dynaseg_cli.export.source import ExportImage, Segments, labels_as_segments
from dynaseg_cli.files.output_folder import OutputFolder

FORMATS: list[Format] = ["voc", "coco-rle", "coco-panoptic", "cvat"]

LABELS = np.array([[0, 0, 1, 1, 0], [0, 4, 4, 1, 0], [2, 2, 4, 4, 2]], np.uint8)
"""Labels of several parts each; 3 does not occur."""
REGIONS = Segments(
    np.array([[0, 0, 1, 1, 2], [0, 5, 5, 1, 2], [3, 3, 5, 5, 4]], np.uint16), np.array([0, 1, 0, 2, 2, 4])
)
"""The parts of `LABELS`, with their labels."""


def image(
    name: str, segments: Segments | NDArray[Any], suffix: str = ".jpg", photo: Callable[[], bytes] | None = None
) -> ExportImage:
    of_name = segments if isinstance(segments, Segments) else labels_as_segments(segments)
    return ExportImage(name, name + suffix, lambda: of_name, photo or no_photo)


def unreadable(name: str, error: Exception) -> ExportImage:
    def read() -> Segments:
        raise error

    return ExportImage(name, f"{name}.jpg", read, no_photo)


def no_photo() -> bytes:
    raise AssertionError("a format that needs no photo reads one")


def export(
    folder: Path,
    *images: ExportImage,
    formats: list[Format] | None = None,
    labels: int = 5,
    regions: bool = False,
    config: ExportConfig | None = None,
    names: dict[int, str] | None = None,
) -> list[ExportFailure]:
    events = write_exports(
        formats or FORMATS,
        images,
        labels,
        export_folder(folder),
        config or ExportConfig(),
        regions=regions,
        names=names,
    )
    return [event for event in events if isinstance(event, ExportFailure)]


def export_folder(path: Path) -> ExportFolder:
    folder = OutputFolder(path)
    folder.export = path
    return ExportFolder(folder)


def masks(segments: Segments) -> dict[int, tuple[int, NDArray[np.bool_]]]:
    """Label and mask of each segment that occurs."""
    return {
        int(number): (int(segments.labels[number]), segments.of_pixel == number)
        for number in np.unique(segments.of_pixel)
    }


def sorted_masks(found: list[tuple[str, NDArray[Any]]]) -> list[tuple[str, list[list[int]]]]:
    """Named masks in an order that does not depend on their numbers."""
    return sorted((name, np.asarray(mask).astype(int).tolist()) for name, mask in found)


def expected_masks(segments: Segments) -> list[tuple[str, list[list[int]]]]:
    return sorted_masks([(f"label {label}", mask) for label, mask in masks(segments).values()])


def pixels(path: Path) -> NDArray[Any]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def datumaro_masks(folder: Path, data_format: str) -> dict[str, list[tuple[str, list[list[int]]]]]:
    """The masks that Datumaro, by which CVAT imports, finds in each image, with the names of their labels."""
    dm = pytest.importorskip("datumaro", reason="no Datumaro here: its formats are not read back")
    dataset = dm.Dataset.import_from(str(folder), data_format)
    names = [label.name for label in dataset.categories()[dm.AnnotationType.label].items]
    return {
        item.id: sorted_masks(
            [(names[mask.label], mask.image) for mask in item.annotations if mask.type == dm.AnnotationType.mask]
        )
        for item in dataset
    }


def as_coco_folder(exported: Path, target: Path, task: str) -> Path:
    """A COCO data set laid out as Datumaro looks for it: ``annotations/panoptic_default.json`` and ``images``."""
    source = {"instances": "coco-rle", "panoptic": "coco-panoptic"}[task]
    (target / "annotations").mkdir(parents=True)
    (target / "images").mkdir()
    shutil.copy(exported / f"{source}.json", target / f"annotations/{task}_default.json")
    if (exported / source).is_dir():
        shutil.copytree(exported / source, target / f"annotations/{task}_default")
    return target


def pycocotools_data(path: Path) -> Any:
    """What pycocotools makes of an annotation file, without what it prints."""
    coco = pytest.importorskip("pycocotools.coco", reason="no pycocotools here: COCO is not read back")
    with contextlib.redirect_stdout(io.StringIO()):
        return coco.COCO(path)
