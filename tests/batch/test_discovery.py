from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynaseg_cli.batch.discovery import Discovery, discover
from dynaseg_cli.config import BatchConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.images import PHOTO_SUFFIXES


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def find(
    *inputs: Path, listed: tuple[Path, ...] = (), output: Path = Path("/nowhere/out"), **options: Any
) -> Discovery:
    return discover(inputs, listed, output, BatchConfig(**options))


def names(found: Discovery) -> list[str]:
    return [str(job.name) for job in found.jobs]


def test_jobs_are_sorted_whatever_the_order_of_the_inputs(photos: Path) -> None:
    touch(photos, "z.jpg", "b/d.jpg", "a.jpg", "b/c.jpg", "c10.jpg", "c9.jpg")
    single = photos.parent / "m.png"
    single.touch()
    found = find(photos, single)
    assert names(found) == ["a", "b/c", "b/d", "c10", "c9", "m", "z"]
    assert find(single, photos).jobs == found.jobs


def test_tree_is_mirrored_below_each_product(photos: Path, tmp_path: Path) -> None:
    touch(photos, "sub/deeper/cat.jpg")
    (job,) = find(photos).jobs
    assert job.source == photos / "sub/deeper/cat.jpg"
    out = tmp_path / "out"
    assert job.result(out, "labels") == out / "labels/sub/deeper/cat.png"
    assert job.result(out, "color") == out / "color/sub/deeper/cat.png"
    assert job.result(out, "stats") == out / "stats/sub/deeper/cat.json"


@pytest.mark.parametrize("root", [".", "..", "sub", "sub/.", "./sub/deeper", "{photos}", "{photos}/sub/.."])
def test_image_has_the_path_of_its_input(photos: Path, monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    touch(photos, "a.jpg", "sub/b.jpg", "sub/deeper/c.jpg")
    monkeypatch.chdir(photos)
    folder = Path(root.format(photos=photos))
    assert {job.path for job in find(folder).jobs} == {str(path) for path in folder.rglob("*.jpg")}


def test_only_the_last_suffix_is_dropped(photos: Path, tmp_path: Path) -> None:
    touch(photos, "cat.v1.jpg")
    (job,) = find(photos).jobs
    assert job.result(tmp_path, "labels").name == "cat.v1.png"


def test_folders_below_can_be_left_out(photos: Path) -> None:
    touch(photos, "a.jpg", "sub/b.jpg")
    assert names(find(photos)) == ["a", "sub/b"]
    assert names(find(photos, recursive=False)) == ["a"]


def test_suffix_counts_in_any_case_and_other_files_are_passed_over(photos: Path) -> None:
    touch(photos, "a.JPG", "b.Jpeg", "c.TIFF", "notes.txt", "jpg", "d.jpg.part", ".jpg", "e.eps", "f.pdf")
    assert names(find(photos)) == ["a", "b", "c"]


def test_files_are_told_apart_by_the_listing_alone(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(photos, *(f"{number}.jpg" for number in range(100)))
    asked: list[Path] = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: (asked.append(path), stat(path, **how))[1])
    assert len(find(photos).jobs) == 100
    assert len(asked) < 10


def test_every_known_suffix_is_found(photos: Path) -> None:
    touch(photos, *(f"image{index}{suffix}" for index, suffix in enumerate(PHOTO_SUFFIXES)))
    assert len(find(photos).jobs) == len(PHOTO_SUFFIXES)


def test_file_named_by_itself_needs_no_suffix_and_goes_to_the_top(photos: Path) -> None:
    touch(photos, "sub/scan", "sub/photo.data")
    assert names(find(photos / "sub/scan", photos / "sub/photo.data")) == ["photo", "scan"]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"include": ("a*",)}, ["a1", "sub/a2"]),
        ({"include": ("a*", "b*")}, ["a1", "b1", "sub/a2"]),
        ({"include": ("sub/*",)}, ["sub/a2", "sub/deeper/c"]),
        ({"include": ("*/c.jpg",)}, ["sub/deeper/c"]),
        ({"exclude": ("a*",)}, ["b1", "sub/deeper/c"]),
        ({"exclude": ("sub/*",)}, ["a1", "b1"]),
        ({"include": ("a*",), "exclude": ("sub/*",)}, ["a1"]),
        ({"include": ("*.png",)}, ["b1"]),
    ],
    ids=str,
)
def test_globs_match_names_or_with_a_slash_paths(photos: Path, options: dict[str, Any], kept: list[str]) -> None:
    touch(photos, "a1.jpg", "b1.png", "sub/a2.jpg", "sub/deeper/c.jpg")
    assert names(find(photos, **options)) == kept


def test_output_below_the_input_is_never_read_back(photos: Path) -> None:
    touch(photos, "a.jpg", "out/labels/a.png", "out/color/sub/a.png", "outer/b.jpg")
    assert names(find(photos, output=photos / "out")) == ["a", "outer/b"]


