from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from samples import TINY, encoded, files_below, noise, photo_folder, read_pixels, save_photo

from dynaseg_cli import BatchConfig, CutConfig, Engine
from dynaseg_cli.batch import stages
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import Plan, plan_batch
from dynaseg_cli.batch.stages import run_stream
from dynaseg_cli.config import FREE
from dynaseg_cli.errors import ImageError, UsageError
from dynaseg_cli.files.output_folder import OutputFolder
from dynaseg_cli.images.scribbles import ScribbleFile, decode_scribbles
from dynaseg_cli.regions.tidying import tidy

SCHEMA = json.loads((Path(stages.__file__).parent / "stats.schema.json").read_text())


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(TINY, "cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", "a.png", "b.bmp", "sub/c.png")


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A folder of scribbles on two of the photos."""
    for index, name in enumerate(("a", "sub/c")):
        draw(tmp_path / f"drawn/{name}.png", strokes(5 + index, 2))
    return tmp_path / "drawn"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def strokes(*labels: int, width: int = 24, height: int = 20) -> NDArray[np.uint8]:
    """A row of each."""
    scribbles = np.full((height, width), FREE, dtype=np.uint8)
    for index, label in enumerate(labels):
        scribbles[(2 * index + 1) * height // (2 * len(labels)), 2:-2] = label
    return scribbles


def draw(path: Path, scribbles: NDArray[Any] | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(scribbles, "PNG"))


def run(engine: Engine, photos: Path, out: Path, drawn: Path | None = None, **batch: Any) -> dict[str, Outcome]:
    plan = plan_batch([photos], out, engine.config, BatchConfig(scribbles=drawn, **batch))
    plan.folder.mark()
    outcomes = [
        outcome for _, outcome in run_stream(plan.jobs, plan.folder, plan.batch, [engine]) if outcome is not None
    ]
    return {Path(outcome.path).name: outcome for outcome in outcomes}


def statuses(outcomes: dict[str, Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes.values()]


def stats_of(out: Path, name: str) -> dict[str, Any]:
    stats = json.loads((out / f"stats/{name}.json").read_text())
    jsonschema.validate(stats, SCHEMA)
    return dict(stats)


def test_images_are_segmented_with_what_is_drawn_on_them(
    engine: Engine, photos: Path, drawn: Path, out: Path, tmp_path: Path
) -> None:
    assert statuses(run(engine, photos, out, drawn)) == ["done"] * 3
    for name, labels in (("a", (5, 2)), ("sub/c", (6, 2))):
        with Image.open(photos / f"{name}.png") as image:
            photo, drawn_labels = np.array(image), strokes(*labels)
        raw = engine.segment(photo, scribbles=drawn_labels).labels
        np.testing.assert_array_equal(read_pixels(out / f".raw/{name}.png"), raw)
        expected = tidy(raw, photo, CutConfig(), scribbles=drawn_labels)
        np.testing.assert_array_equal(read_pixels(out / f"labels/{name}.png"), expected.labels)
        stats = stats_of(out, name)
        assert stats["source"]["scribbles"]["path"] == str(drawn / f"{name}.png")
        assert stats["fit"]["threshold"] == 2
        assert [cluster["label"] for cluster in stats["clusters"]] == np.unique(expected.labels).tolist()
    run(engine, photos, tmp_path / "plain")
    assert files_below(out / "labels")["b.png"] == files_below(tmp_path / "plain/labels")["b.png"]
    assert "scribbles" not in stats_of(out, "b")["source"]


def test_silhouette_is_not_sought_where_its_number_has_no_meaning(
    photos: Path, drawn: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(dataclasses.replace(TINY, min_labels="auto"), "cpu")
    sought: list[int] = []
    find = engine.find_silhouette
    monkeypatch.setattr(engine, "find_silhouette", lambda image: sought.append(1) or find(image))
    draw(drawn / "b.png", np.full((20, 24), FREE, dtype=np.uint8))  # all free: as if there were none
    run(engine, photos, out, drawn)
    assert len(sought) == 1
    assert [stats_of(out, name)["fit"]["silhouette"] is None for name in ("a", "b", "sub/c")] == [True, False, True]


def test_extension_is_kept_in_names_of_scribbles_as_in_those_of_results(
    engine: Engine, photos: Path, out: Path, tmp_path: Path
) -> None:
    draw(tmp_path / "drawn/b.bmp.png", strokes(3))
    run(engine, photos, out, tmp_path / "drawn", keep_extension=True)
    assert "scribbles" in stats_of(out, "b.bmp")["source"]


def test_re_run_does_what_is_drawn_on_otherwise_and_nothing_else(
    engine: Engine, photos: Path, drawn: Path, out: Path
) -> None:
    run(engine, photos, out)
    assert statuses(run(engine, photos, out, drawn)) == ["done", "skipped", "done"]
    assert statuses(run(engine, photos, out, drawn)) == ["skipped"] * 3
    draw(drawn / "a.png", strokes(1))
    (drawn / "sub/c.png").unlink()
    assert statuses(run(engine, photos, out, drawn)) == ["done", "skipped", "done"]
    assert "scribbles" not in stats_of(out, "sub/c")["source"]
    assert statuses(run(engine, photos, out, drawn)) == ["skipped"] * 3


def test_regions_are_cut_of_labels_with_scribbles_without_the_network(
    engine: Engine, photos: Path, drawn: Path, out: Path
) -> None:
    run(engine, photos, out, drawn)
    for cut in (CutConfig(regions=1), CutConfig(regions="raw"), CutConfig(regions=3)):
        outcomes = run(engine, photos, out, drawn, save=(*BatchConfig.save, "regions"), cut=cut)
        assert [outcome.segmented for outcome in outcomes.values()] == [False] * 3
        fresh = out.parent / str(cut.regions)
        run(engine, photos, fresh, drawn, save=(*BatchConfig.save, "regions"), cut=cut)
        for product in ("labels", "overlay", "regions"):
            assert files_below(out / product) == files_below(fresh / product)
        assert stats_of(out, "a")["cut"] == cut.as_options()


def test_drawn_pixels_keep_their_labels_in_any_cut(engine: Engine, photos: Path, drawn: Path, out: Path) -> None:
    for regions in (1, 2, 5):
        run(engine, photos, out, drawn, cut=CutConfig(regions=regions))
        for name, scribbles in (("a", strokes(5, 2)), ("sub/c", strokes(6, 2))):
            labels, is_drawn = read_pixels(out / f"labels/{name}.png"), scribbles != FREE
            np.testing.assert_array_equal(labels[is_drawn], scribbles[is_drawn])


def test_run_without_scribbles_leaves_alone_what_was_made_with_some(
    engine: Engine, photos: Path, drawn: Path, out: Path
) -> None:
    run(engine, photos, out, drawn)
    before = files_below(out / "labels")
    with pytest.raises(UsageError, match=r"a\.json was made with other options \(scribbles was .*a\.png, now none\)"):
        run(engine, photos, out)
    # Where the look before the start has missed it.
    jobs = plan_batch([photos], out, engine.config, BatchConfig(overwrite=True)).jobs
    outcomes = [outcome for _, outcome in run_stream(jobs, OutputFolder(out), BatchConfig(), [engine])]
    assert [outcome.status for outcome in outcomes if outcome] == ["failed", "skipped", "failed"]
    assert files_below(out / "labels") == before
    run(engine, photos, out, overwrite=True)
    assert "scribbles" not in stats_of(out, "a")["source"]


def test_damaged_scribbles_fail_their_image_alone(engine: Engine, photos: Path, drawn: Path, out: Path) -> None:
    (drawn / "a.png").write_bytes((drawn / "a.png").read_bytes()[:60])
    outcomes = run(engine, photos, out, drawn)
    assert statuses(outcomes) == ["failed", "done", "done"]
    assert outcomes["a.png"].reason == f"{drawn / 'a.png'}: damaged, or not a PNG file"


def test_scribbles_are_drawn_on_the_photo_as_it_is_shown(engine: Engine, tmp_path: Path, out: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(encoded(noise(), "JPEG", exif=exif))
    draw(tmp_path / "drawn/a.png", strokes(3, width=20, height=24))
    assert statuses(run(engine, tmp_path / "photos", out, tmp_path / "drawn")) == ["done"]
    draw(tmp_path / "drawn/a.png", strokes(3))
    outcome = run(engine, tmp_path / "photos", out, tmp_path / "drawn")["a.jpg"]
    assert "a.png: 24 x 20 pixels, but the photo has 20 x 24, turned upright as EXIF says" in str(outcome.reason)


def decoded(scribbles: NDArray[Any] | Image.Image | bytes, clusters: int = 100) -> NDArray[np.uint8] | None:
    content = scribbles if isinstance(scribbles, bytes) else encoded(scribbles, "PNG")
    return decode_scribbles(ScribbleFile("drawn/a.png", content, ""), (20, 24), clusters, 1000)


def test_grey_palette_and_16_bit_values_are_the_labels() -> None:
    expected = strokes(0, 7, 99)
    palette = Image.fromarray(expected).convert("P")
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    for stored in (expected, palette, expected.astype(np.uint16)):
        found = decoded(stored)
        assert found is not None
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("scribbles", "reason"),
    [
        (strokes(3, width=30), "30 x 20 pixels, but the photo has 24 x 20"),
        (strokes(3, 100, 7), "label 100 is above 99, the most that `clusters=100` allows; 255 is for free pixels"),
        (np.full((20, 24), 1234, dtype=np.uint16), "label 1234 is above 99"),
        (Image.fromarray(strokes(3)).convert("RGB"), "its pixels are colours, and labels are numbers"),
        (Image.fromarray(strokes(3)).convert("RGBA"), "its pixels are colours, and labels are numbers"),
        (encoded(strokes(3), "JPEG"), "a JPEG file under the name of a PNG; save the labels as PNG"),
        (b"", "the file is empty"),
        (strokes(3, width=60, height=60), "60 x 60 pixels are more than `max_pixels=1000` allows"),
    ],
    ids=["size", "value", "16-bit value", "colours", "transparent", "format", "empty", "pixels"],
)
def test_what_cannot_be_scribbles_is_refused_with_its_name(scribbles: Any, reason: str) -> None:
    with pytest.raises(ImageError, match=r"^drawn/a\.png: ") as raised:
        decoded(scribbles)
    assert reason in str(raised.value)


def test_of_many_clusters_the_last_label_is_254() -> None:
    assert decoded(strokes(254), clusters=1000) is not None
    with pytest.raises(ImageError, match="label 256 is above 254, the largest label there is"):
        decoded(np.full((20, 24), 256, dtype=np.uint16), clusters=1000)


def test_what_is_free_everywhere_is_nothing() -> None:
    assert decoded(np.full((20, 24), FREE, dtype=np.uint8)) is None


# Planning


def plan(photos: Path, out: Path, drawn: Path, **batch: Any) -> Plan:
    return plan_batch([photos], out, TINY, BatchConfig(scribbles=drawn, **batch))


def test_folder_within_the_input_is_not_read_as_photos(photos: Path, drawn: Path, out: Path) -> None:
    inside = drawn.rename(photos / "drawn")
    found = plan(photos, out, inside)
    assert [job.name for job in found.jobs] == ["a", "b", "sub/c"]
    assert len(plan_batch([photos], out, TINY).jobs) == 5


@pytest.mark.parametrize("folder", ["absent", "photos/a.png"])
def test_what_is_no_folder_is_refused(photos: Path, out: Path, folder: str) -> None:
    with pytest.raises(UsageError, match=rf"`scribbles=.*{folder}` is not a folder"):
        plan(photos, out, photos.parent / folder)


def test_folder_without_scribbles_for_any_image_is_refused(photos: Path, out: Path, tmp_path: Path) -> None:
    draw(tmp_path / "drawn/other.png", strokes(1))
    with pytest.raises(UsageError, match=r"has none for any image; for .*photos/a\.png it would be .*drawn/a\.png"):
        plan(photos, out, tmp_path / "drawn")


@pytest.mark.parametrize("shard", [(1, 3), (2, 3)])
def test_a_shard_that_has_none_goes_on(photos: Path, out: Path, drawn: Path, shard: tuple[int, int]) -> None:
    (drawn / "sub/c.png").unlink()
    assert len(plan(photos, out, drawn, shard=shard).jobs) == 1


def test_folder_that_is_the_input_or_is_written_to_is_refused(photos: Path, out: Path, drawn: Path) -> None:
    with pytest.raises(UsageError, match="is the input itself"):
        plan(photos, out, photos)
    (out / "labels").mkdir(parents=True)
    with pytest.raises(UsageError, match="is where labels are written"):
        plan(photos, out, out / "labels")


def test_scribbles_of_no_image_are_noticed(photos: Path, out: Path, drawn: Path) -> None:
    for name in ("a.PNG", "c.png", "sub/c.bmp.png", "zz.png"):
        draw(drawn / name, strokes(1))
    (drawn / "notes.txt").touch()
    unused = plan(photos, out, drawn).unused_scribbles
    assert [path.relative_to(drawn).as_posix() for path in unused] == ["a.PNG", "c.png", "sub/c.bmp.png", "zz.png"]
    assert plan_batch([photos], out, TINY).unused_scribbles == []


def test_a_pipe_in_place_of_scribbles_is_not_waited_for(engine: Engine, tmp_path: Path, out: Path) -> None:
    save_photo(tmp_path / "photos/a.png")
    save_photo(tmp_path / "photos/b.png")
    draw(tmp_path / "drawn/a.png", strokes(1))
    os.mkfifo(tmp_path / "drawn/b.png")
    outcomes = run(engine, tmp_path / "photos", out, tmp_path / "drawn")
    assert statuses(outcomes) == ["done", "failed"]
    assert outcomes["b.png"].reason == f"{tmp_path / 'drawn/b.png'}: not a regular file"
