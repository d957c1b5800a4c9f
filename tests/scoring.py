"""Scores of a label map against human segmentations, as defined for BSDS500: best-overlap mIoU, covering, VoI."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat
from skimage.measure import label as connected_components


def read_bsds500_truth(path: Path) -> list[np.ndarray]:
    """All annotations of one BSDS500 ``.mat`` file, each an (H, W) integer map."""
    truth = loadmat(path)["groundTruth"]
    return [truth[0, i]["Segmentation"][0, 0].astype(np.int64) for i in range(truth.shape[1])]


@dataclass
class Scores:
    """Pools the segments of all images; every property is read at the end."""

    ious: dict[str, list[np.ndarray]] = field(default_factory=lambda: {"all": [], "fine": [], "coarse": []})
    areas: list[np.ndarray] = field(default_factory=list)
    vois: list[float] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)

    def add(self, labels: np.ndarray, annotations: list[np.ndarray]) -> None:
        prediction = connected_components(labels.astype(np.int64), connectivity=1, background=-1) - 1
        self.segments.append(int(prediction.max()) + 1)
        scored = []
        for annotation in annotations:
            table = contingency(annotation, prediction)
            area, predicted = table.sum(1), table.sum(0)
            union = area[:, None] + predicted[None, :] - table
            scored.append((table / union).max(1))
            self.areas.append(area)
            self.vois.append(variation_of_information(table))
        self.ious["all"] += scored
        self.ious["fine"].append(max(scored, key=len))
        self.ious["coarse"].append(min(scored, key=len))

    def miou(self, subset: str) -> float:
        return float(np.concatenate(self.ious[subset]).mean())

    @property
    def mean(self) -> float:
        return (self.miou("all") + self.miou("fine") + self.miou("coarse")) / 3

    @property
    def covering(self) -> float:
        areas, ious = np.concatenate(self.areas), np.concatenate(self.ious["all"])
        return float((areas * ious).sum() / areas.sum())

    def __str__(self) -> str:
        return (
            f"All {self.miou('all'):.3f}  Fine {self.miou('fine'):.3f}  Coarse {self.miou('coarse'):.3f}  "
            f"Mean {self.mean:.3f}  covering {self.covering:.3f}  VoI {np.mean(self.vois):.2f}  "
            f"segments {np.mean(self.segments):.0f}"
        )


def contingency(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Pixels shared by each segment of `truth` (rows) and of `prediction` (columns), int64."""
    rows = np.unique(truth, return_inverse=True)[1].reshape(-1)
    columns = int(prediction.max()) + 1
    return np.bincount(rows * columns + prediction.reshape(-1), minlength=(rows.max() + 1) * columns).reshape(
        -1, columns
    )


def variation_of_information(table: np.ndarray) -> float:
    """Meila's VoI in bits: H(truth) + H(prediction) - 2 I."""
    joint = table / table.sum()

    def entropy(probabilities: np.ndarray) -> float:
        positive = probabilities[probabilities > 0]
        return float(-(positive * np.log2(positive)).sum())

    return 2 * entropy(joint) - entropy(joint.sum(0)) - entropy(joint.sum(1))


def score_folder(labels: Path, truth: Path) -> Scores:
    """Score every label PNG in `labels` against the ``.mat`` file of the same name in `truth`."""
    scores = Scores()
    for path in sorted(labels.glob("*.png")):
        scores.add(np.asarray(Image.open(path)), read_bsds500_truth(truth / f"{path.stem}.mat"))
    return scores


if __name__ == "__main__":
    print(score_folder(Path(sys.argv[1]), Path(sys.argv[2])))
