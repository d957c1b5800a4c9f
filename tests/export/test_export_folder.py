"""PNG files that are known again as ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export_samples import export_folder
from PIL import Image

from dynaseg_cli.errors import ImageError
from dynaseg_cli.export.folder import encode_png

PICTURE = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
OURS = encode_png(PICTURE)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_picture_names_the_program(tmp_path: Path) -> None:
    export_folder(tmp_path).write("sub/a.png", OURS)
    with Image.open(tmp_path / "sub/a.png") as picture:
        assert picture.info["Software"].startswith("dynaseg ")
        assert np.asarray(picture).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_only_pictures_of_ours_that_are_not_kept_are_removed(tmp_path: Path) -> None:
    for name in ("kept.png", "gone.png", "sub/deep/gone.png", "sub/kept.png", "alone/gone.png"):
        export_folder(tmp_path).write(name, OURS)
    (tmp_path / "mine").mkdir()
    PICTURE.save(tmp_path / "mine/picture.png")
    (tmp_path / "notes.png").write_bytes(b"no picture")
    (tmp_path / ".png").write_bytes(b"a name without a stem")
    (tmp_path / "cut.png").write_bytes(OURS[:20])
    (tmp_path / "copy.dat").write_bytes(OURS)
    (tmp_path / "empty").mkdir()
    export_folder(tmp_path).remove_pngs("", {"kept.png", "sub/kept.png"})
    assert files(tmp_path) == [
        *(".png", "copy.dat", "cut.png", "empty", "kept.png", "mine", "mine/picture.png", "notes.png"),
        *("sub", "sub/kept.png"),
    ]


def test_links_are_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    export_folder(outside).write("a.png", OURS)
    inside.mkdir()
    (inside / "folder").symlink_to(outside)
    (inside / "a.png").symlink_to(outside / "a.png")
    export_folder(inside).remove_pngs("", set())
    export_folder(inside).remove_pngs("folder", set())
    assert files(inside) == ["a.png", "folder"]
    assert files(outside) == ["a.png"]


def test_nothing_is_written_through_a_link_that_leads_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/sub").symlink_to(outside)
    with pytest.raises(ImageError, match="leads out of the output folder"):
        export_folder(tmp_path / "inside").write("sub/a.png", OURS)
    assert files(outside) == []


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path: Path) -> None:
    export_folder(tmp_path).remove_pngs("none", set())
    assert files(tmp_path) == []
