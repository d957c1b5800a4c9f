"""The result for one image: its labels and regions, their pictures and files, and how the network was fitted."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..config import Colors, CutConfig, SegmentConfig
from ..config import Regions as Cut
from ..errors import UsageError
from ..files.encoding import jpeg, jpeg_step, palette_png, png, regions_file
from ..files.writing import write_atomically
from ..method.silhouette import Silhouette
from ..pictures.overlay import overlay
from ..pictures.palette import palette_colors
from ..regions.area import Area
from ..regions.hierarchy import Hierarchy, build_hierarchy
from ..regions.segments import areas_and_colors
from ..regions.tidying import Labels, main_labels, tidy

StopReason = Literal["converged", "threshold", "iterations", "model"]
PrecisionName = Literal["float32", "bfloat16"]

INLINE = 360
"""Longest side in pixels of the picture in a notebook."""


@dataclass(frozen=True)
class FitLevel:
    """One of the image sizes, in pixels, that the network was fitted at, and the number of iterations there."""

    width: int
    height: int
    iterations: int


@dataclass(frozen=True)
class FitRecord:
    """How the network was fitted to one image. Lists other than `levels` have one entry per iteration."""

    threshold: int
    """Stop threshold: k of the silhouette phase, `min_labels`, or the number of labels drawn."""
    precision: PrecisionName
    levels: list[FitLevel] = field(default_factory=list)
    stop_reason: StopReason = "iterations"
    """threshold: few enough labels left; converged: q' reached no new low for `patience` iterations; iterations: T
    reached; model: no fit, a network fitted earlier was applied."""
    silhouette: Silhouette | None = None
    """None if the threshold was given."""
    labels_per_iteration: list[int] = field(default_factory=list)
    """q'."""
    loss: list[float] = field(default_factory=list)
    """L of eq. 7, plus `SCRIBBLE_WEIGHT` times the scribble loss if there are scribbles."""
    similarity_loss: list[float] = field(default_factory=list)
    continuity_loss: list[float] = field(default_factory=list)
    changed_fraction: list[float] = field(default_factory=list)
    """Fraction of pixels whose label differs from the previous iteration's; 1 in the first of each level."""
    fused: bool = False
    """Whether all iterations used the fused CUDA kernels."""
    captured: bool = False
    """Whether all iterations were replayed from a CUDA graph."""
    seconds: float = 0.0
    """Wall time of the optimisation."""

    @property
    def width(self) -> int:
        """Width in pixels at the last level."""
        return self.levels[-1].width

    @property
    def height(self) -> int:
        """Height in pixels at the last level."""
        return self.levels[-1].height

    @property
    def iterations(self) -> int:
        """Iterations over all levels."""
        return len(self.labels_per_iteration)


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """What the next image of a sequence starts from."""

    weights: Mapping[str, Tensor]
    """float32, on the CPU: the network's state dict."""
    numbers: NDArray[np.int32]
    """(C,) the label of each of the network's first C channels, -1 for one that has not occurred."""
    threshold: int
    """The stop threshold of the first image."""
    present: int
    """q' of the last iteration. The next fit ends as soon as it has no more labels, and so leaves a still scene as it
    is."""


