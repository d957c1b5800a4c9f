"""Names of labels as people write them, and as the output folder keeps them."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.label_names import (
    MOST_CHARACTERS,
    kept_names,
    names_document,
    read_names,
    refuse_foreign_names,
)
from dynaseg_cli.files.output_folder import OutputFolder

SKY_AND_SEA = {0: "sky", 2: "sea, deep"}


@pytest.mark.parametrize(
    "text",
    [
        "sky\n\nsea, deep\n",
        "sky\r\n\r\nsea, deep\r\n\r\n",
        "sky\r\rsea, deep",
        "\ufeff  sky\t\n \n sea, deep ",
        'label,name\n0,sky\n1,\n2,"sea, deep"\n',
        '\ufeffLabel,Name\r\n2 ,"sea, deep"\r\n\r\n0,sky\r\n',
        '["sky", null, "sea, deep"]',
        ' ["sky", "", " sea, deep "]\n',
        '{"0": "sky", "2": "sea, deep", "3": null}',
        '{"names": {"0": "sky", "2": "sea, deep"}, "nc": 3}',
        '{"names": ["sky", "", "sea, deep"]}',
        json.dumps(names_document(SKY_AND_SEA, "0123abcd")),
    ],
)
def test_names_in_every_form(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names"
    path.write_bytes(text.encode())
    assert read_names(path, 3) == SKY_AND_SEA


names_of_labels = st.dictionaries(
    st.integers(0, 99),
    st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20),
    min_size=1,
).filter(lambda names: len(set(names.values())) == len(names))


@given(names_of_labels)
def test_any_names_come_back(tmp_path_factory: pytest.TempPathFactory, names: dict[int, str]) -> None:
    path = tmp_path_factory.mktemp("names") / "names"
    path.write_text(json.dumps({str(label): name for label, name in names.items()}))
    assert read_names(path, 100) == names
    table = io.StringIO()
    csv.writer(table).writerows([("label", "name"), *names.items()])
    path.write_bytes(table.getvalue().encode())
    assert read_names(path, 100) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sky\xff\n", "is not UTF-8: save it as UTF-8"),
        ("sky".encode("utf-16"), "is not UTF-8"),
        (b"", "names no label"),
        (b"\n \n", "names no label"),
        (b"[]", "names no label"),
        (b"sky\nsea\nsky\n", "labels 0 and 2 are both called 'sky'"),
        (b'{"0": "sky", "1": "sky"}', "labels 0 and 1 are both called 'sky'"),
        (b"sky\nsea\n\nland\n", "names label 3, 'land', and labels are 0 to 2"),
        (b'{"0": "sky", "0": "sea"}', "has '0' twice"),
        (b'{"0": "sky", "00": "sea"}', "names label 0 twice"),
        (b'{"sky": 0}', "'sky' is no number of a label"),
        (b'{"-1": "sky"}', "'-1' is no number"),
        (b'{"1.0": "sky"}', "'1.0' is no number"),
        ('{"\u0663": "sky"}'.encode(), "is no number"),
        (b'{"%s": "sky"}' % (b"1" * 5000), "is no number"),
        (b'{"0": 5}', "the name of label 0 must be text, not '5'"),
        (b'[["sky"]]', "the name of label 0 must be text"),
        (b'{"names": "sky"}', "must be a list of names, or an object from labels to names"),
        (b'{"0": "sky"', "is not JSON"),
        (b"[unclear]\nsky", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"label,name\n0,sky\n0,sea\n", "names label 0 twice"),
        (b"label,name\nsky,0\n", "'sky' is no number of a label"),
        (b"label,name\n0,sea, deep\n", "'0,sea, deep' is not a label and its name; quote names with commas"),
        (b"label,name\n0\n", "'0' is not a label and its name"),
        (b'label,name\n0,"sky', "is not CSV"),
        (b'label,name\n0,"sky\nsea"\n', r"characters that are not seen: sky\\nsea"),
        (b"sky\0\n", r"characters that are not seen: sky\\x00"),
        ("a\u202eb\n".encode(), r"characters that are not seen: a\\u202eb"),
        (b'["\\ud800"]', "characters that are not seen"),
        (b"x" * (MOST_CHARACTERS + 1), "the name of label 0 has more than 200 characters"),
        (b"label 1\n", "calls label 0 'label 1', as another label is called without a name"),
    ],
    ids=range(32),
)
def test_what_is_no_list_of_names_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "names"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"^`names=.*/names`.*{message}"):
        read_names(path, 3)


def test_a_label_may_have_the_name_that_it_has_anyway(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("label 0\n7\n")
    assert read_names(tmp_path / "names", 3) == {0: "label 0", 1: "7"}


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("none", "No such file"), ("", "directory"), ("pipe", "not a regular file")):
        with pytest.raises(UsageError, match=f"cannot be read: .*{message}"):
            read_names(tmp_path / name, 3)


# The copy in the output folder


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    folder = OutputFolder(tmp_path / "out")
    folder.mark()
    return folder


def keep(folder: OutputFolder, document: Any) -> None:
    folder.names.write_text(document if isinstance(document, str) else json.dumps(document))


def test_names_that_are_kept_apply_to_labels_of_the_same_network(folder: OutputFolder) -> None:
    assert kept_names(folder, None, 9) == ({}, "")
    keep(folder, names_document(SKY_AND_SEA, None))
    assert kept_names(folder, None, 9) == (SKY_AND_SEA, "")
    keep(folder, names_document(SKY_AND_SEA, "0123abcd"))
    assert kept_names(folder, "0123abcd", 9) == (SKY_AND_SEA, "")
    for other in (None, "89abcdef"):
        names, note = kept_names(folder, other, 9)
        assert names == {}
        assert "names.json are those of another network's labels, and are not used" in note


def test_a_file_of_the_user_in_their_place_stays_and_is_not_taken_for_names(folder: OutputFolder) -> None:
    for document in ({"0": "sky"}, ["sky"], 3):
        keep(folder, document)
        assert kept_names(folder, None, 9) == ({}, "")
        with pytest.raises(UsageError, match=r"names\.json exists and was not written by dynaseg"):
            refuse_foreign_names(folder)
    keep(folder, names_document(SKY_AND_SEA, None))
    refuse_foreign_names(folder)


def test_a_file_that_was_there_before_is_the_users_whatever_it_is(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    keep(folder, names_document(SKY_AND_SEA, None))
    folder.mark()
    assert kept_names(folder, None, 9) == ({}, "")
    with pytest.raises(UsageError, match="was not written by dynaseg"):
        refuse_foreign_names(folder)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "is not JSON"),
        ("\udcff", "is not UTF-8"),
        ({"dynaseg": "0", "model": None, "names": {"0": "a", "1": "a"}}, "both called 'a'"),
        ({"dynaseg": "0", "model": None, "names": {"9": "a"}}, "names label 9, 'a', and labels are 0 to 8"),
        ({"dynaseg": "0", "model": None}, "'dynaseg' is no number of a label"),
        ({"dynaseg": "0", "model": None, "names": 3}, "must be a list of names"),
    ],
)
def test_names_that_a_person_has_damaged_are_not_passed_over(folder: OutputFolder, document: Any, message: str) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    folder.names.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=rf"^\S*/names\.json.*{message}"):
        kept_names(folder, None, 9)
