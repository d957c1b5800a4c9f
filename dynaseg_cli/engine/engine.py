"""The engine: one object a device, created once and shared by a whole batch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import SegmentConfig
from ..errors import DeviceMemoryError
from ..method.network import SegmentationNetwork
from ..method.silhouette import Silhouette, silhouette_phase
from ..regions.merging import merge_small_regions
from ..regions.numbering import number_by_area
from ..sizes import level_sizes, shrink, working_size
from .alignment import CHANNEL_MULTIPLE, align_features
from .arithmetic import exact_arithmetic
from .device import compute_dtype, resolve_device
from .fitting import Fit, Fitter, OnIteration, OnRawLabels
from .labelling import label_image_at_once, label_image_by_guide, to_input
from .memory import is_out_of_memory, release_memory
from .networks import new_network
from .scribbles import drawn_labels, nearest_drawn, shrink_scribbles
from .segmentation import FitLevel, FitRecord, Segmentation

TILE_SIZE = {"cpu": 160, "mps": 512, "cuda": 1024}
"""Side in pixels of the tiles that are labelled at a time: small enough for a cache, large enough for a GPU."""
SMALLEST_SIZE = 32
"""Out of memory, the longest side is halved no further than to this; tiles neither."""

BAND = 256
"""Rows compared at a time."""

OnLabels = Callable[[int, int, NDArray[np.int16]], None]
"""Called with the iteration (from 1), q' and the (h, w) raw labels."""

Result = TypeVar("Result")


