"""GeoJSON, read back by shapely, and SVG, read back by svgpathtools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from export_samples import export, image
from numpy.typing import NDArray
from outline_samples import NESTED, NESTED_REGIONS, inside

from dynaseg_cli.config import ExportConfig
from dynaseg_cli.pictures.palette import label_color

shapely = pytest.importorskip("shapely", reason="no shapely here: there are no polygons")

EXACT = ExportConfig(tolerance=0)
SVG = "{http://www.w3.org/2000/svg}"


def geojson(folder: Path, **options: Any) -> Any:
    export(folder, image("sub/cat", NESTED_REGIONS), formats=["geojson"], labels=6, **options)
    return json.loads((folder / "geojson/sub/cat.geojson").read_text())


def centres(shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    rows, columns = np.indices(shape)
    return columns + 0.5, rows + 0.5


def test_shapely_reads_the_mask_of_each_region(tmp_path: Path) -> None:
    document = geojson(tmp_path, config=EXACT, regions=True)
    assert document["type"] == "FeatureCollection"
    assert document["generator"].startswith("dynaseg ")
    shapes = shapely.from_geojson((tmp_path / "geojson/sub/cat.geojson").read_text()).geoms
    assert shapely.coverage_is_valid(np.array(shapes))
    for number, (feature, shape) in enumerate(zip(document["features"], shapes, strict=True)):
        mask = NESTED_REGIONS.of_pixel == number
        assert np.array_equal(shapely.contains_xy(shape, *centres(mask.shape)), mask)
        label = int(NESTED_REGIONS.labels[number])
        assert feature["type"] == "Feature"
        assert feature["properties"] == {
            "label": label,
            "name": f"label {label}",
            "region": number,
            "area": int(mask.sum()),
        }


def test_a_label_of_several_parts_is_a_multipolygon_and_no_region(tmp_path: Path) -> None:
    export(tmp_path, image("cat", NESTED), formats=["geojson"], labels=6, config=EXACT)
    features = json.loads((tmp_path / "geojson/cat.geojson").read_text())["features"]
    assert [feature["properties"]["label"] for feature in features] == [0, 1, 2, 3, 4, 5]
    assert {feature["properties"]["region"] for feature in features} == {None}
    assert [feature["geometry"]["type"] for feature in features].index("MultiPolygon") == 2
    assert len(features[2]["geometry"]["coordinates"]) == 4


def test_rings_turn_as_rfc_7946_has_it(tmp_path: Path) -> None:
    """Section 3.1.6: exterior rings are counterclockwise, and holes clockwise, in x, y."""
    for feature in geojson(tmp_path)["features"]:
        exterior, *holes = map(shapely.LinearRing, feature["geometry"]["coordinates"])
        assert exterior.is_ccw
        assert not any(hole.is_ccw for hole in holes)


def test_svgpathtools_reads_the_mask_of_each_label(tmp_path: Path) -> None:
    svgpathtools = pytest.importorskip("svgpathtools", reason="no svgpathtools here: SVG is not read back by it")
    export(tmp_path, image("cat", NESTED), formats=["svg"], labels=6, config=EXACT)
    paths, attributes, drawing = svgpathtools.svg2paths2(str(tmp_path / "svg/cat.svg"))
    height, width = NESTED.shape
    assert (drawing["viewBox"], drawing["width"], drawing["height"]) == (f"0 0 {width} {height}", "9", "6")
    for label, (path, attribute) in enumerate(zip(paths, attributes, strict=True)):
        assert attribute["fill"] == "#{:02x}{:02x}{:02x}".format(*label_color(label))
        assert (attribute["id"], attribute["class"]) == (f"label-{label}", f"label-{label}")
        even_odd = np.zeros(NESTED.shape, dtype=bool)
        for part in path.continuous_subpaths():
            assert part.isclosed()
            even_odd ^= inside(np.array([[line.start.real, line.start.imag] for line in part]), NESTED.shape)
        assert np.array_equal(even_odd, label == NESTED)


def test_a_drawing_is_xml_with_a_title_for_each_region(tmp_path: Path) -> None:
    export(tmp_path, image("a & <b>", NESTED_REGIONS), formats=["svg"], labels=6, regions=True)
    (group,) = ElementTree.parse(tmp_path / "svg/a & <b>.svg").getroot()
    assert group.attrib["fill-rule"] == "evenodd"
    assert [path.attrib["id"] for path in group] == [f"region-{number}" for number in range(9)]
    titles = [title.text for path in group for title in path.iter(f"{SVG}title")]
    assert titles == [f"label {label}" for label in NESTED_REGIONS.labels]