@dataclass(frozen=True, repr=False, eq=False)
class Regions:
    """The regions of an image at one cut, and the labels that go with them: what the command writes.

    Arrays are not to be changed. In a notebook it shows itself as its overlay.
    """

    map: NDArray[np.int32]
    """(H, W) connected regions, 0..R-1 by falling area, and -1 outside a mask."""
    labels: Labels
    """(H, W) uint8 (uint16 above 256 labels): every region has the label that most of it has, 0..K-1 by falling area.
    Labels of a folder's network keep their numbers, and so do drawn ones. Outside a mask it is 255 (65535)."""
    image: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB: the photo."""
    source: Path | None = None
    """The file of the photo, which `save` does not replace; None if it is not known."""

    @cached_property
    def count(self) -> int:
        """R, the number of regions."""
        return int(self.map.max()) + 1

    @cached_property
    def num_labels(self) -> int:
        """How many labels occur."""
        return int(np.count_nonzero(np.bincount(self.labels.reshape(-1)))) - (self._outside is not None)

    def color(self, colors: Colors = "calm") -> Image.Image:
        """The labels in colour: an RGB picture of the photo's size.

        Parameters
        ----------
        colors : a palette of `palette_colors`, or "mean": the mean colour of each label in the photo.
        """
        return Image.fromarray(self._table(colors)[self.labels])

    def overlay(self, colors: Colors = "calm") -> Image.Image:
        """The photo below the outlines of the regions and the colours of their labels: an RGB picture of its size.

        Parameters
        ----------
        colors : as those of `color`.
        """
        return self._overlay(1, colors)

    def show(self) -> None:
        """Show the overlay: in a notebook below the cell, otherwise in the system's viewer of pictures."""
        picture = self.overlay()
        ipython = sys.modules.get("IPython")
        if ipython is not None and hasattr(ipython.get_ipython(), "kernel"):
            ipython.display.display(picture)
        else:
            picture.show()

    def save(self, path: str | Path, colors: Colors = "calm") -> tuple[Path, ...]:
        """Write the labels to a file, or all maps and pictures to a folder.

        Parameters
        ----------
        path : a ``.png``, which gets the labels as grey values of 8 bits, or of 16 above 256 labels. Or a folder, which
            exists or has no suffix, for this image alone: it gets ``labels.png``, ``regions.png`` (16 bits; ``.tif``
            and 32 above 65,536 regions), ``color.png`` and ``overlay.jpg``. Files of these names are replaced.
        colors : as those of `color`.

        Returns
        -------
        The files, which have the content that the command writes.

        Raises
        ------
        UsageError
            If the file has another suffix, or is the photo itself.
        OSError
            If a file cannot be written.
        """
        path = Path(path)
        if path.suffix and not path.is_dir():
            if path.suffix.lower() != ".png":
                raise UsageError(
                    f"{path}: labels are saved as .png, which loses nothing; a folder must exist or have no suffix,"
                    " and Pillow saves pictures: overlay().save(...)"
                )
            contents = {path: png(self.labels)}
        else:
            suffix, regions = regions_file(self.map)
            contents = {
                path / "labels.png": png(self.labels),
                path / f"regions{suffix}": regions,
                path / "color.png": palette_png(self.labels, self._table(colors)),
                path / "overlay.jpg": jpeg(np.asarray(self._overlay(jpeg_step(*self.map.shape), colors))),
            }
        for target in contents:
            if self.source is not None and target.exists() and self.source.exists() and target.samefile(self.source):
                raise UsageError(f"{target} is the photo itself; choose another name")
        for target, content in contents.items():
            write_atomically(target, content)
        return tuple(contents)

    def __repr__(self) -> str:
        regions = f"{self.count} region{'' if self.count == 1 else 's'}"
        return f"Regions({_size(self.map)}, {regions}, {_labels(self.num_labels)})"

    def _repr_html_(self) -> str:
        return self._figure(repr(self))

    def _table(self, colors: Colors) -> NDArray[np.uint8]:
        """(K, 3) the colour of each label; black outside a mask."""
        if colors == "mean":
            table = areas_and_colors(self.labels, self.image)[1]
        else:
            table = palette_colors(int(self.labels.max()) + 1, colors)
        if self._outside is not None:
            table[self._outside] = 0
        return table

    @cached_property
    def _outside(self) -> int | None:
        """The label outside a mask; None if there is none."""
        return int(self.labels.max()) if self.map.min() < 0 else None

    def _overlay(self, step: int, colors: Colors) -> Image.Image:
        """The overlay of every `step`-th pixel."""
        table = self._table(colors)[main_labels(self.map, self.labels)]
        return Image.fromarray(overlay(self.image[::step, ::step], self.map[::step, ::step], table))

    def _figure(self, caption: str) -> str:
        """A small overlay with a caption, in HTML that needs no other file."""
        picture = self.overlay()
        picture.thumbnail((INLINE, INLINE))
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=90)
        content = base64.b64encode(stream.getvalue()).decode()
        return (
            f'<figure style="margin:0"><img src="data:image/jpeg;base64,{content}" alt="overlay">'
            f"<figcaption><pre>{html.escape(caption)}</pre></figcaption></figure>"
        )


