"""Tables of measurements, read back by Python's csv, and by pyarrow."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from export_samples import LABELS, REGIONS, export, image, unreadable
from samples import encoded

from dynaseg_cli.config import ExportConfig, Format
from dynaseg_cli.errors import DecodeError, UsageError
from dynaseg_cli.export import exporting, measurements, tables
from dynaseg_cli.export.source import ExportImage, Segments

BOTH: list[Format] = ["csv", "parquet"]
HEADER = (
    "file,region,label,label_name,area,perimeter,centroid-0,centroid-1,bbox-0,bbox-1,bbox-2,bbox-3,orientation,"
    "axis_major_length,axis_minor_length,eccentricity,solidity,intensity_mean-0,intensity_mean-1,intensity_mean-2,"
    "intensity_std-0,intensity_std-1,intensity_std-2,num_neighbors,neighbors,touches_border,unit,pixel_size-0,"
    "pixel_size-1,physical_area,physical_perimeter,physical_axis_major_length,physical_axis_minor_length"
)
"""A promise: scripts use these names."""
VALUES = np.arange(15, dtype=np.uint16).reshape(3, 5) * 1000


def tiff(values: Any = VALUES, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def sized() -> bytes:
    return tiff(resolution=(20_000, 20_000), resolutionunit="CENTIMETER")


def photo(name: str, content: bytes | None = None, segments: Any = REGIONS) -> ExportImage:
    return image(name, segments, ".tif", lambda: tiff() if content is None else content)


def write(folder: Path, *images: ExportImage, size: str | None = None, regions: bool = True, **options: Any) -> Any:
    config = ExportConfig(pixel_size=size)
    return export(folder, *images, formats=BOTH, regions=regions, config=config, **options)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "measurements.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


def parquet(folder: Path) -> Any:
    return pytest.importorskip("pyarrow.parquet").read_table(folder / "measurements.parquet")


def test_a_row_has_the_promised_columns(tmp_path: Path) -> None:
    assert write(tmp_path, photo("cat")) == []
    assert (tmp_path / "measurements.csv").read_text().splitlines()[0] == HEADER
    assert ",".join(parquet(tmp_path).column_names) == HEADER


def test_each_region_has_a_row(tmp_path: Path) -> None:
    write(tmp_path, photo("cat"), photo("sub/dog"))
    found = rows(tmp_path)
    assert [row["file"] for row in found] == ["cat.tif"] * 6 + ["sub/dog.tif"] * 6
    assert [row["region"] for row in found] == list("012345") * 2
    assert [row["label"] for row in found[:6]] == list("010224")
    assert [row["label_name"] for row in found[:2]] == ["label 0", "label 1"]
    assert [row["neighbors"] for row in found[:6]] == ["1 3 5", "0 2 5", "1 4", "0 5", "2 5", "0 1 3 4"]
    assert [row["num_neighbors"] for row in found[:6]] == list("332224")
    assert {row["touches_border"] for row in found} == {"True"}
    assert [row["area"] for row in found[:6]] == list("332214")


def test_each_label_has_a_row_if_regions_are_not_saved(tmp_path: Path) -> None:
    write(tmp_path, photo("cat", segments=LABELS), regions=False)
    found = rows(tmp_path)
    assert [(row["region"], row["label"], row["area"]) for row in found] == [
        ("", label, str((int(label) == LABELS).sum())) for label in "0124"
    ]


def test_intensities_are_in_the_numbers_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, photo("cat"))
    for row in rows(tmp_path):
        values = VALUES[REGIONS.of_pixel == int(row["region"])].astype(np.float64)
        assert float(row["intensity_mean-0"]) == pytest.approx(values.mean())
        assert float(row["intensity_std-0"]) == pytest.approx(values.std())
        assert row["intensity_mean-1"] == row["intensity_std-2"] == ""


def test_what_is_not_defined_is_an_empty_cell(tmp_path: Path) -> None:
    write(tmp_path, photo("cat"))
    pixel = rows(tmp_path)[4]
    assert (pixel["area"], pixel["eccentricity"], pixel["orientation"]) == ("1", "", "")
    assert "nan" not in (tmp_path / "measurements.csv").read_text().lower()


def test_one_table_has_images_with_and_without_a_size(tmp_path: Path) -> None:
    write(tmp_path, photo("a"), photo("b", sized()))
    found = rows(tmp_path)
    names = ["unit", *(name for name in HEADER.split(",") if name.startswith(("physical_", "pixel_size-")))]
    assert {row[name] for row in found[:6] for name in names} == {""}
    assert {(row["unit"], row["pixel_size-0"], row["pixel_size-1"]) for row in found[6:]} == {("um", "0.5", "0.5")}
    for row in found[6:]:
        assert float(row["physical_area"]) == int(row["area"]) / 4
        for name in ("perimeter", "axis_major_length", "axis_minor_length"):
            assert float(row[f"physical_{name}"]) == pytest.approx(float(row[name]) / 2)


def test_the_size_that_is_given_counts_for_all(tmp_path: Path) -> None:
    write(tmp_path, photo("a"), photo("b", sized()), size="2,3mm")
    found = rows(tmp_path)
    assert {(row["unit"], row["pixel_size-0"], row["pixel_size-1"]) for row in found} == {("mm", "3.0", "2.0")}
    assert [float(row["physical_area"]) for row in found] == [6 * int(row["area"]) for row in found]
    assert {row["physical_perimeter"] for row in found} == {""}


def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    write(tmp_path, photo("a"), photo("b", sized()), photo("c", encoded(np.zeros((3, 5, 3), np.uint8), "PNG")))
    table, text = parquet(tmp_path).to_pylist(), rows(tmp_path)
    assert len(table) == len(text) == 18
    kinds = {int: int, float: float, bool: lambda cell: {"True": True, "False": False}[cell], str: str}
    for typed, untyped in zip(table, text, strict=True):
        assert " ".join(map(str, typed.pop("neighbors"))) == untyped.pop("neighbors")
        read = {name: None if cell == "" else kinds[tables.COLUMNS[name]](cell) for name, cell in untyped.items()}
        assert typed == read


def test_parquet_has_types(tmp_path: Path) -> None:
    write(tmp_path, regions=False)
    kinds = {field.name: str(field.type) for field in parquet(tmp_path).schema}
    assert kinds["file"] == "string"
    assert kinds["region"] == kinds["area"] == "int64"
    assert kinds["physical_area"] == "double"
    assert kinds["touches_border"] == "bool"
    assert kinds["neighbors"].startswith("list<")


def test_parquet_is_written_by_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 12)
    write(tmp_path, *(photo(name) for name in "abcde"))
    metadata = pytest.importorskip("pyarrow.parquet").read_metadata(tmp_path / "measurements.parquet")
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [12, 12, 6]
    assert parquet(tmp_path)["file"].to_pylist() == [f"{name}.tif" for name in "abcde" for _ in range(6)]


def test_a_table_of_no_image_has_a_header(tmp_path: Path) -> None:
    assert write(tmp_path) == []
    assert (tmp_path / "measurements.csv").read_text() == HEADER + "\n"
    assert parquet(tmp_path).num_rows == 0


def test_both_tables_measure_an_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append("regionprops")
        return regionprops_table(*arguments, **options)

    def content() -> bytes:
        calls.append("photo")
        return sized()

    regionprops_table = measurements.regionprops_table
    monkeypatch.setattr(measurements, "regionprops_table", counted)
    write(tmp_path, image("a", REGIONS, ".tif", content), size="2,3mm")
    assert calls == ["photo", "regionprops"]


@pytest.mark.parametrize("name", ['a,"b"', "a\nb", "=1+1", " a ", "ü", "a;b\tc"])
def test_a_name_of_any_text_is_kept(tmp_path: Path, name: str) -> None:
    assert write(tmp_path, photo(name)) == []
    assert {row["file"] for row in rows(tmp_path)} == {f"{name}.tif"}
    assert parquet(tmp_path)["file"].to_pylist() == [f"{name}.tif"] * 6


def test_a_name_that_is_not_utf_8_fails_alone(tmp_path: Path) -> None:
    failures = write(tmp_path, photo("a\udc80"), photo("b"))
    assert [(failure.name, failure.format) for failure in failures] == [("a\udc80", "csv"), ("a\udc80", "parquet")]
    assert failures[0].reason == "a table holds UTF-8, and the name 'a\\udc80.tif' is not: rename the photo"
    assert {row["file"] for row in rows(tmp_path)} == {"b.tif"}


def test_an_image_that_cannot_be_measured_fails_alone(tmp_path: Path) -> None:
    def gone() -> bytes:
        raise DecodeError("the photo is not there")

    failures = write(
        tmp_path,
        image("gone", REGIONS, ".tif", gone),
        photo("other size", tiff(np.zeros((4, 4), np.uint8))),
        photo("damaged", sized()[:-5]),
        unreadable("map", DecodeError("the map is gone")),
        photo("b"),
    )
    assert [failure.name for failure in failures] == [
        name for name in ("gone", "other size", "damaged", "map") for _ in BOTH
    ]
    assert {row["file"] for row in rows(tmp_path)} == set(parquet(tmp_path)["file"].to_pylist()) == {"b.tif"}


def test_a_second_table_is_equal(tmp_path: Path) -> None:
    for folder in ("1", "2"):
        write(tmp_path / folder, photo("a"), photo("b", sized()))
    for name in ("measurements.csv", "measurements.parquet"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def interrupting() -> ExportImage:
    def read() -> Segments:
        raise KeyboardInterrupt

    return ExportImage("later", "later.tif", read, tiff)


def test_an_interrupted_table_leaves_the_earlier_one(tmp_path: Path) -> None:
    write(tmp_path, photo("a"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, photo("b"), interrupting())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("format_", BOTH)
def test_a_full_disk_leaves_no_half_table(small_disk: Path, format_: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 1)
    segments = np.random.default_rng(0).integers(0, 500, (40, 40)).astype(np.uint16)
    pictures = [photo(str(number), tiff(np.zeros((40, 40), np.uint8)), segments) for number in range(4)]
    with pytest.raises(OSError, match="No space left"):
        export(small_disk, *pictures, formats=[format_], labels=500)
    assert list(small_disk.iterdir()) == []


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "pyarrow" else object())
    exporting.refuse_uninstalled(["csv"])
    with pytest.raises(UsageError, match=r"an export as parquet needs pyarrow: pip install 'dynaseg\[parquet\]'"):
        exporting.refuse_uninstalled(["csv", "parquet"])
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"an export as csv needs skimage: pip install 'dynaseg\[measure\]'"):
        exporting.refuse_uninstalled(["voc", "csv"])
