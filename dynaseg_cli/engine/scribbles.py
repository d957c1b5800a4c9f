"""Scribbles, the labels that a user drew on an image: resized, compared with the response, and as loss targets.

`method.losses` defines the scribble loss.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..config import FREE, SCRIBBLE_WEIGHT
from .networks import Network


class Targets:
    """Label and weights of each pixel in the loss of a scribbled image. Nothing is drawn on it until `load`.

    Parameters
    ----------
    size : height and width of the response map.
    """

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        self._scribbles = torch.full((*size, 1), FREE, dtype=torch.int64, device=device)
        # A pixel counts either in the similarity loss or, times its weight, in the scribble loss.
        self.similarity = torch.zeros((*size, 1), device=device)
        """(H, W, 1), weights that sum to 1 over the free pixels, and 0 where something is drawn."""
        self.scribble = torch.zeros((*size, 1), device=device)
        """(H, W, 1), weights that sum to `SCRIBBLE_WEIGHT` over the pixels drawn on, and 0 elsewhere."""

    def load(self, scribbles: Tensor) -> None:
        """Set the scribbles, (H, W) int64 with labels and `FREE`."""
        self._scribbles.copy_(scribbles[..., None])
        free = self._scribbles == FREE
        self.similarity.copy_(free / free.sum().clamp(min=1))
        self.scribble.copy_(~free * (SCRIBBLE_WEIGHT / (~free).sum().clamp(min=1)))

    def labels(self, rows: slice, labels: Tensor) -> Tensor:
        """The labels of a band, (r, W, 1), replaced by the drawn ones where there are any."""
        drawn = self._scribbles[rows]
        return torch.where(drawn == FREE, labels, drawn)


@torch.no_grad()
def assign_channels(network: Network, image: Tensor, scribbles: Tensor) -> None:
    """Permute the channels of an untrained network so that drawn labels get the channels that respond most to them.

    Before training the channels are interchangeable. Left as they are, a drawn label's channel would have to win
    against established ones, which takes a hundred iterations and more.

    Parameters
    ----------
    image : (1, 3, h, w) float32.
    scribbles : (h, w) int64, labels and `FREE`.
    """
    response = network(image)[0].log_softmax(0)  # (q, h, w)
    labels = drawn_labels(scribbles.cpu().numpy())
    respond = torch.stack([response[:, scribbles == label].mean(1) for label in labels])  # (K, q)
    _, channels = linear_sum_assignment(respond.cpu().numpy(), maximize=True)
    order = np.empty(len(response), dtype=np.intp)
    order[labels] = channels
    others = np.setdiff1d(np.arange(len(order)), labels)
    order[others] = np.setdiff1d(np.arange(len(order)), channels)
    for parameter in network.classifier.parameters():
        parameter.copy_(parameter[torch.from_numpy(order).to(parameter.device)])


def drawn_labels(scribbles: NDArray[np.integer]) -> list[int]:
    """The labels in a scribble map, ascending, without `FREE`."""
    drawn = np.bincount(scribbles.reshape(-1), minlength=FREE + 1) > 0
    drawn[FREE] = False
    labels: list[int] = np.flatnonzero(drawn).tolist()
    return labels


def shrink_scribbles(scribbles: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize (H, W) scribbles to a smaller size. A pixel gets the label drawn most in it, of equals the smallest.

    It is free only if nothing was drawn in it, so a stroke one pixel wide stays connected.
    """
    if scribbles.shape == (height, width):
        return scribbles
    # The new row and column that contain the centre of each old one.
    row_of, column_of = (
        (2 * np.arange(old) + 1) * new // (2 * old) for old, new in zip(scribbles.shape, (height, width), strict=True)
    )
    result = np.full(height * width, FREE, dtype=np.uint8)
    most = np.zeros(height * width, dtype=np.intp)
    for label in drawn_labels(scribbles):
        rows, columns = np.nonzero(scribbles == label)
        drawn = np.bincount(row_of[rows] * width + column_of[columns], minlength=height * width)
        more = drawn > most
        result[more], most[more] = label, drawn[more]
    return result.reshape(height, width)


def nearest_drawn(scribbles: NDArray[np.uint8]) -> NDArray[np.int16]:
    """The drawn label nearest to each pixel, (H, W) int16. At least one pixel must be drawn on."""
    rows, columns = distance_transform_edt(scribbles == FREE, return_distances=False, return_indices=True)
    nearest: NDArray[np.int16] = scribbles[rows, columns].astype(np.int16)
    return nearest
