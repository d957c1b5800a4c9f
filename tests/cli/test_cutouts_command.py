"""Cut-outs as a person asks for them: of the photos as they were segmented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import files_below, photo_folder, read_pixels, save_photo
from test_segment import dynaseg, segment

OUT = Path("photos-dynaseg")


@pytest.fixture
def photos(here: Path) -> Path:
    photo_folder(here / "photos", "a.png", "b..png", "sub/c.png")
    return Path("photos")


def cut_outs() -> dict[str, bytes]:
    return files_below(OUT / "export/cutouts")


def test_cut_outs_are_the_regions_of_each_photo(photos: Path) -> None:
    assert segment(photos, "--regions", "3", "--export", "cutouts").exit_code == 0
    names = sorted(cut_outs())
    assert [name.rpartition("/")[0] for name in names] == ["a"] * 3 + ["b._"] * 3 + ["sub/c"] * 3
    for number, name in enumerate(name for name in names if name.startswith("sub/c/")):
        assert name.startswith(f"sub/c/{number:03}-label-")
        mask = read_pixels(OUT / "regions/sub/c.png") == number
        rows, columns = np.nonzero(mask)
        box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        picture = read_pixels(OUT / "export/cutouts" / name)
        assert np.array_equal(picture[..., 3], np.where(mask, 255, 0)[box])
        shown = np.where(mask[..., np.newaxis], read_pixels(photos / "sub/c.png"), 0)
        assert np.array_equal(picture[..., :3], shown[box])


def test_cut_outs_are_replaced_by_the_next_ones(photos: Path) -> None:
    segment(photos, "--regions", "3", "--export", "cutouts")
    first = cut_outs()
    again = dynaseg("export", OUT, "--format", "cutouts")
    assert (again.exit_code, cut_outs()) == (0, first)
    assert dynaseg("export", OUT, "--format", "cutouts", "--drop-largest").exit_code == 0
    assert cut_outs() == {name: content for name, content in first.items() if "/000-" not in name}
    assert segment(photos, "--regions", "2", "--export", "cutouts").exit_code == 0
    assert len(cut_outs()) == 6


def test_photos_that_are_gone_or_have_changed_are_named(photos: Path) -> None:
    segment(photos, "--export", "cutouts")
    (photos / "a.png").unlink()
    save_photo(photos / "sub/c.png", seed=99)
    result = dynaseg("export", OUT, "--format", "cutouts,coco-rle")
    assert result.exit_code == 1
    assert "not exported as cutouts: a: the photo is not there" in result.stderr
    assert "not exported as cutouts: sub/c: the photo has changed" in result.stderr
    assert "coco-rle: " not in result.stderr
    assert {name.partition("/")[0] for name in cut_outs()} == {"b._"}, "none of another photo under its name"


@pytest.mark.parametrize("command", ["segment", "export"])
def test_deep_photos_are_cut_out_in_the_range_they_were_segmented_with(here: Path, command: str) -> None:
    (here / "photos").mkdir()
    deep = np.linspace(0, 60000, 480).reshape(20, 24).astype(np.uint16)
    Image.fromarray(deep).save("photos/a.tif")
    options = ("photos", "--range", "1000,2000", "--regions", "1")
    if command == "segment":
        assert segment(*options, "--export", "cutouts").exit_code == 0
    else:
        segment(*options)
        assert dynaseg("export", OUT, "--format", "cutouts").exit_code == 0
    (name,) = cut_outs()
    shown = read_pixels(OUT / "export/cutouts" / name)[..., 0].astype(float)
    assert np.abs(shown - np.clip((deep - 1000.0) / 1000 * 255, 0, 255)).max() <= 1
