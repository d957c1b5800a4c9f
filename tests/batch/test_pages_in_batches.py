"""Pages of files through a whole batch: names, statistics, resuming, shards, reports, exports and folder fits."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from samples import TINY, encoded, files_below, noise, photo_folder
from scenes import TINY_FOLDER_FIT

from dynaseg_cli import run_from_python
from dynaseg_cli.batch.discovery import discover
from dynaseg_cli.batch.planning import plan_batch
from dynaseg_cli.batch.results import plan_of_results
from dynaseg_cli.config import BatchConfig, Channels, Pages, SegmentConfig, WorkersConfig, parse_pages
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.output_folder import Job
from dynaseg_cli.files.reading import DICOM_INSTALLED
from dynaseg_cli.images import tiff_pages
from dynaseg_cli.run import export_results, report_results
from dynaseg_cli.run_from_python import segment_folder

HERE = WorkersConfig(device="cpu", workers=0)
ALL = BatchConfig(pages="all")


def stack(count: int, first: int = 0) -> NDArray[np.uint8]:
    return np.stack([noise(first + seed) for seed in range(count)])


def write_stack(path: Path, pages: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pages, photometric="rgb", metadata=None)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A stack of three pages, an animation of two frames, and a photo."""
    folder = photo_folder(tmp_path / "photos", "plain.png")
    write_stack(folder / "sub/stack.tif", stack(3))
    second = [Image.fromarray(noise(8))]
    (folder / "moving.gif").write_bytes(encoded(noise(7), "GIF", save_all=True, append_images=second))
    return folder


NAMES = ["moving-p1", "moving-p2", "plain", "sub/stack-p1", "sub/stack-p2", "sub/stack-p3"]


def run(photos: Path, out: Path, batch: BatchConfig = ALL, config: SegmentConfig = TINY) -> run_from_python.Run:
    done = segment_folder(photos, out, config, batch, HERE)
    done.run()
    return done


def stats(out: Path, name: str) -> dict[str, Any]:
    document = json.loads((out / f"stats/{name}.json").read_text())
    assert isinstance(document, dict)
    return document


# Names


def jobs(folder: Path, pages: Pages = "all", **options: Any) -> list[Job]:
    return discover([folder], [], Path("/nowhere/out"), BatchConfig(pages=pages, **options)).jobs


def test_pages_have_names_of_their_own_that_sort(tmp_path: Path) -> None:
    write_stack(tmp_path / "a.tif", stack(12)[:, :4, :4])
    found = jobs(tmp_path)
    assert [job.name for job in found] == [f"a-p{page:02}" for page in range(1, 13)]
    assert [job.page for job in found] == [*range(1, 13)]
    assert {job.path for job in found} == {str(tmp_path / "a.tif")}
    assert [job.file_name for job in found][2:4] == ["a-p03.tif", "a-p04.tif"]
    assert found[2].shown == f"{tmp_path}/a.tif, page 3"


def test_single_pictures_keep_their_names_and_pages_count_only_where_asked(photos: Path) -> None:
    assert [job.name for job in jobs(photos)] == NAMES
    assert jobs(photos, "first") == [
        Job(str(photos / "moving.gif"), "moving"),
        Job(str(photos / "plain.png"), "plain"),
        Job(str(photos / "sub/stack.tif"), "sub/stack"),
    ]
    assert [job.name for job in jobs(photos, (1, 1))] == ["moving-p1", "plain", "sub/stack-p1"]


def test_extension_stays_behind_the_page(photos: Path) -> None:
    found = jobs(photos / "sub", keep_extension=True)
    assert [job.name for job in found] == ["stack-p1.tif", "stack-p2.tif", "stack-p3.tif"]
    assert found[0].file_name == "stack-p1.tif"


def test_files_without_the_pages_are_counted(photos: Path) -> None:
    found = discover([photos], [], Path("/nowhere/out"), BatchConfig(pages=(2, 9)))
    assert [job.name for job in found.jobs] == ["moving-p2", "sub/stack-p2", "sub/stack-p3"]
    assert found.passed_over.describe() == f"1 file without such a page ({photos}/plain.png)"
    assert found.empty == []
    with pytest.raises(UsageError, match=r"no images in .*; passed over: 3 files without such pages \(.* first\)"):
        jobs(photos, (7, 9))