class Engine:
    """Segments images one after another, each from the same weights: seeded initial ones, or a model's.

    A result depends on the image and the options alone, never on what the engine did before. An engine serves one
    thread at a time.

    Parameters
    ----------
    config : the options of the method.
    device : auto, cpu, cuda, cuda:N or mps.

    Raises
    ------
    DeviceUnavailableError
        If the device does not exist on this machine.
    UsageError
        If the model cannot be loaded, or the ResNet's weights cannot be had.
    """

    def __init__(self, config: SegmentConfig | None = None, device: str = "auto") -> None:
        self.config = config or SegmentConfig()
        if self.config.min_labels == "auto":
            # Imported here because the silhouette phase would do it in the time that --timeout gives the first image.
            import sklearn.cluster  # noqa: F401, PLC0415
        self.device = resolve_device(device)
        self.dtype = compute_dtype(self.device, self.config.precision)
        network = new_network(self.config)
        if isinstance(network, SegmentationNetwork) and self.device.type == "cuda" and not self.config.literal:
            network = align_features(network, CHANNEL_MULTIPLE)
        layout = torch.contiguous_format if self.config.literal else torch.channels_last
        self.network = network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        if self.config.fit == "folder":
            # See `FolderFitter`.
            self.network.response_norm.requires_grad_(requires_grad=False)
        self.fitter = Fitter(self.network, self._fitted_by(), self.dtype)

    def find_silhouette(self, image: NDArray[np.uint8]) -> Silhouette | None:
        """The silhouette phase of an image, None where the options fix the stop threshold. Safe in any thread."""
        return silhouette_phase(image, self.config.seed) if self.config.min_labels == "auto" else None

    def segment(
        self,
        image: NDArray[np.uint8],
        silhouette: Silhouette | None = None,
        on_iteration: OnIteration | None = None,
        scribbles: NDArray[np.uint8] | None = None,
        on_labels: OnLabels | None = None,
    ) -> Segmentation:
        """Segment an RGB (H, W, 3) uint8 image.

        An image of one colour gets one label (with scribbles, each pixel gets the nearest one drawn) without a fit: the
        network's zero padding would make rings along its frame.

        Parameters
        ----------
        image : (H, W, 3) uint8 array, RGB, 0..255.
        silhouette : what `find_silhouette` gave for this image, if it was called ahead.
        on_iteration : called with the iteration and q' after each iteration; what it raises ends the work.
        scribbles : (H, W) uint8, at some pixels the label wanted there, 0..q-1, at all others 255. Labels drawn come
            out as drawn, and their number takes the place of the stop threshold.
        on_labels : called with the iteration, q' and the (h, w) int16 labels after each iteration, for which the host
            waits for the device: raw channels of the network, which `Segmentation.numbers` says the labels of. Where
            memory runs out, iterations start again from the first, on a smaller copy.

        Raises
        ------
        ValueError
            If the array is not (H, W, 3) uint8, or empty; or the scribbles are not (H, W) uint8, or not below q.
        DeviceMemoryError
            If the device runs out of memory even at the smallest working size.
        DivergedError
            If the loss is no longer a finite number.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"an image is a (H, W, 3) uint8 array, not {image.shape} {image.dtype}")
        started = time.perf_counter()
        if self.config.fit == "folder" and scribbles is not None:
            raise ValueError("scribbles name labels of one image; a network of a folder has labels of its own")
        # An image of one colour has nothing to refine on.
        if self.config.fit == "folder" and (not self.config.refine or is_one_color(image)):
            if self.config.model is None:
                raise ValueError("--fit folder: a network that is fitted to a folder is applied as the config's model")
            return self.apply(image, on_iteration)
        drawn = [] if scribbles is None else self._drawn_labels(scribbles, image.shape[:2])
        if drawn:
            silhouette = None
        else:
            scribbles = None
            silhouette = silhouette or self.find_silhouette(image)
        threshold = len(drawn) or (silhouette.k if silhouette is not None else self.config.min_labels)
        assert isinstance(threshold, int)
        seconds = 0.0
        if is_one_color(image):
            raw, levels, fit = self._label_one_color(image, scribbles, on_iteration, on_labels)
        else:
            with self.computing():
                raw, levels, fit, seconds = self._fit_and_label(image, threshold, on_iteration, scribbles, on_labels)
        record = FitRecord(
            width=levels[-1].width,
            height=levels[-1].height,
            levels=levels,
            iterations=len(fit.present),
            stop_reason=fit.stop_reason,
            threshold=threshold,
            silhouette=silhouette,
            labels_per_iteration=fit.present,
            loss=fit.loss,
            similarity_loss=fit.similarity,
            continuity_loss=fit.continuity,
            changed_fraction=fit.changed,
            precision=self._precision,
            fused=fit.fused,
            captured=fit.captured,
            seconds=seconds,
        )
        return self._segmentation(raw, image, record, started, drawn)

    def apply(self, image: NDArray[np.uint8], on_iteration: OnIteration | None = None) -> Segmentation:
        """Label an RGB (H, W, 3) uint8 image by the network as it is, with the statistics that it holds.

        Labels are those of the network, in 0..q-1: they mean the same in every image, and not all need to occur.
        """
        started = time.perf_counter()

        def label(tile_size: int) -> NDArray[np.int16]:
            def on_tile() -> None:
                if on_iteration is not None:
                    on_iteration(0, self.config.clusters)

            size = height, width
            return label_image_at_once(self.network, image, size, self.device, self.dtype, tile_size, on_tile)

        width, height = working_size(image.shape[1], image.shape[0], self.config.max_size)
        with self.computing():
            raw = self._shrinking_on_out_of_memory(label, TILE_SIZE[self.device.type])
        if is_one_color(image):
            raw = np.full_like(raw, np.bincount(raw.reshape(-1)).argmax())
        record = FitRecord(
            width=width,
            height=height,
            levels=[FitLevel(width, height, 0)],
            iterations=0,
            stop_reason="model",
            threshold=int(self.config.min_labels),
            silhouette=None,
            labels_per_iteration=[],
            loss=[],
            similarity_loss=[],
            continuity_loss=[],
            changed_fraction=[],
            precision=self._precision,
            fused=False,
            captured=False,
            seconds=0.0,
        )
        return self._segmentation(raw, image, record, started)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Exact arithmetic on the engine's device."""
        # Triton starts kernels on the current device.
        on_device = torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()
        with on_device, exact_arithmetic():
            yield

    def _segmentation(
        self,
        raw: NDArray[np.int16],
        image: NDArray[np.uint8],
        record: FitRecord,
        started: float,
        drawn: Sequence[int] = (),
    ) -> Segmentation:
        if self.config.min_region > 1:
            raw = merge_small_regions(raw, image, self.config.min_region)
        if self.config.fit == "folder":
            num_labels = int(np.count_nonzero(np.bincount(raw.reshape(-1))))
            labels = raw.astype(np.uint8 if self.config.clusters <= 256 else np.uint16)
            numbers = np.arange(self.config.clusters, dtype=np.int32)
            return Segmentation(labels, num_labels, numbers, record, time.perf_counter() - started)
        numbered = number_by_area(raw, kept=drawn)
        seconds = time.perf_counter() - started
        return Segmentation(numbered.labels, numbered.count, numbered.numbers, record, seconds)

    def _fitted_by(self) -> SegmentConfig:
        """The options as the fit of an image has them."""
        return dataclasses.replace(self.config, iterations=self.config.refine) if self.config.refine else self.config

    @property
    def _precision(self) -> Literal["float32", "bfloat16"]:
        return "bfloat16" if self.dtype == torch.bfloat16 else "float32"

    def _drawn_labels(self, scribbles: NDArray[np.uint8], size: tuple[int, ...]) -> list[int]:
        if scribbles.shape != size or scribbles.dtype != np.uint8:
            raise ValueError(
                f"scribbles are a {size} uint8 array, as the image, not {scribbles.shape} {scribbles.dtype}"
            )
        drawn = drawn_labels(scribbles)
        if drawn and drawn[-1] >= self.config.clusters:
            raise ValueError(f"scribbles are below {self.config.clusters}, the number of clusters, not {drawn[-1]}")
        return drawn

    def _label_one_color(
        self,
        image: NDArray[np.uint8],
        scribbles: NDArray[np.uint8] | None,
        on_iteration: OnIteration | None,
        on_labels: OnLabels | None,
    ) -> tuple[NDArray[np.int16], list[FitLevel], Fit]:
        """Label without a fit: the raw labels, the level that a fit would have had, and what it would have found."""
        height, width = image.shape[:2]
        level = FitLevel(*working_size(width, height, self.config.max_size), iterations=1)
        raw, fitted = np.zeros((height, width), np.int16), np.zeros((level.height, level.width), np.int16)
        if scribbles is not None:
            raw = nearest_drawn(scribbles)
            fitted = nearest_drawn(shrink_scribbles(scribbles, level.width, level.height))
        present = len(np.unique(raw))
        if on_iteration is not None:
            on_iteration(1, present)
        if on_labels is not None:
            on_labels(1, present, fitted)
        return raw, [level], Fit(torch.tensor(fitted), "threshold", [1], [present], [0.0], [0.0], [0.0], [1.0])

    def _fit_and_label(
        self,
        image: NDArray[np.uint8],
        threshold: int,
        on_iteration: OnIteration | None,
        scribbles: NDArray[np.uint8] | None,
        on_labels: OnLabels | None,
    ) -> tuple[NDArray[np.int16], list[FitLevel], Fit, float]:
        """Raw labels, the levels of the fit, what it found, and the seconds it took."""
        height, width = image.shape[:2]

        def fit(max_size: int) -> tuple[list[NDArray[np.uint8]], Fit, float]:
            started = time.perf_counter()
            sizes = level_sizes(max_size, self.config.levels)
            levels = [shrink(image, *working_size(width, height, size)) for size in sizes]
            drawn = None
            if scribbles is not None:
                drawn = [shrink_scribbles(scribbles, *working_size(width, height, size)) for size in sizes]
            return levels, self._fit(levels, threshold, on_iteration, drawn, on_labels), time.perf_counter() - started

        def label(tile_size: int) -> NDArray[np.int16]:
            return label_image_by_guide(self.network, image, fitted.labels, self.dtype, tile_size, on_tile)

        def on_tile() -> None:
            if on_iteration is not None:
                on_iteration(len(fitted.present), fitted.present[-1])

        longest = max(height, width)
        levels, fitted, seconds = self._shrinking_on_out_of_memory(fit, min(self.config.max_size or longest, longest))
        if levels[-1].shape[:2] == (height, width):
            raw = fitted.labels.to(torch.int16).cpu().numpy()
        else:
            raw = self._shrinking_on_out_of_memory(label, TILE_SIZE[self.device.type])
        found = [
            FitLevel(level.shape[1], level.shape[0], iterations)
            for level, iterations in zip(levels, fitted.iterations, strict=True)
        ]
        return raw, found, fitted, seconds

    def _fit(
        self,
        levels: list[NDArray[np.uint8]],
        threshold: int,
        on_iteration: OnIteration | None,
        scribbles: list[NDArray[np.uint8]] | None,
        on_labels: OnLabels | None,
    ) -> Fit:
        targets = None
        if scribbles is not None:
            targets = [torch.tensor(drawn, dtype=torch.int64, device=self.device) for drawn in scribbles]
        on_raw: OnRawLabels | None = None
        if on_labels is not None:
            tell = on_labels

            def on_raw(iteration: int, present: int, raw: Tensor) -> None:
                tell(iteration, present, raw.to(torch.int16).cpu().numpy())

        inputs = [to_input(level, self.device) for level in levels]
        return self.fitter.fit(inputs, threshold, on_iteration, targets, on_raw)

    def _shrinking_on_out_of_memory(self, work: Callable[[int], Result], size: int) -> Result:
        """Do `work(size)`; out of memory, free what was held and try again, at half the size if that was nothing."""
        while True:
            kept = self.fitter.keeps_memory
            try:
                return work(size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if size <= SMALLEST_SIZE and not kept:
                    raise DeviceMemoryError(
                        f"{self.device} is out of memory even at a working size of {size} pixels;"
                        " free memory on it or choose another --device"
                    ) from None
            # Outside the handler: the error no longer keeps the failed attempt's tensors alive.
            self.fitter.forget()
            release_memory(self.device)
            # What was kept of other images is no reason to treat this one otherwise.
            if not kept:
                size = max(SMALLEST_SIZE, size // 2)


def is_one_color(image: NDArray[np.uint8]) -> bool:
    """Whether all pixels of an (H, W, 3) array are alike."""
    return all(bool((image[top : top + BAND] == image[0, 0]).all()) for top in range(0, len(image), BAND))
