"""What a user drew on an image: brought to the sizes that are worked on, and what it adds to the loss.

`method.losses` says what the scribble loss is.
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
    """What each pixel's response is to become, and how much the pixel counts in the loss, where a user has drawn.

    Parameters
    ----------
    size : height and width of the response map. Nothing is drawn on it until it is loaded, into memory that stays.
    """

    def __init__(self, size: tuple[int, ...], device: torch.device) -> None:
        self._scribbles = torch.full((*size, 1), FREE, dtype=torch.int64, device=device)
        # Of each pixel in the similarity loss and, times its weight, in the scribble loss: one of them is 0.
        self._similarity = torch.zeros((*size, 1), device=device)
        self._scribble = torch.zeros((*size, 1), device=device)

    def load(self, scribbles: Tensor) -> None:
        """Take (H, W) int64, labels and `FREE`."""
        self._scribbles.copy_(scribbles[..., None])
        free = self._scribbles == FREE
        self._similarity.copy_(free / free.sum().clamp(min=1))
        self._scribble.copy_(~free * (SCRIBBLE_WEIGHT / (~free).sum().clamp(min=1)))

    def similarity(self, rows: slice, peak: Tensor, log_partition: Tensor) -> Tensor:
        """What rows add to the similarity loss, given the greatest response and the softmax's denominator, (r, W)."""
        return (self._similarity[rows, :, 0] * (log_partition - peak)).sum()

    def scribble(self, rows: slice, band: Tensor, log_partition: Tensor) -> Tensor:
        """What rows of the map, (r, W, q), add to the scribble loss, times its weight."""
        labels = self._scribbles[rows]
        drawn = band.gather(-1, torch.where(labels == FREE, 0, labels))[..., 0]
        return (self._scribble[rows, :, 0] * (log_partition - drawn)).sum()

    def labels(self, rows: slice, labels: Tensor) -> Tensor:
        """Those of rows, (r, W, 1), with what was drawn in their place."""
        drawn = self._scribbles[rows]
        return torch.where(drawn == FREE, labels, drawn)

    def weights(self, rows: slice) -> Tensor:
        """(r, W, 1), of the cross-entropy of each pixel against its label."""
        return self._similarity[rows] + self._scribble[rows]


@torch.no_grad()
def take_up_labels(network: Network, image: Tensor, scribbles: Tensor) -> None:
    """Exchange channels of an untrained network so that those of the drawn labels respond most where they were drawn.

    Before it is trained, one channel is as good as another. With those that drawn labels happen to have, a channel
    would have to be pulled up, against all that has taken hold by then, for a hundred iterations and more.

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
    """The labels that were drawn, rising, of 0..254 and `FREE`."""
    drawn = np.bincount(scribbles.reshape(-1), minlength=FREE + 1) > 0
    drawn[FREE] = False
    labels: list[int] = np.flatnonzero(drawn).tolist()
    return labels


def shrink_scribbles(scribbles: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Bring (H, W) scribbles to a smaller size: a pixel takes the label most drawn in it, of equal ones the smaller.

    It is free only where nothing was drawn: a stroke of one pixel's width stays whole.
    """
    if scribbles.shape == (height, width):
        return scribbles
    # The new pixel that the centre of each old one is in.
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
    """(H, W) int16: for each pixel the drawn label nearest to it. At least one must be drawn."""
    rows, columns = distance_transform_edt(scribbles == FREE, return_distances=False, return_indices=True)
    nearest: NDArray[np.int16] = scribbles[rows, columns].astype(np.int16)
    return nearest
