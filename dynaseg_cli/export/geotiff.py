"""GeoTIFF: the labels of a georeferenced photo as a layer of the same map, for QGIS and all that GDAL is built into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import ImageError
from ..images.georeference import Georeference, read_georeference
from ..pictures.palette import label_palette
from .folder import MAKER, ExportFolder
from .source import ExportSettings, Map, Prepare, Source

FOLDER, REGIONS_FOLDER = "geotiff", "geotiff-regions"
TILE = 256
"""Side of the tiles in pixels."""
_GDAL_NODATA = 42113


@contextmanager
def geotiff(folder: ExportFolder, settings: ExportSettings) -> Iterator[Prepare]:
    """Write ``geotiff/`` with the labels of each image and, where segments are regions, ``geotiff-regions/``.

    Files of other images that an earlier export left there are removed.
    """
    folder.refuse_unwritable(f"{FOLDER}/any", f"{REGIONS_FOLDER}/any")
    files: dict[str, set[str]] = {FOLDER: set(), REGIONS_FOLDER: set()}

    def prepare(source: Source) -> Callable[[], object]:
        georeference, segments = read_georeference(source.image.photo()), source.segments
        if georeference is None:
            raise ImageError(
                "has no georeference: its file does not say where it lies on a map. Make a GeoTIFF of it"
                " (gdal_translate takes a world file, or coordinates), or export another format"
            )
        # The labels of all images have one type, as a mosaic of them needs.
        rasters = {FOLDER: raster(segments.of_pixel, segments.labels, len(settings.names))}
        if settings.things:
            count = len(segments.labels)
            rasters[REGIONS_FOLDER] = raster(segments.of_pixel, np.arange(count), count)
        for kind, numbers in rasters.items():
            file = f"{source.image.name}.tif"
            folder.write(f"{kind}/{file}", encode_geotiff(numbers, georeference))
            files[kind].add(file)
        return lambda: None

    yield prepare
    for kind, kept in files.items():
        folder.remove_earlier(kind, ".tif", kept)


def raster(segments: Map, numbers: Map, count: int) -> NDArray[Any]:
    """An (H, W) map with the number of each pixel's segment, of the smallest unsigned type that holds them.

    The largest value of that type means "no data", where a pixel has no segment.

    Parameters
    ----------
    segments : (H, W) integers in 0..S-1, or -1 for no segment.
    numbers : (S,) the number of each segment, below `count`.
    """
    dtype = raster_type(count)
    # The last entry is also that of index -1.
    return np.append(numbers, np.iinfo(dtype).max).astype(dtype)[segments]


def raster_type(count: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that holds `count` numbers and one for "no data"."""
    return next(dtype for dtype in (np.uint8, np.uint16, np.uint32) if count <= np.iinfo(dtype).max)


def encode_geotiff(numbers: NDArray[Any], georeference: Georeference) -> bytes:
    """The file of an (H, W) map of unsigned integers, whose largest value means "no data", in the photo's place.

    It has the pixels as the photo's file has them, and that file's own tags. A map of 8 bits has the colours of labels.
    """
    import tifffile  # noqa: PLC0415 - slow to import

    stream = BytesIO()
    tifffile.imwrite(
        stream,
        np.ascontiguousarray(georeference.as_stored(numbers)),
        byteorder=georeference.byte_order,
        tile=(TILE, TILE),
        **layer_options(numbers.dtype, georeference),
    )
    return stream.getvalue()


def layer_options(dtype: Any, georeference: Georeference | None) -> dict[str, Any]:
    """How tifffile writes a map of such numbers: compression, colours, "no data", place."""
    nodata = int(np.iinfo(dtype).max)
    colors: dict[str, Any] = {"photometric": "minisblack"}
    if nodata == 255:
        palette = np.append(label_palette()[:nodata], [[0, 0, 0]], axis=0)
        colors = {"photometric": "palette", "colormap": palette.T.astype(np.uint16) * 257}
    place = () if georeference is None else georeference.tags
    return {
        "compression": "zlib",
        "metadata": None,
        "software": MAKER + __version__,
        "extratags": [*place, (_GDAL_NODATA, "s", 0, str(nodata), True)],
        **colors,
    }
