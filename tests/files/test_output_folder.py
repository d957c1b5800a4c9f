from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from samples import files_below

from dynaseg_cli.config import Product
from dynaseg_cli.errors import ImageError, UsageError
from dynaseg_cli.files import output_folder
from dynaseg_cli.files.output_folder import Job, OutputFolder, is_result
from dynaseg_cli.files.user_files import LOG_NAME, MARK, is_output_folder, kind_passed_over


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def folder(out: Path) -> OutputFolder:
    return OutputFolder(out)


def put(folder: Path, *names: str, text: str = "mine") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# The mark


def test_folder_is_marked_before_anything_else_is_in_it(folder: OutputFolder, out: Path) -> None:
    assert not is_output_folder(out)
    folder.mark()
    assert [path.name for path in out.iterdir()] == [MARK]
    assert is_output_folder(out)
    assert folder.foreign_files() == frozenset()


def test_mark_stays_as_it_was_first_made(folder: OutputFolder, out: Path) -> None:
    put(out, "labels/mine.png")
    folder.mark()
    put(out, "labels/result.png")
    folder.mark()
    assert folder.foreign_files() == {"labels/mine.png"}


def test_results_of_a_run_that_marked_the_folder_meanwhile_are_not_taken_for_a_user_s(
    folder: OutputFolder, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs begin at once: this one saw no mark, then the other's first result."""
    asked = iter([False])
    monkeypatch.setattr(output_folder, "is_output_folder", lambda folder: next(asked, None) is None)
    folder.mark()
    put(out, "labels/a.png", text="the other's")
    assert folder.foreign_files() == frozenset()


def mark_as_version_1(out: Path, *foreign: str) -> None:
    put(out, MARK, text=json.dumps({"dynaseg": "0.1.0", "foreign": list(foreign)}))


def test_mark_of_version_1_learns_of_the_folders_that_have_come_since(folder: OutputFolder, out: Path) -> None:
    mark_as_version_1(out, "labels/mine.png")
    put(out, "labels/mine.png", "labels/result.png", "raw/mine.png", ".raw/mine.png", "run.json")
    theirs = {"labels/mine.png", "raw/mine.png", ".raw/mine.png"}
    assert folder.foreign_files() == theirs
    folder.mark()
    put(out, "raw/result.png", ".raw/result.png")
    folder.mark()
    assert folder.foreign_files() == theirs
    with pytest.raises(UsageError, match=r"raw exists and was not written by dynaseg"):
        folder.refuse_foreign(["raw/"])


def test_results_of_a_run_that_renewed_the_mark_meanwhile_are_not_taken_for_a_user_s(
    folder: OutputFolder, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_as_version_1(out)
    listed = output_folder._where_results_go

    def renew_meanwhile(*arguments: Any) -> Any:
        monkeypatch.undo()
        folder.mark()
        put(out, ".raw/result.png")
        return listed(*arguments)

    monkeypatch.setattr(output_folder, "_where_results_go", renew_meanwhile)
    assert folder.foreign_files() == frozenset()


@pytest.mark.parametrize("marked", [True, False])
def test_photos_in_a_folder_called_raw_are_no_results(folder: OutputFolder, out: Path, marked: bool) -> None:
    mark_as_version_1(out)
    put(out, "raw/a.png", "raw/sub/b.jpg")
    if marked:
        folder.mark()
    assert not is_result(out / "raw")
    assert not is_result(out / "raw/sub")
    assert is_result(out / "labels")
    assert not folder.has(Job("a.jpg", "a"), "raw")


def test_raw_labels_are_results(folder: OutputFolder, out: Path) -> None:
    folder.mark()
    put(out, "raw/a.png")
    assert is_result(out / "raw")
    assert folder.has(Job("a.jpg", "a"), "raw")


def test_runs_that_begin_at_once_share_one_mark(folder: OutputFolder, out: Path) -> None:
    put(out, "labels/mine.png")
    threads = [threading.Thread(target=folder.mark) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folder.foreign_files() == {"labels/mine.png"}
    assert sorted(path.name for path in out.iterdir()) == [MARK, "labels"]


def test_file_system_without_hard_links_has_a_mark_too(
    folder: OutputFolder, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    folder.mark()
    assert [path.name for path in out.iterdir()] == [MARK]


@pytest.mark.parametrize(
    ("name", "content", "known"),
    [
        ("run.json", '{"versions": {"dynaseg": "0.1.0"}}', True),
        ("run.json", '{"versions": {"torch": "2.11"}}', False),
        ("run.json", "[1, 2]", False),
        ("run.json", "[" * 100_000, False),
        ("run.json", "", False),
        ("outcomes.jsonl", '{"path": "a.jpg", "status": "done"}\n{"pa', True),
        ("outcomes.jsonl", '{"path": "a.jpg"}\n', False),
        ("outcomes.jsonl", "[]\n", False),
        ("outcomes.jsonl", "", False),
    ],
)
def test_folders_of_versions_that_left_no_mark_are_known(out: Path, name: str, content: str, known: bool) -> None:
    put(out, name, text=content)
    assert is_output_folder(out) == known
    assert is_output_folder(out, {name}) == known
    assert not is_output_folder(out, {"other"}), "only what is listed is looked at"


@pytest.mark.parametrize("content", ["", "mine", "[]", '{"foreign": 3}', "[" * 100_000])
def test_damaged_mark_is_no_licence_to_write(folder: OutputFolder, out: Path, content: str) -> None:
    put(out, MARK, text=content)
    with pytest.raises(UsageError, match=r"\.dynaseg is damaged.*`output`"):
        folder.foreign_files()


# What a user has there


@pytest.mark.parametrize(
    ("there", "target"),
    [
        ("labels/a.png", "labels/a.png"),
        ("labels/sub/a.png", "labels/sub/a.png"),
        ("Labels/A.PNG", "labels/a.png"),
        ("labels/é.png", "labels/é.png"),
        ("run.json", "run.json"),
        ("labels", "labels/a.png"),
        ("labels/sub", "labels/sub/a.png"),
        ("export/voc/mine.png", "export/"),
    ],
)
@pytest.mark.parametrize("marked", [False, True])
def test_file_of_a_user_is_never_replaced(
    folder: OutputFolder, out: Path, there: str, target: str, marked: bool
) -> None:
    put(out, there)
    if marked:
        folder.mark()
    before = files_below(out)
    with pytest.raises(UsageError, match="was not written by dynaseg") as raised:
        folder.refuse_foreign(["color/other.png", target])
    if target != "export/":
        assert str(out / there) in str(raised.value), "as it is spelled there"
    assert files_below(out) == before


def test_files_of_a_user_elsewhere_are_no_matter(folder: OutputFolder, out: Path) -> None:
    put(out, "notes.txt", "photos/a.png", "labels/b.png", "color/a.txt", "model.onnx")
    folder.refuse_foreign(["labels/a.png", "color/a.png", "run.json", "export/"])
    folder.mark()
    folder.refuse_foreign(["labels/a.png", "color/a.png", "run.json", "export/"])
    assert json.loads((out / MARK).read_bytes())["foreign"] == ["color/a.txt", "labels/b.png"]


def test_empty_log_has_nothing_to_lose(folder: OutputFolder, out: Path) -> None:
    put(out, "outcomes.jsonl", text="")
    assert folder.foreign_files() == frozenset()
    (out / "run.json").symlink_to(out / "outcomes.jsonl")
    assert folder.foreign_files() == {"run.json"}


def test_folder_called_as_a_file_of_a_run_is_no_file(folder: OutputFolder, out: Path) -> None:
    put(out, "run.json/mine.txt")
    assert folder.foreign_files() == frozenset()


@pytest.mark.parametrize("link", ["labels", "labels/sub"])
def test_nothing_is_written_through_a_link_to_a_folder(
    folder: OutputFolder, out: Path, tmp_path: Path, link: str
) -> None:
    put(tmp_path / "photos", "a.png")
    (out / link).parent.mkdir(parents=True)
    (out / link).symlink_to(tmp_path / "photos")
    with pytest.raises(UsageError, match=f"{link} is a link to {tmp_path}/photos"):
        folder.refuse_foreign(["labels/sub/a.png"])


def test_name_that_is_no_text_is_listed_and_known_again(folder: OutputFolder, out: Path) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    put(out, f"labels/{name}")
    folder.mark()
    with pytest.raises(UsageError, match="was not written by dynaseg"):
        folder.refuse_foreign([f"labels/{name}"])


# Writing


LEAVE_HALF = """
import os, sys
from pathlib import Path
from dynaseg_cli.files.output_folder import OutputFolder

with OutputFolder(Path(sys.argv[1])) as folder, folder.open(folder.path / "file") as stream:
    stream.write(b"half")
    stream.flush()
    os._exit(7)
"""


def results(out: Path) -> dict[str, bytes]:
    return {name: content for name, content in files_below(out).items() if name != LOG_NAME}


@pytest.fixture
def leftover(out: Path) -> Path:
    """The temporary file of a process that was killed while it wrote `file`."""
    out.mkdir()
    assert subprocess.run([sys.executable, "-c", LEAVE_HALF, str(out)], check=False).returncode == 7
    (name,) = results(out)
    return out / name


def test_leftover_of_a_killed_process_is_replaced(folder: OutputFolder, out: Path, leftover: Path) -> None:
    with folder:
        folder.write(out / "other", b"new")
        assert leftover.read_bytes() == b"half"
        folder.write(out / "file", b"new")
    assert results(out) == {"file": b"new", "other": b"new"}


def test_leftover_that_is_a_link_is_not_followed(folder: OutputFolder, out: Path, leftover: Path) -> None:
    put(out, "precious")
    leftover.unlink()
    leftover.symlink_to(out / "precious")
    with folder:
        folder.write(out / "file", b"new")
    assert results(out) == {"file": b"new", "precious": b"mine"}


def test_without_locks_the_file_that_another_process_may_be_writing_stays(
    folder: OutputFolder, out: Path, leftover: Path
) -> None:
    folder.write(out / "file", b"new")  # nothing is claimed
    (out / LOG_NAME).unlink()
    (out / LOG_NAME).mkdir()
    with folder:  # locks are not possible
        folder.write(out / "file", b"newer")
    assert results(out) == {"file": b"newer", leftover.name: b"half"}


def test_result_that_could_not_be_written_is_refused_before_the_work(
    folder: OutputFolder, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (out / "labels").mkdir(parents=True)
    (out / "color").symlink_to(tmp_path / "elsewhere")
    (out / "within").symlink_to(out / "labels")
    folder.refuse_unwritable(out / "labels/sub/new/cat.png")
    folder.refuse_unwritable(out / "within/cat.png")
    with pytest.raises(ImageError, match="leads out of the output folder"):
        folder.refuse_unwritable(out / "color/cat.png")
    with pytest.raises(ImageError, match="leads out of the output folder"):
        folder.refuse_unwritable(out / "color/sub/cat.png")
    with pytest.raises(OSError, match="File name too long"):
        folder.refuse_unwritable(out / f"labels/{'x' * 253}.png")


def test_output_that_is_itself_a_link_is_no_way_out(folder: OutputFolder, out: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    out.symlink_to(tmp_path / "disk")
    folder.refuse_unwritable(out / "labels/cat.png")


# Names


def test_files_of_an_image_mirror_its_name(folder: OutputFolder, out: Path) -> None:
    job = Job("photos/sub/cat.jpg", "sub/cat")
    assert folder.result(job, "labels") == out / "labels/sub/cat.png"
    assert folder.result(job, "stats") == out / "stats/sub/cat.json"
    assert folder.many_regions(job) == out / "regions/sub/cat.tif"
    names: list[tuple[Product, str]] = [
        ("regions", "regions/sub/cat.png"),
        ("regions", "regions/sub/cat.tif"),
        ("overlay", "overlay/sub/cat.jpg"),
        ("overlay", "overlay/sub/cat.png"),
    ]
    for product, name in names:
        assert not folder.has(job, product)
        put(out, name)
        assert folder.has(job, product)
        assert folder.find(job, product) == out / name
        (out / name).unlink()
    assert folder.result(job, "raw") == out / "raw/sub/cat.png"
    assert folder.kept_raw(job) == out / ".raw/sub/cat.png"
    assert folder.kept_hierarchy(job) == out / ".hierarchy/sub/cat.png"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cat.jpg", None),
        (".", None),
        ("..", None),
        ("_cat.jpg", None),
        (".cat.jpg", "hidden"),
        ("..jpg", "hidden"),
        ("._cat.jpg", "sidecar"),
        ("__MACOSX", "system folder"),
        ("@eaDir", "system folder"),
    ],
)
def test_names_say_whose_a_file_is(name: str, kind: str | None) -> None:
    assert kind_passed_over(name) == kind
