"""The silhouette phase (III-C.2): the number of colour clusters in an image, found before its optimisation.

k-means and scores for all k at once, in tensor operations that run on any device. Seeding and sums are exact, since
colours are small integers, so no order of summation changes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CANDIDATES = range(3, 27)
"""The values of k tried."""
SAMPLE = 2000
"""Pixels that are clustered and scored. A fixed number, so that the cost is the same for every image."""
TRIALS = 2 + int(np.log(CANDIDATES[-1]))
"""Pixels drawn for each further centre, of which the best is taken: as many as scikit-learn draws."""
GROUP = 6
"""Values of k that are clustered together: so few that their distances stay in a processor's cache."""
ITERATIONS = (32, 20, 14, 10)
"""Most iterations of k-means in each group. The scores of few clusters, which mostly win, need the most."""
SCREENED = 200
"""Pixels that the scores of all k are first estimated on, where computing all would take long."""
MARGIN = 0.03
"""Only values of k whose estimates are that close to the best are scored on the whole sample."""
FAR = 1e30


@dataclass(frozen=True)
class Silhouette:
    """k_sil, and the mean silhouette coefficient, -1..1, of every k tried.

    On a CPU the scores of those k that come nowhere near the best are estimates from a part of the sample.
    """

    k: int
    scores: dict[int, float]


class Draws(NamedTuple):
    """The random numbers of one k-means++, of a sample of a given size."""

    first: Tensor
    """(1,) int64, the pixel that is the first centre."""
    shares: Tensor
    """(k - 1, TRIALS) float64 in 0..1, for each further centre."""


class SquaredDistances:
    """Squared distances between (n, 3) float32 colours 0..255, exact."""

    def __init__(self, sample: Tensor) -> None:
        squares = (sample**2).sum(1, keepdim=True)
        self._from = torch.cat([-2 * sample, squares, torch.ones_like(squares)], 1)
        self._to = torch.cat([sample, torch.ones_like(squares), squares], 1).T.contiguous()

    def of(self, chosen: Tensor | slice) -> Tensor:
        """From the chosen colours to all: (len(chosen), n) float32."""
        return self._from[chosen] @ self._to


class Clusterings(NamedTuple):
    """Those of one sample into several numbers of clusters."""

    members: Tensor
    """(G, P, n) float32: 1 where a pixel belongs to a cluster, else 0. There are at most P clusters."""
    sizes: Tensor
    """(G, P) float32, of the clusters."""


def silhouette_phase(image: NDArray[np.uint8], seed: int) -> Silhouette:
    """Find the k with the best silhouette score by k-means on a seeded sample of an RGB (H, W, 3) uint8 image.

    k is at most the number of distinct colours in the sample. If that leaves no k, k_sil is that number.
    """
    sample = colour_sample(image, seed)
    if not candidates_of(sample):
        return best_silhouette(sample, np.empty(0))
    scores = silhouette_scores(torch.tensor(sample, dtype=torch.float32), kmeans_draws(seed, len(sample)))
    return best_silhouette(sample, scores.numpy())


