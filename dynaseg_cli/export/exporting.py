"""Several formats of the same images: each map is read once, and every file is complete or absent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib.util import find_spec

from ..config import ExportConfig, Format
from ..errors import ImageError, UsageError, reason
from .coco import coco_panoptic, coco_polygons, coco_rle
from .cutouts import cutouts
from .drawings import geojson, svg
from .folder import ExportFolder
from .geotiff import geotiff
from .labelme import labelme
from .mosaic import mosaic
from .roi import roi
from .source import ExportImage, ExportSettings, Prepare, Selection, Source, select
from .tables import csv_table, parquet_table
from .voc import cvat, refuse_cvat_names, refuse_voc_names, voc
from .yolo import yolo


@dataclass(frozen=True)
class _Writer:
    """How a format is written."""

    open: Callable[[ExportFolder, ExportSettings], AbstractContextManager[Prepare]]
    modules: tuple[str, ...] = ()
    """What it imports that not everybody has installed, when it is opened."""
    extra: str = ""
    """The extra of this package with these."""
    refuse_names: Callable[[Mapping[int, str]], None] = lambda names: None
    """Raises UsageError if its files cannot hold these names of labels."""


_WRITERS: dict[Format, _Writer] = {
    "voc": _Writer(voc, refuse_names=refuse_voc_names),
    "coco-rle": _Writer(coco_rle),
    "coco-panoptic": _Writer(coco_panoptic),
    "cvat": _Writer(cvat, refuse_names=refuse_cvat_names),
    "geotiff": _Writer(geotiff),
    "mosaic": _Writer(mosaic),
    "csv": _Writer(csv_table, ("skimage",), "measure"),
    "parquet": _Writer(parquet_table, ("skimage", "pyarrow"), "parquet"),
    "geojson": _Writer(geojson, ("shapely",), "vector"),
    "yolo-seg": _Writer(yolo, ("shapely",), "vector"),
    "labelme": _Writer(labelme, ("shapely",), "vector"),
    "coco-polygons": _Writer(coco_polygons, ("shapely",), "vector"),
    "svg": _Writer(svg, ("shapely",), "vector"),
    "roi": _Writer(roi, ("shapely", "roifile"), "vector"),
    "cutouts": _Writer(cutouts),
}


@dataclass(frozen=True)
class Exported:
    """An image is done, in all formats that it fits."""

    name: str
    empty: bool = False
    """Whether the selection leaves out all its segments."""


@dataclass(frozen=True)
class ExportFailure:
    """An image is missing in the files of one format."""

    name: str
    format: Format
    reason: str


def refuse_uninstalled(formats: Iterable[Format]) -> None:
    """Raise UsageError if what a format needs is not installed."""
    for here in formats:
        for module in _WRITERS[here].modules:
            if find_spec(module) is None:
                extra = _WRITERS[here].extra
                raise UsageError(f"an export as {here} needs {module}: pip install 'dynaseg[{extra}]'")


def refuse_names(formats: Iterable[Format], names: Mapping[int, str]) -> None:
    """Raise UsageError if a format cannot hold these names of labels."""
    for here in formats:
        _WRITERS[here].refuse_names(names)


def write_exports(
    formats: Sequence[Format],
    images: Iterable[ExportImage],
    num_labels: int,
    folder: ExportFolder,
    config: ExportConfig,
    *,
    regions: bool,
    names: Mapping[int, str] | None = None,
) -> Iterator[Exported | ExportFailure]:
    """Write `images` in all `formats`, in place of what an earlier export wrote there.

    Yields each image when it is done, and those that are missing in a format because they cannot be read or do not fit
    it.

    Parameters
    ----------
    num_labels : number of labels in all images: the categories of every format.
    regions : whether segments are connected regions rather than labels.
    names : of labels; one that has none is "label n".

    Raises ImageError if a link leads out of the output folder, and OSError if a file that images share cannot be
    written. An earlier one is kept then; otherwise there is none.
    """
    names = names or {}
    selection = select(config, names)
    settings = ExportSettings([names.get(label, f"label {label}") for label in range(num_labels)], regions, config)
    with ExitStack() as opened:
        prepared = {
            here: opened.enter_context(_WRITERS[here].open(folder, settings)) for here in dict.fromkeys(formats)
        }
        for number, image in enumerate(images, 1):
            empty = yield from _export(number, image, num_labels, selection, prepared, config.tolerance)
            yield Exported(image.name, empty)


def _export(
    number: int,
    image: ExportImage,
    num_labels: int,
    selection: Selection | None,
    formats: dict[Format, Prepare],
    tolerance: float,
) -> Generator[ExportFailure, None, bool]:
    """Add one image to all formats that it fits; returns whether all its segments are left out."""
    try:
        source = Source(number, image, num_labels, tolerance, selection=selection)
    except (ImageError, OSError, MemoryError) as error:
        yield from (ExportFailure(image.name, here, reason(error)) for here in formats)
        return False
    for here, prepare in formats.items():
        try:
            add = prepare(source)
        except (ImageError, OSError, MemoryError) as error:
            yield ExportFailure(image.name, here, reason(error))
        else:
            add()
    return not len(source.runs.segments)