def test_output_below_the_input_is_known_by_any_of_its_paths(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(photos, "a.jpg", "out/labels/a.png")
    (photos.parent / "link").symlink_to(photos / "out")
    monkeypatch.chdir(photos)
    assert names(find(photos, output=photos.parent / "link")) == ["a"]
    assert names(find(Path(), output=Path("sub/../out"))) == ["a"]


def test_input_that_is_the_output_is_refused(photos: Path) -> None:
    touch(photos, "a.jpg")
    with pytest.raises(UsageError, match="is both input and output") as raised:
        find(photos, output=photos / "sub" / "..")
    assert str(photos) in str(raised.value)


def test_links_out_of_the_folder_are_counted_and_not_followed(photos: Path, tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/b.jpg", "c.jpg")
    touch(photos, "a.jpg")
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    (photos / "c.jpg").symlink_to(tmp_path / "c.jpg")
    (photos / "notes.txt").symlink_to(tmp_path / "c.jpg")
    found = find(photos)
    assert names(found) == ["a"]
    assert found.links_out == 2
    followed = find(photos, follow_symlinks=True)
    assert names(followed) == ["a", "c", "linked/b"]
    assert followed.links_out == 0


def test_link_to_a_folder_of_a_longer_name_leads_out(photos: Path, tmp_path: Path) -> None:
    touch(tmp_path, "photos-more/b.jpg")
    touch(photos, "a.jpg")
    (photos / "b.jpg").symlink_to(tmp_path / "photos-more/b.jpg")
    found = find(photos)
    assert names(found) == ["a"]
    assert found.links_out == 1


def test_link_to_a_file_within_the_folder_is_followed(photos: Path) -> None:
    touch(photos, "sub/a.jpg")
    (photos / "b.jpg").symlink_to(photos / "sub/a.jpg")
    found = find(photos)
    assert names(found) == ["b", "sub/a"]
    assert found.links_out == 0


def test_folder_that_links_to_its_parent_is_walked_once(photos: Path) -> None:
    touch(photos, "a.jpg", "sub/b.jpg")
    (photos / "sub/up").symlink_to(photos)
    (photos / "twin").symlink_to(photos / "sub")
    found = find(photos, follow_symlinks=True)
    assert sorted(job.source.name for job in found.jobs) == ["a.jpg", "b.jpg"]


def test_folder_linked_twice_goes_by_its_first_name_in_any_listing_order(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "elsewhere/a.jpg")
    for name in ("y", "x", "z"):
        (photos / name).symlink_to(tmp_path / "elsewhere")
    assert names(find(photos, follow_symlinks=True)) == ["x/a"]
    scandir = os.scandir
    monkeypatch.setattr("os.scandir", lambda path: sorted(scandir(path), key=lambda entry: entry.name, reverse=True))
    assert names(find(photos, follow_symlinks=True)) == ["x/a"]


@pytest.mark.parametrize("follow", [False, True])
def test_links_that_lead_nowhere_or_to_themselves_are_passed_over(photos: Path, follow: bool) -> None:
    touch(photos, "a.jpg")
    (photos / "gone.jpg").symlink_to(photos / "missing.jpg")
    (photos / "loop.jpg").symlink_to(photos / "loop.jpg")
    (photos / "loop").symlink_to(photos / "loop")
    assert names(find(photos, follow_symlinks=follow)) == ["a"]


def test_file_given_twice_is_one_job(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(photos, "a.jpg")
    monkeypatch.chdir(tmp_path)
    assert names(find(photos, photos, photos / "a.jpg", Path("photos/../photos/a.jpg"))) == ["a"]


@pytest.mark.parametrize(("first", "second"), [("a.jpg", "a.png"), ("sub/a.tif", "sub/a.TIFF")])
def test_two_files_with_one_result_are_refused_by_name(photos: Path, first: str, second: str) -> None:
    touch(photos, first, second)
    with pytest.raises(UsageError, match="--keep-extension") as raised:
        find(photos)
    assert str(photos / first) in str(raised.value)
    assert str(photos / second) in str(raised.value)


def test_files_of_one_name_from_two_inputs_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jpg", "two/a.jpg")
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path}/one/a.jpg and {tmp_path}/two/a.jpg")):
        find(tmp_path / "one", tmp_path / "two")


def test_kept_extensions_tell_results_apart(photos: Path, tmp_path: Path) -> None:
    touch(photos, "a.jpg", "a.png", "b.jpg")
    found = find(photos, keep_extension=True)
    assert names(found) == ["a.jpg", "a.png", "b.jpg"]
    assert found.jobs[0].result(tmp_path, "labels").name == "a.jpg.png"
    assert found.jobs[0].result(tmp_path, "stats").name == "a.jpg.json"


@pytest.mark.parametrize(
    ("file", "below"),
    [
        ("a.jpg", "a.png/b.jpg"),
        ("a.jpg", "a.json/b.jpg"),
        ("a.jpg", "a.png/deep/er/b.jpg"),
        ("sub/a.jpg", "sub/a.json/b.jpg"),
        ("sub.png/a.jpg", "sub.png/a.png/b.jpg"),
    ],
)
def test_result_that_would_be_the_folder_of_another_is_refused(photos: Path, file: str, below: str) -> None:
    touch(photos, "0.jpg", "a-1.jpg", "a!.jpg", "a0.jpg", "sub/a-1.jpg", "z.jpg", file, below)
    with pytest.raises(UsageError, match="is a folder for") as raised:
        find(photos)
    assert str(photos / file) in str(raised.value)
    assert str(photos / below) in str(raised.value)


def test_folder_that_is_called_as_a_result_of_nothing_is_no_matter(photos: Path) -> None:
    touch(photos, "a.png/b.jpg", "ab.jpg", "b.png.json/a.jpg", "b.jpg", ".png/c.jpg")
    assert names(find(photos)) == [".png/c", "a.png/b", "ab", "b", "b.png.json/a"]


def test_folder_called_as_a_map_of_many_regions_matters_where_regions_are_saved(photos: Path) -> None:
    touch(photos, "a.jpg", "a.tif/b.jpg")
    assert names(find(photos)) == ["a", "a.tif/b"]
    with pytest.raises(UsageError, match="is a folder for"):
        find(photos, save=("labels", "regions"))


def test_missing_input_is_refused_before_any_is_taken(photos: Path) -> None:
    touch(photos, "a.jpg")
    with pytest.raises(UsageError, match=re.escape(f"{photos}/b.jpg does not exist")):
        find(photos, photos / "b.jpg")


def test_input_whose_name_no_file_system_allows_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError):
        find(photos / ("x" * 300))


def test_input_that_is_neither_file_nor_folder_is_refused(photos: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    with pytest.raises(UsageError, match="is not a regular file"):
        find(photos / "pipe.jpg")


def test_pipe_in_a_folder_is_passed_over(photos: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    touch(photos, "a.jpg")
    assert names(find(photos)) == ["a"]


def test_folder_without_images_is_refused_saying_what_was_looked_for(photos: Path) -> None:
    touch(photos, "notes.txt")
    with pytest.raises(UsageError, match=r"no images in .*photos.*\.jpg"):
        find(photos)


def test_globs_that_let_nothing_through_are_named(photos: Path) -> None:
    touch(photos, "a.jpg")
    with pytest.raises(UsageError, match="--include and --exclude"):
        find(photos, include=("*.png",))


def test_listed_file_keeps_its_path_less_its_anchor_and_parents(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(photos, "sub/a.jpg", "b.jpg")
    monkeypatch.chdir(photos / "sub")
    assert names(find(listed=(photos / "b.jpg",))) == [str(photos / "b")[1:]]
    assert names(find(listed=(Path("a.jpg"), Path("../b.jpg"), Path("../../photos/b.jpg")))) == ["a", "b", "photos/b"]


def test_empty_list_is_refused() -> None:
    with pytest.raises(UsageError, match="no images in the list"):
        find()


def test_listed_folder_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match="is a folder: give it as INPUT"):
        find(listed=(photos,))


def test_listed_file_that_does_not_exist_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match=r"b\.jpg does not exist"):
        find(listed=(photos / "b.jpg",))


def test_folder_that_cannot_be_listed_is_noted_and_the_rest_found(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(photos, "a.jpg", "locked/b.jpg", "open/c.jpg")
    scandir = os.scandir

    def refuse(path: Path) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    found = find(photos)
    assert names(found) == ["a", "open/c"]
    assert found.unreadable == [(photos / "locked", "cannot be listed: Permission denied")]


def test_folder_whose_listing_breaks_off_is_noted(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(photos, "a.jpg", "broken/b.jpg", "broken/c.jpg")
    scandir = os.scandir

    def break_off(path: str) -> Iterator[os.DirEntry[str]]:
        for entry in list(scandir(path)):
            yield entry
            if Path(path).name == "broken":
                raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.scandir", break_off)
    found = find(photos)
    assert names(found) == ["a"]
    assert found.unreadable == [(photos / "broken", "cannot be listed: Input/output error")]


@pytest.mark.parametrize(
    "stem",
    [
        *("two words", " leading and trailing ", "quote'\"`$(id)", "line\nbreak", "tab\tbell\a\x1b[31m", "-dash"),
        *("[brackets]*?", "größe 写真 🐈", os.fsdecode(b"caf\xe9"), "a.b.c", ".", "..", "~", "%s{}", "back\\slash"),
    ],
    ids=ascii,
)
def test_name_of_any_kind_is_kept(photos: Path, tmp_path: Path, stem: str) -> None:
    touch(photos, f"{stem}.jpg", f"sub {stem}/{stem}.jpg")
    found = find(photos)
    assert {job.source for job in found.jobs} == {photos / f"{stem}.jpg", photos / f"sub {stem}/{stem}.jpg"}
    assert {job.result(tmp_path, "labels") for job in found.jobs} == {
        tmp_path / "labels" / f"{stem}.png",
        tmp_path / "labels" / f"sub {stem}/{stem}.png",
    }
