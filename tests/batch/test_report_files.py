from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from dynaseg_cli.batch.report_files import ReportEntry
from dynaseg_cli.files.output_folder import Job, OutputFolder

SOURCE: dict[str, Any] = {"path": "a.jpg"}


def entry(tmp_path: Path, name: str = "a.jpg") -> ReportEntry:
    path = tmp_path / "photos" / name
    return ReportEntry(Job(str(path), str(Path(name).with_suffix(""))), OutputFolder(tmp_path / "out"))


def test_the_files_that_exist_have_urls_and_statistics_in_any_case(tmp_path: Path) -> None:
    made = entry(tmp_path, "sub/a.jpg")
    assert made.product_urls() == {"stats": "stats/sub/a.json"}
    for name in ("labels/sub/a.png", "regions/sub/a.tif", "recording/sub/a.webp"):
        (tmp_path / "out" / name).parent.mkdir(parents=True)
        (tmp_path / "out" / name).touch()
    assert made.product_urls() == {
        "stats": "stats/sub/a.json",
        "labels": "labels/sub/a.png",
        "regions": "regions/sub/a.tif",
        "recording": "recording/sub/a.webp",
    }


@pytest.mark.parametrize("name", ["a b#?%.jpg", "data:x.jpg", "é.jpg", os.fsdecode(b"caf\xe9.jpg")])
def test_urls_hold_any_name(tmp_path: Path, name: str) -> None:
    url = entry(tmp_path, name).photo_url(SOURCE)
    assert url is not None
    assert url.isascii()
    assert not set(url) & set(" #?:")
    assert unquote_to_bytes(url) == os.fsencode(f"../photos/{name}")


def test_a_photo_that_a_browser_shows_otherwise_has_no_url(tmp_path: Path) -> None:
    assert entry(tmp_path, "A.PNG").photo_url(SOURCE) == "../photos/A.PNG"
    assert entry(tmp_path, "a.tif").photo_url(SOURCE) is None
    assert entry(tmp_path, "a.png").photo_url(SOURCE | {"range": {}}) is None  # 16 bits, stretched
    assert entry(tmp_path, "a.gif").photo_url(SOURCE | {"frames": 3}) is None