@dataclass(frozen=True, repr=False, eq=False)
class Segmentation:
    """The result for one image: the network's own labels, and what is made of them.

    `regions` gives regions and labels as the command writes them; `overlay`, `color`, `show` and `save` are those of
    ``regions()``. Arrays are not to be changed. In a notebook it shows itself as its overlay.
    """

    labels: Labels
    """(H, W) uint8 (uint16 above 256 labels): raw labels, as the network gave them: 0..num_labels-1 by falling area.

    Labels of a folder's network are numbered by their area over the folder, so not all of them need to occur. Labels
    drawn as scribbles keep their numbers, and the others take the smallest numbers left. Outside the `area` they mean
    nothing."""
    num_labels: int
    """How many raw labels occur."""
    numbers: NDArray[np.int32]
    """(C,) the label that each of the network's first C channels became; channels that do not occur come last."""
    fit: FitRecord
    seconds: float
    """Wall time in the engine: fit, labelling and merging, and the silhouette phase unless it was done before."""
    image: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB, read-only: the photo, as `read_photo` gives it. An array of this kind is not copied."""
    config: SegmentConfig
    """The options of the engine."""
    features: tuple[NDArray[np.float32], ...] = ()
    """What a pretrained backbone sees: (h, w, C) maps of the whole image, or of the `area`'s box. Vectors have unit
    length; maps go from fine to coarse. `hierarchy` takes them into account."""
    features_seconds: float = 0.0
    """Wall time in which the backbone looked at the image; a part of `seconds`."""
    scribbles: NDArray[np.uint8] | None = None
    """(H, W) uint8 with the labels drawn, and 255 elsewhere; None if nothing was drawn."""
    fitted: FittedNetwork | None = None
    """With `sequence`, what the next image starts from."""
    area: Area | None = None
    """The pixels that count; None if these are all."""
    source: Path | None = None
    """The file that the image is or was opened from, as an absolute path; None if it is not known."""

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """All cuts of the image, or of the `area`'s box. It is built when it is first needed, and kept."""
        if self.area is not None:
            return build_hierarchy(self.labels[self.area.box], self.area.filled(self.image), self.features)
        return build_hierarchy(self.labels, self.image, self.features)

    def regions(self, regions: int | Cut = "auto", *, granularity: float | None = None) -> Regions:
        """The regions, and the labels that go with them, as the command's ``--regions`` and ``--granularity`` give.

        Parameters
        ----------
        regions : "auto", "coarse" or "fine", which mean the same in every image; a number, for at most so many; or
            "raw", for the connected parts of the raw labels, which stay as they are.
        granularity : the same as a number from 0, one region, to 1, which is raw.

        Raises
        ------
        UsageError
            If a value is out of its range, or both are given.
        """
        cut = CutConfig(regions, granularity)
        tidied = tidy(
            self.labels,
            self.image,
            cut,
            None if cut.is_raw else self.hierarchy,
            self.scribbles,
            renumber=self.config.fit != "folder" and not self.config.sequence,
            area=self.area,
        )
        return Regions(tidied.regions, tidied.labels, self.image, self.source)

    def cropped(self, rows: slice, columns: slice) -> Segmentation:
        """The result for a part of the image, as that of an image of its own; labels keep their numbers.

        It goes with labels of a folder, not with scribbles.
        """
        labels: Labels = self.labels[rows, columns].copy()
        image = np.ascontiguousarray(self.image[rows, columns])
        image.flags.writeable = False
        height, width = self.labels.shape
        features = []
        for found in self.features:
            # The cells of the map that the part touches.
            y, x = found.shape[0] / height, found.shape[1] / width
            down = slice(math.floor(rows.start * y), math.ceil(rows.stop * y))
            features.append(found[down, math.floor(columns.start * x) : math.ceil(columns.stop * x)])
        return dataclasses.replace(
            self,
            labels=labels,
            num_labels=int(np.count_nonzero(np.bincount(labels.reshape(-1)))),
            image=image,
            features=tuple(features),
        )

    def overlay(self, colors: Colors = "calm") -> Image.Image:
        """``regions().overlay(colors)``: the photo with outlines and colours over it."""
        return self._default.overlay(colors)

    def color(self, colors: Colors = "calm") -> Image.Image:
        """``regions().color(colors)``: the labels by region, in colour."""
        return self._default.color(colors)

    def show(self) -> None:
        """``regions().show()``: the overlay, below the cell of a notebook or in the system's viewer."""
        self._default.show()

    def save(self, path: str | Path, colors: Colors = "calm") -> tuple[Path, ...]:
        """``regions().save(path, colors)``: the labels by region as a PNG, or all maps and pictures in a folder."""
        return self._default.save(path, colors)

    def __repr__(self) -> str:
        iterations = f"{self.fit.iterations} iteration{'' if self.fit.iterations == 1 else 's'}"
        how = "a folder's network" if self.fit.stop_reason == "model" else iterations
        labels = _labels(self.num_labels, "raw ")
        return f"Segmentation({_size(self.labels)}, {labels}, {self.config.mode}, {how}, {self.seconds:.1f} s)"

    def _repr_html_(self) -> str:
        return self._default._figure(f"{self!r}\n{self._default!r}")

    @cached_property
    def _default(self) -> Regions:
        return self.regions()


def _size(labels: NDArray[np.integer]) -> str:
    height, width = labels.shape
    return f"{width}x{height}"


def _labels(count: int, kind: str = "") -> str:
    return f"{count} {kind}label{'' if count == 1 else 's'}"
