"""One network for a folder, from photos to scores, by the commands, on scenes whose classes are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import read_pixels
from scenes import CLASSES, save_scenes
from sklearn.cluster import KMeans
from typer.testing import CliRunner

from dynaseg_cli.cli import app

SCENES = 60
CLUSTERS = 27
FOLDER = ("--fit", "folder", "--classes", str(CLUSTERS), "--features", "32", "--max-size", "96")
IMAGE = ("--iterations", "10", "--features", "16", "--max-size", "64", "--levels", "1", "--min-labels", "3")
IMAGE += ("--regions", "raw")
HERE = ("--device", "cpu", "--precision", "float32", "--workers", "0", "--threads", "1")

pytestmark = pytest.mark.slow


def dynaseg(*arguments: str | Path) -> tuple[str, str]:
    """What the command prints and says; it ends well."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout, result.stderr


def score(prediction: Path, truth: Path, protocol: str = "classes") -> tuple[dict[str, Any], str]:
    """What evaluate prints as JSON, and what it says."""
    printed, said = dynaseg("evaluate", prediction, truth, "--protocol", protocol, "--json")
    document = json.loads(printed)
    assert document["unmatched"] == {"predictions": [], "ground_truth": []}
    return document, said


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of photos, named as COCO's are, and of their classes."""
    folder = tmp_path_factory.mktemp("scenes")
    return save_scenes(folder / "photos", folder / "truth", SCENES, named="{:012}")


@pytest.fixture(scope="module")
def by_folder(scenes: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one network for all of them makes of the scenes."""
    out = tmp_path_factory.mktemp("by_folder") / "out"
    dynaseg("segment", scenes[0], "-o", out, *FOLDER, *HERE, "--save", "labels,stats")
    return out


@pytest.fixture(scope="module")
def by_image(scenes: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a network for each makes of the scenes."""
    out = tmp_path_factory.mktemp("by_image") / "out"
    dynaseg("segment", scenes[0], "-o", out, *IMAGE, *HERE)
    return out


def by_colour(photos: Path, out: Path, clusters: int) -> Path:
    """k-means over the colours of all scenes: one label space, too."""
    images = {path.name: read_pixels(path) for path in sorted(photos.iterdir())}
    sample = np.concatenate([image.reshape(-1, 3)[::7] for image in images.values()]).astype(np.float32)
    means = KMeans(clusters, n_init=1, random_state=0).fit(sample)
    out.mkdir()
    for name, image in images.items():
        labels = means.predict(image.reshape(-1, 3).astype(np.float32)).reshape(image.shape[:2])
        Image.fromarray(labels.astype(np.uint8)).save(out / name)
    return out


def test_labels_of_a_folder_find_its_classes(
    scenes: tuple[Path, Path], by_folder: Path, by_image: Path, tmp_path: Path
) -> None:
    """.57 to .67 by the seed, against .07 of an image by itself, .19 of k-means with as many colours, .39 with 8."""
    photos, truth = scenes
    folder, said = score(by_folder, truth)
    assert folder["images"] == SCENES
    assert folder["notes"] == []
    assert "mean nothing" not in said
    image, said_of_image = score(by_image, truth)
    assert "each image was segmented by itself" in image["notes"][0]
    assert "each image was segmented by itself" in said_of_image
    colours = {
        count: score(by_colour(photos, tmp_path / str(count), count), truth)[0]["metrics"]["miou"]
        for count in (CLUSTERS, len(CLASSES))
    }
    found = folder["metrics"]["miou"]
    assert found > 0.5
    assert found > image["metrics"]["miou"] + 0.35
    assert found > colours[CLUSTERS] + 0.25
    assert found > colours[len(CLASSES)] + 0.08
    assert folder["metrics"]["pixel_accuracy"] > image["metrics"]["pixel_accuracy"] + 0.25


def test_labels_have_not_collapsed(by_folder: Path) -> None:
    document = json.loads((by_folder / "clusters.json").read_text())
    assert document["images"] == SCENES
    assert len(CLASSES) <= document["num_labels"] <= CLUSTERS
    assert document["clusters"][0]["fraction"] < 0.4, "none takes all"
    shared = [cluster for cluster in document["clusters"] if cluster["images"] > SCENES / 4]
    assert len(shared) >= len(CLASSES), "labels are those of many images"


def test_model_finds_the_classes_of_scenes_that_it_never_saw(by_folder: Path, tmp_path: Path) -> None:
    photos, truth = save_scenes(tmp_path / "photos", tmp_path / "truth", 12, first=1000)
    dynaseg("segment", photos, "-o", tmp_path / "out", "--load-model", by_folder / "model.safetensors", *HERE[:2])
    document, _ = score(tmp_path / "out", truth)
    assert document["metrics"]["miou"] > 0.45


def test_refined_labels_are_doubted(by_folder: Path, tmp_path: Path) -> None:
    photos, truth = save_scenes(tmp_path / "photos", tmp_path / "truth", 4)
    model = by_folder / "model.safetensors"
    dynaseg("segment", photos, "-o", tmp_path / "out", "--load-model", model, "--refine", "3", *HERE[:2])
    document, said = score(tmp_path / "out", truth)
    assert "Each image was refined by itself" in document["notes"][0]
    assert "Each image was refined by itself" in said


FINE = (0, 17, 62, 43, 91, 96, 156, 181)
"""Labels of COCO-Stuff's stuffthingmaps, of as many of the 27 coarse classes: one for each class of the scenes."""


def test_protocol_of_coco_runs_from_photos_to_scores(
    scenes: tuple[Path, Path], by_folder: Path, tmp_path: Path
) -> None:
    """With ground truth in the fine labels of its stuffthingmaps and pixels of none."""
    for path in scenes[1].iterdir():
        fine = np.array(FINE, np.uint8)[read_pixels(path)]
        fine[:4] = 255
        Image.fromarray(fine).save(tmp_path / path.name)
    document, said = score(by_folder, tmp_path, "coco-stuff27")
    assert (document["protocol"], document["images"], document["notes"]) == ("coco-stuff27", SCENES, [])
    assert "mean nothing" not in said
    metrics = document["metrics"]
    assert all(0 < metrics[name] <= 1 for name in ("miou", "pixel_accuracy", "miou_things", "miou_stuff"))
    assert score(by_folder, tmp_path, "auto")[0]["protocol"] == "coco-stuff27"
    as_they_are, _ = score(by_folder, tmp_path, "classes")
    for name in ("miou", "pixel_accuracy"):
        assert as_they_are["metrics"][name] == pytest.approx(metrics[name]), "a class has a coarse one to itself"
