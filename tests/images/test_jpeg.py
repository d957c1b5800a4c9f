from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from samples import encoded, noise

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images.decoding import decode, decode_photo

LIMIT = 1_000_000
PHOTO = Image.fromarray(noise(0, 30, 20)).resize((600, 400), Image.Resampling.BICUBIC)
KINDS = {
    "plain": encoded(PHOTO, "JPEG", quality=90),
    "grey": encoded(PHOTO.convert("L"), "JPEG", quality=90),
    "progressive": encoded(PHOTO, "JPEG", quality=90, progressive=True),
    "fine colours": encoded(PHOTO, "JPEG", quality=90, subsampling=0),
    "inks": encoded(PHOTO.convert("CMYK"), "JPEG", quality=90),
}


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_file_without_its_end_has_all_its_pixels(kind: str, missing: int) -> None:
    photo = decode_photo(KINDS[kind][:-missing], LIMIT)
    np.testing.assert_array_equal(photo.pixels, decode(KINDS[kind], LIMIT))
    assert photo.warnings == ()


@pytest.mark.parametrize("missing", [3, 4, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_file_without_its_last_few_bytes_is_read_with_a_warning(kind: str, missing: int) -> None:
    photo = decode_photo(KINDS[kind][:-missing], LIMIT)
    same = (photo.pixels == decode(KINDS[kind], LIMIT)).all(axis=2)
    assert same.mean() > 0.98
    assert photo.warnings == ("the last bytes of the file are missing, and a few pixels with them",)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_file_that_is_cut_off_in_its_pixels_is_refused(kind: str, share: float) -> None:
    content = KINDS[kind]
    with pytest.raises(DecodeError, match=r"damaged: the file is cut off, and .* of the image is missing; copy it"):
        decode(content[: int(share * len(content))], LIMIT)


def test_progressive_file_without_its_last_scan_is_refused() -> None:
    content = KINDS["progressive"]
    with pytest.raises(DecodeError, match="the finer detail of the image"):
        decode(content[: content.rindex(b"\xff\xda")], LIMIT)


def test_share_that_is_missing_is_told() -> None:
    content = KINDS["grey"]
    start = content.index(b"\xff\xda")
    half = start + (len(content) - start) // 2
    with pytest.raises(DecodeError, match=r"the last 5[0-9]% of the image"):
        decode(content[:half], LIMIT)


@pytest.mark.parametrize(("marker", "bits", "name"), [(0xC0, 12, "12-bit JPEG"), (0xC3, 8, "lossless JPEG")])
def test_kinds_that_decoders_of_photos_do_not_know_are_named(marker: int, bits: int, name: str) -> None:
    content = bytearray(KINDS["plain"])
    place = content.index(b"\xff\xc0")
    content[place + 1], content[place + 4] = marker, bits
    with pytest.raises(DecodeError, match=f"it is a {name}, which is not read: convert it"):
        decode(bytes(content), LIMIT)
