"""Masks: which pixels of a photo count, by a PNG that a user drew, or by opacity or "no data" in the photo's file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..files.output_folder import Job
from .deep import StoredImage
from .value_range import data_mask


@dataclass(frozen=True)
class Mask:
    """Tells which pixels of one photo count."""

    origin: str
    """The path of the file; or "alpha" or "nodata", of the photo itself."""
    max_pixels: int
    content: bytes | None = None
    """The file's; None if the photo itself tells."""
    sha256: str | None = None

    @property
    def identity(self) -> str:
        """Equal for masks of equal content."""
        return self.sha256 or self.origin

    @property
    def entry(self) -> dict[str, Any]:
        """What the statistics say of it."""
        return {"path": self.origin, "sha256": self.sha256} if self.sha256 else {"from": self.origin}

    def counts(self, stored: StoredImage) -> NDArray[np.bool_]:
        """(H, W) which pixels of an image count: at least one.

        Parameters
        ----------
        stored : the image upright, with the value for "no data" that its file declares.

        Raises ImageError if the file is not a PNG of whole numbers of the image's size, or no pixel counts.
        """
        found = self._counts(stored)
        if not found.any():
            if self.content is not None:
                raise ImageError(f"{self.origin}: it is 0 everywhere, so nothing of the photo counts")
            why = "it is wholly transparent" if self.origin == "alpha" else 'all of it is "no data"'
            raise ImageError(f"{why}, so nothing of it counts with `mask={self.origin}`")
        return found

    def _counts(self, stored: StoredImage) -> NDArray[np.bool_]:
        size = stored.values.shape[:2]
        if self.content is not None:
            from .drawn import decode_drawn  # noqa: PLC0415 - loads scipy

            meaning = "a mask is 0 where the photo does not count"
            return np.asarray(decode_drawn(self.origin, self.content, size, self.max_pixels, meaning) != 0)
        if self.origin == "alpha":
            return np.ones(size, np.bool_) if stored.alpha is None else np.asarray(stored.alpha > 0)
        return np.asarray(data_mask(stored).reshape(*size, -1).any(axis=2))


def read_mask(job: Job, mask: Path | Literal["alpha", "nodata"] | None, max_pixels: int) -> Mask | None:
    """The mask that an option gives a job; None if it has none, and counts as a whole.

    Raises ImageError if its file is no regular file, or too large for an image of `max_pixels`. Raises OSError if it
    cannot be read.
    """
    if mask is None:
        return None
    if mask in ("alpha", "nodata"):
        return Mask(str(mask), max_pixels)
    return _read_file(job.drawing(Path(mask)), max_pixels)


def read_mask_again(entry: dict[str, Any], max_pixels: int) -> Mask:
    """The mask with an `entry` in statistics; raises ImageError if its file is gone or has changed."""
    if "path" not in entry:
        return Mask(entry["from"], max_pixels)
    found = _read_file(Path(entry["path"]), max_pixels)
    if found is None:
        raise ImageError(f"{entry['path']} is gone, which says what of the photo counts; segment it again")
    if found.sha256 != entry["sha256"]:
        raise ImageError(f"{entry['path']} has changed since the photo was segmented; segment it again")
    return found


def _read_file(path: Path, max_pixels: int) -> Mask | None:
    from .drawn import read_drawn  # noqa: PLC0415 - loads scipy

    found = read_drawn(path, max_pixels)
    return None if found is None else Mask(str(path), max_pixels, *found)
