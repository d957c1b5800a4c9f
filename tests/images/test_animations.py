from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import encoded, noise

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images.animations import frame_as_png
from dynaseg_cli.images.decoding import decode
from dynaseg_cli.images.pages import count_pages, read_page

LIMIT = 1_000_000
OPTIONS = {"GIF": {}, "PNG": {}, "WEBP": {"lossless": True}}


def frames(count: int = 4) -> list[Image.Image]:
    """Moving squares, transparent around them; what one frame leaves out, the one before shows through."""
    made = []
    for index in range(count):
        picture = Image.new("RGBA", (30, 20))
        picture.paste((200, 30 + 40 * index, 60, 255), (4 * index, 3, 4 * index + 9, 14))
        made.append(picture)
    return made


@pytest.mark.parametrize("file_format", OPTIONS)
def test_each_frame_is_what_pillow_composes(tmp_path: Path, file_format: str) -> None:
    pictures, path = frames(), tmp_path / "a"
    content = encoded(pictures[0], file_format, save_all=True, append_images=pictures[1:], **OPTIONS[file_format])
    path.write_bytes(content)
    assert count_pages(path, LIMIT) == 4
    with Image.open(path) as animation:
        for number in range(1, 5):
            animation.seek(number - 1)
            white = Image.new("RGBA", animation.size, "white")
            shown = np.asarray(Image.alpha_composite(white, animation.convert("RGBA")).convert("RGB"))
            source = read_page(path, number, LIMIT)
            np.testing.assert_array_equal(decode(source.content, LIMIT), shown)
    np.testing.assert_array_equal(decode(read_page(path, 1, LIMIT).content, LIMIT), decode(content, LIMIT))


def test_frames_have_the_hash_of_their_file(tmp_path: Path) -> None:
    """A frame depends on those before, and a run that continues need not decode them to know it again."""
    (tmp_path / "a.gif").write_bytes(encoded(frames()[0], "GIF", save_all=True, append_images=frames()[1:]))
    assert len({read_page(tmp_path / "a.gif", number, LIMIT).sha256 for number in (1, 2, 3)}) == 1


def test_png_whose_first_picture_is_no_frame_has_its_frames_alone(tmp_path: Path) -> None:
    content = encoded(frames()[3], "PNG", save_all=True, append_images=frames()[:2], default_image=True)
    (tmp_path / "a.png").write_bytes(content)
    assert count_pages(tmp_path / "a.png", LIMIT) == 2
    for number in (1, 2):
        alone = decode(encoded(frames()[number - 1], "PNG"), LIMIT)
        np.testing.assert_array_equal(decode(read_page(tmp_path / "a.png", number, LIMIT).content, LIMIT), alone)


def test_webp_frames_are_turned_as_the_file_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(frames()[0], "WEBP", save_all=True, append_images=frames()[1:], lossless=True, exif=exif)
    (tmp_path / "a.webp").write_bytes(content)
    assert decode(content, LIMIT).shape == (30, 20, 3)
    np.testing.assert_array_equal(
        decode(read_page(tmp_path / "a.webp", 1, LIMIT).content, LIMIT), decode(content, LIMIT)
    )


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "JPEG", "MPO", "BMP"])
def test_single_picture_has_no_frames(tmp_path: Path, file_format: str) -> None:
    more = {"save_all": True, "append_images": [Image.fromarray(noise(1))]} if file_format == "MPO" else {}
    (tmp_path / "a").write_bytes(encoded(noise(), file_format, **more))
    assert count_pages(tmp_path / "a", LIMIT) is None


@pytest.mark.parametrize("file_format", OPTIONS)
def test_frame_that_is_not_there_or_too_large_is_refused(file_format: str) -> None:
    content = encoded(frames()[0], file_format, save_all=True, append_images=frames()[1:], **OPTIONS[file_format])
    with pytest.raises(DecodeError, match="it has no frame 5"):
        frame_as_png(content, 5, LIMIT)
    with pytest.raises(DecodeError, match="`max_pixels=250` allows"):
        frame_as_png(content, 2, 250)
    with pytest.raises(DecodeError):
        frame_as_png(content[: len(content) // 3], 4, LIMIT)
