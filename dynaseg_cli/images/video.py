"""Frames of videos, numbered in the order in which they are shown."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from ..errors import DecodeError
from ..files.reading import VIDEO_INSTALLED, open_file, refuse_large
from .headers import heif_brand, is_avif, is_heif
from .pillow import decode_errors

if TYPE_CHECKING:
    from av import VideoFrame

MOST_FRAMES = 1_000_000
"""Frames behind these are not looked for: eleven hours at 25 frames a second."""
_MATROSKA = b"\x1aE\xdf\xa3"
_OLD_QUICKTIME = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_DAMAGED = "damaged: its header cannot be read, as in a video that is cut off"
_FAR = 100
"""Frames that are decoded and dropped on the way to a later one, rather than looking for a key frame."""
_KEPT = 9
"""The last frames are kept, as threads that read ahead may ask for them in another order."""
_ALIGNED = 1 << 16
"""Pixels that a decoder may add to a small frame."""
_SHOWN_VP8 = 0x10
"""The bit of a VP8 frame's first byte that says that it is shown."""


def video_format(start: bytes) -> str | None:
    """FFmpeg's name of the format of a video that is read, by the first bytes of the file; None for other files."""
    if not VIDEO_INSTALLED:
        return None
    if start.startswith(_MATROSKA):
        return "matroska"
    if start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return "avi"
    brand = heif_brand(start)
    is_picture = is_heif(start) or is_avif(start) or brand == b"crx " or brand.startswith(b"jp")
    return "mov" if start[4:8] in _OLD_QUICKTIME or (brand and not is_picture) else None


def count_video_frames(path: Path) -> int:
    """How many frames a video has, without decoding it.

    A file that is cut off has one more than there are, so that this one fails, and tells of the damage. Raises
    DecodeError if there is no video in the file, and OSError if it cannot be opened.
    """
    file = _identify(path)
    with _alone():
        index = _index_of(file)
    return index.count + index.is_cut_off


def stated_frames(path: Path) -> int | None:
    """How many frames the header tells of; None if it does not."""
    _identify(path)
    with decode_errors(), _Opened(path, None) as opened:
        return opened.stream.frames or None


def video_sha256(path: Path) -> str:
    """SHA-256 of the file in hexadecimal, computed once in a process for as long as the file stays as it is."""
    file = _identify(path)
    with _lock:
        return _hash_of(file)


def video_frame_as_png(path: Path, number: int, max_pixels: int) -> bytes:
    """Frame `number` of a video, from 1, as a PNG of 8 bits, turned as the file says.

    A file stays open for the frames that follow, which are decoded once if they are asked for in their order.

    Raises DecodeError if there is no such frame, it is damaged or larger than `max_pixels` allows; OSError if the file
    cannot be opened.
    """
    file = _identify(path)
    with _alone():
        frame = _frame_of(file, number, max_pixels)
        pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


class _File(NamedTuple):
    """A file as it is now."""

    path: Path
    state: tuple[int, ...]
    """Device, inode, size and time of change."""


@dataclass(frozen=True)
class _Index:
    count: int
    numbers: dict[int, int]
    """The number of each frame by its time stamp; empty if not all have one of their own."""
    keys: list[int]
    """Time stamps of key frames, rising."""
    is_cut_off: bool


class _Opened:
    """The video in a file."""

    def __init__(self, path: Path, max_pixels: int | None) -> None:
        import av  # noqa: PLC0415 - an extra

        with ExitStack() as closing:
            file, _ = closing.enter_context(open_file(path))
            name = video_format(file.read(32))
            if name is None:
                raise DecodeError("it is no longer a video")
            file.seek(0)
            with decode_errors(_DAMAGED):
                self.container: Any = closing.enter_context(av.open(file, format=name))
            stream = self.container.streams.best("video")
            if stream is None:
                raise DecodeError("it is a video file without pictures, or cut off in its header")
            self.stream: Any = stream
            if stream.codec_context is None:
                raise DecodeError("it is a video of a kind that is not read: convert it to H.264")
            if max_pixels is not None:
                refuse_large(stream.codec_context.width, stream.codec_context.height, max_pixels)
                # Decoders align frames, so that this limit, which holds for each of them, has to be wider.
                stream.codec_context.options = {"max_pixels": str(2 * max_pixels + _ALIGNED)}
            self._closing = closing.pop_all()

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()


