"""YOLO's segmentation format, as ultralytics reads it: a text file for each photo, with a polygon in each line."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from ..errors import ImageError
from .folder import GENERATOR, ExportFolder
from .source import ExportSettings, Prepare, Source
from .voc import ImageList

FOLDER = "yolo-seg"
LABELS, LIST, DATA = "labels", "images.txt", "data.yaml"
CHECKSUMS = "labels.sha256"
"""The files of labels that were written, in the format of sha256sum: these cannot name the program themselves."""


@contextmanager
def yolo(folder: ExportFolder, settings: ExportSettings) -> Iterator[Prepare]:
    """Write ``yolo-seg/``: ``labels/``, a list of images, and ``data.yaml`` with the names of the labels.

    Each part of a segment is an object. Holes are joined to what is around them by bridges. Files of other images that
    an earlier export left are removed, unless they have changed.
    """
    folder.refuse_unwritable(*(f"{FOLDER}/{name}" for name in (DATA, LIST, CHECKSUMS, f"{LABELS}/any")))
    # No data set while labels are replaced.
    folder.remove(f"{FOLDER}/{DATA}")
    earlier = _read_checksums(folder)
    images, photos, checksums = ImageList(), list[str](), dict[str, str]()

    def prepare(source: Source) -> Callable[[], object]:
        name, photo = images.name(source.image), source.image.file_name
        if len(photo.splitlines()) > 1:
            raise ImageError(f"a line of the list of images cannot hold the name {photo!r}: rename the photo")
        if "/images/" in f"/{photo}":
            raise ImageError(
                f"YOLO finds labels by the last folder named images, and {photo} has one of its own: rename the folder"
            )
        content = _lines(source)
        folder.write(f"{FOLDER}/{LABELS}/{name}.txt", content)

        def add() -> None:
            images.append(name)
            photos.append(photo)
            checksums[f"{name}.txt"] = hashlib.sha256(content).hexdigest()

        return add

    yield prepare
    folder.remove_unchanged(
        f"{FOLDER}/{LABELS}", {name: sha256 for name, sha256 in earlier.items() if name not in checksums}
    )
    folder.write(f"{FOLDER}/{LIST}", "".join(f"./images/{photo}\n" for photo in photos).encode())
    listed = "".join(f"{sha256}  {LABELS}/{name}\n" for name, sha256 in checksums.items())
    folder.write(f"{FOLDER}/{CHECKSUMS}", listed.encode())
    folder.write(f"{FOLDER}/{DATA}", _data(settings.names))


def _lines(source: Source) -> bytes:
    """The label of each part and its vertices, in shares of width and height."""
    size, labels, outlines = np.array([source.runs.width, source.runs.height]), source.labels, source.outlines
    lines = [
        f"{label} {' '.join(f'{share:.8g}' for share in (ring / size).ravel().tolist())}\n"
        for label, ring in zip(labels[outlines.owners].tolist(), outlines.rings, strict=True)
    ]
    return "".join(lines).encode()


def _data(names: list[str]) -> bytes:
    """The description of the data set, in YAML, which has JSON's lists."""
    return (
        f"# Generator: {GENERATOR}\n# Photos belong into the folder images, beside this file.\n"
        f"train: {LIST}\nval: {LIST}\nnames: {json.dumps(names, ensure_ascii=False)}\n"
    ).encode()


def _read_checksums(folder: ExportFolder) -> dict[str, str]:
    """The SHA-256 of each file in ``labels/`` that an earlier export wrote."""
    written = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (folder.path / FOLDER / CHECKSUMS).read_text("utf-8").split("\n"):
            sha256, _, name = line.partition(f"  {LABELS}/")
            written[name] = sha256
    return {name: sha256 for name, sha256 in written.items() if name}
