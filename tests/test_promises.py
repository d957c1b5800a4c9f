"""What the whole command promises on real photos: quality, memory, labels at full size. Real processes, real files."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from samples import read_pixels
from scoring import Scores, read_bsds500_truth, score_folder

SAMPLES = Path(__file__).parents[1] / "sample_images"

pytestmark = pytest.mark.slow


def run_dynaseg(*arguments: object) -> int:
    """Run the command; return the peak of the memory that a process of it allocated, in bytes.

    Pages of torch's libraries do not count: how many of their gigabytes are resident is up to how the page cache holds
    them. Importing torch alone took 660 MB, and 790 MB after the same libraries had been copied in larger writes.
    """
    process = subprocess.Popen([sys.executable, "-m", "dynaseg_cli", *map(str, arguments)])
    peak = 0
    while process.poll() is None:
        peak = max(peak, allocated_memory(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0
    return peak


def allocated_memory(pid: int) -> int:
    """Resident bytes, not those of a file, of the largest of a process and its workers; 0 once they have ended."""
    most = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        main = psutil.Process(pid)
        for process in (main, *main.children()):
            memory = process.memory_info()
            most = max(most, memory.rss - getattr(memory, "shared", 0))
    return most


@pytest.mark.requires_bsds500
def test_defaults_reach_the_promised_quality_on_bsds500(bsds500: Path, tmp_path: Path) -> None:
    photos = sorted((bsds500 / "images" / "val").glob("*.jpg"))[:8]
    run_dynaseg("segment", *photos, "-o", tmp_path, "--device", "cpu", "-q")
    scores = score_folder(tmp_path / "labels", bsds500 / "groundTruth" / "val")
    assert len(scores.segments) == 8
    assert scores.mean >= 0.32, scores
    assert scores.covering >= 0.34, scores


@pytest.mark.requires_bsds500
def test_regions_of_a_pretrained_backbone_reach_the_promised_quality_on_bsds500(bsds500: Path, tmp_path: Path) -> None:
    photos = sorted((bsds500 / "images" / "val").glob("*.jpg"))[:8]
    options = ("--backbone", "efficientnet-lite0", "--device", "cpu", "-q")
    run_dynaseg("segment", *photos, "-o", tmp_path, *options)
    scores = score_folder(tmp_path / "labels", bsds500 / "groundTruth" / "val")
    assert len(scores.segments) == 8
    assert scores.mean >= 0.37, scores
    assert scores.covering >= 0.53, scores


@pytest.mark.requires_cuda
@pytest.mark.requires_bsds500
def test_cuda_segments_as_well_as_the_cpu(bsds500: Path, tmp_path: Path) -> None:
    """By the differences between the scores of each photo, which chance alone makes: a fit amplifies rounding."""
    photos = [path for part in ("val", "train") for path in sorted((bsds500 / "images" / part).glob("*.jpg"))[:100]]
    for device in ("cpu", "cuda"):
        run_dynaseg("segment", *photos, "-o", tmp_path / device, "--device", device, "-q")
    by_cpu, by_cuda = (
        np.array([mean_and_covering(tmp_path / device / "labels", photo) for photo in photos])
        for device in ("cpu", "cuda")
    )
    differences = by_cuda - by_cpu
    assert len(differences) == 200
    assert (abs(differences.mean(0)) < 0.002 + 4 * differences.std(0, ddof=1) / len(differences) ** 0.5).all()


def mean_and_covering(labels: Path, photo: Path) -> tuple[float, float]:
    """Of one photo of BSDS500."""
    scores = Scores()
    truth = photo.parents[2] / "groundTruth" / photo.parent.name / f"{photo.stem}.mat"
    scores.add(read_pixels(labels / f"{photo.stem}.png"), read_bsds500_truth(truth))
    return scores.mean, scores.covering


def test_sample_images_take_less_than_one_and_a_half_gigabytes(tmp_path: Path) -> None:
    peak = run_dynaseg("segment", SAMPLES, "-o", tmp_path, "--device", "cpu", "-q", "--iterations", 4)
    assert peak < 1.5e9
    assert json.loads((tmp_path / "run.json").read_text())["done"] == 4


def test_twelve_megapixels_are_labelled_at_full_size_in_less_than_three_gigabytes(tmp_path: Path) -> None:
    with Image.open(SAMPLES / "coffee.jpg") as coffee:
        coffee.resize((4000, 3000), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg")
    peak = run_dynaseg("segment", tmp_path / "large.jpg", "-o", tmp_path, "--device", "cpu", "-q", "--iterations", 4)
    assert peak < 3e9
    labels = np.asarray(Image.open(tmp_path / "labels" / "large.png"))
    assert labels.shape == (3000, 4000)
    assert len(np.unique(labels)) == json.loads((tmp_path / "stats" / "large.json").read_text())["num_labels"] > 2


def test_strip_of_twenty_thousand_pixels_is_labelled_at_full_size(tmp_path: Path) -> None:
    with Image.open(SAMPLES / "coffee.jpg") as coffee:
        coffee.resize((20_000, 60), Image.Resampling.BICUBIC).save(tmp_path / "strip.png")
    run_dynaseg("segment", tmp_path / "strip.png", "-o", tmp_path, "--device", "cpu", "-q", "--iterations", 4)
    labels = np.asarray(Image.open(tmp_path / "labels" / "strip.png"))
    assert labels.shape == (60, 20_000)
    assert len(np.unique(labels)) > 2
