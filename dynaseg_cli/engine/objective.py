"""Labels, losses and their gradient, of a response map that is read in bands of rows.

`method.losses` and `method.weighting` say what is computed. Here it is done in two passes, with no intermediate of the
size of the response map and no synchronisation with the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import Mode
from ..method.weighting import continuity_weight
from .bands import bands
from .normalisation import Normalisation
from .scribbles import Targets


@dataclass(frozen=True)
class Objective:
    """What an iteration computed. Scalars stay on the device until the caller reads them."""

    loss: Tensor
    """Total loss (eq. 7, and what scribbles add), shape ()."""
    similarity: Tensor
    continuity: Tensor
    present: Tensor
    """q', the number of labels present, int64, shape ()."""
    labels: Tensor
    """(H, W) int64, the argmax of every pixel."""


class BandedObjective:
    """The loss of eq. 7 of a response map r', (H, W, q), and its gradient.

    Parameters
    ----------
    response : its output is r'.
    rows : of a band.
    mode, weight : the weighting and its constant, alpha or mu.
    scribbled : whether there may be a scribble loss, too; without, it costs nothing.
    """

    def __init__(
        self, response: Normalisation, rows: int, mode: Mode, weight: float, *, scribbled: bool = False
    ) -> None:
        self._response = response
        self._rows = rows
        self._mode: Mode = mode
        self._weight = weight
        device = response.activation.device
        self._log_partition = torch.empty((*response.activation.shape[:2], 1), device=device)
        self._minus_one = torch.full((1, 1, 1), -1.0, device=device)
        # MPS has no float64, and sees the map in one band: there are no partial sums to lose digits in.
        self._exact = torch.float32 if device.type == "mps" else torch.float64
        self._targets = Targets(response.activation.shape[:2], device) if scribbled else None

    def load(self, scribbles: Tensor | None) -> None:
        """Take what is drawn on the image to come, (H, W) int64, labels and `FREE`; None without a scribble loss."""
        if self._targets is None:
            assert scribbles is None
        else:
            assert scribbles is not None
            self._targets.load(scribbles)

    def evaluate(self, threshold: Tensor) -> Objective:
        """Labels, q' and the loss, mu counting no fewer labels than `threshold`, int64 of shape ()."""
        height, width, clusters = self._response.activation.shape
        device = self._log_partition.device
        labels = torch.empty((height, width), dtype=torch.int64, device=device)
        sums = torch.zeros(4, dtype=self._exact, device=device)
        for rows in bands(height, self._rows):
            with_below = self._response.output(slice(rows.start, min(rows.stop + 1, height)))
            band = with_below[: rows.stop - rows.start]
            peak, labels[rows] = band.max(-1)  # several times faster than argmax on a CPU
            partition = torch.logsumexp(band, -1)
            self._log_partition[rows, :, 0] = partition
            if self._targets is None:
                sums[0] += (partition - peak).sum()  # eq. 1: the target is the argmax
            else:
                sums[0] += self._targets.similarity(rows, peak, partition) * (height * width)
                sums[3] += self._targets.scribble(rows, band, partition)
            sums[1] += (band[:, 1:] - band[:, :-1]).abs_().sum()
            sums[2] += (with_below[1:] - with_below[:-1]).abs_().sum()
        similarity = (sums[0] / (height * width)).float()
        continuity = (sums[1] / self._pairs_across + sums[2] / self._pairs_down).float()
        present = count_present(labels, clusters)
        self._labels = labels
        self._mu = mu_on_device(self._mode, self._weight, torch.maximum(present, threshold))
        loss = similarity + self._mu * continuity
        if self._targets is not None:
            loss = loss + sums[3].float()
        return Objective(loss, similarity, continuity, present, labels)

    def gradient(self, rows: slice) -> Tensor:
        """Rows of the loss's gradient by the response map that was evaluated last, (r, W, q) float32."""
        height, width, _ = self._response.activation.shape
        top, bottom = max(rows.start - 1, 0), min(rows.stop + 1, height)
        around = self._response.output(slice(top, bottom))
        band = around[rows.start - top : rows.stop - top]
        result = (band - self._log_partition[rows]).exp_()
        labels = self._labels[rows, :, None]
        if self._targets is not None:
            labels = self._targets.labels(rows, labels)
        result.scatter_add_(-1, labels, self._minus_one.expand(*band.shape[:2], 1))  # softmax minus the one-hot target
        if self._targets is None:
            result /= height * width
        else:
            result *= self._targets.weights(rows)
        step = (band[:, 1:] - band[:, :-1]).sign_().mul_(self._mu / self._pairs_across)
        result[:, 1:] += step
        result[:, :-1] -= step
        step = (around[1:] - around[:-1]).sign_().mul_(self._mu / self._pairs_down)
        # Steps lie between the rows: the first one is above the band where there is a row above.
        above, below = rows.start - top, bottom - rows.stop
        result[1 - above :] += step[: len(step) - below]
        result[: len(result) - 1 + below] -= step[above:]
        return result

    @property
    def _pairs_across(self) -> int:
        height, width, clusters = self._response.activation.shape
        return max(height * (width - 1) * clusters, 1)

    @property
    def _pairs_down(self) -> int:
        height, width, clusters = self._response.activation.shape
        return max((height - 1) * width * clusters, 1)


def mu_on_device(mode: Mode, weight: float, labels: Tensor) -> Tensor:
    """mu for a number of labels that is on the device and stays there: float32 of shape ()."""
    mu = continuity_weight(mode, weight, labels.float())
    return mu if isinstance(mu, Tensor) else torch.full_like(labels, mu, dtype=torch.float32)


def count_present(labels: Tensor, clusters: int) -> Tensor:
    """How many of the `clusters` labels occur, without the sort of unique or the synchronisation of bincount."""
    slots = torch.zeros(clusters, dtype=torch.int64, device=labels.device)
    return slots.index_fill_(0, labels.flatten(), 1).sum()
