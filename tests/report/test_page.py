from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_entries import stats_of
from samples import noise

from dynaseg_cli.files.names import shown
from dynaseg_cli.regions.hierarchy import build_hierarchy
from dynaseg_cli.report import page as page_module
from dynaseg_cli.report.page import SCRIPTS, Row, page_row, report_page

RUN = {
    "output": "/data/photos-dynaseg",
    "images": 1,
    "done": 1,
    "failed": 0,
    "skipped": 0,
    "seconds": 1.5,
    "options": {},
}
HOSTILE = [
    "plain.jpg",
    "</script><script>alert(1)</script>.jpg",
    "<!--<script>",
    "\"'`&amp;{{rows}}\\u003c",
    "line\nbreak\r\u2028\u2029",
    "caf\udce9.jpg",
    "\u202egpj.exe",
    "😀 ねこ.png",
]


class Elements(HTMLParser):
    """The content of each element with an id, and how many there are of each tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.content: dict[str, str] = {}
        self.tags: list[str] = []
        self._inside: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = dict(attrs).get("id") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.content[self._inside] = self.content.get(self._inside, "") + data


def row(name: str, files: str = "report/3f/3fa9", **more: Any) -> Row:
    return Row(
        name,
        files,
        **{"width": 40, "height": 30, "labels": 5, "regions": 9, "stop_reason": "converged"}
        | more
        | {"seconds": 1.5, "iterations": 30},
    )


def parsed(
    rows: list[Row], failures: list[dict[str, Any]] | None = None, run: dict[str, Any] | None = None
) -> Elements:
    return Elements(b"".join(report_page(rows, failures or [], run or RUN)).decode("utf-8"))


def rows_of(elements: Elements) -> list[dict[str, Any]]:
    table = json.loads(elements.content["rows"])
    return [dict(zip(table["fields"], values, strict=True)) for values in table["rows"]]


@given(st.lists(st.text(st.characters(codec=None, categories=None)) | st.sampled_from(HOSTILE), max_size=4))
def test_names_are_data_and_come_back(names: list[str]) -> None:
    failures = [{"path": name, "reason": name} for name in names]
    elements = parsed([row(name) for name in names], failures, RUN | {"output": "".join(names)})
    assert [entry["name"] for entry in rows_of(elements)] == [shown(name) for name in names]
    assert json.loads(elements.content["failed"]) == [{"path": shown(name), "reason": shown(name)} for name in names]
    assert json.loads(elements.content["run"])["output"] == shown("".join(names))
    assert elements.tags == parsed([]).tags


def test_rows_are_those_of_the_statistics() -> None:
    labels = noise(0, 30, 20)[..., 0] // 90
    photo = noise(1, 30, 20)
    stats = stats_of(photo, labels, build_hierarchy(labels, photo))
    made = page_row("sub/cat.jpg", "report/ab/abcd", stats)
    expected = Row("sub/cat.jpg", "report/ab/abcd", 30, 20, 3, len(stats["regions"]), "converged", 1.5, 30)
    assert made == expected
    assert rows_of(parsed([made])) == [vars(expected)]


def test_rows_are_taken_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "ROWS_AT_ONCE", 3)
    for count in (0, 1, 3, 7):
        rows = (row(f"{index}.jpg") for index in range(count))
        elements = Elements(b"".join(report_page(rows, [], RUN)).decode())
        assert [entry["name"] for entry in rows_of(elements)] == [f"{index}.jpg" for index in range(count)]


def test_five_thousand_rows_are_a_page_of_less_than_a_megabyte() -> None:
    rows = [
        row(f"2024/a trip of ours/IMG_{index:05}.jpg", f"report/3f/3fa94c02be77{index:04x}") for index in range(5000)
    ]
    assert len(b"".join(report_page(rows, [], RUN))) < 1_000_000


def test_the_run_comes_without_the_failures_that_it_repeats() -> None:
    run = RUN | {"failures": [{"path": "a", "reason": "b"}]}
    assert json.loads(parsed([], run["failures"], run).content["run"]) == RUN


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        parsed([], run=RUN | {"seconds": float(np.nan)})


def test_the_page_needs_no_other_file_and_no_network() -> None:
    page = b"".join(report_page([], [], RUN)).decode()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|<link[^>]+stylesheet|<script[^>]+src", page)
    assert "{{" not in page


def test_the_assets_cannot_end_the_elements_that_they_stand_in() -> None:
    assets = [("report.css", "</style"), *((f"scripts/{name}.js", "</script") for name in SCRIPTS)]
    for name, end in assets:
        text = resources.files("dynaseg_cli.report").joinpath(name).read_text()
        assert end not in text.lower()
        assert "<!--" not in text


@pytest.mark.parametrize("group", ["layer", "detail-layer"])
def test_the_page_opens_on_the_regions(group: str) -> None:
    page = resources.files("dynaseg_cli.report").joinpath("page.html").read_text()
    layers = re.findall(rf'<input type="radio" name="{group}" value="(\w+)"( checked)?>', page)
    assert layers[:3] == [("regions", " checked"), ("labels", ""), ("overlay", "")]


def test_the_page_has_every_script() -> None:
    folder = resources.files("dynaseg_cli.report").joinpath("scripts")
    assert sorted(f"{name}.js" for name in SCRIPTS) == sorted(file.name for file in folder.iterdir())
    page = b"".join(report_page([], [], RUN)).decode()
    for name in SCRIPTS:
        assert folder.joinpath(f"{name}.js").read_text() in page
