"""What all formats of polygons have in common: files that come and go with their photos, and one tracing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from export_samples import LABELS, export, image
from outline_samples import NESTED, NESTED_REGIONS

from dynaseg_cli.config import ExportConfig, Format
from dynaseg_cli.errors import UsageError
from dynaseg_cli.export import exporting, source
from dynaseg_cli.export.exporting import refuse_uninstalled
from dynaseg_cli.export.source import ExportImage, Segments

pytest.importorskip("shapely", reason="no shapely here: there are no polygons")
pytest.importorskip("roifile", reason="no roifile here: there are no ROIs")

POLYGONS: list[Format] = ["geojson", "yolo-seg", "labelme", "coco-polygons", "svg", "roi"]
PLACES: dict[Format, tuple[str, str]] = {
    "geojson": ("geojson", ".geojson"),
    "yolo-seg": ("yolo-seg/labels", ".txt"),
    "labelme": ("labelme", ".json"),
    "svg": ("svg", ".svg"),
    "roi": ("roi", ".zip"),
}
"""Where each format has the file of a photo, and its suffix."""
EACH = pytest.mark.parametrize("format_", PLACES)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_segments_are_traced_once_for_all_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []
    trace = source.trace
    monkeypatch.setattr(source, "trace", lambda *given: traced.append(given[1]) or trace(*given))
    config = ExportConfig(tolerance=2.5)
    assert export(tmp_path, image("cat", NESTED), formats=POLYGONS, labels=6, config=config) == []
    assert traced == [2.5]


def test_other_formats_trace_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(source, "trace")
    assert export(tmp_path, image("cat", NESTED), formats=["voc", "coco-rle"], labels=6) == []


@pytest.mark.parametrize("tolerance", [-1, 1e9, float("inf"), float("nan")])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(UsageError, match="`tolerance` must be"):
        ExportConfig(tolerance=tolerance)


@pytest.mark.parametrize(("format_", "module"), [("svg", "shapely"), ("roi", "roifile")])
def test_what_is_not_installed_is_named_with_the_extra(
    format_: Format, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = exporting.find_spec
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == module else find_spec(name))
    with pytest.raises(UsageError, match=rf"as {format_} needs {module}: pip install 'dynaseg\[vector\]'"):
        refuse_uninstalled([format_])


@pytest.mark.parametrize("format_", POLYGONS)
def test_a_second_export_is_equal(tmp_path: Path, format_: Format) -> None:
    images = [image("cat", NESTED_REGIONS), image("sub/dog", NESTED_REGIONS)]
    export(tmp_path, *images, formats=[format_], labels=6, regions=True)
    before = files(tmp_path)
    export(tmp_path, *images, formats=[format_], labels=6, regions=True)
    assert files(tmp_path) == before


@EACH
def test_another_export_leaves_no_file_of_the_one_before_and_all_of_the_user(tmp_path: Path, format_: Format) -> None:
    folder, suffix = tmp_path / PLACES[format_][0], PLACES[format_][1]
    images = [image(name, NESTED) for name in ("cat", "gone", "edited", "sub/gone")]
    export(tmp_path, *images, formats=[format_], labels=6)
    assert all((folder / f"{name}{suffix}").is_file() for name in ("cat", "gone", "edited", "sub/gone"))
    # Whoever edits a file writes it anew; labelme, for one, puts members that it does not know at the end.
    edited = {
        "geojson": '{"type": "FeatureCollection", "features": []}',
        "yolo-seg": "0 0 0 1 0 1 1\n",
        "labelme": '{"version": "6.0.0", "shapes": [], "generator": "dynaseg 1.0"}',
        "svg": '<?xml version="1.0"?>\n<svg/>',
        "roi": "PK",
    }[format_]
    for name in ("edited", "mine"):
        (folder / f"{name}{suffix}").write_text(edited)
    (folder / "notes.md").write_text("dynaseg ")
    export(tmp_path, image("cat", NESTED.T), formats=[format_], labels=6)
    assert {path.name for path in folder.iterdir()} == {
        *(f"{name}{suffix}" for name in ("cat", "edited", "mine")),
        "notes.md",
    }


@EACH
def test_an_export_that_is_broken_off_removes_nothing(tmp_path: Path, format_: Format) -> None:
    folder, suffix = tmp_path / PLACES[format_][0], PLACES[format_][1]
    export(tmp_path, image("cat", NESTED), image("dog", NESTED), formats=[format_], labels=6)

    def interrupt() -> Segments:
        raise KeyboardInterrupt

    later = ExportImage("later", "later.jpg", interrupt, interrupt)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path, image("cat", NESTED), later, formats=[format_], labels=6)
    assert (folder / f"dog{suffix}").is_file()
    # The next one knows what is left over.
    export(tmp_path, image("cat", NESTED), formats=[format_], labels=6)
    assert [path.name for path in folder.iterdir()] == [f"cat{suffix}"]


def test_a_name_that_is_no_text_fails_where_it_is_written_to_a_file(tmp_path: Path) -> None:
    failures = export(tmp_path, image("caf\udce9", LABELS), image("cat", LABELS), formats=POLYGONS)
    assert [(failure.name, failure.format) for failure in failures] == [
        ("caf\udce9", format_) for format_ in ("yolo-seg", "labelme", "coco-polygons")
    ]
    assert all("rename the photo" in failure.reason for failure in failures)


@pytest.mark.parametrize("name", ["a\nb", "a'\"\\ <b>&", "#a", "..a", "-", "a" * 240])
def test_a_hostile_name_damages_no_other_photo(tmp_path: Path, name: str) -> None:
    failures = export(tmp_path, image(name, NESTED), image("cat", NESTED), formats=POLYGONS, labels=6)
    assert {(failure.name, failure.format) for failure in failures} <= {(name, "yolo-seg")}
    for format_, (folder, suffix) in PLACES.items():
        assert (tmp_path / folder / f"{name}{suffix}").exists() != (failures != [] and format_ == "yolo-seg")
        assert (tmp_path / folder / f"cat{suffix}").exists()


@pytest.mark.parametrize("format_", POLYGONS)
def test_a_map_of_one_pixel_and_one_of_one_segment(tmp_path: Path, format_: Format) -> None:
    one, even = np.zeros((1, 1), np.uint8), np.full((3, 4), 2, np.uint8)
    assert export(tmp_path, image("one", one), image("even", even), formats=[format_]) == []


def test_nothing_is_written_through_a_link_that_leads_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "sub").mkdir()
    for format_, (folder, _) in PLACES.items():
        (inside / folder).mkdir(parents=True)
        (inside / folder / "sub").symlink_to(outside)
        (failure,) = export(inside, image("sub/cat", NESTED), formats=[format_], labels=6)
        assert "leads out of the output folder" in failure.reason
    assert list(outside.iterdir()) == []


def test_files_are_text_that_ends_with_a_line(tmp_path: Path) -> None:
    export(tmp_path, image("cat", NESTED), formats=["geojson", "labelme", "svg", "yolo-seg"], labels=6)
    for content in files(tmp_path).values():
        assert content.decode().endswith("\n")
    json.loads((tmp_path / "geojson/cat.geojson").read_text())
