"""Every method behind one signature: an image in, labels and seconds by stage out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..baselines.felzenszwalb import segment_by_felzenszwalb
from ..baselines.folder.settings import FolderMethodConfig
from ..baselines.iic import segment_by_iic
from ..baselines.kmeans import segment_by_kmeans
from ..baselines.settings import FelzenszwalbConfig, IicConfig, KMeansConfig, SuperpixelCnnConfig
from ..baselines.superpixel_cnn import segment_by_superpixel_cnn
from ..config import CutConfig, SegmentConfig
from ..engine.device import resolve_device
from ..engine.engine import Engine
from ..errors import ImageError
from ..files.output_folder import Job
from ..images.decoding import decode
from ..images.pages import read_job
from ..method.reference import reference_segment
from ..method.silhouette import silhouette_phase
from ..regions.hierarchy import Hierarchy, build_hierarchy
from ..regions.segments import number_by_area
from ..regions.tidying import Labels, tidy
from .variants import Variant

MOST_LABELS = 1 << 16
"""Most labels that a 16-bit PNG tells apart."""


@dataclass(frozen=True)
class Labelled:
    """The labels that a method gave one image, and what they cost."""

    labels: Labels
    """(H, W), 0..K-1 by falling area; of a method of one label space the same in all images."""
    iterations: int | None
    """None for a method that does not count any."""
    stages: dict[str, float]
    """Seconds of wall time by stage, in the order of the work."""
    fused: bool | None = None
    captured: bool | None = None
    """As in `FitRecord`; None for a method without an engine."""
    raw: Labels | None = None
    """(H, W), as the network gave them, for methods of this tool."""
    hierarchy: Hierarchy | None = None
    """Of its regions, where a pretrained network had a part in it; else it follows from raw labels and image."""


Method = Callable[[NDArray[np.uint8]], Labelled]
"""From an RGB (H, W, 3) uint8 image."""


def make_method(variant: Variant, device: str) -> Method:
    """Prepare a method on a device (auto, cpu, cuda, cuda:N or mps); the classical ones compute on the CPU.

    Raises
    ------
    DeviceUnavailableError
        If the device does not exist on this machine.
    """
    config = variant.config
    match config:
        case SegmentConfig() if variant.method == "reference":
            return partial(_by_reference, config)
        case SegmentConfig():
            return partial(segment_by_engine, Engine(config, device), variant.cut or CutConfig())
        case KMeansConfig():
            return partial(_by_function, partial(segment_by_kmeans, **dataclasses.asdict(config)))
        case FelzenszwalbConfig():
            return partial(_by_function, partial(segment_by_felzenszwalb, **dataclasses.asdict(config)))
        case SuperpixelCnnConfig() | IicConfig():
            function = segment_by_iic if isinstance(config, IicConfig) else segment_by_superpixel_cnn
            options = {**dataclasses.asdict(config), "device": resolve_device(device)}
            return partial(_by_function, partial(function, **options))
        case FolderMethodConfig():
            raise AssertionError("it is fitted to a folder: see folder_fits.py")


def read_pixels(job: Job, max_pixels: int) -> NDArray[np.uint8]:
    """The image of a job, (H, W, 3) RGB; raises ImageError or OSError if it cannot be read."""
    return decode(read_job(job, max_pixels).content, max_pixels)


def segment_by_engine(engine: Engine, cut: CutConfig, image: NDArray[np.uint8]) -> Labelled:
    """The labels of an RGB (H, W, 3) uint8 image by this tool, tidied; a folder's network is only applied."""
    started = time.perf_counter()
    of_image = engine.config.fit == "image"
    silhouette = engine.find_silhouette(image)
    found = time.perf_counter()
    result = engine.segment(image, silhouette)
    segmented = time.perf_counter()
    hierarchy = None if cut.is_raw else build_hierarchy(result.labels, image, result.features)
    labels = tidy(result.labels, image, cut, hierarchy, renumber=of_image).labels
    fit = result.fit
    stages = {
        **({"silhouette": found - started} if of_image else {}),
        **({"features": result.features_seconds} if result.features else {}),
        **({"fit": fit.seconds} if of_image else {}),
        "label": result.seconds - fit.seconds - result.features_seconds,
        "merge": time.perf_counter() - segmented,
    }
    if not result.features:
        hierarchy = None
    elif hierarchy is None:
        hierarchy = build_hierarchy(result.labels, image, result.features)
    iterations = fit.iterations if of_image else None
    return Labelled(labels, iterations, stages, fit.fused, fit.captured, result.labels, hierarchy)


def _by_reference(config: SegmentConfig, image: NDArray[np.uint8]) -> Labelled:
    if image.shape[:2] == (1, 1):
        raise ImageError("the literal loop cannot normalise a single pixel")
    started = time.perf_counter()
    threshold = config.min_labels
    if threshold == "auto":
        threshold = silhouette_phase(image, config.seed).k
    found = time.perf_counter()
    result = reference_segment(image, config, threshold)
    labels = number_by_area(result.labels).labels
    stages = {"silhouette": found - started, "fit": time.perf_counter() - found}
    return Labelled(labels, len(result.losses), stages, raw=labels)


def _by_function(segment: Callable[[NDArray[np.uint8]], NDArray[np.int32]], image: NDArray[np.uint8]) -> Labelled:
    started = time.perf_counter()
    raw = segment(image)
    seconds = time.perf_counter() - started
    if raw.max() >= MOST_LABELS:
        raise ImageError(f"{int(raw.max()) + 1} labels, more than the {MOST_LABELS} that a 16-bit PNG tells apart")
    labels = number_by_area(raw).labels
    return Labelled(labels, None, {"fit": seconds})
