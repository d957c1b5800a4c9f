"""Sequences: each fit starts from the network of the image before, and yet nothing depends on how a run went."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from samples import files_below, read_pixels

from dynaseg_cli import BatchConfig, Engine, SegmentConfig
from dynaseg_cli.batch import stages
from dynaseg_cli.batch.completed import completed_at_the_start
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import plan_batch
from dynaseg_cli.batch.sequences import sequences_of
from dynaseg_cli.batch.stages import run_stream
from dynaseg_cli.config import CutConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.output_folder import Job
from dynaseg_cli.regions.segments import number_by_area, number_like

SMALL = SegmentConfig(
    sequence=True, iterations=4, min_labels=3, max_size=32, precision="float32", features=8, clusters=16
)
SCHEMA = json.loads((Path(stages.__file__).parent / "stats.schema.json").read_text())


def scene(number: int) -> NDArray[np.uint8]:
    """A frame of soft patches that move to the right."""
    y, x = np.mgrid[:32, :40] / 8
    channels = [128 + 100 * np.sin(x + phase - number / 4) * np.cos(y * (1 + phase / 3)) for phase in range(3)]
    return np.stack(channels, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(SMALL, "cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two folders, each of which is a sequence."""
    for folder, count in (("a", 5), ("b", 3)):
        (tmp_path / "in" / folder).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(scene(number + 10 * (folder == "b"))).save(tmp_path / f"in/{folder}/{number}.png")
    return tmp_path / "in"


def run(engine: Engine, photos: Path, out: Path, most: int | None = None, **batch: Any) -> list[Outcome]:
    """The stream, as a worker runs it, over at most so many images that are not done."""
    plan = plan_batch([photos], out, engine.config, BatchConfig(**batch))
    plan.folder.mark()
    done = len(list(completed_at_the_start(plan)))
    jobs = plan.jobs[done:][:most]
    outcomes = []
    for _, outcome in run_stream(jobs, plan.folder, plan.batch, [engine], sequences=plan.sequences):
        assert outcome is not None
        outcomes.append(outcome)
    return [Outcome(job.path, "skipped") for job in plan.jobs[:done]] + outcomes


def results(out: Path) -> dict[str, bytes]:
    """All results; of the statistics, what does not tell how long things took."""
    found = {}
    for name, content in files_below(out).items():
        if name.startswith("stats/"):
            stats = json.loads(content)
            stats["fit"].pop("seconds")
            content = json.dumps(stats).encode()  # noqa: PLW2901
        if name != "outcomes.jsonl":
            found[name] = content
    return found


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


@pytest.fixture
def expected(engine: Engine, photos: Path, tmp_path: Path) -> dict[str, bytes]:
    """Of a run without an interruption."""
    assert statuses(run(engine, photos, tmp_path / "expected")) == ["done"] * 8
    return results(tmp_path / "expected")


# What a sequence is


def test_pages_of_a_file_and_files_of_a_folder_are_sequences() -> None:
    jobs = [
        Job("p/a.mp4", "a-p1", 1),
        Job("p/a.mp4", "a-p2", 2),
        Job("p/b.png", "b"),
        Job("p/c.mp4", "c-p1", 1),
        Job("p/d.png", "d"),
        Job("p/s/e.png", "s/e"),
    ]
    names = [[job.name for job in sequence] for sequence in sequences_of(jobs)]
    assert names == [["a-p1", "a-p2"], ["b", "d"], ["c-p1"], ["s/e"]]


@pytest.mark.parametrize(
    ("segment", "batch", "why"),
    [
        ({}, {"save": ("labels",)}, "`sequence` needs the statistics"),
        ({}, {"scribbles": Path("drawn")}, "`scribbles` draw labels of one image, but those of a `sequence`"),
    ],
)
def test_what_does_not_go_with_sequences_is_refused(
    segment: dict[str, Any], batch: dict[str, Any], why: str, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "drawn").mkdir()
    with pytest.raises(UsageError, match=why):
        plan_batch([photos], tmp_path / "out", dataclasses.replace(SMALL, **segment), BatchConfig(**batch))


def test_folder_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="labels mean the same in all images anyway"):
        SegmentConfig(sequence=True, fit="folder", epochs=1, min_labels=3, patience=0)


# What a fit starts from


