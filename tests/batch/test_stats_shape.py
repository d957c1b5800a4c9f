from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import TINY, photo_folder

from dynaseg_cli import BatchConfig, WorkersConfig, segment_folder
from dynaseg_cli.batch.resume import read_stats
from dynaseg_cli.batch.stats_shape import is_whole, parse_stats
from dynaseg_cli.files.output_folder import Job, OutputFolder

ODD: tuple[Any, ...] = (None, [], {}, "x", -1, 1e300, 10**30, [[]], [{}], {"k": 3}, True, 0.5, [1, 2], [None] * 3)
USED = ("source", "fit", "num_labels", "clusters", "cut", "colors", "regions")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What segment writes, with regions."""
    folder = tmp_path_factory.mktemp("stats")
    photos = photo_folder(folder / "photos", "a.png")
    batch = BatchConfig(save=("labels", "stats", "regions"))
    (outcome,) = segment_folder(photos, folder / "out", TINY, batch, WorkersConfig(device="cpu", workers=0))
    assert outcome.status == "done"
    stats: dict[str, Any] = json.loads((folder / "out/stats/a.json").read_text())
    return stats


def parsed(document: object) -> dict[str, Any] | None:
    return parse_stats(json.dumps(document).encode())


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every part of a document is; of a list, its first entry."""
    yield path
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def test_what_segment_writes_is_whole(document: dict[str, Any]) -> None:
    assert parsed(document) == document
    assert is_whole(document)


def test_entries_of_later_versions_are_let_through(document: dict[str, Any]) -> None:
    later = {**document, "more": [1], "source": {**document["source"], "range": [0, 1]}}
    assert parsed(later) == later


@pytest.mark.parametrize("name", ["source", "device", "fit", "num_labels", "clusters"])
def test_document_without_a_part_is_not_whole(document: dict[str, Any], name: str) -> None:
    assert not is_whole({key: value for key, value in document.items() if key != name})


def test_what_is_used_of_a_document_is_as_it_is_written_or_there_is_none(document: dict[str, Any]) -> None:
    """Whatever is put in whatever place: what is accepted can be computed with."""
    tried = 0
    for path in places({name: document[name] for name in USED}):
        for odd in ODD if path else ():
            changed = copy.deepcopy(document)
            inner: Any = changed
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = odd
            stats = parsed(changed)
            tried += 1
            if stats is not None and is_whole(stats):
                for entry in stats["clusters"]:
                    assert 0 <= entry["label"] < 1 << 16
                    assert all(
                        0 <= value <= 255 and math.isfinite(value) for value in entry["mean_rgb"] + entry["color"]
                    )
                    assert len(entry["color"]) == 3
                    assert entry["pixels"] > 0
                assert stats["source"]["width"] * stats["source"]["height"] > 0
                assert json.dumps(stats, allow_nan=False)
    assert tried > 500


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"options": {}, "a": ' + b"[" * 100_000,
        b'{"options": {}, "x": NaN}',
        b'{"options": {}, "x": 1e999}',
        b'{"options": {}, "x": -Infinity}',
        b'{"options": {}, "x": ' + b"9" * 5000 + b"}",
        b'{"options": []}',
        b"\x89PNG",
    ],
    ids=["nested", "nested inside", "NaN", "1e999", "infinity", "digits", "list", "picture"],
)
def test_what_is_no_document_of_ours_is_none(content: bytes) -> None:
    assert parse_stats(content) is None


@pytest.mark.parametrize(
    ("name", "odd"),
    [("page", 0), ("page", "2"), ("page", 1.5), ("channels", 3), ("channels", "1,2"), ("channels", "")],
)
def test_page_and_channels_are_as_they_are_written(document: dict[str, Any], name: str, odd: Any) -> None:
    sound = {"page": 2, "channels": "all"}[name]
    assert parsed({**document, "source": {**document["source"], name: sound}}) is not None
    assert parsed({**document, "source": {**document["source"], name: odd}}) is None


def test_what_is_no_file_is_none(tmp_path: Path) -> None:
    """Nothing is waited for, and nothing endless read."""
    stats = tmp_path / "stats"
    (stats / "folder.json").mkdir(parents=True)
    os.mkfifo(stats / "pipe.json")
    (stats / "zero.json").symlink_to("/dev/zero")
    (stats / "loop.json").symlink_to("loop.json")
    for name in ("pipe", "zero", "loop", "missing", "folder"):
        assert read_stats(Job(f"{name}.jpg", name), OutputFolder(tmp_path)) is None
