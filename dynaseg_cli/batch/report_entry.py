"""Where the report keeps what it shows of an image: thumbnails and details, in ``OUT/report``, found by a hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from ..report.entry import ENTRY_FILES
from ..writing import refuse_unwritable, write_content
from .job import Job
from .output_folder import REPORT_FOLDER


class ReportEntry:
    """The files of one image. Their names follow from the job's, and are plain whatever that is."""

    def __init__(self, job: Job, output: Path) -> None:
        self.key = hashlib.sha256(os.fsencode(job.name)).hexdigest()[:16]
        """By which the page knows the image."""
        self.files = f"{REPORT_FOLDER}/{self.key[:2]}/{self.key}"
        """What the names of all files begin with, below OUT."""
        self._output = output

    @property
    def is_there(self) -> bool:
        """Whether all files are."""
        return all(self._path(suffix).is_file() for suffix in ENTRY_FILES)

    def refuse_unwritable(self) -> None:
        """Find out before the work whether the files can be written; raises as `writing.refuse_unwritable` does."""
        refuse_unwritable(self._path(ENTRY_FILES[-1]), self._output)

    def write(self, files: Iterable[tuple[str, bytes]], *, claimed: bool) -> None:
        """Write (suffix, content) in their order. Without the last of them, an entry is none."""
        self._path(ENTRY_FILES[-1]).unlink(missing_ok=True)
        for suffix, content in files:
            write_content(self._path(suffix), content, claimed=claimed)

    def _path(self, suffix: str) -> Path:
        return self._output / (self.files + suffix)
