"""Cut-outs, laid on top of each other again with Pillow: they are the photo, and nothing else."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from export_samples import LABELS, REGIONS, export, image, pixels
from numpy.typing import NDArray
from PIL import Image
from samples import encoded, noise

from dynaseg_cli.config import ExportConfig
from dynaseg_cli.errors import ImageError
from dynaseg_cli.export.cutouts import MOST_BYTES, folder_of, name_in_files
from dynaseg_cli.export.source import ExportImage, Segments, labels_as_segments

PHOTO = noise(7, 5, 3)
"""Of the size of the samples."""


def photo(content: bytes | None = None) -> Callable[[], bytes]:
    return lambda: encoded(PHOTO, "PNG") if content is None else content


def cut(
    folder: Path, segments: Segments | NDArray[Any], name: str = "cat", content: bytes | None = None, **options: Any
) -> dict[str, Path]:
    """Export the cut-outs of one photo; the files below the folder of all, by name."""
    regions = isinstance(segments, Segments)
    assert (
        export(folder, image(name, segments, photo=photo(content)), formats=["cutouts"], regions=regions, **options)
        == []
    )
    return found(folder)


def found(folder: Path) -> dict[str, Path]:
    top = folder / "cutouts"
    return {path.relative_to(top).as_posix(): path for path in sorted(top.rglob("*")) if path.is_file()}


def together(files: dict[str, Path], segments: Segments) -> NDArray[np.uint8]:
    """(H, W, 4) the cut-outs pasted where the map has their segments, each of which has to be there alone."""
    height, width = segments.of_pixel.shape
    whole = Image.new("RGBA", (width, height))
    for name, path in files.items():
        rows, columns = np.nonzero(segments.of_pixel == int(path.name.split("-")[0].removesuffix(".png")))
        with Image.open(path) as picture:
            assert picture.mode == "RGBA", name
            assert picture.size == (np.ptp(columns) + 1, np.ptp(rows) + 1), name
            place = Image.new("RGBA", whole.size)
            place.paste(picture, (int(columns.min()), int(rows.min())))
        assert not (np.asarray(place).any(axis=2) & np.asarray(whole).any(axis=2)).any(), "pixels of another segment"
        whole = Image.fromarray(np.asarray(place) + np.asarray(whole))
    return np.asarray(whole)


def with_alpha(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8] | int = 255) -> NDArray[np.uint8]:
    return np.dstack([rgb, np.broadcast_to(np.asarray(alpha, np.uint8), rgb.shape[:2])])


def test_cut_outs_of_labels_together_are_the_photo(tmp_path: Path) -> None:
    files = cut(tmp_path, LABELS)
    assert list(files) == ["cat/000-label-0.png", "cat/001-label-1.png", "cat/002-label-2.png", "cat/004-label-4.png"]
    assert together(files, labels_as_segments(LABELS)).tolist() == with_alpha(PHOTO).tolist()


def test_cut_outs_of_regions_have_their_number_and_their_label(tmp_path: Path) -> None:
    files = cut(tmp_path, REGIONS, name="sub/a b.c")
    assert [path.name for path in files.values()] == [
        *("000-label-0.png", "001-label-1.png", "002-label-0.png", "003-label-2.png", "004-label-2.png"),
        "005-label-4.png",
    ]
    assert {name.rpartition("/")[0] for name in files} == {"sub/a b.c"}
    assert together(files, REGIONS).tolist() == with_alpha(PHOTO).tolist()


def test_a_case_worked_by_hand(tmp_path: Path) -> None:
    colors = np.arange(27, dtype=np.uint8).reshape(3, 3, 3) + 1
    corner = np.array([[0, 0, 1], [0, 1, 1], [0, 0, 0]])
    files = cut(tmp_path, corner, content=encoded(colors, "PNG"))
    assert pixels(files["cat/001-label-1.png"]).tolist() == [
        [[0, 0, 0, 0], [7, 8, 9, 255]],
        [[13, 14, 15, 255], [16, 17, 18, 255]],
    ]


def test_what_is_left_out_is_not_cut_out(tmp_path: Path) -> None:
    files = cut(tmp_path, REGIONS, config=ExportConfig(min_area=4))
    assert list(files) == ["cat/005-label-4.png"], "numbers are those of the regions"
    assert cut(tmp_path, REGIONS, config=ExportConfig(min_area=99)) == {}
    assert not (tmp_path / "cutouts/cat").exists()


def test_a_photo_of_which_nothing_is_left_is_not_read(tmp_path: Path) -> None:
    assert export(tmp_path, image("cat", REGIONS), formats=["cutouts"], config=ExportConfig(min_area=99)) == []


def test_numbers_of_many_segments_sort(tmp_path: Path) -> None:
    segments = Segments(np.arange(1200).reshape(30, 40), np.zeros(1200, np.int64))
    files = cut(tmp_path, segments, content=encoded(noise(0, 40, 30), "PNG"), config=ExportConfig(drop_border=True))
    assert [int(path.name[:4]) for path in files.values()] == segments.of_pixel[1:-1, 1:-1].ravel().tolist()


# Photos of all kinds


def test_a_photo_is_turned_as_its_labels_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(np.rot90(PHOTO)), "PNG", exif=exif)
    assert together(cut(tmp_path, REGIONS, content=content), REGIONS).tolist() == with_alpha(PHOTO).tolist()


ALPHA = np.array([[0, 10, 128, 255, 255], [255, 254, 1, 0, 0], [0, 255, 90, 7, 255]], np.uint8)


def test_opacity_of_a_photo_is_kept_inside_each_segment(tmp_path: Path) -> None:
    content = encoded(with_alpha(PHOTO, ALPHA), "PNG")
    expected = with_alpha(PHOTO, ALPHA)
    assert together(cut(tmp_path, REGIONS, content=content), REGIONS).tolist() == expected.tolist()


def test_opacity_of_a_palette_and_of_grey_are_kept(tmp_path: Path) -> None:
    grey = np.dstack([PHOTO[..., 0], ALPHA])
    whole = together(cut(tmp_path, REGIONS, content=encoded(Image.fromarray(grey), "PNG")), REGIONS)
    assert whole.tolist() == with_alpha(np.repeat(PHOTO[..., :1], 3, axis=2), ALPHA).tolist()
    picture = Image.fromarray(LABELS).convert("P")
    picture.putpalette([*PHOTO.reshape(-1, 3)[:5].ravel()])
    content = encoded(picture, "PNG", transparency=bytes([255, 0, 40, 255, 128]))
    whole = together(cut(tmp_path, REGIONS, content=content), REGIONS)
    alpha = np.array([255, 0, 40, 255, 128], np.uint8)[LABELS]
    assert whole.tolist() == with_alpha(PHOTO.reshape(-1, 3)[LABELS], alpha).tolist()


def test_jpeg_has_the_pixels_that_pillow_decodes(tmp_path: Path) -> None:
    content = encoded(PHOTO, "JPEG")
    with Image.open(io.BytesIO(content)) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert together(cut(tmp_path, REGIONS, content=content), REGIONS).tolist() == with_alpha(expected).tolist()


def test_deep_photos_have_the_range_that_they_were_segmented_with(tmp_path: Path) -> None:
    deep = np.linspace(1000, 3000, 15).reshape(3, 5).astype(np.uint16)
    content, segments = encoded(deep, "TIFF"), labels_as_segments(LABELS)
    of_range = ExportImage("cat", "cat.tif", lambda: segments, photo(content), (1000.0, 3000.0))
    assert export(tmp_path, of_range, formats=["cutouts"]) == []
    shown = np.rint((deep - 1000.0) / 2000 * 255)
    whole = together(found(tmp_path), segments)
    assert np.abs(whole[..., 0] - shown).max() <= 1
    assert (whole[..., 3] == 255).all()


def test_channels_are_those_that_the_photo_was_segmented_with(tmp_path: Path) -> None:
    stream = io.BytesIO()
    bands = np.random.default_rng(0).integers(0, 256, (3, 5, 6), np.uint8)
    tifffile.imwrite(stream, bands, photometric="minisblack", planarconfig="contig")
    content = stream.getvalue()
    chosen = ExportImage("cat", "cat.tif", lambda: REGIONS, photo(content), channels=(5, 1, 3))
    assert export(tmp_path, chosen, formats=["cutouts"]) == []
    assert together(found(tmp_path), REGIONS).tolist() == with_alpha(bands[..., [4, 0, 2]]).tolist()


# Names


def test_files_are_called_by_the_names_of_labels(tmp_path: Path) -> None:
    names = {0: "sky", 1: 'a/b: c?"', 2: "ねこ e\u0301", 4: "x" * 300}
    files = cut(tmp_path, LABELS, names=names)
    assert list(files) == ["cat/000-sky.png", "cat/001-a-b-c.png", "cat/002-ねこ-é.png", f"cat/004-{'x' * 119}.png"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sky", "-sky"),
        ("..", ""),
        ("/", ""),
        ("CON.", "-CON"),
        ("a  \u00a0b", "-a-b"),
        ("-a-", "--a"),
        ("ü" * 100, "-" + "ü" * 59),
        ("😀" * 100, "-" + "😀" * 29),
    ],
)
def test_names_of_labels_in_names_of_files(name: str, expected: str) -> None:
    assert name_in_files(name) == expected
    assert len(expected.encode()) <= MOST_BYTES


@pytest.mark.parametrize(
    ("name", "folder"), [("sub/cat", "sub/cat"), (".", "._"), ("sub/..", "sub/.._"), ("a.", "a._"), ("a ", "a _")]
)
def test_no_folder_leads_elsewhere(tmp_path: Path, name: str, folder: str) -> None:
    assert folder_of(name) == folder
    files = cut(tmp_path, LABELS, name=name)
    assert {found.rpartition("/")[0] for found in files} == {folder}


def test_photos_do_not_share_a_folder(tmp_path: Path) -> None:
    failures = export(tmp_path, *(image(name, LABELS, photo=photo()) for name in ("a.", "a._")), formats=["cutouts"])
    assert [(failure.name, failure.reason) for failure in failures] == [
        ("a._", "the cut-outs of another photo are in cutouts/a._: rename the photo")
    ]


# What an earlier export left


def test_files_of_segments_and_photos_that_are_gone_are_removed(tmp_path: Path) -> None:
    names = ("gone", "sub", "sub/cat", "sub/gone")
    export(tmp_path, *(image(name, LABELS, photo=photo()) for name in names), formats=["cutouts"])
    mine = tmp_path / "cutouts/sub/mine.png"
    Image.fromarray(PHOTO).save(mine)
    (tmp_path / "cutouts/gone/notes.txt").touch()
    kept = (image("sub", LABELS // 4, photo=photo()), image("sub/cat", LABELS, photo=photo()))
    assert export(tmp_path, *kept, formats=["cutouts"], names={0: "sky"}) == []
    assert list(found(tmp_path)) == [
        "gone/notes.txt",
        *("sub/000-sky.png", "sub/001-label-1.png"),
        *(f"sub/cat/{name}.png" for name in ("000-sky", "001-label-1", "002-label-2", "004-label-4")),
        "sub/mine.png",
    ]
    assert not (tmp_path / "cutouts/sub/gone").exists()


def test_a_photo_that_fails_leaves_no_cut_outs_and_the_others_stay(tmp_path: Path) -> None:
    def gone() -> bytes:
        raise ImageError("the photo has changed since it was segmented; segment it again")

    cut(tmp_path, LABELS, name="a")
    content = encoded(PHOTO, "PNG")
    broken = {
        "a": gone,
        "broken": photo(content[: len(content) // 2]),
        "text": photo(b"no image"),
        "turned": photo(encoded(np.rot90(PHOTO), "PNG")),
        "large": photo(encoded(noise(0, 50, 40), "PNG")),
    }
    images = [image(name, LABELS, photo=read) for name, read in broken.items()]
    failures = export(tmp_path, *images, image("cat", LABELS, photo=photo()), formats=["cutouts", "voc"])
    assert [(failure.name, failure.format) for failure in failures] == [(name, "cutouts") for name in broken]
    reasons = {failure.name: failure.reason for failure in failures}
    assert reasons["a"].startswith("the photo has changed")
    assert reasons["turned"] == "its photo has 3 x 5 pixels, and its map 5 x 3: make it again with `overwrite=True`"
    assert {name.partition("/")[0] for name in found(tmp_path)} == {"cat"}


def test_a_photo_is_read_once_for_all_its_segments(tmp_path: Path) -> None:
    read: list[str] = []

    def counted() -> bytes:
        read.append("cat")
        return encoded(PHOTO, "PNG")

    export(tmp_path, image("cat", REGIONS, photo=counted), formats=["cutouts"])
    assert read == ["cat"]


def test_cut_outs_that_were_begun_are_not_left_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dynaseg_cli.export import cutouts  # noqa: PLC0415 - to be changed

    count = 0

    def full(picture: Image.Image) -> bytes:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return encode(picture)

    encode = cutouts.encode_png
    monkeypatch.setattr(cutouts, "encode_png", full)
    images = [image(name, LABELS, photo=photo()) for name in ("a", "b")]
    (failure,) = export(tmp_path, *images, formats=["cutouts"])
    assert (failure.name, failure.reason) == ("a", "No space left on device")
    assert {name.partition("/")[0] for name in found(tmp_path)} == {"b"}


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "out/cutouts").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/cutouts/cat").symlink_to(tmp_path / "elsewhere")
    (failure,) = export(tmp_path / "out", image("cat", LABELS, photo=photo()), formats=["cutouts"])
    assert "leads out of the output folder" in failure.reason
    assert list((tmp_path / "elsewhere").iterdir()) == []
