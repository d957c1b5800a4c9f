"""Where a photo lies on a map, as the tags of a GeoTIFF say (OGC GeoTIFF 1.1, docs.ogc.org/is/19-008r4)."""

from __future__ import annotations

import functools
import io
import math
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..config import MAX_PIXELS
from ..errors import DecodeError
from .pillow import pillow_for
from .tiff import first_page, refuse_cut

if TYPE_CHECKING:
    from tifffile import TiffPage

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x = a column + b row + c, and y = d column + e row + f, in the order of rasterio."""

_SCALE, _TIE_POINTS, _MATRIX, _KEYS, _NUMBERS, _TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
_ORIENTATION = 274
_TAGS = (_SCALE, _TIE_POINTS, _MATRIX, _KEYS, _NUMBERS, _TEXTS)

_PROJECTED, _GEOGRAPHIC = 1, 2
_PIXEL_IS_POINT = 2
_EPSG_CODES = range(1024, 32767)
"""Codes below are obsolete, and 32767 stands for a system that the other keys define."""
_DAMAGED = "what its tags say of its place on a map is damaged"
_UNITS = {9001: "m", 9002: "ft", 9003: "US survey ft", 9102: "degree", 9122: "degree"}
"""By the codes of EPSG."""

_SWAPPED, _MIRRORED, _UPSIDE_DOWN = (5, 6, 7, 8), (2, 3, 7, 8), (3, 4, 6, 7)
"""EXIF orientations in which the file has rows for columns, columns from right to left, and rows from bottom to top."""


@dataclass(frozen=True)
class Georeference:
    """Where the pixels of a photo lie on a map."""

    transform: Affine | None
    """From corners of pixels to the coordinates of the map: 0, 0 is the upper left corner of the photo, turned as its
    EXIF orientation says, as its labels are. None if the file has control points alone, which define no such transform.
    """
    control_points: int
    """How many there are instead of a transform; 0 if there is one."""
    epsg: int | None
    """The code of the map's coordinate reference system; None if the file defines it otherwise, or not at all."""
    citation: str | None
    """What the file calls that system."""
    stated_unit: str | None
    """Unit of the coordinates by the file's own word; see `unit`."""
    orientation: int
    """The EXIF orientation, 1..8. Tags and GIS programs go by the pixels as they are stored, whatever it is."""
    byte_order: Literal["<", ">"]
    """Byte order of the content of `tags`: little or big-endian."""
    tags: tuple[tuple[int, int, int, bytes, bool], ...]
    """The tags as they are in the file, as tifffile takes them for another one: code, type, count, content, True."""

    @property
    def unit(self) -> str | None:
        """Unit of the coordinates: "m", "ft", "US survey ft" or "degree"; None if it is another one, or not known.

        Files that keep to GeoTIFF 1.1 leave the unit to the EPSG code; pyproj of the extra `geo` knows it then.
        """
        return _unit_of(self.epsg) if self.stated_unit is None and self.epsg is not None else self.stated_unit

    @property
    def pixel_size(self) -> tuple[float, float, str] | None:
        """Height and width of a pixel, and their unit; None without a transform or `unit`.

        Pixels of one size in degrees have different sizes on the ground.
        """
        if self.transform is None or self.unit is None:
            return None
        a, b, _, d, e, _ = self.transform
        return math.hypot(b, e), math.hypot(a, d), self.unit

    def as_stored(self, turned: NDArray[Any]) -> NDArray[Any]:
        """An (H, W) map of the photo, turned back to how the file has the pixels."""
        stored = turned.T if self.orientation in _SWAPPED else turned
        down = -1 if self.orientation in _UPSIDE_DOWN else 1
        return stored[::down, :: -1 if self.orientation in _MIRRORED else 1]


def read_georeference(content: bytes) -> Georeference | None:
    """Read where an image file lies on a map; None if it is no TIFF, or does not say.

    A pixel's height is taken for positive, whatever its sign, as GDAL does: some programs write it wrongly.

    Raises DecodeError if its tags are damaged.
    """
    with pillow_for(content, MAX_PIXELS, _DAMAGED):
        page = first_page(content)
        return None if page is None else _read(page, content)


