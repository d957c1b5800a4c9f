"""``--include`` and ``--exclude``: which of the images below an input are taken."""

from __future__ import annotations

import fnmatch
import re

from ..config import BatchConfig


class Globs:
    """The globs of both options. Case is ignored: a camera writes ``a.JPG``, a program ``a.jpg``."""

    def __init__(self, options: BatchConfig) -> None:
        self._include = [_Glob("--include", glob) for glob in options.include]
        self._exclude = [_Glob("--exclude", glob) for glob in options.exclude]

    @property
    def unmatched(self) -> list[str]:
        """Options, as written, that have matched no file or folder so far."""
        return [glob.written for glob in (*self._include, *self._exclude) if not glob.has_matched]

    def takes(self, path: str) -> bool:
        """Whether to take the image at `path`, which is relative to its input."""
        if not self._include and not self._exclude:
            return True
        # Ask every glob, or one that also matches would be reported as unmatched.
        included = [glob.matches(path) for glob in self._include]
        excluded = [glob.matches(path) for glob in self._exclude]
        return (any(included) or not included) and not any(excluded)

    def leaves_out(self, folder: str) -> bool:
        """Whether to leave out a folder, given relative to its input, with everything in it."""
        excluded = [glob.matches(folder) for glob in self._exclude]  # as above
        return any(excluded)


class _Glob:
    """With a slash it matches a path, without one a name: the image's own, or that of a folder above it."""

    def __init__(self, option: str, glob: str) -> None:
        self.written = f"{option} {glob}"
        self.has_matched = False
        glob = glob.removeprefix("./").rstrip("/")
        self._matches_paths = "/" in glob
        self._match = re.compile(fnmatch.translate(glob), re.IGNORECASE).match

    def matches(self, path: str) -> bool:
        names = path.split("/")
        candidates = names
        if self._matches_paths:
            candidates = ["/".join(names[:end]) for end in range(1, len(names) + 1)]
        if any(map(self._match, candidates)):
            self.has_matched = True
            return True
        return False
