"""Options as frozen dataclasses: the one place where a default is written and a range is checked.

The standard library alone is imported here, so that ``--help`` can show the defaults without loading torch.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import UsageError

Mode = Literal["scf", "fsf", "fixed"]
Backbone = Literal["cnn", "resnet18-fpn"]
Precision = Literal["auto", "float32", "bfloat16"]
Executor = Literal["local", "ray"]
Preset = Literal["default", "paper"]
Fit = Literal["image", "folder"]
Product = Literal["labels", "color", "stats", "overlay", "regions", "hierarchy", "recording"]
Colors = Literal["palette", "mean"]
Format = Literal["voc", "coco-rle", "coco-panoptic", "cvat"]
Protocol = Literal["auto", "bsds500", "regions", "classes", "coco-stuff27"]
Use = Literal["labels", "regions", "hierarchy"]
ValueRange = Literal["auto", "full"] | tuple[float, float]

PAPER_WEIGHT: dict[Mode, float] = {"scf": 50.0, "fsf": 15.0, "fixed": 5.0}
"""alpha of SCF (eq. 9) and of FSF (eq. 8), and mu of the fixed weighting (eq. 7), as published."""

SCRIBBLE_WEIGHT = 0.5
"""Of the scribble loss, as Kim, Kanezaki and Tanaka published it (doi:10.1109/TIP.2020.3011269)."""

FREE = 255
"""Value of the pixels of a scribble image that say nothing."""

COMMON_GRANULARITY = 0.5
"""Where the hierarchies of all images are cut unless asked otherwise."""

IMAGENET_SHA256 = "f37072fd"
"""First digits of that of torchvision's ImageNet weights of the ResNet-18, as they are in the file's name."""

MAX_PIXELS = 200_000_000
"""Of one image, unless asked otherwise."""
MOST_PIXELS = 2**53
"""Upper limit of options that limit pixels."""
MOST_THREADS = 1024
MOST_WORKERS = 2**16
MOST_OF_BASELINE = 2**15
"""Upper limit of a baseline's clusters, channels, iterations and the like."""
MOST_SIDE = 2**15
"""Longest side of synthetic images and of crops, in pixels."""


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(choices)}, not {value}")


MOST = 2**31 - 1
"""Upper limit of whole numbers without a limit of their own, so that none overflows."""


def _at_least(name: str, value: int, least: int, otherwise: str = "", most: int = MOST) -> None:
    if not isinstance(value, Integral):
        raise UsageError(f"{name} must be {otherwise}a whole number, not {value!r}")
    if value < least:
        raise UsageError(f"{name} must be {otherwise}at least {least}, not {value}")
    _at_most(name, value, most)


def _at_most(name: str, value: int, most: int) -> None:
    if value > most:
        raise UsageError(f"{name} must be at most {most}, not {value}")


def range_text(value_range: ValueRange) -> str:
    """The option as it is written and recorded: auto, full or LOW,HIGH."""
    return value_range if isinstance(value_range, str) else ",".join(_shortest(end) for end in value_range)


def parse_range(text: str) -> ValueRange:
    """The inverse of `range_text`.

    Raises
    ------
    UsageError
        If it is neither a name nor two finite numbers, the first smaller than the second.
    """
    if text in ("auto", "full"):
        return "auto" if text == "auto" else "full"
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--range must be auto, full or LOW,HIGH such as 0,4095, not {text!r}") from None
    _check_range((low, high))
    return low, high


def _shortest(number: float) -> str:
    return repr(int(number)) if float(number).is_integer() and abs(number) < 1e15 else repr(float(number))