def test_first_images_are_fitted_as_without_a_sequence(
    engine: Engine, photos: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    patient = dataclasses.replace(SMALL, sequence=False, patience=SMALL.patience_for())
    run(Engine(patient, "cpu"), photos, tmp_path / "each")
    each = results(tmp_path / "each")
    for first in ("a/0", "b/0"):
        assert expected[f".raw/{first}.png"] == each[f".raw/{first}.png"]
    assert expected[".raw/a/1.png"] != each[".raw/a/1.png"]


def test_later_images_start_from_the_network_before(engine: Engine, photos: Path, expected: dict[str, bytes]) -> None:
    """The same by hand: the engine is given each network."""
    before = None
    for number in range(5):
        segmentation = engine.segment(scene(number), after=before)
        before = segmentation.fitted
        stats = json.loads(expected[f"stats/a/{number}.json"])
        assert stats["fit"]["loss"] == [float(f"{loss:.7g}") for loss in segmentation.fit.loss]
        assert stats["raw_labels"] == segmentation.num_labels


def test_still_scene_keeps_its_labels(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, iterations=60, max_size=40, features=16, min_labels=4)
    engine, before, maps = Engine(config, "cpu"), None, []
    for _ in range(6):
        segmentation = engine.segment(scene(0), after=before)
        before = segmentation.fitted
        maps.append(segmentation.labels)
    assert len(np.unique(maps[-1])) >= 3
    for one, following in itertools.pairwise(maps[1:]):
        assert (one == following).mean() > 0.99


def test_image_of_one_color_passes_the_network_on(engine: Engine) -> None:
    first = engine.segment(scene(0))
    grey = engine.segment(np.full((32, 40, 3), 9, np.uint8), after=first.fitted)
    assert (grey.fitted, grey.num_labels) == (first.fitted, 1)
    assert engine.segment(np.full((32, 40, 3), 9, np.uint8)).fitted is None


def test_network_of_another_kind_is_refused(engine: Engine) -> None:
    other = Engine(dataclasses.replace(SMALL, features=4), "cpu").segment(scene(0)).fitted
    with pytest.raises(ValueError, match="`after` belongs to"):
        engine.segment(scene(1), after=other)
    with pytest.raises(ValueError, match="`after` belongs to"):
        Engine(dataclasses.replace(SMALL, sequence=False), "cpu").segment(
            scene(1), after=engine.segment(scene(0)).fitted
        )


# Numbers of labels


def test_labels_keep_their_numbers_and_new_ones_get_the_next() -> None:
    before = np.array([1, -1, 0, -1, 2], np.int32)  # labels 0, 2 and 4 have occurred
    raw = np.array([[1, 1, 3, 2], [3, 3, 2, 2]])
    numbered = number_like(raw, before)
    # 3 covers as much as 2 does, and more than 1; 2 is 0 as before. 3 and 4 are free, the larger label comes first.
    assert numbered.labels.tolist() == [[4, 4, 3, 0], [3, 3, 0, 0]]
    assert numbered.numbers.tolist() == [1, 4, 0, 3, 2]
    assert numbered.count == 3


def test_numbers_begin_by_area() -> None:
    raw = np.random.default_rng(0).integers(0, 9, (20, 20))
    assert np.array_equal(number_like(raw, np.full(9, -1)).labels, number_by_area(raw).labels)


def test_larger_maps_than_before_have_numbers_as_well() -> None:
    assert number_like(np.array([[5, 5, 0]]), np.array([0], np.int32)).labels.tolist() == [[1, 1, 0]]


def test_tidied_labels_keep_their_numbers(expected: dict[str, bytes], tmp_path: Path) -> None:
    for number in range(5):
        tidied = read_pixels(tmp_path / f"expected/labels/a/{number}.png")
        raw = read_pixels(tmp_path / f"expected/.raw/a/{number}.png")
        regions = json.loads(expected[f"stats/a/{number}.json"])["regions"]
        assert set(np.unique(tidied)) <= set(np.unique(raw))
        assert {entry["label"] for entry in regions} == set(np.unique(tidied).tolist())
        assert (tidied == raw).mean() > 0.3, "a region has the number that most of it has"


# A run that is interrupted, and one in parts


@pytest.mark.parametrize("most", [1, 2, 3])
def test_resumed_run_gives_the_same_bytes(
    most: int, engine: Engine, photos: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    while "done" in statuses(run(engine, photos, out, most)):
        pass
    assert results(out) == expected


def forget_network(out: Path) -> None:
    for path in (out / ".sequence").rglob("*.safetensors"):
        path.unlink()


def damage_network(out: Path) -> None:
    for path in (out / ".sequence").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])


def forget_last_results(out: Path) -> None:
    """As if the run had been killed before the statistics were written, but after a network that is too new."""
    (out / "stats/a/2.json").unlink()


