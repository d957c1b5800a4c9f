"""Pillow for several threads: its settings hold for the whole process, so readers share them or take turns."""

from __future__ import annotations

import logging
import resource
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from PIL import Image, ImageFile

from ..errors import DecodeError

_JPEG_2000 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"
"""The bare codestream, and a container."""

PEAK_BYTES_A_PIXEL = 32
"""Limit on the memory for decoding a sound file, besides its content."""

_OVERHEAD_BYTES = 1 << 30
"""Room for the content, and for the stacks of a decoder's threads on a large machine."""


def is_jpeg_2000(content: bytes) -> bool:
    """Whether Pillow would open a file as JPEG 2000."""
    return content.startswith(_JPEG_2000)


def is_dicom(content: bytes) -> bool:
    """Whether a file is DICOM by the mark behind its preamble."""
    return content[128:132] == b"DICM"


@contextmanager
def pillow_for(content: bytes, max_pixels: int, damaged: str = "") -> Iterator[None]:
    """Set Pillow up to read the file `content`: no pixel limit, no warnings, no log, and no truncated images.

    Errors are DecodeError, with the text `damaged` or that of the decoder, except for MemoryError.

    The logs of tifffile and pydicom are silenced as well. Readers check the number of pixels in the header instead, and
    report what is wrong with a file once, by an error. Most formats are read side by side. Three are read alone: GIF,
    because Pillow may fill a whole frame before its header can be checked, and so has its limit (more than twice
    `max_pixels` is an error); and JPEG 2000 and DICOM, because the memory of the process is limited meanwhile.

    Do not nest calls: the inner one may wait for a reader that waits for the outer one to end.
    """
    is_gif = content.startswith(b"GIF")
    alone = is_gif or is_jpeg_2000(content) or is_dicom(content)
    with decode_errors(damaged), _readers.alone(max_pixels if is_gif else None) if alone else _readers.together():
        yield


@contextmanager
def decode_errors(damaged: str = "") -> Iterator[None]:
    """Raise DecodeError for the errors of decoders, which raise anything at all on damaged files; not MemoryError."""
    try:
        yield
    except (DecodeError, MemoryError):
        raise
    except Exception as error:
        reason = f"damaged or not supported: {str(error) or type(error).__name__}"
        raise DecodeError(damaged or reason) from error


class _Readers:
    """Counts readers: the first one in applies the settings, and the last one out restores the earlier ones."""

    def __init__(self) -> None:
        # A reader that is to be alone holds it while it waits and reads, so that others cannot overtake it.
        self._entrance = threading.Lock()
        self._emptied = threading.Condition()
        self._inside = 0
        self._applied = ExitStack()

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._entrance, self._emptied:
            if not self._inside:
                self._applied.enter_context(_settings(None))
            self._inside += 1
        try:
            yield
        finally:
            with self._emptied:
                self._inside -= 1
                if not self._inside:
                    self._applied.close()
                    self._emptied.notify()

    @contextmanager
    def alone(self, most_pixels: int | None) -> Iterator[None]:
        with self._entrance:
            with self._emptied:
                self._emptied.wait_for(lambda: not self._inside)
            with _settings(most_pixels):
                yield


_readers = _Readers()


@contextmanager
def _settings(most_pixels: int | None) -> Iterator[None]:
    logs = [logging.getLogger(name) for name in ("PIL", "tifffile", "pydicom")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, most_pixels
        in_part, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
        levels = [log.level for log in logs]
        for log in logs:
            log.setLevel(logging.CRITICAL)
        try:
            yield
        except Image.DecompressionBombError:
            raise DecodeError(f"more pixels than `max_pixels={most_pixels}` allows") from None
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)
            Image.MAX_IMAGE_PIXELS = limit
            ImageFile.LOAD_TRUNCATED_IMAGES = in_part


@contextmanager
def memory_limited(max_pixels: int) -> Iterator[None]:
    """On Linux, keep the decoder from taking more memory than any sound image needs.

    The limit holds for the whole process, so no other file is decoded meanwhile: see `pillow_for`. What other threads
    take has to fit into `_OVERHEAD_BYTES` and what is not decoded.
    """
    sizes = Path("/proc/self/statm")
    if not sizes.exists():
        yield
        return
    # RLIMIT_AS would count addresses that threads of decoders reserve and never use.
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    taken = int(sizes.read_text().split()[5]) * resource.getpagesize()
    limit = taken + PEAK_BYTES_A_PIXEL * max_pixels + _OVERHEAD_BYTES
    lower = [one for one in (limit, before, most) if one != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(lower), most))
    try:
        yield
    except MemoryError:
        raise DecodeError("decoding it takes more memory than there is, or than any sound image needs") from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))