class _Decoder:
    """Decodes a video from front to back, and goes to the place of a key frame where a frame is far away."""

    def __init__(self, file: _File, max_pixels: int) -> None:
        self.file, self.max_pixels = file, max_pixels
        self._index = _index_of(file)
        self._recent: OrderedDict[int, VideoFrame] = OrderedDict()
        self._restart()

    def frame(self, number: int) -> VideoFrame:
        if number in self._recent:
            return self._recent[number]
        found, is_from_start = None, False
        if self._at < number <= self._at + _FAR:
            found, is_from_start = self._go_on(number), self._from_start
        elif self._seek(number):
            found = self._go_on(number)
        if found is None and not is_from_start:
            self._restart()
            found = self._go_on(number)
        if found is None or found.is_corrupt:
            raise DecodeError(f"damaged: its frame {number} cannot be decoded, or is missing")
        refuse_large(found.width, found.height, self.max_pixels)
        return found

    def close(self) -> None:
        self._opened.__exit__()

    def _restart(self) -> None:
        if hasattr(self, "_opened"):
            self.close()
        self._opened = _Opened(self.file.path, self.max_pixels)
        self._frames = self._decoded()
        self._at, self._from_start = 0, True

    def _seek(self, number: int) -> bool:
        """Go to a place from which the frame can be decoded; False if that is the start."""
        keys, numbers = self._index.keys, self._index.numbers
        last = bisect_right(keys, number, key=numbers.__getitem__) - 1
        # From the key frame before the last: a picture that is refreshed bit by bit is whole after the first round.
        if last < 1:
            return False
        self._opened.container.seek(keys[last - 1], stream=self._opened.stream)
        self._frames = self._decoded()
        self._at, self._from_start = numbers[keys[last]] - 1, False
        return True

    def _go_on(self, number: int) -> VideoFrame | None:
        """Decode up to a frame; None if it does not come."""
        for at, frame in self._frames:
            if at <= self._at:
                continue
            self._at = at
            self._recent[at] = frame
            if len(self._recent) > _KEPT:
                self._recent.popitem(last=False)
            if at >= number:
                break
        return self._recent.get(number)

    def _decoded(self) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their numbers, from where the file is read now."""
        import av  # noqa: PLC0415 - an extra

        numbers, at = self._index.numbers, 0
        for packet in self._opened.container.demux(self._opened.stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                at += 1  # where frames are counted, the lost one counts
                continue
            for frame in frames:
                at = numbers.get(frame.pts, 0) if numbers else at + 1
                yield at, frame


_lock = threading.Lock()
_decoder: _Decoder | None = None
"""The one that was used last."""


@contextmanager
def _alone() -> Iterator[None]:
    """One thread at a time, since a file is read from front to back."""
    with _lock, decode_errors():
        yield


def _identify(path: Path) -> _File:
    with open_file(path) as (file, _):
        status = os.fstat(file.fileno())
    return _File(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def _frame_of(file: _File, number: int, max_pixels: int) -> VideoFrame:
    global _decoder  # noqa: PLW0603
    if _decoder is None or (_decoder.file, _decoder.max_pixels) != (file, max_pixels):
        if _decoder is not None:
            _decoder.close()
        _decoder = None  # in case the next line fails
        _decoder = _Decoder(file, max_pixels)
    return _decoder.frame(number)


@functools.lru_cache(maxsize=64)
def _hash_of(file: _File) -> str:
    with open_file(file.path) as (content, _):
        digest = hashlib.sha256()
        while part := content.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


@functools.lru_cache(maxsize=64)
def _index_of(file: _File) -> _Index:
    import av  # noqa: PLC0415 - an extra

    times: list[int | None] = []
    keys: list[int] = []
    hidden = 0
    with _Opened(file.path, None) as opened:
        stated, is_vp8 = opened.stream.frames, opened.stream.codec_context.name == "vp8"
        with suppress(av.FFmpegError):  # a damaged end
            for packet in opened.container.demux(opened.stream):
                if not packet.size:
                    continue
                if packet.is_discard or (is_vp8 and not bytes(packet)[0] & _SHOWN_VP8):
                    hidden += 1
                    continue
                times.append(packet.pts)
                if packet.is_keyframe and packet.pts is not None:
                    keys.append(packet.pts)
                if len(times) == MOST_FRAMES:
                    break
    stamps = sorted(time for time in set(times) if time is not None)
    are_own = len(stamps) == len(times)
    numbers = {time: number for number, time in enumerate(stamps, start=1)} if are_own else {}
    is_cut_off = len(times) < MOST_FRAMES and stated > len(times) + hidden
    return _Index(len(times), numbers, sorted(keys) if are_own else [], is_cut_off)