def test_page_that_would_replace_another_file_is_refused(photos: Path) -> None:
    Image.fromarray(noise()).save(photos / "sub/stack-p2.png")
    with pytest.raises(UsageError, match=r"stack.* and .*stack.* would both be written as sub/stack-p2\.png"):
        jobs(photos)
    assert len(jobs(photos, keep_extension=True)) == 7


def test_two_stacks_of_one_name_are_refused(photos: Path) -> None:
    write_stack(photos / "sub/stack.tiff", stack(3))
    with pytest.raises(UsageError, match=r"would both be written as sub/stack-p1\.png"):
        jobs(photos)


def test_file_that_is_named_twice_has_its_pages_once(photos: Path) -> None:
    path = photos / "sub/stack.tif"
    found = discover([photos / "sub", path, path], [], Path("/nowhere/out"), ALL)
    assert [job.name for job in found.jobs] == ["stack-p1", "stack-p2", "stack-p3"]


def test_file_that_cannot_be_read_is_one_image(photos: Path) -> None:
    (photos / "broken.tif").write_bytes(b"II*\0\x08\0\0\0")
    (photos / "empty.gif").touch()
    os.mkfifo(photos / "pipe.tif")
    assert [(job.name, job.page) for job in jobs(photos) if "/" not in job.name][:2] == [
        ("broken", None),
        ("empty", None),
    ]


