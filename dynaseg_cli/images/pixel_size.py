"""The size of a pixel, as the metadata of a TIFF tell it.

Only what was measured counts. PNG and JPEG have no more than a density for print, which cameras and paint programs
write without measuring anything, so it is not read.
"""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ..config import MAX_PIXELS, PixelSize, unit_named
from ..errors import DecodeError
from .georeference import read_georeference
from .pillow import pillow_for
from .tiff import first_page

if TYPE_CHECKING:
    from tifffile import TiffPage

PRINT_DENSITIES = (72, 96, 100, 120, 144, 150, 180, 192, 200, 220, 240, 300, 350, 360, 400, 600)
"""Dots per inch that programs write for a screen or for print; a scanner's cannot be told from these."""
_ROUNDING = 0.0125
"""Share by which a density may differ from one of them: 72 dots per inch become 28 per centimetre, 1.2 % less."""

_WIDTH_DENSITY, _HEIGHT_DENSITY, _DENSITY_UNIT, _ORIENTATION = 282, 283, 296, 274
_UNIT_OF_DENSITY = {2: "in", 3: "cm"}
_MICROMETRES: dict[str | None, float] = {"in": 25_400, "cm": 10_000}


def read_pixel_size(content: bytes) -> PixelSize | None:
    """The size of a pixel of an image, turned as its orientation says; None if its file does not tell one.

    The first of these counts: the size of a GeoTIFF's pixels on a projected map, the physical size of OME-XML, the
    scale that ImageJ was told, and the resolution of the TIFF unless it is one of `PRINT_DENSITIES`. Damaged metadata
    tell nothing.
    """
    with suppress(DecodeError, ValueError):
        on_map = read_georeference(content)
        # A pixel in degrees has another size in each place.
        if on_map is not None and on_map.pixel_size is not None and on_map.unit != "degree":
            return PixelSize(*on_map.pixel_size)
    with suppress(DecodeError), pillow_for(content, MAX_PIXELS):
        page = first_page(content)
        if page is None:
            return None
        for read in (_ome, _imagej, _resolution):
            found = None
            with suppress(ValueError, TypeError, ZeroDivisionError, OverflowError, ElementTree.ParseError):
                found = read(page)
            if found is not None:
                swapped = page.tags.valueof(_ORIENTATION) in (5, 6, 7, 8)
                return PixelSize(found.width, found.height, found.unit) if swapped else found
    return None


def _ome(page: TiffPage) -> PixelSize | None:
    """Of the first image in OME-XML (OME schema 2016-06, Pixels)."""
    text = page.description
    # It may define entities that grow without end, and OME-XML has none.
    if not page.is_ome or "<!DOCTYPE" in text:
        return None
    for element in ElementTree.fromstring(text).iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            told = element.attrib
            units = {unit_named(told.get(f"PhysicalSize{axis}Unit", "um")) for axis in "XY"}
            return _size(told.get("PhysicalSizeY"), told.get("PhysicalSizeX"), units)
    return None


def _imagej(page: TiffPage) -> PixelSize | None:
    """ImageJ names the unit in the description, and has pixels per unit in the tags of the resolution."""
    if not page.is_imagej:
        return None
    told = dict(line.partition("=")[::2] for line in page.description.splitlines())
    names = (told.get("unit", ""), told.get("yunit", told.get("unit", "")))
    return _of_density(page, {unit_named(name.replace("\\u00B5", "u")) for name in names})


def _resolution(page: TiffPage) -> PixelSize | None:
    """In micrometres, whether the file says pixels per inch or per centimetre."""
    found = _of_density(page, {_UNIT_OF_DENSITY.get(page.tags.valueof(_DENSITY_UNIT))})
    if found is None:
        return None
    length = _MICROMETRES[found.unit]
    return PixelSize(found.height * length, found.width * length, "um")


def _of_density(page: TiffPage, units: set[str | None]) -> PixelSize | None:
    """The size from pixels per unit, down and across; None if it is there for print, or as a placeholder."""
    down, across = (above / below for above, below in map(page.tags.valueof, (_HEIGHT_DENSITY, _WIDTH_DENSITY)))
    for unit in units & _MICROMETRES.keys():
        dots = [density * _MICROMETRES["in"] / _MICROMETRES[unit] for density in (down, across)]
        for_print = any(math.isclose(*pair, rel_tol=_ROUNDING) for pair in product(dots, PRINT_DENSITIES))
        if for_print or down == across == 1:
            return None
    return _size(1 / down, 1 / across, units)


def _size(height: Any, width: Any, units: set[str | None]) -> PixelSize | None:
    """None without one unit for both sides. Raises TypeError or ValueError if a side is none."""
    unit = units.pop() if len(units) == 1 else None
    return None if unit is None else PixelSize(float(height), float(width), unit)
