from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynaseg_cli.files.names import printable, shown, shown_all


@pytest.mark.parametrize(
    "name", ["cat.jpg", "Kätzchen 1.jpg", "קטה.png", "ねこ.png", "a\\b.png", "<b>&\"'.png", "👩‍🚀.png"]
)
def test_text_is_shown_as_it_is(name: str) -> None:
    assert shown(name) == name


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\xe9.jpg"),
        ("a\nb\tc\0.jpg", r"a\nb\tc\x00.jpg"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_what_is_not_text_or_cannot_be_seen_is_escaped(name: str, seen: str) -> None:
    assert shown(name) == seen


@given(st.text(st.characters(codec=None, categories=None)))
def test_every_name_can_be_encoded_and_has_one_line(name: str) -> None:
    seen = shown(name)
    assert seen.encode().decode() == seen
    assert len(seen.splitlines()) <= 1
    assert shown(seen) == seen


def test_all_strings_of_a_document_are_shown() -> None:
    document = {"a\n": ["\udcff", 1, None, {"b": ("\u202e",)}], "c": True}
    assert shown_all(document) == {"a\\n": ["\\xff", 1, None, {"b": ["\\u202e"]}], "c": True}


@pytest.mark.parametrize(
    ("text", "printed"),
    [("ねこ ä.png", "ねこ ä.png"), ("a\nb\x1b[31m", "a\\nb\\x1b[31m"), ("a\udcff\u202e.jpg", "a\\udcff\\u202e.jpg")],
)
def test_what_is_not_sure_to_be_drawn_is_printed_as_an_escape(text: str, printed: str) -> None:
    assert printable(text) == printed
