from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import encoded, noise

from dynaseg_cli.images.decoding import decode_photo
from dynaseg_cli.images.headers import MOST_COUNTED, count_frames


def animation(file_format: str) -> bytes:
    """Of 12 frames or pages."""
    frames = [Image.fromarray(noise(seed)) for seed in range(12)]
    return encoded(frames[0], file_format, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP"])
def test_frames_of_an_animation_are_counted(file_format: str) -> None:
    content = animation(file_format)
    assert count_frames(content) == (12, "frames")
    assert decode_photo(content, 10_000).warnings == ("first of 12 frames, 11 left out",)
    assert count_frames(encoded(noise(), file_format)) == (1, "frames")


def test_pages_of_a_tiff_are_counted() -> None:
    assert count_frames(animation("TIFF")) == (12, "pages")
    photo = decode_photo(animation("TIFF"), 10_000)
    assert (photo.frames, photo.warnings) == (12, ("first of 12 pages, 11 left out",))


def test_smaller_copies_and_masks_are_no_pages() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(noise(), photometric="rgb")
        file.write(noise()[::2, ::2], photometric="rgb", subfiletype=1)
        file.write(noise()[..., 0] > 99, photometric="mask", subfiletype=4)
    photo = decode_photo(stream.getvalue(), 10_000)
    np.testing.assert_array_equal(photo.pixels, noise())
    assert (photo.frames, photo.warnings) == (1, ())


def test_previews_of_a_phone_are_no_frames() -> None:
    photo = decode_photo(animation("MPO"), 10_000)
    assert (photo.frames, photo.warnings) == (1, ())


def test_counting_stops() -> None:
    frame = b",\0\0\0\0\1\0\1\0\0\2\2\x4c\1\0"
    content = b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + frame * 1_000_000 + b";"
    assert count_frames(content) == (MOST_COUNTED + 1, "frames")
    photo = decode_photo(content, 10_000)
    assert photo.frames == MOST_COUNTED
    assert photo.warnings == (f"first of more than {MOST_COUNTED} frames",)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_damaged_file_is_counted_somehow(file_format: str) -> None:
    content = animation(file_format)
    for seed in range(300):
        random = np.random.default_rng(seed)
        changed = bytearray(content[: random.integers(len(content))])
        for place in random.integers(0, max(len(changed), 1), 8):
            changed[place : place + 1] = bytes([random.integers(256)])
        assert 1 <= count_frames(bytes(changed))[0] <= MOST_COUNTED + 1
