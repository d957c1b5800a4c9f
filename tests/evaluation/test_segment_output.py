from __future__ import annotations

from pathlib import Path

import pytest

from dynaseg_cli.errors import UsageError
from dynaseg_cli.evaluation.segment_output import maps_folder, options_of_run, silhouette_of_image


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("use", ["labels", "regions", "hierarchy", "raw", ".raw"])
@pytest.mark.parametrize("name", ["cat", "sub/dir.d/a.jpg", "labels/cat"])
def test_silhouette_is_read_from_the_statistics_of_the_image(tmp_path: Path, use: str, name: str) -> None:
    write(tmp_path / f"out/stats/{name}.json", '{"fit": {"silhouette": {"k": 7, "scores": {}}}}')
    assert silhouette_of_image(tmp_path / "out" / use / f"{name}.png") == 7


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"fit": {"silhouette": null}}',
        '{"fit": []}',
        '{"fit": {"silhouette": {}}}',
        '{"fit": {"silhouette": {"k": "7"}}}',
        '{"fit": {"silhouette": {"k": 0}}}',
        '{"fit": {"silhouette": {"k": 1e99}}}',
        '{"fit": {"silhouette": {"k": 1' + "0" * 400 + "}}}",
        "[" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_number_of_clusters_is_none(tmp_path: Path, text: str) -> None:
    write(tmp_path / "out/stats/cat.json", text)
    assert silhouette_of_image(tmp_path / "out/labels/cat.png") is None


def test_maps_from_elsewhere_have_no_silhouette(tmp_path: Path) -> None:
    write(tmp_path / "stats/cat.json", '{"fit": {"silhouette": {"k": 7}}}')
    assert silhouette_of_image(tmp_path / "maps/cat.png") is None
    assert silhouette_of_image(tmp_path / "labels/dog.png") is None


@pytest.mark.parametrize("below", ["", "labels", "labels/sub", "regions", ".raw", "raw/sub"])
def test_options_are_those_of_the_run(tmp_path: Path, below: str) -> None:
    (tmp_path / "out" / below).mkdir(parents=True)
    write(tmp_path / "out/run.json", '{"options": {"fit": "folder"}}')
    assert options_of_run(tmp_path / "out" / below) == {"fit": "folder"}


@pytest.mark.parametrize("text", ["", "[1]", '{"options": 3}', '{"option": {}}', "[" * 100_000])
def test_run_that_says_no_options_has_none(tmp_path: Path, text: str) -> None:
    write(tmp_path / "out/run.json", text)
    assert options_of_run(tmp_path / "out") is None


def test_raw_maps_are_those_that_were_asked_for_or_else_those_that_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "run.json", '{"versions": {"dynaseg": "0"}}')
    with pytest.raises(UsageError, match="has no raw/, which segment writes with --save labels,color,stats,raw"):
        maps_folder(tmp_path, "raw")
    for name in (".raw", "raw"):
        (tmp_path / name).mkdir()
        assert maps_folder(tmp_path, "raw") == tmp_path / name
    with pytest.raises(UsageError, match="has no regions/"):
        maps_folder(tmp_path, "regions")