def _check_range(value_range: ValueRange) -> None:
    if isinstance(value_range, str):
        _choice("--range", value_range, ("auto", "full"))
        return
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        raise UsageError(f"--range must be auto, full or two numbers, not {value_range!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"--range must be two numbers, the first smaller than the second, not {low:g},{high:g}")


@dataclass(frozen=True)
class WeightsFile:
    """A file of network weights. Its content is what counts, wherever it lies: `weights_file.identify` looks at it."""

    path: str
    sha256: str
    """Of the content, in hexadecimal, or the first digits of that."""

    @property
    def fingerprint(self) -> str:
        """As it is recorded beside a result: the first 8 digits of the SHA-256, as torchvision names its files."""
        return self.sha256[:8]


@dataclass(frozen=True)
class SegmentConfig:
    """Everything that changes the labels of an image. Two runs with equal values give equal labels on one machine.

    Raises
    ------
    UsageError
        If a value is out of its range or two options contradict each other.
    """

    mode: Mode = "scf"
    """Weighting of the two losses: scf (eq. 9), fsf (eq. 8) or fixed (eq. 7)."""
    backbone: Backbone = "cnn"
    """Feature extractor: the CNN, trained from scratch (III-B.1), or an ImageNet ResNet-18 with an FPN (III-B.2)."""
    weights: WeightsFile | Literal["random"] | None = None
    """What the ResNet starts from; None is torchvision's ImageNet weights, random is for tests."""
    freeze_backbone: bool = False
    """Leave the ResNet as it is; the pyramid and the classifier learn."""
    alpha: float | None = None
    """alpha of scf or fsf; None is the paper's."""
    mu: float | None = None
    """mu of the fixed weighting; None is the paper's."""
    iterations: int = 1000
    """At most T iterations of the optimisation."""
    min_labels: int | Literal["auto"] = "auto"
    """Stop once no more labels than this are left; auto asks the silhouette phase."""
    patience: int = 6
    """Convergence: stop when the number of labels has reached no new low for so many iterations; 0 never does."""
    max_size: int = 192
    """Longest side in pixels of the image that the network is fitted on; 0 is full resolution."""
    levels: int = 2
    """Sizes that the network is fitted at, one after another, each twice the one before, the last `max_size`."""
    precision: Precision = "auto"
    """Arithmetic of the convolutions; auto takes bfloat16 where the device computes it natively."""
    min_region: int = 0
    """Merge connected regions of fewer pixels than this into their most similar neighbour; 0 keeps all."""
    seed: int = 0
    """Seed of the initial weights and of the silhouette phase's sample."""
    blocks: int = 3
    """M: convolutional blocks of the feature extractor."""
    features: int = 100
    """p: channels of the feature map."""
    clusters: int = 100
    """q: channels of the response map, the most labels an image can have."""
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    literal: bool = False
    """Compute in the reference's own operations, in their order: slower, and on a CPU equal to it bit for bit."""
    fit: Fit = "image"
    """A network for each image, or one for the folder, with labels that mean the same in every image."""
    epochs: int | None = None
    """How often a folder fit sees every image."""
    model: WeightsFile | None = None
    """The network that was fitted to a folder: it is applied to every image as it is."""
    refine: int = 0
    """At most so many iterations for which the model is fitted on to each image before it is applied."""

    def __post_init__(self) -> None:
        _choice("--mode", self.mode, get_args(Mode))
        self._check_backbone()
        _choice("--precision", self.precision, get_args(Precision))
        if self.mode == "fixed" and self.alpha is not None:
            raise UsageError("--alpha belongs to --mode scf and fsf; with --mode fixed give --mu")
        if self.mode != "fixed" and self.mu is not None:
            raise UsageError(f"--mu belongs to --mode fixed; with --mode {self.mode} give --alpha")
        for name, number in (("--alpha", self.alpha), ("--mu", self.mu)):
            if number is not None and not (math.isfinite(number) and number > 0):
                raise UsageError(f"{name} must be a positive number, not {number}")
        _at_least("--iterations", self.iterations, 1)
        _at_least("--patience", self.patience, 0)
        if self.max_size != 0:
            _at_least("--max-size", self.max_size, 16, "0 for full resolution, or ")
        _at_least("--levels", self.levels, 1, most=32)
        _at_least("--min-region", self.min_region, 0)
        _at_least("--seed", self.seed, 0, most=2**32 - 1)
        _at_least("blocks", self.blocks, 1, most=100)
        _at_least("--features", self.features, 1, most=2**12)
        self._check_labels()
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate must be positive and finite, not {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum must be in [0, 1), not {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"weight_decay must not be negative, not {self.weight_decay}")
        _choice("--fit", self.fit, get_args(Fit))
        if self.fit == "folder":
            self._check_folder_fit()
        elif self.epochs is not None:
            raise UsageError("--epochs belongs to --fit folder")
        elif self.model is not None or self.refine:
            raise UsageError("--refine goes on with the network of a folder: give it with --load-model")

    def _check_labels(self) -> None:
        most_labels = "--classes" if self.fit == "folder" else "--clusters"
        _at_least(most_labels, self.clusters, 2, most=2**15 - 1)
        if self.min_labels == "auto":
            return
        _at_least("--min-labels", self.min_labels, 1)
        if self.min_labels > self.clusters:
            raise UsageError(
                f"--min-labels {self.min_labels} is more than {most_labels} {self.clusters}, and the fit would stop at"
                f" once; give at most {self.clusters}"
            )

    def _check_folder_fit(self) -> None:
        if self.epochs is None:
            raise UsageError("--fit folder needs a number of --epochs")
        _at_least("--epochs", self.epochs, 1)
        # The last iteration on a mosaic, or on an image, labels it, and improves nothing.
        _at_least("--iterations", self.iterations, 2)
        if self.refine != 0:
            _at_least("--refine", self.refine, 2, "0 for none, or ")
        if self.min_labels == "auto":
            raise UsageError("--min-labels auto asks one image; with --fit folder give a number")
        if self.patience:
            raise UsageError("--patience belongs to --fit image: a folder fit ends with its epochs")
        if self.levels != 1:
            raise UsageError("--levels belongs to --fit image: a folder is fitted at one size")
        if self.refine and self.model is None:
            raise UsageError("--refine goes on with a network that was fitted before: give it with --load-model")

    def _check_backbone(self) -> None:
        _choice("--backbone", self.backbone, get_args(Backbone))
        for name, given in (("--weights", self.weights is not None), ("--freeze-backbone", self.freeze_backbone)):
            if given and self.backbone == "cnn":
                raise UsageError(f"{name} belongs to --backbone resnet18-fpn; the cnn is trained from scratch")
        if not (self.weights is None or self.weights == "random" or isinstance(self.weights, WeightsFile)):
            raise UsageError(f"weights must be a WeightsFile, as weights_file.identify gives it, not {self.weights!r}")

    @property
    def weight(self) -> float:
        """The constant of the weighting in use: alpha of scf and fsf, mu of fixed."""
        given = self.mu if self.mode == "fixed" else self.alpha
        return PAPER_WEIGHT[self.mode] if given is None else given

    def as_options(self) -> dict[str, Any]:
        """The values as they are recorded beside a result and compared on a re-run.

        alpha and mu are resolved; weights and model are the first 8 hexadecimal digits of their file's SHA-256.
        """
        options = dataclasses.asdict(self)
        options["mu" if self.mode == "fixed" else "alpha"] = self.weight
        if self.backbone != "cnn" and self.weights != "random":
            options["weights"] = self.weights.fingerprint if self.weights else IMAGENET_SHA256
        options["model"] = None if self.model is None else self.model.fingerprint
        return options

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> SegmentConfig:
        """The inverse of `as_options`, but for the model, and for where the ResNet's weights lie.

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

FOLDER_FIT: dict[str, Any] = {
    "fit": "folder",
    "epochs": 10,
    "iterations": 4,
    "clusters": 27,
    "min_labels": 3,
    "patience": 0,
    "levels": 1,
}
"""What differs, unless asked otherwise, where one network is fitted to a folder: ``replace(preset, **FOLDER_FIT)``."""


@dataclass(frozen=True)
class CutConfig:
    """How far neighbouring regions are merged: where the hierarchy is cut."""

    regions: int | Literal["auto"] = "auto"
    """So many in every image that has as many; auto cuts all images where boundaries are equally strong."""
    granularity: float | None = None
    """The common cut: 0 is one region, 1 every fragment; None is `COMMON_GRANULARITY`."""

    def __post_init__(self) -> None:
        if self.regions != "auto":
            _at_least("--regions", self.regions, 1)
            if self.granularity is not None:
                raise UsageError("--regions and --granularity are two ways to say how far regions are merged; give one")
        if self.granularity is not None and not 0 <= self.granularity <= 1:
            raise UsageError(f"--granularity must be in 0..1, not {self.granularity}")

    def as_options(self) -> dict[str, Any]:
        """The values as they are recorded beside the regions and compared on a re-run."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class BatchConfig:
    """How a batch of files is found, read and written. Only scribbles and range change labels."""

    recursive: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False
    keep_extension: bool = False
    max_pixels: int = MAX_PIXELS
    """Images with more pixels are refused from their header, before anything is decoded."""
    range: ValueRange = "auto"
    """Values of images deeper than 8 bits that become black and white: see `batch.value_range`."""
    scribbles: Path | None = None
    """Folder of what a user drew on images: a label image below it for each, named as its results are."""
    save: tuple[Product, ...] = ("labels", "color", "stats")
    cut: CutConfig = CutConfig()
    """Where the regions that are saved, overlaid or reported are cut."""
    colors: Colors = "palette"
    """Of labels in pictures: those of the fixed palette, or the mean colour of what each label is in its image."""
    report: bool = False
    """Keep of every image what a report page shows."""
    export: tuple[Format, ...] = ()
    """Formats of other tools that the finished images are handed on in."""
    overwrite: bool = False
    """Redo every image instead of skipping the complete ones."""
    fail_fast: bool = False
    """Stop at the first image that fails."""
    shard: tuple[int, int] = (1, 1)
    """I of N: of the images in order of their names, take every N-th from the I-th on."""

    def __post_init__(self) -> None:
        _at_least("--max-pixels", self.max_pixels, 1, most=MOST_PIXELS)
        _check_range(self.range)
        if not self.save:
            raise UsageError(f"--save needs at least one of {', '.join(get_args(Product))}")
        for product in self.save:
            _choice("--save", product, get_args(Product))
        _choice("--colors", self.colors, get_args(Colors))
        for format_ in self.export:
            _choice("--export", format_, get_args(Format))
        self._check_needed("--report", ("stats",) if self.report else ())
        self._check_needed("--export", ("labels", "stats") if self.export else ())
        index, count = self.shard
        if not 1 <= index <= count:
            raise UsageError(f"--shard must be I/N with 1 <= I <= N, not {index}/{count}")

    def _check_needed(self, option: str, products: tuple[Product, ...]) -> None:
        missing = [product for product in products if product not in self.save]
        if missing:
            raise UsageError(f"{option} is made of {' and '.join(products)}: add {' and '.join(missing)} to --save")


@dataclass(frozen=True)
class WorkersConfig:
    """Who does the work of a batch, and where. Of this, device and threads alone change how results round."""

    device: str = "auto"
    """auto, cpu, cuda (every one there is), mps, or CUDA devices by their numbers: cuda:0,cuda:2."""
    executor: Executor = "local"
    """local: on this machine. ray: on the nodes of a Ray cluster."""
    workers: int | None = None
    """Processes that segment images; None is one a GPU, or a CPU core as far as memory goes; 0 none but this one."""
    threads: int | None = None
    """CPU threads of each worker; None shares the cores out."""
    timeout: float = 120.0
    """Seconds after which an image that is still being read or written is given up."""
    ray_address: str | None = None
    """Of a running cluster; None starts one on this machine."""

    def __post_init__(self) -> None:
        _choice("--executor", self.executor, get_args(Executor))
        if self.workers is not None:
            _at_least("--workers", self.workers, 0, most=MOST_WORKERS)
        if self.threads is not None:
            _at_least("--threads", self.threads, 1, most=MOST_THREADS)
        if not self.timeout > 0:
            raise UsageError(f"--timeout must be a positive number of seconds, not {self.timeout}")
        if self.executor == "local" and self.ray_address is not None:
            raise UsageError("--ray-address belongs to --executor ray")
        if self.executor == "ray" and self.workers == 0:
            raise UsageError("--workers must be at least 1 with --executor ray")


@dataclass(frozen=True)
class EvaluateConfig:
    """How predictions are scored against ground truth."""

    protocol: Protocol = "auto"
    """bsds500, regions, classes or coco-stuff27; auto looks at the files."""
    use: Use = "labels"
    """Which maps of an image are scored; of a folder that segment wrote, the folder of that name below it."""
    connected: bool = True
    """Split each label into its 4-connected regions before segments are compared."""
    ignore_index: int | Literal["auto"] | None = "auto"
    """Ground-truth value that counts nowhere, None for none. auto is 255 in 8-bit maps that have other values than 0
    and 255, and none for bsds500 and colours."""
    resize: bool = False
    """Bring a prediction of another size to that of its ground truth (nearest neighbour)."""
    center_crop: int = 0
    """Resize both maps until their shorter side is this, and cut the middle square; 0 leaves them whole."""
    num_things: int | None = None
    """Classes below this number are things, the others stuff; None where they are not told apart."""
    max_pixels: int = MAX_PIXELS
    """Label maps with more pixels are refused."""

    def __post_init__(self) -> None:
        _choice("--protocol", self.protocol, get_args(Protocol))
        _choice("--use", self.use, get_args(Use))
        _at_least("--center-crop", self.center_crop, 0, most=MOST_SIDE)
        _at_least("--max-pixels", self.max_pixels, 1, most=MOST_PIXELS)
        if isinstance(self.ignore_index, int) and not -(2**63) <= self.ignore_index < 2**64:
            raise UsageError("--ignore-index: no label map has a value of more than 64 bits")
        if self.center_crop**2 > self.max_pixels:
            raise UsageError(
                f"--center-crop {self.center_crop}: a square of that side has more pixels than --max-pixels"
                f" {self.max_pixels} allows"
            )
        if self.protocol == "coco-stuff27" and self.ignore_index != "auto":
            raise UsageError("--ignore-index: coco-stuff27 ignores what is unlabeled, 255, and nothing else")
        if self.use == "hierarchy":
            if self.protocol in ("classes", "coco-stuff27") or self.num_things is not None:
                raise UsageError(
                    "--use hierarchy: its regions belong to no classes; it goes with --protocol bsds500 and regions,"
                    " and without --num-things"
                )
            if not self.connected:
                raise UsageError("--no-connected has no meaning with --use hierarchy, whose regions are connected")
        if self.num_things is not None:
            _at_least("--num-things", self.num_things, 0, most=2**53)
            if self.protocol not in ("auto", "classes"):
                raise UsageError(f"--num-things belongs to --protocol classes, not {self.protocol}")


@dataclass(frozen=True)
class KMeansConfig:
    """k-means clustering of the colours around each pixel. Defaults: best Mean on 13 photos of BSDS500 train."""

    clusters: int = 5
    window: int = 1
    """Side in pixels, odd, of the window of colours that a pixel is described by."""
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least("kmeans: clusters", self.clusters, 1, most=MOST_OF_BASELINE)
        _at_least("kmeans: window", self.window, 1, most=99)
        _at_least("kmeans: seed", self.seed, 0, most=2**32 - 1)
        if self.window % 2 == 0:
            raise UsageError(f"kmeans: window must be odd, not {self.window}")


@dataclass(frozen=True)
class FelzenszwalbConfig:
    """Graph-based segmentation (Felzenszwalb, Huttenlocher 2004). Defaults: best Mean on 13 photos of BSDS500 train."""

    scale: float = 200.0
    """The greater, the larger the regions."""
    sigma: float = 0.8
    """Of the Gaussian that smooths the image first, in pixels."""
    min_size: int = 20
    """Pixels below which a region is merged into a neighbour."""

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise UsageError(f"felzenszwalb: scale must be positive, not {self.scale}")
        if not 0 <= self.sigma <= MOST_SIDE:
            raise UsageError(f"felzenszwalb: sigma must not be negative, not {self.sigma}")
        _at_least("felzenszwalb: min_size", self.min_size, 0)


FELZENSZWALB_CURVE: tuple[FelzenszwalbConfig, ...] = (
    FelzenszwalbConfig(scale=1300, sigma=0.8, min_size=400),
    FelzenszwalbConfig(scale=800, sigma=0.8, min_size=400),
    FelzenszwalbConfig(scale=500, sigma=1.2, min_size=400),
    FelzenszwalbConfig(scale=500, sigma=0.8, min_size=400),
    FelzenszwalbConfig(scale=300, sigma=1.2, min_size=400),
    FelzenszwalbConfig(scale=300, sigma=0.8, min_size=400),
    FelzenszwalbConfig(scale=500, sigma=0.8, min_size=200),
    FelzenszwalbConfig(scale=300, sigma=1.2, min_size=200),
    FelzenszwalbConfig(scale=800, sigma=0.5, min_size=100),
    FelzenszwalbConfig(scale=300, sigma=0.8, min_size=200),
    FelzenszwalbConfig(scale=500, sigma=0.8, min_size=100),
    FelzenszwalbConfig(scale=500, sigma=0.5, min_size=100),
    FelzenszwalbConfig(scale=300, sigma=1.2, min_size=100),
    FelzenszwalbConfig(scale=500, sigma=0.8, min_size=50),
    FelzenszwalbConfig(scale=300, sigma=0.8, min_size=100),
    FelzenszwalbConfig(scale=300, sigma=1.2, min_size=50),
    FelzenszwalbConfig(scale=300, sigma=0.8, min_size=50),
    FelzenszwalbConfig(scale=500, sigma=0.8, min_size=20),
    FelzenszwalbConfig(scale=300, sigma=1.2, min_size=20),
    FelzenszwalbConfig(scale=300, sigma=0.8, min_size=20),
    FelzenszwalbConfig(scale=200, sigma=0.8, min_size=20),
    FelzenszwalbConfig(scale=100, sigma=0.8, min_size=20),
)
"""From few regions to many: of 73 settings tried on 34 photos of BSDS500 train, the better ones for about as many."""


@dataclass(frozen=True)
class SuperpixelCnnConfig:
    """A CNN whose labels are forced to be one a superpixel (Kanezaki 2018). Defaults: best on 8 photos of train."""

    superpixels: int = 2000
    compactness: float = 10.0
    iterations: int = 60
    min_labels: int = 3
    max_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    blocks: int = 2
    features: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("superpixels", "iterations", "min_labels", "blocks", "features"):
            _at_least(f"superpixel-cnn: {name}", getattr(self, name), 1, most=MOST_OF_BASELINE)
        _at_least("superpixel-cnn: seed", self.seed, 0, most=2**32 - 1)
        _at_least("superpixel-cnn: max_size", self.max_size, 0)


@dataclass(frozen=True)
class IicConfig:
    """Invariant information clustering (Ji et al. 2019) of the one image. Defaults: best on 8 photos of train."""

    clusters: int = 5
    iterations: int = 60
    displacement: int = 5
    """Most working pixels along either axis between two pixels that are to agree."""
    max_size: int = 128
    learning_rate: float = 3e-3
    blocks: int = 3
    features: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least("iic: clusters", self.clusters, 2, most=MOST_OF_BASELINE)
        for name in ("iterations", "blocks", "features"):
            _at_least(f"iic: {name}", getattr(self, name), 1, most=MOST_OF_BASELINE)
        _at_least("iic: seed", self.seed, 0, most=2**32 - 1)
        for name in ("displacement", "max_size"):
            _at_least(f"iic: {name}", getattr(self, name), 0)


MethodConfig = SegmentConfig | KMeansConfig | FelzenszwalbConfig | SuperpixelCnnConfig | IicConfig

METHODS: dict[str, MethodConfig] = {
    "scf": SegmentConfig(mode="scf"),
    "fsf": SegmentConfig(mode="fsf"),
    "fixed": SegmentConfig(mode="fixed"),
    "reference": PRESETS["paper"],
    "kmeans": KMeansConfig(),
    "felzenszwalb": FelzenszwalbConfig(),
    "superpixel-cnn": SuperpixelCnnConfig(),
    "iic": IicConfig(),
}
"""What `benchmark` can compare, each with its own defaults."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is compared, and on what."""

    methods: str = "scf,fsf"
    max_images: int = 0
    """Take only so many images, the first by name; 0 takes all."""
    repeats: int = 1
    """Runs of each method on each image."""
    stream: bool = True
    """Time this tool's own methods as a worker of `segment` runs them, too."""
    sizes: tuple[tuple[int, int], ...] = ((481, 321),)
    """Widths and heights in pixels of the synthetic images that stand in for photos."""

    def __post_init__(self) -> None:
        _at_least("--max-images", self.max_images, 0)
        _at_least("--repeats", self.repeats, 1)
        for side in (side for size in self.sizes for side in size):
            _at_least("--size: a side", side, 1, most=MOST_SIDE)
        for width, height in self.sizes:
            _at_most("--size: the pixels of an image", width * height, MAX_PIXELS)
