"""Cut-outs: each segment of a photo as a PNG of its own, transparent around it and cropped to its box."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from ..errors import ImageError
from ..images.decoding import decode_rgba
from .folder import ExportFolder, encode_png
from .source import ExportSettings, Prepare, Source

FOLDER = "cutouts"
LEAST_DIGITS = 3
"""Of the number of a segment; all of a photo have the same, so that its files sort by number."""
MOST_BYTES = 120
"""Of the name of a label in the name of a file, which may have 255 in all."""
_NOT_IN_NAMES = re.compile(r'[\s<>:"/\\|?*]+')
"""What file systems of Windows refuse in names, and blanks, which shells split names at."""


@contextmanager
def cutouts(folder: ExportFolder, settings: ExportSettings) -> Iterator[Prepare]:
    """Write ``cutouts/NAME/`` for each photo, with a file for each segment: ``007-label-3.png``.

    Files that an earlier export left there are removed: of segments as they are written, of other photos at the end.
    """
    folder.refuse_unwritable(f"{FOLDER}/any")
    names = [name_in_files(name) for name in settings.names]
    written: set[str] = set()
    """Folders of photos."""

    def prepare(source: Source) -> Callable[[], object]:
        own = folder_of(source.image.name)
        if own in written:
            raise ImageError(f"the cut-outs of another photo are in {FOLDER}/{own}: rename the photo")
        files: set[str] = set()
        for segment, content in _pictures(source):
            name = f"{_number(segment, source)}{names[source.segments.labels[segment]]}.png"
            folder.write(f"{FOLDER}/{own}/{name}", content)
            files.add(name)
        if not files:
            return lambda: None
        # What lies in folders below is another photo's.
        folder.remove_pngs(f"{FOLDER}/{own}", _Those(lambda path: "/" in path or path in files))
        return lambda: written.add(own)

    yield prepare
    folder.remove_pngs(FOLDER, _Those(lambda path: path.rpartition("/")[0] in written))


def folder_of(image: str) -> str:
    """The folder for an image, whose name may end in a way that no folder may, such as ``..`` from ``...jpg``."""
    return f"{image}_" if image.endswith((".", " ")) else image


def name_in_files(name: str) -> str:
    """The name of a label, after a dash, as every file system takes it and people still read it."""
    safe = _NOT_IN_NAMES.sub("-", unicodedata.normalize("NFC", name))
    return f"-{safe}".encode()[:MOST_BYTES].decode(errors="ignore").rstrip("-. ")


def _number(segment: int, source: Source) -> str:
    digits = max(LEAST_DIGITS, len(str(len(source.segments.labels) - 1)))
    return f"{segment:0{digits}}"


def _pictures(source: Source) -> Iterator[tuple[int, bytes]]:
    """Each segment and its file, one at a time.

    Raises ImageError if the photo cannot be read, or has another size than its map.
    """
    of_pixel, runs = source.segments.of_pixel, source.runs
    if not len(runs.segments):
        return
    image = source.image
    photo = decode_rgba(image.photo(), of_pixel.size, image.value_range, image.channels)
    if photo.shape[:2] != of_pixel.shape:
        raise ImageError(
            f"its photo has {photo.shape[1]} x {photo.shape[0]} pixels, and its map {runs.width} x {runs.height}:"
            " make it again with `overwrite=True`"
        )
    for segment, (x, y, width, height) in zip(runs.segments.tolist(), runs.boxes().tolist(), strict=True):
        box = slice(y, y + height), slice(x, x + width)
        # Pixels of others are not there, not merely hidden.
        yield segment, encode_png(Image.fromarray(photo[box] * (of_pixel[box] == segment)[..., np.newaxis]))


class _Those(Container[str]):
    """All paths for which a function is true. A set of the files of all photos would grow with their segments."""

    def __init__(self, belongs: Callable[[str], bool]) -> None:
        self._belongs = belongs

    def __contains__(self, path: object) -> bool:
        return self._belongs(str(path))
