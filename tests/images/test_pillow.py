"""Threads that read files side by side, and those that have Pillow alone."""

from __future__ import annotations

import logging
import resource
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest
from hostile import sound_files
from numpy.typing import NDArray
from PIL import Image, ImageFile
from samples import encoded, noise

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.files.reading import HEIF_INSTALLED
from dynaseg_cli.images import decoding, pillow
from dynaseg_cli.images.decoding import decode
from dynaseg_cli.images.pillow import is_jpeg_2000, pillow_for

LIMIT = 1_000_000
SECONDS = 60
"""A test gives up after this time."""
MOMENT = 0.2
"""How long a test waits for what should not happen. A busy machine may hide a fault, but causes no failure."""

FILES = sound_files()
SHARING = ["BMP RGB", "JPEG RGB", "MPO", "PNG RGB", "PPM RGB", "TIFF tiff_lzw", "WEBP"]
ALONE = ["GIF", "JPEG2000 L", "JPEG2000 stream"]


@pytest.fixture(autouse=True)
def settings_of_the_user(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Different from those of any reader."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12_345)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for name, level in (("PIL", logging.ERROR), ("tifffile", logging.WARNING)):
        caplog.set_level(level, logger=name)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def settings() -> tuple[object, ...]:
    """Everything of the process that readers change."""
    levels = [logging.getLogger(name).level for name in ("PIL", "tifffile")]
    memory = resource.getrlimit(resource.RLIMIT_DATA)
    return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.filters[:], levels, memory


def nobody_is_inside() -> bool:
    return not pillow._readers._inside and not pillow._readers._entrance.locked()


def result(content: bytes) -> NDArray[np.uint8] | str:
    """What decoding a file gives, or why it is refused."""
    try:
        return decode(content, LIMIT)
    except DecodeError as error:
        return str(error)


@pytest.mark.parametrize("name", SHARING)
def test_two_files_are_decoded_at_once(name: str, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=SECONDS)
    read_open = decoding._read_open

    def meet(*arguments: Any) -> object:
        both.wait()
        return read_open(*arguments)

    monkeypatch.setattr(decoding, "_read_open", meet)
    for pixels in pool.map(result, [FILES[name], FILES["JPEG RGB"]]):
        assert isinstance(pixels, np.ndarray), pixels


@pytest.mark.parametrize("name", ALONE)
def test_file_that_is_decoded_alone_keeps_others_out(
    name: str, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, leave = threading.Event(), threading.Event()
    read_open = decoding._read_open

    def stay(*arguments: Any) -> object:
        inside.set()
        assert leave.wait(SECONDS)
        return read_open(*arguments)

    monkeypatch.setattr(decoding, "_read_open", stay)
    alone = pool.submit(decode, FILES[name], LIMIT)
    try:
        assert inside.wait(SECONDS)
        inside.clear()
        others = [pool.submit(decode, FILES[other], LIMIT) for other in ("JPEG RGB", *ALONE)]
        assert not inside.wait(MOMENT)
        assert not alone.done()
    finally:
        leave.set()
    for one in (alone, *others):
        assert one.result(SECONDS).ndim == 3


@pytest.mark.parametrize("name", ALONE)
def test_reader_that_waits_to_be_alone_is_not_passed(name: str, pool: ThreadPoolExecutor) -> None:
    order: list[str] = []

    def read(one: str) -> None:
        with pillow_for(FILES[one], LIMIT):
            order.append(one)

    with pillow_for(FILES["JPEG RGB"], LIMIT):
        alone = pool.submit(read, name)
        end = time.monotonic() + SECONDS
        while not pillow._readers._entrance.locked():
            assert time.monotonic() < end
            time.sleep(0.001)
        later = pool.submit(read, "PNG RGB")
        assert not wait([alone, later], MOMENT).done
    wait([alone, later], SECONDS)
    assert order == [name, "PNG RGB"]


def test_settings_hold_until_the_last_reader_is_out(pool: ThreadPoolExecutor) -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with pillow_for(FILES["PNG RGB"], LIMIT):
            inside.set()
            assert leave.wait(SECONDS)

    before = settings()
    try:
        with pillow_for(FILES["JPEG RGB"], LIMIT):
            last = pool.submit(stay)
            assert inside.wait(SECONDS)
            shared = settings()
        assert shared == settings() != before
        assert shared[:2] == (None, False)
    finally:
        leave.set()
    last.result(SECONDS)
    assert settings() == before


@pytest.mark.parametrize("name", [*ALONE, "PNG RGB"])
def test_error_leaves_settings_as_they_were_and_lets_others_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        seen.append(settings())
        raise MemoryError

    seen: list[object] = []
    before = settings()
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises((DecodeError, MemoryError)):
        decode(FILES[name], LIMIT)
    assert seen[0] != before
    assert settings() == before
    assert nobody_is_inside()


def test_limit_of_memory_is_as_it_was_after_jpeg_2000_files_at_once(pool: ThreadPoolExecutor) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    files = [FILES["JPEG2000 L"], FILES["JPEG2000 stream"]] * 16
    assert all(isinstance(pixels, np.ndarray) for pixels in pool.map(result, files))
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_files_of_all_formats_decoded_by_eight_threads_are_the_same(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile a reader that should be alone meets no other, and every reader finds the settings that it needs."""
    damaged = {f"half of {name}": FILES[name][: len(FILES[name]) // 2] for name in (*SHARING, "GIF")}
    files = {**FILES, **damaged, "text": b"no image"}
    if HEIF_INSTALLED:
        import pillow_heif  # noqa: PLC0415 - an extra

        pillow_heif.register_heif_opener()
        files["HEIF"] = encoded(noise(), "HEIF")
    expected = {name: result(content) for name, content in files.items()}
    inside: list[bool] = []
    faults: list[object] = []
    read = decoding._read
    before = settings()
    memory = resource.getrlimit(resource.RLIMIT_DATA)

    def watch(content: bytes, *arguments: Any) -> object:
        alone = content.startswith(b"GIF") or is_jpeg_2000(content)
        inside.append(alone)
        try:
            return read(content, *arguments)
        finally:
            if any(inside) and len(inside) > 1:
                faults.append(list(inside))
            limits = Image.MAX_IMAGE_PIXELS, resource.getrlimit(resource.RLIMIT_DATA)
            if limits != (LIMIT if content.startswith(b"GIF") else None, memory):
                faults.append(limits)
            inside.remove(alone)

    monkeypatch.setattr(decoding, "_read", watch)
    names = list(files) * 3
    np.random.default_rng(0).shuffle(names)
    for name, found in zip(names, pool.map(result, map(files.__getitem__, names)), strict=True):
        np.testing.assert_array_equal(found, expected[name], err_msg=name)
    assert faults == []
    assert settings() == before
    assert nobody_is_inside()


def test_pillow_takes_no_file_for_jpeg_2000_or_gif_that_would_not_be_read_alone() -> None:
    Image.init()
    accepts_jpeg_2000, accepts_gif = (Image.OPEN[name][1] for name in ("JPEG2000", "GIF"))
    assert accepts_jpeg_2000 is not None
    assert accepts_gif is not None
    for name in ALONE:
        start = FILES[name][:16]
        changed = [start[:end] for end in range(16)]
        changed += [start[:at] + bytes([byte]) + start[at + 1 :] for at in range(16) for byte in range(256)]
        for one in changed:
            assert bool(accepts_jpeg_2000(one)) == is_jpeg_2000(one)
            assert one.startswith(b"GIF") or not accepts_gif(one)
    assert {name for name, content in FILES.items() if is_jpeg_2000(content)} == {
        name for name in FILES if name.startswith("JPEG2000")
    }
