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
from dynaseg_cli.files.output_folder import OutputFolder
from dynaseg_cli.files.reading import PHOTO_SUFFIXES
from dynaseg_cli.files.user_files import MARK


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
    out = OutputFolder(tmp_path / "out")
    assert out.result(job, "labels") == out.path / "labels/sub/deeper/cat.png"
    assert out.result(job, "color") == out.path / "color/sub/deeper/cat.png"
    assert out.result(job, "stats") == out.path / "stats/sub/deeper/cat.json"


@pytest.mark.parametrize("root", [".", "..", "sub", "sub/.", "./sub/deeper", "{photos}", "{photos}/sub/.."])
def test_image_has_the_path_of_its_input(photos: Path, monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    touch(photos, "a.jpg", "sub/b.jpg", "sub/deeper/c.jpg")
    monkeypatch.chdir(photos)
    folder = Path(root.format(photos=photos))
    assert {job.path for job in find(folder).jobs} == {str(path) for path in folder.rglob("*.jpg")}


def test_only_the_last_suffix_is_dropped(photos: Path) -> None:
    touch(photos, "cat.v1.jpg")
    (job,) = find(photos).jobs
    assert job.name == "cat.v1"


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
        ({"include": ("*.PNG",)}, ["b1"]),
        ({"exclude": ("SUB",)}, ["a1", "b1"]),
        ({"exclude": ("sub/",)}, ["a1", "b1"]),
        ({"exclude": ("./sub/deeper",)}, ["a1", "b1", "sub/a2"]),
        ({"exclude": ("deep*",)}, ["a1", "b1", "sub/a2"]),
        ({"include": ("sub",)}, ["sub/a2", "sub/deeper/c"]),
        ({"include": ("sub/deeper",)}, ["sub/deeper/c"]),
        ({"include": ("sub",), "exclude": ("deeper",)}, ["sub/a2"]),
    ],
    ids=str,
)
def test_globs_match_names_or_with_a_slash_paths(photos: Path, options: dict[str, Any], kept: list[str]) -> None:
    touch(photos, "a1.jpg", "b1.png", "sub/a2.jpg", "sub/deeper/c.jpg")
    assert names(find(photos, **options)) == kept


