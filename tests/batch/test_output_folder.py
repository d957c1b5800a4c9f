from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from samples import files_below

from dynaseg_cli.batch import output_folder
from dynaseg_cli.batch.output_folder import foreign_files, mark_output, refuse_foreign
from dynaseg_cli.errors import UsageError
from dynaseg_cli.user_files import MARK, is_output_folder, kind_passed_over


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def put(folder: Path, *names: str, text: str = "mine") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# The mark


def test_folder_is_marked_before_anything_else_is_in_it(out: Path) -> None:
    assert not is_output_folder(out)
    mark_output(out)
    assert [path.name for path in out.iterdir()] == [MARK]
    assert is_output_folder(out)
    assert foreign_files(out) == frozenset()


def test_mark_stays_as_it_was_first_made(out: Path) -> None:
    put(out, "labels/mine.png")
    mark_output(out)
    put(out, "labels/result.png")
    mark_output(out)
    assert foreign_files(out) == {"labels/mine.png"}


def test_results_of_a_run_that_marked_the_folder_meanwhile_are_not_taken_for_a_user_s(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs begin at once: this one saw no mark, then the other's first result."""
    asked = iter([False])
    monkeypatch.setattr(output_folder, "is_output_folder", lambda folder: next(asked, None) is None)
    mark_output(out)
    put(out, "labels/a.png", text="the other's")
    assert foreign_files(out) == frozenset()


def test_runs_that_begin_at_once_share_one_mark(out: Path) -> None:
    put(out, "labels/mine.png")
    threads = [threading.Thread(target=mark_output, args=(out,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert foreign_files(out) == {"labels/mine.png"}
    assert sorted(path.name for path in out.iterdir()) == [MARK, "labels"]


def test_file_system_without_hard_links_has_a_mark_too(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    mark_output(out)
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
def test_damaged_mark_is_no_licence_to_write(out: Path, content: str) -> None:
    put(out, MARK, text=content)
    with pytest.raises(UsageError, match=r"\.dynaseg is damaged.*-o"):
        foreign_files(out)


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
def test_file_of_a_user_is_never_replaced(out: Path, there: str, target: str, marked: bool) -> None:
    put(out, there)
    if marked:
        mark_output(out)
    before = files_below(out)
    with pytest.raises(UsageError, match="was not written by dynaseg") as raised:
        refuse_foreign(out, ["color/other.png", target])
    if target != "export/":
        assert str(out / there) in str(raised.value), "as it is spelled there"
    assert files_below(out) == before


def test_files_of_a_user_elsewhere_are_no_matter(out: Path) -> None:
    put(out, "notes.txt", "photos/a.png", "labels/b.png", "color/a.txt", "model.onnx")
    refuse_foreign(out, ["labels/a.png", "color/a.png", "run.json", "export/"])
    mark_output(out)
    refuse_foreign(out, ["labels/a.png", "color/a.png", "run.json", "export/"])
    assert json.loads((out / MARK).read_bytes())["foreign"] == ["color/a.txt", "labels/b.png"]


def test_empty_log_has_nothing_to_lose(out: Path) -> None:
    put(out, "outcomes.jsonl", text="")
    assert foreign_files(out) == frozenset()
    (out / "run.json").symlink_to(out / "outcomes.jsonl")
    assert foreign_files(out) == {"run.json"}


def test_folder_called_as_a_file_of_a_run_is_no_file(out: Path) -> None:
    put(out, "run.json/mine.txt")
    assert foreign_files(out) == frozenset()


@pytest.mark.parametrize("link", ["labels", "labels/sub"])
def test_nothing_is_written_through_a_link_to_a_folder(out: Path, tmp_path: Path, link: str) -> None:
    put(tmp_path / "photos", "a.png")
    (out / link).parent.mkdir(parents=True)
    (out / link).symlink_to(tmp_path / "photos")
    with pytest.raises(UsageError, match=f"{link} is a link to {tmp_path}/photos"):
        refuse_foreign(out, ["labels/sub/a.png"])


def test_name_that_is_no_text_is_listed_and_known_again(out: Path) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    put(out, f"labels/{name}")
    mark_output(out)
    with pytest.raises(UsageError, match="was not written by dynaseg"):
        refuse_foreign(out, [f"labels/{name}"])


# Names


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