@pytest.mark.skipif(not DICOM_INSTALLED, reason="the extra dicom is not installed")
def test_dicom_without_an_extension_is_found_and_keeps_its_whole_name(tmp_path: Path) -> None:
    for name in ("IM0001", "1.2.840.113", "1.2.840.114", "DICOMDIR"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    (tmp_path / "words").write_text("no image")
    (tmp_path / "a.7").write_text("no image")
    assert [job.name for job in jobs(tmp_path, "first")] == ["1.2.840.113", "1.2.840.114", "IM0001"]


def test_without_the_extra_dicom_is_counted_with_how_to_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynaseg_cli.batch.discovery.DICOM_INSTALLED", False)
    monkeypatch.setattr("dynaseg_cli.batch.discovery.PHOTO_SUFFIXES", (".png",))
    unreadable = {".dcm": "DICOM", ".heic": "HEIC", ".svg": "SVG"}
    monkeypatch.setattr("dynaseg_cli.batch.discovery.UNREADABLE_SUFFIXES", unreadable)
    photo_folder(tmp_path, "a.png")
    for name in ("b.dcm", "c.dcm", "d.heic", "e.svg", "IM0001"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    found = discover([tmp_path], [], Path("/nowhere/out"), BatchConfig())
    assert [job.name for job in found.jobs] == ["a"]
    assert found.passed_over.describe() == (
        f"2 DICOM files ({tmp_path}/b.dcm first), 1 HEIC file ({tmp_path}/d.heic), 1 SVG file ({tmp_path}/e.svg);"
        " pip install 'dynaseg[dicom,heif]' reads DICOM and HEIC; convert SVG to JPEG, PNG or TIFF"
    )


@pytest.mark.parametrize(
    ("text", "pages"), [("first", "first"), ("all", "all"), ("2..8", (2, 8)), ("3", (3, 3)), ("1..1", (1, 1))]
)
def test_pages_are_read_as_they_are_written(text: str, pages: Pages) -> None:
    assert parse_pages(text) == pages


@pytest.mark.parametrize("text", ["", "last", "2..", "..8", "2...8", "1-3", "2..8..9", "-1..3", "1..9999999999", "²"])
def test_text_that_is_no_pages_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^`pages` must be first, all or N\.\.M, such as 2\.\.8, not"):
        parse_pages(text)


@pytest.mark.parametrize("pages", [(0, 1), (3, 2), (-1, 1)])
def test_pages_out_of_order_are_refused(pages: Pages) -> None:
    with pytest.raises(UsageError, match=r"^`pages` must be N\.\.M with 1 <= N <= M"):
        BatchConfig(pages=pages)


# Results


def test_page_gets_what_a_file_of_its_own_would_get(photos: Path, tmp_path: Path) -> None:
    assert run(photos, tmp_path / "out").summary.done == 6
    for page in range(3):
        Image.fromarray(noise(page)).save(photos.parent / f"alone{page}.png")
        run(photos.parent / f"alone{page}.png", tmp_path / "alone", BatchConfig())
    ours, theirs = files_below(tmp_path / "out"), files_below(tmp_path / "alone")
    for product in ("labels", "color"):
        for page in range(3):
            assert ours[f"{product}/sub/stack-p{page + 1}.png"] == theirs[f"{product}/alone{page}.png"]
    schema = json.loads(files("dynaseg_cli.batch").joinpath("stats.schema.json").read_text())
    for name in NAMES:
        document = stats(tmp_path / "out", name)
        jsonschema.Draft202012Validator(schema).validate(document)
        assert document["source"].get("page") == (int(name[-1]) if "-p" in name else None)
        assert "frames" not in document["source"]
    assert stats(tmp_path / "out", "sub/stack-p2")["source"]["path"] == str(photos / "sub/stack.tif")


def test_first_page_is_as_it_was_before_there_were_pages(photos: Path, tmp_path: Path) -> None:
    """Names and statistics of the default do not tell that there is an option."""
    run(photos, tmp_path / "out", BatchConfig())
    source = stats(tmp_path / "out", "sub/stack")["source"]
    assert sorted(source) == ["frames", "height", "path", "sha256", "width"]
    assert source["frames"] == 3


def test_second_run_skips_every_page_and_a_changed_page_alone_is_done_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    before = files_below(out)
    assert run(photos, out).summary.skipped == 6
    pages = stack(3)
    pages[1] = noise(99)
    write_stack(photos / "sub/stack.tif", pages)
    summary = run(photos, out).summary
    assert (summary.skipped, summary.done) == (5, 1)
    after = files_below(out)
    changed = {name for name in after if name.startswith(("labels/", "stats/")) and after[name] != before[name]}
    assert changed == {"labels/sub/stack-p2.png", "stats/sub/stack-p2.json"}


def test_run_with_all_pages_complete_starts_no_worker(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "out")
    monkeypatch.setattr("dynaseg_cli.run.new_pool", lambda *_: pytest.fail("a worker was started"))
    assert run(photos, tmp_path / "out").summary.skipped == 6


def test_frames_need_not_be_decoded_to_be_known_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "out")
    monkeypatch.setattr("dynaseg_cli.images.animations.frame_as_png", lambda *_: pytest.fail("a frame was decoded"))
    assert run(photos, tmp_path / "out").summary.skipped == 6


def test_page_that_fails_is_named_with_its_number(photos: Path, tmp_path: Path) -> None:
    path = photos / "sub/stack.tif"
    first, *more = map(Image.fromarray, stack(3))
    path.write_bytes(encoded(first, "TIFF", save_all=True, append_images=more)[:-9])  # the pixels of the last page
    done = run(photos, tmp_path / "out")
    (failure,) = done.summary.failures
    assert (failure.path, failure.page, failure.status) == (str(path), 3, "failed")
    document = json.loads((tmp_path / "out/run.json").read_text())
    (entry,) = document["failures"]
    assert (entry["path"], entry["page"]) == (str(path), 3)
    assert "the file is cut off" in entry["reason"]
    log = [json.loads(line) for line in (tmp_path / "out/outcomes.jsonl").read_text().splitlines()]
    assert {(line["path"], line.get("page")) for line in log} == {(job.path, job.page) for job in jobs(photos)}


def test_files_of_each_page_are_known_to_python(photos: Path, tmp_path: Path) -> None:
    with segment_folder(photos / "sub", tmp_path / "out", TINY, ALL, HERE) as done:
        for outcome in done:
            assert done.files(outcome)["labels"] == tmp_path / f"out/labels/stack-p{outcome.page}.png"


@pytest.mark.parametrize("count", [2, 4])
def test_shards_share_out_the_pages(photos: Path, tmp_path: Path, count: int) -> None:
    for index in range(1, count + 1):
        run(photos, tmp_path / "shards", dataclasses.replace(ALL, shard=(index, count)))
    run(photos, tmp_path / "whole")
    ours, theirs = files_below(tmp_path / "shards"), files_below(tmp_path / "whole")
    pictures = [name for name in theirs if not name.endswith((".json", ".jsonl"))]
    assert ours.keys() == theirs.keys()
    assert all(ours[name] == theirs[name] for name in pictures)
    assert len(pictures) == 4 * len(NAMES)


def test_stack_is_not_read_whole(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynaseg_cli.images.pages.read_image", lambda *_: pytest.fail("a whole file was read"))
    assert run(photos / "sub", tmp_path / "out").summary.done == 3


def test_report_and_exports_are_made_of_pages_later(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    tiff_pages._remembered.cache_clear()
    (*outcomes, written) = report_results(plan_of_results(tmp_path / "out", report=True))
    assert [outcome.status for outcome in outcomes] == ["done"] * 6  # type: ignore[union-attr]
    page = Path(written.path).read_text()  # type: ignore[union-attr]
    for name in ("sub/stack-p2.tif", "moving-p1.gif", "plain.png"):
        assert f'"{name}"' in page
    list(export_results(plan_of_results(tmp_path / "out", export=("coco-rle",))))
    document = json.loads((tmp_path / "out/export/coco-rle.json").read_text())
    assert sorted(image["file_name"] for image in document["images"]) == [
        *("moving-p1.gif", "moving-p2.gif", "plain.png", "sub/stack-p1.tif", "sub/stack-p2.tif", "sub/stack-p3.tif")
    ]


def test_export_can_read_a_page_again(photos: Path, tmp_path: Path) -> None:
    from dynaseg_cli.batch.exports import _photo  # noqa: PLC0415
    from dynaseg_cli.images.decoding import read_stored  # noqa: PLC0415

    run(photos, tmp_path / "out")
    plan = plan_of_results(tmp_path / "out")
    for job in plan.jobs:
        if job.name.startswith("sub/"):
            assert job.page is not None
            np.testing.assert_array_equal(read_stored(_photo(job, plan), 10_000).values, noise(job.page - 1))


def test_scribbles_have_the_names_of_pages(photos: Path, tmp_path: Path) -> None:
    drawn = np.full((20, 24), 255, np.uint8)
    drawn[:3], drawn[-3:] = 0, 1
    (tmp_path / "drawn/sub").mkdir(parents=True)
    Image.fromarray(drawn).save(tmp_path / "drawn/sub/stack-p2.png")
    run(photos, tmp_path / "out", dataclasses.replace(ALL, scribbles=tmp_path / "drawn"))
    assert stats(tmp_path / "out", "sub/stack-p2")["source"]["scribbles"]["path"].endswith("stack-p2.png")
    assert "scribbles" not in stats(tmp_path / "out", "sub/stack-p1")["source"]


def test_folder_fit_sees_pages(photos: Path, tmp_path: Path) -> None:
    """As many images as pages, and the model that the same images in files of their own give."""
    run(photos / "sub", tmp_path / "out", ALL, TINY_FOLDER_FIT)
    for page in range(3):
        (tmp_path / "alone").mkdir(exist_ok=True)
        Image.fromarray(noise(page)).save(tmp_path / f"alone/stack-p{page + 1}.png")
    run(tmp_path / "alone", tmp_path / "same", BatchConfig(), TINY_FOLDER_FIT)
    ours, theirs = files_below(tmp_path / "out"), files_below(tmp_path / "same")
    assert ours["model.safetensors"] == theirs["model.safetensors"]
    assert [ours[f"labels/stack-p{page}.png"] for page in (1, 2, 3)] == [
        theirs[f"labels/stack-p{page}.png"] for page in (1, 2, 3)
    ]


# Channels


@pytest.fixture
def bands(tmp_path: Path) -> Path:
    """An image of five channels, and one of three."""
    folder = photo_folder(tmp_path / "bands", "plain.png")
    values = np.random.default_rng(0).integers(0, 4000, (20, 24, 5), dtype=np.uint16)
    tifffile.imwrite(folder / "five.tif", values, photometric="minisblack", planarconfig="contig", metadata=None)
    return folder


def test_channels_are_recorded_where_there_are_any_to_choose_from(bands: Path, tmp_path: Path) -> None:
    run(bands, tmp_path / "out", BatchConfig(channels=(5, 1, 2)))
    assert stats(tmp_path / "out", "five")["source"]["channels"] == "5,1,2"
    assert "channels" not in stats(tmp_path / "out", "plain")["source"]
    run(bands, tmp_path / "default", BatchConfig())
    assert "channels" not in stats(tmp_path / "default", "five")["source"]


def test_other_channels_are_refused_before_any_work(bands: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(bands, out, BatchConfig(channels="all"))
    assert run(bands, out, BatchConfig(channels="all")).summary.skipped == 2
    for other, now in ((BatchConfig(), "none"), (BatchConfig(channels=(1,)), "1")):
        with pytest.raises(UsageError, match=rf"channels was all, now {now}\); `channels=all` continues with it"):
            plan_batch([bands], out, TINY, other)


def test_results_of_the_first_three_channels_are_not_taken_for_others(bands: Path, tmp_path: Path) -> None:
    """They were made without the option, or by a version without it; images that it does not concern are complete."""
    run(bands, tmp_path / "out", BatchConfig())
    summary = run(bands, tmp_path / "out", BatchConfig(channels=(5, 1, 2))).summary
    assert summary.skipped == 1
    (failure,) = summary.failures
    assert "channels was none, now 5,1,2" in str(failure.reason)
    assert run(bands, tmp_path / "out", BatchConfig()).summary.skipped == 2


def test_report_shows_the_channels_that_were_segmented(bands: Path, tmp_path: Path) -> None:
    for name, batch in (("later", BatchConfig(channels="all")), ("at once", BatchConfig(channels="all", report=True))):
        run(bands, tmp_path / name, batch)
    list(report_results(plan_of_results(tmp_path / "later", report=True)))
    ours, theirs = files_below(tmp_path / "later"), files_below(tmp_path / "at once")
    pictures = [name for name in theirs if name.startswith("report/") and name.endswith("-photo.webp")]
    assert len(pictures) == 2
    assert all(ours[name] == theirs[name] for name in pictures)


@pytest.mark.parametrize(("channels", "first"), [((5,), 4), ((4, 1, 2), 3), ("all", 0), (None, 0)])
def test_measurements_are_those_of_the_chosen_channels(
    bands: Path, tmp_path: Path, channels: Channels, first: int
) -> None:
    pytest.importorskip("skimage", reason="the extra measure is not installed")
    values = tifffile.imread(bands / "five.tif")
    run(bands / "five.tif", tmp_path / "out", BatchConfig(channels=channels, export=("csv",)))
    labels = np.asarray(Image.open(tmp_path / "out/labels/five.png"))
    with (tmp_path / "out/export/measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    means = [float(row["intensity_mean-0"]) for row in sorted(rows, key=lambda row: int(row["label"]))]
    expected = [values[..., first][labels == label].mean() for label in range(labels.max() + 1)]
    np.testing.assert_allclose(means, expected)


def test_channel_that_is_not_there_fails_that_image_alone(bands: Path, tmp_path: Path) -> None:
    summary = run(bands, tmp_path / "out", BatchConfig(channels=(6,))).summary
    (failure,) = summary.failures
    assert failure.reason == "it has 5 channels, and `channels` asks for number 6"
    assert summary.done == 1


def test_folder_fit_sees_the_chosen_channels(bands: Path, tmp_path: Path) -> None:
    models = []
    for name, batch in (("a", BatchConfig()), ("b", BatchConfig(channels=(5, 4, 3)))):
        run(bands, tmp_path / name, batch, TINY_FOLDER_FIT)
        models.append((tmp_path / name / "model.safetensors").read_bytes())
    assert models[0] != models[1]
