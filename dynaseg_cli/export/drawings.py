"""GeoJSON and SVG: a file for each photo, in which each segment is one shape with its holes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from ..errors import ImageError
from ..images.georeference import Georeference, read_georeference
from ..pictures.palette import label_color
from .folder import GENERATOR, ExportFolder
from .outlines import Polygons
from .source import ExportSettings, Prepare, Source, file_per_photo

WGS84 = 4326
SEAM = 0.5
"""Width in pixels of the lines that SVG shapes are drawn with, in their own colour.

Without them, renderers let the background shine through between neighbours.
"""


def geojson(folder: ExportFolder, settings: ExportSettings) -> AbstractContextManager[Prepare]:
    """Write ``geojson/``: a collection of features for each photo, a polygon or multipolygon for each segment."""

    def encode(source: Source) -> bytes:
        import shapely  # noqa: PLC0415 - an extra

        georeference = _georeference(source)
        shapes = shapely.to_geojson(placed(source.outlines.of_segments, georeference))
        features = [
            f'{{"type": "Feature", "properties": {json.dumps(properties)}, "geometry": {shape}}}'
            for properties, shape in zip(_properties(source, settings), shapes.tolist(), strict=True)
        ]
        head: dict[str, Any] = {"generator": GENERATOR, "type": "FeatureCollection"}
        if georeference is not None:
            head["crs"] = {"type": "name", "properties": {"name": _crs_name(georeference)}}
        begin = json.dumps(head).removesuffix("}") + ', "features": [\n'
        return (begin + ",\n".join(features) + "\n]}\n").encode()

    return file_per_photo(folder, "geojson", ".geojson", encode)


def placed(shapes: Polygons, georeference: Georeference | None) -> Polygons:
    """Shapes in the coordinates of a GeoJSON file: the map's, or without one the image's, in pixels, y downwards.

    Outer rings have a positive area in these coordinates, as RFC 7946 wants it.
    """
    import shapely  # noqa: PLC0415 - an extra

    if georeference is None or georeference.transform is None:
        return shapes
    a, b, c, d, e, f = georeference.transform
    moved: Polygons = shapely.transform(shapes, lambda points: points @ [[a, d], [b, e]] + [c, f])
    oriented: Polygons = shapely.orient_polygons(moved)
    return oriented


def _georeference(source: Source) -> Georeference | None:
    """Where a photo lies on a map; None if it is no TIFF, or does not say.

    Raises ImageError if it says so in a way that GeoJSON cannot, or if its file is gone or has changed.
    """
    if Path(source.image.file_name).suffix.lower() not in (".tif", ".tiff"):
        return None
    found = read_georeference(source.image.photo())
    if found is None:
        return None
    if found.transform is None:
        raise ImageError("lies on a map by control points alone, which give pixels no coordinates: use gdalwarp first")
    if found.epsg is None:
        raise ImageError("has a coordinate system without an EPSG code, which GeoJSON cannot name: use gdalwarp first")
    return found


def _crs_name(georeference: Georeference) -> str:
    """The name of a coordinate system in the member "crs" of GeoJSON 2008, by which GIS programs still go."""
    degrees = "urn:ogc:def:crs:OGC:1.3:CRS84"  # what GeoJSON means by itself: longitude, latitude
    return degrees if georeference.epsg == WGS84 else f"urn:ogc:def:crs:EPSG::{georeference.epsg}"


def svg(folder: ExportFolder, settings: ExportSettings) -> AbstractContextManager[Prepare]:
    """Write ``svg/``: a drawing for each photo, a path for each segment in the colour of its label."""

    def encode(source: Source) -> bytes:
        width, height = source.runs.width, source.runs.height
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f"<!-- Generator: {GENERATOR} -->",
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}">',
            f'<g fill-rule="evenodd" stroke-width="{SEAM:g}" stroke-linejoin="round">',
        ]
        for properties, shape in zip(_properties(source, settings), source.outlines.of_segments, strict=True):
            label, region = properties["label"], properties["region"]
            color = "#{:02x}{:02x}{:02x}".format(*label_color(label))
            name = f"label-{label}" if region is None else f"region-{region}"
            lines.append(
                f'<path id="{name}" class="label-{label}" fill="{color}" stroke="{color}" d="{_path(shape)}">'
                f"<title>{escape(properties['name'])}</title></path>"
            )
        return "\n".join([*lines, "</g>", "</svg>", ""]).encode()

    return file_per_photo(folder, "svg", ".svg", encode)


def _properties(source: Source, settings: ExportSettings) -> Iterator[dict[str, Any]]:
    """Those of each segment: its label and the label's name, its region, if it is one, and its area in pixels."""
    runs = source.runs
    columns = (source.labels.tolist(), runs.segments.tolist(), runs.areas().tolist())
    for label, segment, area in zip(*columns, strict=True):
        region = segment if settings.things else None
        yield {"label": label, "name": settings.names[label], "region": region, "area": area}


def _path(shape: Any) -> str:
    """The data of an SVG path: for each ring, a move to its first vertex, lines to the others and back."""
    polygons = getattr(shape, "geoms", [shape])
    rings = [ring for polygon in polygons for ring in (polygon.exterior, *polygon.interiors)]
    points = [[f"{x:.0f} {y:.0f}" for x, y in ring.coords[:-1]] for ring in rings]
    return "".join(f"M{' '.join(ring)}Z" for ring in points)