def _read(page: TiffPage, content: bytes) -> Georeference | None:
    refuse_cut(page, io.BytesIO(content), set(_TAGS))
    keys = page.geotiff_tags if _KEYS in page.tags else {}
    if keys is None:
        raise DecodeError("its GeoKeys, which name the map's coordinate system, are damaged")
    scale, tie_points, matrix = (page.tags.valueof(tag, default=()) for tag in (_SCALE, _TIE_POINTS, _MATRIX))
    if len(tie_points) % 6 or not np.isfinite([*scale, *tie_points, *matrix]).all():
        raise DecodeError(_DAMAGED)
    of_stored = _transform_of_stored(scale, tie_points, matrix)
    if of_stored is None and not tie_points:
        return None
    orientation = page.tags.valueof(_ORIENTATION)
    orientation = orientation if orientation in range(1, 9) else 1
    transform: Affine | None = None
    if of_stored is not None:
        if keys.get("GTRasterTypeGeoKey") == _PIXEL_IS_POINT:
            of_stored[:, 2] -= of_stored[:, :2].sum(axis=1) / 2
        if not np.linalg.det(of_stored[:, :2]):
            raise DecodeError(f"{_DAMAGED}: all pixels would lie on one line")
        whole = of_stored @ _to_stored(orientation, page.imagewidth, page.imagelength)
        transform = tuple(whole.reshape(-1).tolist())
    return Georeference(
        transform=transform,
        control_points=0 if transform else len(tie_points) // 6,
        **_system(keys),
        orientation=orientation,
        byte_order=page.parent.byteorder,
        tags=tuple(_as_it_is(page, content, tag) for tag in _TAGS if tag in page.tags),
    )


def _transform_of_stored(
    scale: tuple[float, ...], tie_points: tuple[float, ...], matrix: tuple[float, ...]
) -> NDArray[np.float64] | None:
    """(2, 3) from corners or centres of pixels, as they are stored, to coordinates; None without a transform."""
    if len(scale) >= 2 and scale[0] and scale[1] and tie_points:
        (width, height), (column, row, _, x, y, _) = scale[:2], tie_points[:6]
        return np.array([[width, 0, x - column * width], [0, -abs(height), y + row * abs(height)]], dtype=np.float64)
    return np.array(matrix, dtype=np.float64).reshape(4, 4)[:2, [0, 1, 3]] if matrix else None


def _system(keys: dict[str, Any]) -> dict[str, Any]:
    """The coordinate reference system: `epsg`, `citation` and `stated_unit` of `Georeference`."""
    names = {
        _PROJECTED: ("ProjectedCSTypeGeoKey", "ProjLinearUnitsGeoKey"),
        _GEOGRAPHIC: ("GeographicTypeGeoKey", "GeogAngularUnitsGeoKey"),
    }
    model = keys.get("GTModelTypeGeoKey")
    if model not in names:
        model = _PROJECTED if "ProjectedCSTypeGeoKey" in keys else _GEOGRAPHIC
    code, unit = (keys.get(name, 0) for name in names[model])
    citations = (keys.get(f"{name}CitationGeoKey") for name in ("GT", "PCS", "Geog"))
    return {
        "epsg": int(code) if isinstance(code, int) and code in _EPSG_CODES else None,
        "citation": next((citation for citation in citations if isinstance(citation, str)), None),
        "stated_unit": _UNITS.get(unit),
    }


@functools.cache
def _unit_of(epsg: int) -> str | None:
    """The unit of a coordinate reference system; None if it is not among ours, or pyproj is not installed."""
    if find_spec("pyproj") is None:
        return None
    from pyproj import CRS  # noqa: PLC0415 - an extra
    from pyproj.exceptions import CRSError  # noqa: PLC0415

    with suppress(CRSError):
        code = CRS.from_epsg(epsg).axis_info[0].unit_code
        return _UNITS.get(int(code)) if code.isdecimal() else None
    return None


def _to_stored(orientation: int, width: int, height: int) -> NDArray[np.float64]:
    """(3, 3) from corners of pixels of the photo as it is turned to those of the file, `width` by `height` pixels."""
    column, row = ([0, 1, 0], [1, 0, 0]) if orientation in _SWAPPED else ([1, 0, 0], [0, 1, 0])
    matrix = np.array([column, row, [0, 0, 1]], dtype=np.float64)
    if orientation in _MIRRORED:
        matrix[0] = [0, 0, width] - matrix[0]
    if orientation in _UPSIDE_DOWN:
        matrix[1] = [0, 0, height] - matrix[1]
    return matrix


def _as_it_is(page: TiffPage, content: bytes, code: int) -> tuple[int, int, int, bytes, bool]:
    tag = page.tags[code]
    return code, int(tag.dtype), tag.count, content[tag.valueoffset : tag.valueoffset + tag.valuebytecount], True
