"""The training step of the CNN with hand-written gradients, in bands of rows and in memory allocated once.

There is no autograd, no intermediate as large as the response map in the loss, and no synchronisation with the device.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..config import SegmentConfig
from ..method.losses import continuity_weight
from ..method.network import SegmentationNetwork
from .banded_layers import (
    Convolution,
    Normalisation,
    Pointwise,
    band_rows,
    bands,
    exact_dtype,
    prepare_gradients,
    surroundings,
)
from .scribbles import Targets
from .training_step import Objective, count_present


class BandedStep:
    """See `TrainingStep`.

    Parameters
    ----------
    network : float32, on the device; the gradients of its parameters are overwritten in place.
    height, width : of the images.
    dtype : of the feature maps and convolutions, float32 or bfloat16; everything else is float32.
    scribbled : whether the images have scribbles.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        height: int,
        width: int,
        config: SegmentConfig,
        dtype: torch.dtype,
        *,
        scribbled: bool = False,
    ) -> None:
        self._height = height
        device = network.classifier.weight.device
        features, clusters = network.classifier.in_channels, network.classifier.out_channels
        self._rows = band_rows(width, max(features, clusters), device)
        prepare_gradients(network)

        def new_map(channels: int, of: torch.dtype, border: int = 0) -> Tensor:
            return torch.zeros((height + 2 * border, width + 2 * border, channels), dtype=of, device=device)

        first, *others = network.feature_convolutions
        # The image never changes, so its 3 x 3 surroundings are gathered once: the first convolution is pointwise then.
        self._around = new_map(27, dtype)
        self._first = Pointwise(first, dtype)
        shared = new_map(features, dtype, border=1)
        self._convolutions = [Convolution(layer, shared) for layer in others]
        self._classifier = Pointwise(network.classifier, dtype)
        self._layers: list[Pointwise | Convolution] = [self._first, *self._convolutions, self._classifier]
        shared = new_map(features, dtype)
        self._norms = [Normalisation(norm, new_map(features, dtype), shared) for norm in network.feature_norms]
        response, gradient = new_map(clusters, torch.float32), new_map(clusters, torch.float32)
        self._response_norm = Normalisation(network.response_norm, response, gradient, relu=False)
        self._objective = BandedObjective(self._response_norm, self._rows, config, scribbled=scribbled)

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        self._around.copy_(surroundings(image))
        self._objective.load(scribbles)

    @torch.no_grad()
    def evaluate(self, threshold: Tensor) -> Objective:
        for layer in self._layers:
            layer.begin()
        norm = self._norms[0]
        norm.begin()
        for rows in self._bands():
            norm.add(rows, self._first.output(self._around[rows]))
        norm.finish()
        for convolution, following in zip(self._convolutions, self._norms[1:], strict=True):
            for rows in self._bands():
                convolution.set_input(rows, norm.output(rows))
            following.begin()
            for rows in self._bands():
                following.add(rows, convolution.output(rows))
            following.finish()
            norm = following
        response = self._response_norm
        response.begin()
        for rows in self._bands():
            response.add(rows, self._classifier.output(norm.output(rows)).float())
        response.finish()
        return self._objective.evaluate(threshold)

    @torch.no_grad()
    def backward(self) -> None:
        for layer in self._layers:
            layer.begin_gradient()
        response, norm = self._response_norm, self._norms[-1]
        response.begin_gradient()
        for rows in self._bands():
            response.add_gradient(rows, self._objective.gradient(rows))
        response.finish_gradient()
        norm.begin_gradient()
        for rows in self._bands():
            gradient = response.input_gradient(rows)
            self._classifier.add_gradient(norm.output(rows), gradient)
            norm.add_gradient(rows, self._classifier.input_gradient(gradient))
        norm.finish_gradient()
        for convolution, previous in zip(reversed(self._convolutions), reversed(self._norms[:-1]), strict=True):
            for rows in self._bands():
                convolution.add_gradient(rows, norm.input_gradient(rows))
            previous.begin_gradient()
            for rows in self._bands():
                previous.add_gradient(rows, convolution.input_gradient(rows))
            previous.finish_gradient()
            norm = previous
        for rows in self._bands():
            self._first.add_gradient(self._around[rows], norm.input_gradient(rows))
        for layer in self._layers:
            layer.finish_gradient()

    def _bands(self) -> Iterator[slice]:
        return bands(self._height, self._rows)