def colour_sample(image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """At most `SAMPLE` pixels of an RGB (H, W, 3) uint8 image, in random order if it has more: (n, 3)."""
    pixels = image.reshape(-1, 3)
    if len(pixels) > SAMPLE:
        pixels = pixels[np.random.default_rng(seed).choice(len(pixels), SAMPLE, replace=False)]
    return pixels


def candidates_of(sample: NDArray[np.uint8]) -> Sequence[int]:
    """The values of k that a sample has enough pixels and colours for."""
    return CANDIDATES[: max(min(_colours(sample), len(sample) - 1) + 1 - CANDIDATES[0], 0)]


def best_silhouette(sample: NDArray[np.uint8], scores: NDArray[np.floating]) -> Silhouette:
    """The best of the candidates by their scores; those of further k are ignored."""
    candidates = candidates_of(sample)
    if not candidates:
        return Silhouette(_colours(sample), {})
    found = dict(zip(candidates, scores.tolist(), strict=False))
    return Silhouette(max(found, key=lambda k: found[k]), found)


def _colours(sample: NDArray[np.uint8]) -> int:
    red, green, blue = sample.astype(np.int32).T
    return len(np.unique(red << 16 | green << 8 | blue))


def kmeans_draws(seed: int, pixels: int) -> Draws:
    """The random numbers that scikit-learn's `kmeans_plusplus` draws for a sample of so many pixels."""
    random = np.random.RandomState(seed)
    first = random.choice(pixels, p=np.full(pixels, 1 / pixels))
    shares = random.uniform(size=(CANDIDATES[-1] - 1, TRIALS))
    return Draws(torch.tensor([first]), torch.from_numpy(shares))


def silhouette_scores(sample: Tensor, draws: Draws) -> Tensor:
    """Mean silhouette coefficient of each k of `CANDIDATES`, (24,) float64, of an (n, 3) float32 sample of colours.

    Colours are whole numbers, 0..255. On a device other than a CPU nothing waits for it.
    """
    distances = SquaredDistances(sample)
    centres = sample[seed_centres(distances, draws)]
    clusterings = [
        cluster(sample, centres, CANDIDATES[first : first + GROUP], iterations)
        for first, iterations in zip(range(0, len(CANDIDATES), GROUP), ITERATIONS, strict=True)
    ]
    pixels = len(sample)
    if sample.device.type != "cpu":
        return _summed_coefficients(distances, clusterings, slice(0, pixels)) / pixels
    return _screened_scores(distances, clusterings, pixels)


def _screened_scores(distances: SquaredDistances, clusterings: Sequence[Clusterings], pixels: int) -> Tensor:
    """As `silhouette_scores`, but only what can be the best is measured on the whole sample."""
    screened = min(SCREENED, pixels)
    sums = _summed_coefficients(distances, clusterings, slice(0, screened))
    scores = sums / screened
    measured = torch.zeros(len(scores), dtype=torch.bool)
    enough = scores.max() - MARGIN
    while (wanted := (scores >= enough) & ~measured).any():
        chosen = [
            Clusterings(members[some], sizes[some])
            for (members, sizes), some in zip(clusterings, torch.split(wanted, GROUP), strict=True)
            if some.any()
        ]
        for first in range(screened, pixels, screened):
            sums[wanted] += _summed_coefficients(distances, chosen, slice(first, min(first + screened, pixels)))
        scores[wanted] = sums[wanted] / pixels
        measured |= wanted
        enough = scores[measured].max()
    return scores


def seed_centres(distances: SquaredDistances, draws: Draws) -> Tensor:
    """Indices of the pixels that greedy k-means++ takes as centres, (k,) int64: the first k of them are those for k.

    Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding", section 4; as scikit-learn does it.
    """
    chosen = [draws.first]
    nearest = distances.of(draws.first)
    for shares in draws.shares:
        reached = nearest[0].long().cumsum(0)
        # The first pixels at which the sum reaches these shares of it.
        trials = torch.searchsorted(reached, (shares * reached[-1]).ceil().long()).clamp_(max=len(reached) - 1)
        with_trial = torch.minimum(nearest, distances.of(trials))
        best = with_trial.sum(1, dtype=torch.float64).argmin(0, keepdim=True)
        nearest = with_trial[best]
        chosen.append(trials[best])
    return torch.cat(chosen)


def cluster(sample: Tensor, centres: Tensor, numbers: range, iterations: int) -> Clusterings:
    """k-means (Lloyd 1982, doi:10.1109/TIT.1982.1056489) of an (n, 3) sample, for each number of clusters.

    Each starts from the first k of the centres, (at least k, 3), and ends when nothing changes or after so many
    iterations. While it runs, a pixel as near to two centres belongs to both, and a centre without pixels stays.
    """
    pixels, size = len(sample), (len(numbers), numbers[-1])
    # Made on the device: copying a constant there would make the host wait.
    wanted = torch.arange(numbers[0], numbers[-1] + 1, device=sample.device)
    absent = torch.arange(size[1], device=sample.device) >= wanted[:, None]
    moments = torch.cat([sample, torch.ones_like(sample[:, :1])], 1).T.contiguous()
    found = centres[: size[1]].T[:, None].expand(3, *size)
    linear = sample.new_empty(4, *size)
    distances = sample.new_empty(*size, pixels)
    for _ in range(iterations):
        # Squared distances less the squared length of the pixel, which is the same for all centres.
        torch.mul(found, -2, out=linear[:3])
        linear[3] = (found**2).sum(0).masked_fill_(absent, FAR)
        torch.mm(linear.view(4, -1).T, moments, out=distances.view(-1, pixels))
        members = torch.eq(distances, distances.amin(1, keepdim=True), out=distances)
        sums = torch.mm(moments, members.view(-1, pixels).T).view(4, *size)
        moved = torch.where(sums[3] > 0, sums[:3] / sums[3], found)
        if sample.device.type == "cpu" and torch.equal(moved, found):
            break
        found = moved
    if sample.device.type != "cpu" or members.sum() > pixels * len(numbers):
        members *= members.cumsum(1) == 1  # of equally near centres the first
    return Clusterings(members, members.sum(2))


def _summed_coefficients(squared: SquaredDistances, clusterings: Sequence[Clusterings], rows: slice) -> Tensor:
    """Silhouette coefficients of each clustering, (k,) float64, summed over some of the pixels.

    That of a pixel is (b - a) / max(a, b), Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7: a is its mean distance to
    the others of its cluster, and b the smallest mean distance to another cluster. A pixel alone in its cluster has 0.
    """
    distances = squared.of(rows).sqrt_().T
    found = []
    for members, sizes in clusterings:
        totals = torch.mm(members.view(-1, len(distances)), distances).view(*members.shape[:2], -1)
        own = members[..., rows]
        others = (own * sizes[..., None]).amax(1) - 1
        within = (own * totals).amax(1) / others.clamp(min=1)
        means = totals / sizes[..., None]
        between = means.masked_fill_((own > 0) | (sizes[..., None] == 0), torch.inf).amin(1)
        widest = torch.maximum(within, between)
        coefficient = torch.where((others > 0) & (widest > 0), (between - within) / widest, 0.0)
        found.append(coefficient.sum(1, dtype=torch.float64))
    return torch.cat(found)
