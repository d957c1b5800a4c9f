from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from samples import noise
from scipy import ndimage

from dynaseg_cli.batch.planning import Plan
from dynaseg_cli.batch.statistics import cluster_statistics, in_colors
from dynaseg_cli.config import FOLDER_FIT, BatchConfig, SegmentConfig, WeightsFile
from dynaseg_cli.files.output_folder import Job, OutputFolder
from dynaseg_cli.folder.statistics import EXAMPLES, clusters_document, folder_statistics
from dynaseg_cli.pictures.palette import label_color

SCHEMA = json.loads((files("dynaseg_cli.folder") / "clusters.schema.json").read_text())
CONFIG = SegmentConfig(**FOLDER_FIT | {"clusters": 8}, model=WeightsFile("model.safetensors", "0a" * 32))


def stats(path: str, labels: NDArray[np.uint8], image: NDArray[np.uint8]) -> dict[str, Any]:
    """As much of an image's statistics as those of the folder are made of."""
    return {
        "source": {"path": path},
        "options": CONFIG.as_options(),
        "clusters": in_colors(cluster_statistics(labels, image), "calm"),
    }


def counted_at_once(maps: list[NDArray[np.uint8]], images: list[NDArray[np.uint8]], label: int) -> dict[str, Any]:
    """From the pixels of all images together."""
    colours = np.concatenate([image[labels == label] for labels, image in zip(maps, images, strict=True)]).astype(float)
    shares = [float((labels == label).mean()) for labels in maps]
    order = sorted((number for number, share in enumerate(shares) if share), key=lambda number: -shares[number])
    return {
        "label": label,
        "pixels": len(colours),
        "fraction": pytest.approx(len(colours) / sum(labels.size for labels in maps)),
        "images": len(order),
        "regions": sum(cluster_regions(labels, label) for labels in maps),
        "mean_rgb": pytest.approx(colours.mean(0), abs=2e-3),
        "std_rgb": pytest.approx(colours.std(0), abs=0.02),
        "color": list(label_color(label)),
        "examples": [{"path": f"{number}.png", "fraction": shares[number]} for number in order[:EXAMPLES]],
    }


def cluster_regions(labels: NDArray[np.uint8], label: int) -> int:
    return int(ndimage.label(labels == label)[1])


@st.composite
def folders(draw: st.DrawFn) -> list[NDArray[np.uint8]]:
    """Label maps of some images, in which labels are missing."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=9))
    return [random.choice(random.integers(0, 8, 3), size).astype(np.uint8) for size in sizes]


@given(maps=folders())
def test_statistics_are_those_of_all_pixels_together(maps: list[NDArray[np.uint8]]) -> None:
    images = [noise(seed, labels.shape[1], labels.shape[0]) for seed, labels in enumerate(maps)]
    documents = [
        stats(f"{number}.png", labels, image) for number, (labels, image) in enumerate(zip(maps, images, strict=True))
    ]
    found = folder_statistics(iter(documents), 8)
    present = np.unique(np.concatenate([labels.reshape(-1) for labels in maps])).tolist()
    assert (found["images"], found["num_labels"]) == (len(maps), len(present))
    assert found["pixels"] == sum(labels.size for labels in maps)
    assert found["clusters"] == [counted_at_once(maps, images, label) for label in present]


def test_of_no_images_there_is_nothing_to_say() -> None:
    assert folder_statistics([], 8) == {"images": 0, "pixels": 0, "num_labels": 0, "clusters": []}


def test_examples_are_those_with_the_largest_share_and_of_equal_ones_the_first() -> None:
    maps = [np.array([[0] * share + [1] * (8 - share)], np.uint8) for share in (2, 5, 5, 1, 7, 3, 5, 2)]
    found = folder_statistics((stats(f"{n}.png", m, noise(n, 8, 1)) for n, m in enumerate(maps)), 8)
    assert [example["path"] for example in found["clusters"][0]["examples"]] == [f"{n}.png" for n in (4, 1, 2, 6, 5)]


def test_one_image_is_in_memory_at_a_time() -> None:
    alive = 0

    class Document(dict[str, Any]):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def documents() -> Any:
        nonlocal alive
        for number in range(50):
            made = Document(stats(f"{number}.png", np.zeros((2, 2), np.uint8), noise(number, 2, 2)))
            alive += 1
            yield made
            del made
            assert alive <= 1

    assert folder_statistics(documents(), 8)["images"] == 50


# The document


def plan_with(output: Path, *names: str) -> Plan:
    jobs = [Job(f"{name}.png", name) for name in names]
    return Plan(
        jobs=jobs[:1], found=jobs, folder=OutputFolder(output), segment=CONFIG, batch=BatchConfig(), unlistable=[]
    )


def write_stats(output: Path, name: str, document: Any) -> None:
    path = output / "stats" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def made(name: str, seed: int = 0) -> dict[str, Any]:
    labels = np.random.default_rng(seed).integers(0, 5, (6, 7), dtype=np.uint8)
    return stats(f"{name}.png", labels, noise(seed, 7, 6))


def test_images_of_all_shards_count_and_those_of_other_models_do_not(tmp_path: Path) -> None:
    write_stats(tmp_path, "a", made("a", 0))
    write_stats(tmp_path, "b", made("b", 1))
    write_stats(tmp_path, "c", made("c", 2) | {"options": CONFIG.as_options() | {"model": "ffffffff"}})
    write_stats(tmp_path, "d", "{")
    write_stats(tmp_path, "gone", made("gone", 3))
    document = clusters_document(plan_with(tmp_path, "a", "b", "c", "d", "e"))
    assert document["images"] == 2
    assert document["options"] == CONFIG.as_options()
    expected = folder_statistics([made("a", 0), made("b", 1)], 8)
    assert {name: document[name] for name in expected} == expected


def test_document_is_valid_by_its_schema(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(clusters_document(plan_with(tmp_path, "a")), SCHEMA)
    write_stats(tmp_path, "a", made("a"))
    jsonschema.validate(clusters_document(plan_with(tmp_path, "a")), SCHEMA)


def test_schema_describes_and_requires_every_key(tmp_path: Path) -> None:
    write_stats(tmp_path, "a", made("a"))
    document = clusters_document(plan_with(tmp_path, "a"))
    assert set(SCHEMA["required"]) == set(SCHEMA["properties"]) == set(document)
    cluster = SCHEMA["properties"]["clusters"]["items"]
    assert set(cluster["required"]) == set(cluster["properties"]) == set(document["clusters"][0])
    example = cluster["properties"]["examples"]["items"]
    assert set(example["required"]) == set(example["properties"]) == set(document["clusters"][0]["examples"][0])
    for part in (SCHEMA, SCHEMA["properties"]["options"], cluster, example):
        assert [name for name, entry in part["properties"].items() if "description" not in entry] == []
    assert cluster["properties"]["examples"]["maxItems"] == EXAMPLES


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"images": -1}, "images"),
        ({"clusters": [{"label": 0}]}, "pixels"),
        ({"options": SegmentConfig().as_options()}, "fit"),
    ],
    ids=["version", "count", "cluster", "options"],
)
def test_schema_refuses_what_is_not_a_document(change: dict[str, Any], wrong: str, tmp_path: Path) -> None:
    write_stats(tmp_path, "a", made("a"))
    document = clusters_document(plan_with(tmp_path, "a")) | change
    errors = [*jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]
    assert any(wrong in error.absolute_path or f"'{wrong}'" in error.message for error in errors)