@pytest.mark.parametrize("harm", [forget_network, damage_network, forget_last_results])
def test_lost_network_is_made_again(
    harm: Callable[[Path], None], engine: Engine, photos: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    run(engine, photos, out, most=3)
    harm(out)
    run(engine, photos, out)
    assert results(out) == expected


def test_network_before_the_last_result_suffices(
    engine: Engine, photos: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """A run that is killed between the statistics of an image and its network."""
    out = tmp_path / "out"
    run(engine, photos, out, most=2)
    network = (out / ".sequence/a/0.safetensors").read_bytes()
    run(engine, photos, out, most=1)
    (out / ".sequence/a/0.safetensors").write_bytes(network)
    run(engine, photos, out)
    assert results(out) == expected


def test_complete_run_is_skipped(engine: Engine, photos: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    assert statuses(run(engine, photos, tmp_path / "expected")) == ["skipped"] * 8


def test_shards_share_out_sequences(engine: Engine, photos: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    names = []
    for shard in ((2, 2), (1, 2), (3, 3)):
        outcomes = run(engine, photos, tmp_path / "out", shard=shard)
        names.append([Path(outcome.path).relative_to(photos).as_posix() for outcome in outcomes])
    assert names == [[f"b/{number}.png" for number in range(3)], [f"a/{number}.png" for number in range(5)], []]
    assert results(tmp_path / "out") == expected


def test_overwriting_gives_the_same(engine: Engine, photos: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    assert statuses(run(engine, photos, tmp_path / "expected", overwrite=True)) == ["done"] * 8
    assert results(tmp_path / "expected") == expected


def test_another_cut_needs_no_network(
    engine: Engine, photos: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cut = tmp_path / "out", CutConfig(regions=3)
    run(engine, photos, out, cut=cut)
    monkeypatch.setattr(engine, "segment", None)
    outcomes = run(engine, photos, tmp_path / "expected", cut=cut)
    assert [outcome.segmented for outcome in outcomes] == [False] * 8
    assert results(tmp_path / "expected") == results(out)


# Images that change or fail


def test_changed_image_changes_those_after_it_alone(
    engine: Engine, photos: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    Image.fromarray(scene(7)).save(photos / "a/2.png")
    outcomes = run(engine, photos, tmp_path / "expected")
    assert statuses(outcomes) == ["skipped", "skipped", "done", "done", "done", "skipped", "skipped", "skipped"]
    run(engine, photos, tmp_path / "new")
    assert results(tmp_path / "expected") == results(tmp_path / "new")


def test_image_that_fails_is_as_if_it_were_not_there(engine: Engine, photos: Path, tmp_path: Path) -> None:
    good = (photos / "a/2.png").read_bytes()
    (photos / "a/2.png").write_bytes(good[:100])
    out = tmp_path / "out"
    assert statuses(run(engine, photos, out)) == ["done", "done", "failed", "done", "done", "done", "done", "done"]
    assert statuses(run(engine, photos, out)).count("skipped") == 7
    (photos / "a/2.png").unlink()
    run(engine, photos, tmp_path / "without")
    assert results(out) == results(tmp_path / "without")
    (photos / "a/2.png").write_bytes(good)
    assert statuses(run(engine, photos, out)) == ["skipped", "skipped", *["done"] * 3, *["skipped"] * 3]
    run(engine, photos, tmp_path / "whole")
    assert results(out) == results(tmp_path / "whole")


def test_sequence_and_single_images_are_not_mixed(engine: Engine, photos: Path, tmp_path: Path) -> None:
    run(engine, photos, tmp_path / "out")
    with pytest.raises(UsageError, match=r"sequence was True, now False.*`sequence=True` continues with it"):
        plan_batch([photos], tmp_path / "out", dataclasses.replace(SMALL, sequence=False))


def test_statistics_are_those_of_the_schema(expected: dict[str, bytes]) -> None:
    for number in range(5):
        stats = json.loads(expected[f"stats/a/{number}.json"])
        stats["fit"]["seconds"] = 1.0
        jsonschema.validate(stats, SCHEMA)
        assert ("history" in stats["source"]) == (number > 0)
        assert stats["options"]["sequence"] is True


def test_first_image_is_another_one_where_the_user_begins_elsewhere(
    engine: Engine, photos: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    run(engine, photos, tmp_path / "out", exclude=("0.png",))
    assert results(tmp_path / "out")["stats/a/1.json"] != expected["stats/a/1.json"]
    assert "history" not in json.loads(results(tmp_path / "out")["stats/a/1.json"])["source"]


def test_claim_holds_for_the_whole_sequence(engine: Engine, photos: Path, tmp_path: Path) -> None:
    plan = plan_batch([photos], tmp_path / "out", engine.config)
    plan.folder.mark()
    with plan_batch([photos], tmp_path / "out", engine.config).folder as other:
        assert other.claim("a/0")
        found = list(run_stream(plan.jobs, plan.folder, plan.batch, [engine], sequences=plan.sequences))
    assert [outcome is None for _, outcome in found] == [True] * 5 + [False] * 3


def test_engine_without_the_option_keeps_no_network(photos: Path, tmp_path: Path) -> None:
    engine = Engine(dataclasses.replace(SMALL, sequence=False), "cpu")
    assert engine.segment(scene(0)).fitted is None
    run(engine, photos, tmp_path / "out")
    assert not (tmp_path / "out/.sequence").exists()


def test_scribbles_are_refused_by_the_engine(engine: Engine) -> None:
    with pytest.raises(ValueError, match="`scribbles` name labels of one image"):
        engine.segment(scene(0), scribbles=np.full((32, 40), 255, np.uint8))
