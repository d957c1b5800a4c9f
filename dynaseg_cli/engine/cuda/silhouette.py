"""The silhouette phase on a CUDA device: one captured graph does all of it, and other threads go on meanwhile."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray

from ...method.silhouette import (
    SAMPLE,
    Draws,
    Silhouette,
    best_silhouette,
    candidates_of,
    colour_sample,
    kmeans_draws,
    silhouette_phase,
    silhouette_scores,
)
from ..device import warn_or_raise
from ..precision import exact_arithmetic
from .graph import CudaGraph


def captured_silhouette(device: torch.device, seed: int) -> CapturedSilhouette | None:
    """None, with a warning, if it cannot be captured: the processor does it then, and seldom finds another k."""
    try:
        return CapturedSilhouette(device, seed)
    except Exception as error:
        warn_or_raise(device, "a captured silhouette phase", error)
        return None


class CapturedSilhouette:
    """`silhouette_phase` with a seed, on a stream of its own. Safe in any thread: images take turns.

    Raises
    ------
    CaptureError
        If it runs, but cannot be captured.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self._device, self._seed = device, seed
        self._turn = threading.Lock()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            self._draws = Draws(*(numbers.to(device) for numbers in kmeans_draws(seed, SAMPLE)))
            self._sample = torch.zeros((SAMPLE, 3), dtype=torch.uint8, device=device)
            self._compute()
            self._graph = CudaGraph(self._compute, device)
        self._given = torch.empty((SAMPLE, 3), dtype=torch.uint8, pin_memory=True)
        self._scores_given = torch.empty(len(self._scores), dtype=self._scores.dtype, pin_memory=True)

    def _compute(self) -> None:
        self._scores = silhouette_scores(self._sample.float(), self._draws)

    def find(self, image: NDArray[np.uint8]) -> Silhouette:
        """As `silhouette_phase`, for an RGB (H, W, 3) uint8 image; all scores are measured on the whole sample."""
        sample = colour_sample(image, self._seed)
        if len(sample) < SAMPLE:  # the graph has one size
            return silhouette_phase(image, self._seed)
        if not candidates_of(sample):
            return best_silhouette(sample, np.empty(0))
        with self._turn, torch.cuda.device(self._device), torch.cuda.stream(self._stream), exact_arithmetic():
            self._given.copy_(torch.tensor(sample))
            self._sample.copy_(self._given, non_blocking=True)
            self._graph.replay()
            self._scores_given.copy_(self._scores, non_blocking=True)
            self._copied.record(self._stream)
            self._copied.synchronize()
            return best_silhouette(sample, self._scores_given.numpy())