def test_globs_hold_for_files_that_are_named_one_by_one(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(photos, "a.jpg", "b.png", "sub/c.jpg", "sub/d.png")
    monkeypatch.chdir(photos)
    found = find(Path("a.jpg"), Path("b.png"), listed=(Path("sub/c.jpg"), Path("sub/d.png")), include=("*.png",))
    assert names(found) == ["b", "sub/d"]
    assert names(find(Path("b.png"), listed=(Path("sub/c.jpg"), Path("sub/d.png")), exclude=("sub",))) == ["b"]


def test_globs_that_match_nothing_are_told_of(photos: Path) -> None:
    touch(photos, "a.jpg", "sub/b.jpg")
    found = find(photos, include=("*.jpg", "*.gif"), exclude=("sub", "sup", "no/where"))
    assert names(found) == ["a"]
    assert found.unmatched_globs == ["`include=*.gif`", "`exclude=sup`", "`exclude=no/where`"]
    assert find(photos, include=("a*", "*.jpg")).unmatched_globs == [], "what matches second matches all the same"


# What is passed over


def test_what_no_user_made_is_passed_over_and_counted(photos: Path) -> None:
    touch(photos, "a.jpg", ".hidden.jpg", "._a.jpg", "sub/._b.png", "sub/.thumbs/c.jpg", "__MACOSX/a.jpg")
    touch(photos, ".DS_Store", ".gitignore", "._notes.txt", "sub/@eaDir/a.jpg/thumb.jpg", "__MACOSX.jpg")
    found = find(photos)
    assert names(found) == ["__MACOSX", "a"]
    assert found.passed_over == {"hidden": 2, "sidecar": 2, "system folder": 2}


def test_photos_that_cannot_be_read_are_counted_by_kind(photos: Path) -> None:
    touch(photos, "a.jpg", "b.NEF", "c.cr2", "sub/d.dng", "e.txt")
    assert find(photos).passed_over == {"camera raw": 3}
    (photos / "a.jpg").unlink()
    with pytest.raises(
        UsageError, match=r"no images in .*; passed over: 3 camera raw files \(.*first\); convert camera raw to JPEG"
    ):
        find(photos)


def test_folder_that_is_hidden_can_be_named(photos: Path) -> None:
    touch(photos, ".thumbs/a.jpg", ".thumbs/.b.jpg")
    assert names(find(photos / ".thumbs")) == ["a"]


def test_hidden_files_of_a_list_are_passed_over(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `find` lists them."""
    touch(photos, "a.jpg", "._a.jpg", ".thumbs/a.jpg", "__MACOSX/a.jpg")
    monkeypatch.chdir(photos)
    listed = tuple(Path(name) for name in ("./a.jpg", "./._a.jpg", "./.thumbs/a.jpg", "./__MACOSX/a.jpg"))
    found = find(listed=listed)
    assert names(found) == ["a"]
    assert found.passed_over == {"hidden": 1, "sidecar": 1, "system folder": 1}


@pytest.mark.parametrize("mark", [MARK, "run.json", "outcomes.jsonl"])
def test_what_dynaseg_wrote_is_passed_over_wherever_it_lies(photos: Path, mark: str) -> None:
    touch(photos, "a.jpg", "sub/old/labels/a.png", "sub/old/mine.png", "sub/b.jpg")
    (photos / "sub/old" / mark).write_text('{"versions": {"dynaseg": "0.1.0"}, "path": "", "status": ""}')
    found = find(photos)
    assert names(found) == ["a", "sub/b"]
    assert found.passed_over == {"results": 1}
    found = find(photos, photos / "sub/old")
    assert (names(found), found.results) == (["a", "sub/b"], [photos / "sub/old"])


@pytest.mark.parametrize("below", ["labels", "labels/sub", "Labels", "report/ab", "export/voc/SegmentationClass"])
def test_results_are_no_input_by_whatever_path(photos: Path, tmp_path: Path, below: str) -> None:
    OutputFolder(photos).mark()
    touch(photos, f"{below}/a.png", "images/b.jpg")
    (tmp_path / "link").symlink_to(photos / below)
    for path in (photos, photos / below, photos / below / "a.png", tmp_path / "link", tmp_path / "link/a.png"):
        with pytest.raises(UsageError, match="results are never input"):
            find(path)
    with pytest.raises(UsageError, match="results are never input"):
        find(listed=(photos / below / "a.png",))
    (photos / "images/c.png").symlink_to(photos / below / "a.png")
    assert names(find(photos / "images", output=photos, follow_symlinks=True)) == ["b"], "nor through a link"
    with pytest.raises(UsageError, match="results are never input"):
        find(photos / "images/c.png")
    assert names(find(photos / "images", output=photos)) == ["b"], "photos beside them are a user's"
    assert names(find(photos / "images/b.jpg", output=photos)) == ["b"]


def test_folder_called_as_a_product_is_input_where_dynaseg_did_not_write_it(photos: Path) -> None:
    touch(photos, "color/a.jpg", "labels/b.jpg")
    assert names(find(photos)) == ["color/a", "labels/b"]
    assert names(find(photos / "color")) == ["a"]


def test_file_is_done_once_however_often_it_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(photos, "a.jpg", "sub/b.jpg", "sub/deep/c.jpg")
    (photos.parent / "link").symlink_to(photos)
    monkeypatch.chdir(photos)
    everything = ["a", "sub/b", "sub/deep/c"]
    found = find(photos, photos / "sub")
    assert (names(found), found.passed_over, found.empty) == (everything, {"duplicate": 2}, [])
    assert names(find(photos / "sub", photos)) == ["a", "b", "deep/c"], "by the name it has first"
    assert names(find(photos, photos.parent / "link")) == everything
    assert names(find(photos, listed=(Path("sub/b.jpg"), photos / "a.jpg"))) == everything
    assert names(find(listed=(Path("sub/b.jpg"), Path("./sub/../sub/b.jpg")))) == ["sub/b"]


def test_folders_without_images_among_the_inputs_are_told_of(photos: Path) -> None:
    touch(photos, "a.jpg", "none/notes.txt", "twice/b.jpg")
    found = find(photos / "twice", photos, photos / "none")
    assert (names(found), found.empty) == (["a", "b"], [photos / "none"])


@pytest.mark.parametrize(("path", "hint"), [("results", True), ("results.png", False)])
def test_last_of_several_inputs_that_is_not_there_may_be_meant_for_the_results(
    photos: Path, path: str, hint: bool
) -> None:
    touch(photos, "a.jpg")
    with pytest.raises(UsageError, match=re.escape(f"{photos}/{path} does not exist")) as raised:
        find(photos, photos / path)
    assert (f"`output={photos}/{path}`" in str(raised.value)) == hint
    with pytest.raises(UsageError) as raised:
        find(photos / path)
    assert "`output=" not in str(raised.value)


@pytest.mark.parametrize(
    ("one", "other"), [("IMG.jpg", "img.png"), ("Sub/a.jpg", "sub/a.png"), ("\u00e9.jpg", "e\u0301.png")]
)
def test_results_that_differ_in_case_or_in_how_an_accent_is_written_are_refused(
    photos: Path, one: str, other: str
) -> None:
    touch(photos, one, other)
    with pytest.raises(UsageError, match="where upper and lower case are one"):
        find(photos)


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
    assert found.passed_over == {"link": 2}
    followed = find(photos, follow_symlinks=True)
    assert names(followed) == ["a", "c", "linked/b"]
    assert not followed.passed_over


def test_link_to_a_folder_of_a_longer_name_leads_out(photos: Path, tmp_path: Path) -> None:
    touch(tmp_path, "photos-more/b.jpg")
    touch(photos, "a.jpg")
    (photos / "b.jpg").symlink_to(tmp_path / "photos-more/b.jpg")
    found = find(photos)
    assert names(found) == ["a"]
    assert found.passed_over == {"link": 1}


def test_link_to_a_file_within_the_folder_is_followed(photos: Path) -> None:
    touch(photos, "sub/a.jpg")
    (photos / "b.jpg").symlink_to(photos / "sub/a.jpg")
    found = find(photos)
    assert names(found) == ["b", "sub/a"]
    assert not found.passed_over


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
    with pytest.raises(UsageError, match="`keep_extension=True`") as raised:
        find(photos)
    assert str(photos / first) in str(raised.value)
    assert str(photos / second) in str(raised.value)


def test_files_of_one_name_from_two_inputs_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jpg", "two/a.jpg")
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path}/one/a.jpg and {tmp_path}/two/a.jpg")):
        find(tmp_path / "one", tmp_path / "two")


def test_kept_extensions_tell_results_apart(photos: Path) -> None:
    touch(photos, "a.jpg", "a.png", "b.jpg")
    found = find(photos, keep_extension=True)
    assert names(found) == ["a.jpg", "a.png", "b.jpg"]


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
    touch(photos, "a.png/b.jpg", "ab.jpg", "b.png.json/a.jpg", "b.jpg")
    assert names(find(photos)) == ["a.png/b", "ab", "b", "b.png.json/a"]


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
    with pytest.raises(UsageError, match="`include` and `exclude`"):
        find(photos, include=("*.png",))


def test_listed_file_keeps_its_path_less_its_anchor_and_parents(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(photos, "sub/a.jpg", "b.jpg")
    monkeypatch.chdir(photos / "sub")
    assert names(find(listed=(photos / "b.jpg",))) == [str(photos / "b")[1:]]
    touch(photos, "c.jpg")
    assert names(find(listed=(Path("a.jpg"), Path("../b.jpg"), Path("../../photos/c.jpg")))) == ["a", "b", "photos/c"]


def test_empty_list_is_refused() -> None:
    with pytest.raises(UsageError, match="no images in the list"):
        find()


def test_listed_folder_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match="is a folder: name it as an input"):
        find(listed=(photos,))


def test_listed_file_that_does_not_exist_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match=r"b\.jpg does not exist"):
        find(listed=(photos / "b.jpg",))


def test_folder_that_cannot_be_listed_is_named_and_the_rest_found(
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


def test_folder_whose_listing_breaks_off_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        *("[brackets]*?", "größe 写真 🐈", os.fsdecode(b"caf\xe9"), "a.b.c", "a.", "a..", "~", "%s{}", "back\\slash"),
    ],
    ids=ascii,
)
def test_name_of_any_kind_is_kept(photos: Path, tmp_path: Path, stem: str) -> None:
    touch(photos, f"{stem}.jpg", f"sub {stem}/{stem}.jpg")
    found = find(photos)
    assert {job.source for job in found.jobs} == {photos / f"{stem}.jpg", photos / f"sub {stem}/{stem}.jpg"}
    assert {OutputFolder(tmp_path).result(job, "labels") for job in found.jobs} == {
        tmp_path / "labels" / f"{stem}.png",
        tmp_path / "labels" / f"sub {stem}/{stem}.png",
    }
