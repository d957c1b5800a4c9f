"""Files that are known again as ours."""

from __future__ import annotations

import hashlib
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from export_samples import export_folder
from PIL import Image

from dynaseg_cli.errors import ImageError
from dynaseg_cli.export.folder import GENERATOR, encode_json, encode_png, encode_zip

PICTURE = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
OURS = encode_png(PICTURE)
SVG = f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- Generator: {GENERATOR} -->\n<svg/>'.encode()
FORMATS = {
    ".png": OURS,
    ".json": encode_json({"shapes": []}),
    ".geojson": encode_json({"type": "FeatureCollection"}),
    ".svg": SVG,
    ".zip": encode_zip({"a.roi": b"Iout", "b.roi": b"Iout" * 100}),
}
"""A file of an export for each suffix that says so."""


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


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_names_the_program(tmp_path: Path, suffix: str) -> None:
    ours = FORMATS[suffix]
    folder = export_folder(tmp_path)
    for name in ("kept", "gone", "sub/gone"):
        folder.write(name + suffix, ours)
    theirs = {
        "empty": b"",
        "cut": ours[:10],
        "renamed": ours.replace(b"dynaseg", b"another"),
        "text": b"dynaseg " * 50,
        "led": b"\n" + ours,
    }
    for name, content in theirs.items():
        (tmp_path / (name + suffix)).write_bytes(content)
    folder.remove_earlier("", suffix, {f"kept{suffix}"})
    assert files(tmp_path) == sorted(name + suffix for name in ("kept", *theirs))


def test_an_archive_is_equal_whenever_it_is_made_and_named_at_its_end() -> None:
    members = {"a.roi": b"1" * 1000, "b.roi": b""}
    assert encode_zip(members) == encode_zip(members)
    with zipfile.ZipFile(BytesIO(encode_zip(members))) as archive:
        assert archive.comment == GENERATOR.encode()
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == members


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_files_without_a_mark_are_removed_while_they_are_as_they_were_written(tmp_path: Path) -> None:
    folder = export_folder(tmp_path / "inside")
    for name in ("same", "changed", "deep/down/same", "unlisted"):
        folder.write(f"labels/{name}.txt", b"1 2 3")
    (tmp_path / "inside/labels/changed.txt").write_bytes(b"4 5 6")
    written = dict.fromkeys(
        ("same.txt", "changed.txt", "deep/down/same.txt", "gone.txt", "", ".", "nul\0"), sha256(b"1 2 3")
    )
    folder.remove_unchanged("labels", written)
    assert files(tmp_path / "inside/labels") == ["changed.txt", "unlisted.txt"]


def test_a_list_leads_to_no_file_elsewhere(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside.txt"
    outside.write_bytes(b"1 2 3")
    folder = export_folder(inside)
    folder.write("labels/a.txt", b"1 2 3")
    (inside / "labels/file.txt").symlink_to(outside)
    (inside / "labels/link").symlink_to(tmp_path)
    (inside / "linked").symlink_to(tmp_path)
    folder.remove_unchanged(
        "labels",
        dict.fromkeys(
            ("../../outside.txt", str(outside), "file.txt", "link/outside.txt", "../labels/a.txt"), sha256(b"1 2 3")
        ),
    )
    folder.remove_unchanged("linked", {"outside.txt": sha256(b"1 2 3")})
    assert outside.is_file()
    assert files(inside) == ["labels", "labels/a.txt", "labels/file.txt", "labels/link", "linked"]