class BandedObjective:
    """The loss of eq. 7 for a response map r', (H, W, q), and its gradient, in two passes over bands.

    Parameters
    ----------
    response : its output is r'.
    rows : in a band.
    scribbled : whether there is a scribble loss, too.
    """

    def __init__(self, response: Normalisation, rows: int, config: SegmentConfig, *, scribbled: bool = False) -> None:
        self._response = response
        self._rows = rows
        self._config = config
        height, width, clusters = response.activation.shape
        device = response.activation.device
        self._pixels = height * width
        self._pairs_across = max(height * (width - 1) * clusters, 1)
        self._pairs_down = max((height - 1) * width * clusters, 1)
        self._log_partition = torch.empty((height, width, 1), device=device)
        self._minus_one = torch.full((1, 1, 1), -1.0, device=device)
        self._targets = Targets((height, width), device) if scribbled else None

    def load(self, scribbles: Tensor | None) -> None:
        """Set the scribbles of the next image, (H, W) int64 with labels and `FREE`; None without a scribble loss."""
        assert (scribbles is None) == (self._targets is None)
        if self._targets is not None and scribbles is not None:
            self._targets.load(scribbles)

    def evaluate(self, threshold: Tensor) -> Objective:
        """Labels, q' and loss. `threshold`, int64 of shape (), is the lowest label count used in mu."""
        height, width, clusters = self._response.activation.shape
        device = self._log_partition.device
        labels = torch.empty((height, width), dtype=torch.int64, device=device)
        sums = torch.zeros(4, dtype=exact_dtype(device), device=device)
        for rows in bands(height, self._rows):
            with_below = self._response.output(slice(rows.start, min(rows.stop + 1, height)))
            band = with_below[: rows.stop - rows.start]
            peak, labels[rows] = band.max(-1)  # several times as fast as argmax on a CPU
            partition = torch.logsumexp(band, -1)
            self._log_partition[rows, :, 0] = partition
            if self._targets is None:
                sums[0] += (partition - peak).sum()  # eq. 1: the target is the argmax
            else:
                wanted = band.gather(-1, self._targets.labels(rows, labels[rows, :, None]))
                excess = partition - wanted[..., 0]
                sums[0] += (self._targets.similarity[rows, :, 0] * excess).sum() * self._pixels
                sums[3] += (self._targets.scribble[rows, :, 0] * excess).sum()
            sums[1] += (band[:, 1:] - band[:, :-1]).abs_().sum()
            sums[2] += (with_below[1:] - with_below[:-1]).abs_().sum()
        similarity = (sums[0] / self._pixels).float()
        continuity = (sums[1] / self._pairs_across + sums[2] / self._pairs_down).float()
        present = count_present(labels, clusters)
        counted = torch.maximum(present, threshold).float()
        mu = continuity_weight(self._config.mode, self._config.weight, counted)
        self._mu = mu if isinstance(mu, Tensor) else torch.full_like(counted, mu)
        self._labels = labels
        loss = similarity + self._mu * continuity
        if self._targets is not None:
            loss = loss + sums[3].float()
        return Objective(loss, similarity, continuity, present, labels)

    def gradient(self, rows: slice) -> Tensor:
        """A band of the gradient with respect to the response map evaluated last, (r, W, q) float32."""
        height = self._response.activation.shape[0]
        top, bottom = max(rows.start - 1, 0), min(rows.stop + 1, height)
        around = self._response.output(slice(top, bottom))
        band = around[rows.start - top : rows.stop - top]
        result = (band - self._log_partition[rows]).exp_()
        labels = self._labels[rows, :, None]
        if self._targets is not None:
            labels = self._targets.labels(rows, labels)
        result.scatter_add_(-1, labels, self._minus_one.expand(*band.shape[:2], 1))  # softmax minus the one-hot target
        if self._targets is None:
            result /= self._pixels
        else:
            result *= self._targets.similarity[rows] + self._targets.scribble[rows]
        step = (band[:, 1:] - band[:, :-1]).sign_().mul_(self._mu / self._pairs_across)
        result[:, 1:] += step
        result[:, :-1] -= step
        step = (around[1:] - around[:-1]).sign_().mul_(self._mu / self._pairs_down)
        # Differences lie between rows: the first one is above the band if there is a row above.
        above, below = rows.start - top, bottom - rows.stop
        result[1 - above :] += step[: len(step) - below]
        result[: len(result) - 1 + below] -= step[above:]
        return result
