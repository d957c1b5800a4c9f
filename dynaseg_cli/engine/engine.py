"""The engine: created once per device and shared by a whole batch."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import FREE, SegmentConfig
from ..errors import DeviceMemoryError
from ..images.photos import PhotoLike, file_of, read_photo
from ..method.network import SegmentationNetwork
from ..method.silhouette import Silhouette, silhouette_phase
from ..regions.area import Area, area_of
from ..regions.merging import merge_small_regions
from ..regions.segments import number_by_area, number_like
from ..regions.tidying import Labels
from ..resampling import level_sizes, shrink, working_size
from .backbones import MOST_SIZE, resnet_backbone
from .cuda.silhouette import CapturedSilhouette, captured_silhouette
from .device import is_out_of_memory, on_stream, release_memory, resolve_device
from .fitting import Fit, Fitter, captures
from .labelling import TILE_SIZE, label_with_fit, label_with_model, to_input
from .networks import CHANNEL_MULTIPLE, align_features, frozen_backbone, new_network
from .precision import compute_dtype, computing_in, exact_arithmetic, precision_name
from .scribbles import drawn_labels, nearest_drawn, shrink_scribbles
from .segmentation import FitLevel, FitRecord, FittedNetwork, Segmentation

SMALLEST_SIZE = 32
"""Lower limit of the longest side, and of tiles, when they are halved for lack of memory."""
BAND = 256
"""Rows compared at a time."""
BESIDE_SCALE = 3.0
"""Length of the vectors of features that stand beside those of the network; the latter have one of about 8."""

OnIteration = Callable[[int, int], None]
"""Called with the iteration (from 1) and q'; an exception ends the work."""
OnLabels = Callable[[int, int, NDArray[np.int16]], None]
"""Called with the iteration (from 1), q' and the (h, w) raw labels."""

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class Engine:
    """Segments images one after another, each from the same weights: seeded initial ones, or a model's.

    A result depends only on the image and the options, never on earlier images, unless one is given to start from: see
    `segment`. Use an engine in one thread at a time. Engines in several threads do not wait for each other.

    Parameters
    ----------
    config : the options of the method.
    device : auto, cpu, cuda, cuda:N or mps.
    beside : an engine of the same options and device, for another thread. Both then find silhouettes in one graph.

    Raises
    ------
    DeviceUnavailableError
        If the device does not exist on this machine.
    UsageError
        If the model cannot be loaded, or the weights of the backbone are not available.
    """

    def __init__(self, config: SegmentConfig | None = None, device: str = "auto", beside: Engine | None = None) -> None:
        self.config = config or SegmentConfig()
        self.device = resolve_device(device)
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.dtype = compute_dtype(self.device, self.config.precision)
        backbone = frozen_backbone(self.config)
        network = new_network(self.config, backbone)
        if not isinstance(network, SegmentationNetwork):
            backbone = resnet_backbone(network)
        elif self.device.type == "cuda" and not self.config.literal and not network.beside:
            network = align_features(network, CHANNEL_MULTIPLE)
        layout = torch.contiguous_format if self.config.literal else torch.channels_last
        self.network = network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self.backbone = backbone and backbone.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.config.fit == "folder":
            # `FolderFitter` says why.
            self.network.response_norm.requires_grad_(requires_grad=False)
        refine = self.config.refine
        config = dataclasses.replace(self.config, iterations=refine) if refine else self.config
        self.fitter = Fitter(self.network, config, self.dtype)
        self._captured_silhouette: CapturedSilhouette | None = None
        if beside is not None:
            self._captured_silhouette = beside._captured_silhouette
        elif self.config.min_labels == "auto" and captures(self.device, self.config):
            with self.computing():
                self._captured_silhouette = captured_silhouette(self.device, self.config.seed)

    def find_silhouette(self, image: NDArray[np.uint8]) -> Silhouette | None:
        """The silhouette phase of an image; None if the options fix the stop threshold. Safe in any thread."""
        if self.config.min_labels != "auto":
            return None
        if self._captured_silhouette is not None:
            return self._captured_silhouette.find(image)
        return silhouette_phase(image, self.config.seed)

    def look(self, image: NDArray[np.uint8]) -> list[Tensor]:
        """What the backbone sees in an RGB (H, W, 3) uint8 image: (C, h, w) maps on the device, from fine to coarse.

        The list is empty without a pretrained backbone.
        """
        backbone = self.backbone
        if backbone is None:
            return []

        def see(most: int) -> list[Tensor]:
            x = to_input(backbone.resized(image, most), self.device)
            with computing_in(self.dtype, self.device):
                maps: list[Tensor] = backbone(x)
            return maps

        with self.computing(), torch.inference_mode():
            return self._shrinking_on_out_of_memory(see, MOST_SIZE)

    def segment(
        self,
        image: PhotoLike,
        silhouette: Silhouette | None = None,
        on_iteration: OnIteration | None = None,
        scribbles: NDArray[np.uint8] | None = None,
        on_labels: OnLabels | None = None,
        mask: NDArray[np.bool_] | None = None,
        after: FittedNetwork | None = None,
    ) -> Segmentation:
        """Segment a photo: a file, a Pillow image or an array. What is odd about it is logged as a warning.

        An image of one colour is not fitted, because the network's zero padding would make rings along its frame. It
        gets one label, or at each pixel the nearest label drawn.

        Parameters
        ----------
        image : a path; a Pillow image; or an (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA array, uint8 in 0..255 or
            deeper. All are read by the rules of files: see `read_photo`, which has more options.
        silhouette : result of `find_silhouette` for this image, or what counts of it, if it was called before.
        on_iteration : called with the iteration and q' as the fit goes on; an exception ends the work.
        scribbles : (H, W) uint8 with the label wanted at some pixels, 0..q-1, and 255 at all others. Drawn labels keep
            their numbers, and how many they are replaces the stop threshold.
        on_labels : called with the iteration, q' and the (h, w) int16 raw labels after each iteration, which makes the
            host wait for the device. `Segmentation.numbers` maps raw labels to final ones. If memory runs out,
            iterations start over on a smaller copy.
        mask : (H, W) bool, the pixels that count; None is all of them. The others have no influence, and what lies
            outside the bounding box of those that count costs nothing.
        after : with `sequence`, the `fitted` network of the image before, to start from and to keep the numbers of.

        Raises
        ------
        ValueError
            If an array is no such image, or empty; the scribbles are not (H, W) uint8, or not below q; the mask is not
            (H, W) bool, or false everywhere; or `after` is of another network.
        DecodeError, OSError
            If a file or a Pillow image cannot be read.
        DeviceMemoryError
            If the device runs out of memory even at the smallest working size.
        DivergedError
            If the loss is not finite.
        """
        photo, source = read_photo(image), file_of(image)
        for warning in photo.warnings:
            _log.warning("%s: %s", source or "the image", warning)
        if after is not None and not (self.config.sequence and self.fitter.fits(after.weights)):
            raise ValueError("`after` belongs to `sequence=True`, and to the same network on the same kind of device")
        pixels = photo.pixels
        area = None if mask is None else _area_of(mask, pixels.shape[:2])
        if area is None:
            return self._segment(pixels, source, silhouette, on_iteration, scribbles, on_labels, after)
        if scribbles is not None:
            self._drawn_labels(scribbles, pixels.shape[:2])  # checks them
        drawn = area.drawn(scribbles)
        # A folder's network that is only applied has no stop threshold, and a sequence has that of its first image.
        fits = self.config.fit == "image" or self.config.refine
        if silhouette is None and drawn is None and after is None and fits:
            silhouette = self.find_silhouette(area.seen(pixels))
        box = self._segment(area.filled(pixels), source, silhouette, on_iteration, drawn, on_labels, after)
        return dataclasses.replace(
            box,
            labels=area.continued(box.labels),
            image=_read_only(pixels),
            scribbles=None if drawn is None else area.pasted(drawn, FREE),
            area=area,
        )

    def _segment(
        self,
        image: NDArray[np.uint8],
        source: Path | None,
        silhouette: Silhouette | None,
        on_iteration: OnIteration | None,
        scribbles: NDArray[np.uint8] | None,
        on_labels: OnLabels | None,
        after: FittedNetwork | None,
    ) -> Segmentation:
        started = time.perf_counter()
        one_color = is_one_color(image)
        if self.config.fit == "folder":
            if scribbles is not None:
                raise ValueError("`scribbles` name labels of one image; a network of a folder has labels of its own")
            if not self.config.refine or one_color:
                if self.config.model is None:
                    raise ValueError("`fit=folder`: the network fitted to the folder must be given as `model`")
                return dataclasses.replace(self.apply(image, on_iteration), source=source)
        if scribbles is not None and self.config.sequence:
            raise ValueError("`scribbles` name labels of one image; those of a `sequence` go on from image to image")
        drawn = [] if scribbles is None else self._drawn_labels(scribbles, image.shape[:2])
        if drawn:
            silhouette = None
        else:
            scribbles = None
            silhouette = None if after is not None else silhouette or self.find_silhouette(image)
        threshold = len(drawn) or (silhouette.k if silhouette is not None else self.config.min_labels)
        if after is not None:
            threshold = max(after.threshold, after.present)
        assert isinstance(threshold, int)
        watch = on_iteration or (lambda iteration, present: None)
        maps, looked = ([], 0.0) if one_color else self._look_for_network(image)
        if one_color:
            raw, record = self._label_one_color(image, threshold, scribbles, watch, on_labels)
        else:
            raw, record = self._fit_and_label(image, threshold, scribbles, watch, on_labels, after)
        record = dataclasses.replace(record, silhouette=silhouette)
        segmentation = self._segmentation(raw, image, record, started, maps, looked, drawn, after)
        if self.config.sequence:
            fitted = after if one_color else self._fitted(segmentation, after)
            segmentation = dataclasses.replace(segmentation, fitted=fitted)
        return dataclasses.replace(segmentation, scribbles=scribbles, source=source)

    def _fitted(self, segmentation: Segmentation, after: FittedNetwork | None) -> FittedNetwork:
        numbers = segmentation.numbers
        is_known = np.isin(numbers, np.unique(segmentation.labels))
        if after is not None:
            is_known[: len(after.numbers)] |= after.numbers >= 0
        known = np.where(is_known, numbers, -1).astype(np.int32)
        fit = segmentation.fit
        threshold = fit.threshold if after is None else after.threshold
        return FittedNetwork(self.fitter.weights(), known, threshold, fit.labels_per_iteration[-1])

    def apply(self, image: NDArray[np.uint8], on_iteration: OnIteration | None = None) -> Segmentation:
        """Label an RGB (H, W, 3) uint8 image with the network as it is and its running statistics.

        Labels are the network's channels, 0..q-1: they mean the same in every image, and not all need to occur.
        """
        started = time.perf_counter()
        maps, looked = self._look_for_network(image)
        width, height = working_size(image.shape[1], image.shape[0], self.config.max_size)

        def on_tile() -> None:
            if on_iteration is not None:
                on_iteration(0, self.config.clusters)

        def label(tile_size: int) -> NDArray[np.int16]:
            return label_with_model(self.network, image, (height, width), self.dtype, tile_size, on_tile)

        with self.computing():
            raw = self._shrinking_on_out_of_memory(label, TILE_SIZE[self.device.type])
        if is_one_color(image):
            raw = np.full_like(raw, np.bincount(raw.reshape(-1)).argmax())
        levels = [FitLevel(width, height, 0)]
        record = FitRecord(int(self.config.min_labels), precision_name(self.dtype), levels, stop_reason="model")
        return self._segmentation(raw, image, record, started, maps, looked)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Exact arithmetic on the engine's device, on CUDA in a stream of its own."""
        with ExitStack() as contexts:
            contexts.enter_context(exact_arithmetic())
            if self._stream is not None:
                # Triton launches kernels on the current device.
                contexts.enter_context(torch.cuda.device(self.device))
                contexts.enter_context(on_stream(self._stream))
            yield

    def _look_for_network(self, image: NDArray[np.uint8]) -> tuple[list[Tensor], float]:
        """What `look` gives, and the seconds it took. A frozen backbone's features now stand beside the network's."""
        started = time.perf_counter()
        maps = self.look(image)
        if self.config.has_frozen_backbone:
            assert isinstance(self.network, SegmentationNetwork)
            used = maps if self.config.fit == "image" else maps[-1:]
            self.network.maps_beside = [features * BESIDE_SCALE for features in used]
        return maps, time.perf_counter() - started

    def _segmentation(
        self,
        raw: NDArray[np.int16],
        image: NDArray[np.uint8],
        record: FitRecord,
        started: float,
        maps: Sequence[Tensor],
        looked: float,
        drawn: Sequence[int] = (),
        after: FittedNetwork | None = None,
    ) -> Segmentation:
        features = tuple(found.permute(1, 2, 0).contiguous().cpu().numpy() for found in maps)
        if self.config.min_region > 1:
            raw = merge_small_regions(raw, image, self.config.min_region)
        if self.config.fit == "folder":
            num_labels = int(np.count_nonzero(np.bincount(raw.reshape(-1))))
            labels: Labels = raw.astype(np.uint8 if self.config.clusters <= 256 else np.uint16)
            numbers = np.arange(self.config.clusters, dtype=np.int32)
        elif after is not None:
            numbered = number_like(raw, after.numbers)
            labels, num_labels, numbers = numbered.labels, numbered.count, numbered.numbers
        else:
            numbered = number_by_area(raw, kept=drawn)
            labels, num_labels, numbers = numbered.labels, numbered.count, numbered.numbers
        return Segmentation(
            labels=labels,
            num_labels=num_labels,
            numbers=numbers,
            fit=record,
            seconds=time.perf_counter() - started,
            image=_read_only(image),
            config=self.config,
            features=features,
            features_seconds=looked,
        )

    def _drawn_labels(self, scribbles: NDArray[np.uint8], size: tuple[int, ...]) -> list[int]:
        if scribbles.shape != size or scribbles.dtype != np.uint8:
            raise ValueError(
                f"`scribbles` must be a {size} uint8 array like the image, not {scribbles.shape} {scribbles.dtype}"
            )
        drawn = drawn_labels(scribbles)
        if drawn and drawn[-1] >= self.config.clusters:
            raise ValueError(
                f"`scribbles` must be below {self.config.clusters}, the number of `clusters`, not {drawn[-1]}"
            )
        return drawn

    def _label_one_color(
        self,
        image: NDArray[np.uint8],
        threshold: int,
        scribbles: NDArray[np.uint8] | None,
        on_iteration: OnIteration,
        on_labels: OnLabels | None,
    ) -> tuple[NDArray[np.int16], FitRecord]:
        """Raw labels without a fit, and a record of one iteration."""
        width, height = working_size(image.shape[1], image.shape[0], self.config.max_size)
        raw, small = np.zeros(image.shape[:2], np.int16), np.zeros((height, width), np.int16)
        if scribbles is not None:
            raw, small = nearest_drawn(scribbles), nearest_drawn(shrink_scribbles(scribbles, width, height))
        present = len(np.unique(raw))
        on_iteration(1, present)
        if on_labels is not None:
            on_labels(1, present, small)
        record = FitRecord(
            threshold,
            precision_name(self.dtype),
            [FitLevel(width, height, 1)],
            stop_reason="threshold",
            labels_per_iteration=[present],
            loss=[0.0],
            similarity_loss=[0.0],
            continuity_loss=[0.0],
            changed_fraction=[1.0],
        )
        return raw, record

    def _fit_and_label(
        self,
        image: NDArray[np.uint8],
        threshold: int,
        scribbles: NDArray[np.uint8] | None,
        on_iteration: OnIteration,
        on_labels: OnLabels | None,
        after: FittedNetwork | None,
    ) -> tuple[NDArray[np.int16], FitRecord]:
        """Raw labels of the whole image, and the record of the fit."""
        height, width = image.shape[:2]

        def watch(iteration: int, present: int, labels: Tensor) -> None:
            on_iteration(iteration, present)
            if on_labels is not None:
                on_labels(iteration, present, labels.to(torch.int16).cpu().numpy())

        def fit(max_size: int) -> Fit:
            started = time.perf_counter()
            sizes = [working_size(width, height, size) for size in level_sizes(max_size, self.config.levels)]
            levels = [to_input(shrink(image, *size), self.device) for size in sizes]
            drawn = None
            if scribbles is not None:
                small = (shrink_scribbles(scribbles, *size) for size in sizes)
                drawn = [torch.tensor(labels, dtype=torch.int64, device=self.device) for labels in small]
            start = None if after is None else after.weights
            labels, record = self.fitter.fit(levels, threshold, watch, drawn, every=on_labels is not None, start=start)
            return Fit(labels, dataclasses.replace(record, seconds=time.perf_counter() - started))

        def on_tile() -> None:
            on_iteration(record.iterations, record.labels_per_iteration[-1])

        def label(tile_size: int) -> NDArray[np.int16]:
            return label_with_fit(self.network, image, fitted, self.dtype, tile_size, on_tile)

        longest = max(height, width)
        with self.computing():
            size = min(self.config.max_size or longest, longest)
            fitted, record = self._shrinking_on_out_of_memory(fit, size)
            if fitted.shape == (height, width):
                raw: NDArray[np.int16] = fitted.to(torch.int16).cpu().numpy()
            else:
                raw = self._shrinking_on_out_of_memory(label, TILE_SIZE[self.device.type])
        return raw, record

    def _shrinking_on_out_of_memory(self, work: Callable[[int], Result], size: int) -> Result:
        """Do `work(size)`. If memory runs out, free what is kept of other images; if nothing is, halve the size."""
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
                        " free memory on it or choose another `device`"
                    ) from None
            # Outside the handler, where the error no longer keeps the failed attempt's tensors alive.
            self.fitter.forget()
            release_memory(self.device)
            if not kept:
                size = max(SMALLEST_SIZE, size // 2)


def _area_of(mask: NDArray[np.bool_], size: tuple[int, ...]) -> Area | None:
    if mask.shape != size or mask.dtype != np.bool_:
        raise ValueError(f"`mask` must be a {size} bool array like the image, not {mask.shape} {mask.dtype}")
    return area_of(mask)


def _read_only(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    seen: NDArray[np.uint8] = image.view()
    seen.flags.writeable = False
    return seen


def is_one_color(image: NDArray[np.uint8]) -> bool:
    """Whether all pixels of an (H, W, 3) array are equal."""
    return all(bool((image[top : top + BAND] == image[0, 0]).all()) for top in range(0, len(image), BAND))
