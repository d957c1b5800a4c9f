from __future__ import annotations

import dataclasses
import itertools
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from samples import TINY, encoded

from dynaseg_cli.batch.report_files import ReportEntry
from dynaseg_cli.batch.resume import earlier_stats, is_complete, read_stats, refuse_other_options
from dynaseg_cli.config import BatchConfig, Colors, CutConfig, Product, SegmentConfig, WeightsFile
from dynaseg_cli.errors import ImageError, UsageError
from dynaseg_cli.files.output_folder import Job, OutputFolder
from dynaseg_cli.report.page import ENTRY_FILES

JOB = Job("photos/sub/cat.jpg", "sub/cat")
HASH = "ab" * 32
ALL: tuple[Product, ...] = ("labels", "color", "stats", "overlay")
COLORS: tuple[Colors, ...] = get_args(Colors)

CLUSTER = {"label": 0, "pixels": 480, "fraction": 1.0, "mean_rgb": [9, 9, 9], "std_rgb": [0, 0, 0], "regions": 1}
LISTS = ("levels", "loss", "similarity_loss", "continuity_loss", "labels_per_iteration")
WHOLE: dict[str, Any] = {
    "schema_version": 2,
    "cut": CutConfig().as_options(),
    "options": TINY.as_options(),
    "source": {"path": JOB.path, "width": 24, "height": 20, "sha256": HASH},
    "device": "cpu",
    "fit": {
        **dict.fromkeys(("width", "height", "iterations", "threshold", "seconds"), 1),
        **{name: [] for name in LISTS},
        **{"stop_reason": "threshold", "silhouette": None, "precision": "float32"},
    },
    "num_labels": 1,
    "colors": "calm",
    "clusters": [{**CLUSTER, "color": [1, 2, 3]}],
}


@pytest.fixture
def output(tmp_path: Path) -> OutputFolder:
    """The results of `JOB`, complete."""
    folder = OutputFolder(tmp_path)
    for product in ALL:
        path = folder.result(JOB, product)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(WHOLE))
    return folder


def stats_of(output: OutputFolder) -> dict[str, Any]:
    stats = earlier_stats(JOB, output, HASH, None, TINY)
    assert stats is not None
    return stats


def test_image_with_all_its_results_is_complete(output: OutputFolder) -> None:
    assert is_complete(JOB, output, stats_of(output), BatchConfig())


@pytest.mark.parametrize("section", ["source", "device", "fit", "num_labels", "clusters"])
def test_image_whose_stats_lack_a_section_is_not_complete(output: OutputFolder, section: str) -> None:
    stats = {name: entry for name, entry in stats_of(output).items() if name != section}
    assert not is_complete(JOB, output, stats, BatchConfig())


def test_stats_of_other_content_are_none_of_the_images(output: OutputFolder) -> None:
    assert earlier_stats(JOB, output, "cd" * 32, None, TINY) is None


def test_image_made_with_other_options_is_for_a_person_to_decide_about(output: OutputFolder) -> None:
    with pytest.raises(ImageError, match=r"seed was 0, now 1.*`overwrite=True`"):
        earlier_stats(JOB, output, HASH, None, dataclasses.replace(TINY, seed=1))


def test_weights_are_told_apart_by_their_content_and_not_by_their_path(output: OutputFolder) -> None:
    def with_weights(path: str, sha256: str | None) -> SegmentConfig:
        weights = WeightsFile(path, sha256) if sha256 else None
        return dataclasses.replace(TINY, backbone="resnet18-fpn", weights=weights)

    options = with_weights("a.pth", "ab" * 32).as_options()
    output.result(JOB, "stats").write_text(json.dumps({"options": options, "source": {"sha256": HASH}}))
    assert earlier_stats(JOB, output, HASH, None, with_weights("elsewhere/b.safetensors", "ab" * 32)) is not None
    for other, now in ((with_weights("a.pth", "cd" * 32), "cdcdcdcd"), (with_weights("", None), "f37072fd")):
        with pytest.raises(ImageError, match=rf"\(weights was abababab, now {now}\)"):
            earlier_stats(JOB, output, HASH, None, other)


@pytest.mark.parametrize("product", ["labels", "color"])
def test_image_that_lacks_a_result_is_not_complete(output: OutputFolder, product: Product) -> None:
    output.result(JOB, product).unlink()
    assert not is_complete(JOB, output, stats_of(output), BatchConfig())


def test_result_that_is_not_asked_for_may_be_lacking(output: OutputFolder) -> None:
    output.result(JOB, "color").unlink()
    assert is_complete(JOB, output, stats_of(output), BatchConfig(save=("labels", "stats")))


@pytest.mark.parametrize(
    "place", ["regions/sub/cat.png", "regions/sub/cat.tif", "overlay/sub/cat.png", "raw/sub/cat.png"]
)
def test_what_is_asked_for_is_complete_under_any_of_its_names(output: OutputFolder, place: str) -> None:
    product: Any = place.partition("/")[0]
    output.result(JOB, product).unlink(missing_ok=True)
    output.mark()
    asked = BatchConfig(save=(product, "stats"))
    assert not is_complete(JOB, output, stats_of(output), asked)
    (output.path / place).parent.mkdir(parents=True, exist_ok=True)
    (output.path / place).touch()
    assert is_complete(JOB, output, stats_of(output), asked)


@pytest.mark.parametrize("save", [("labels", "stats"), ("stats", "hierarchy"), ("color", "stats")])
def test_labels_are_complete_as_long_as_they_are_cut_alike(output: OutputFolder, save: tuple[Product, ...]) -> None:
    output.result(JOB, "hierarchy").parent.mkdir(parents=True)
    output.result(JOB, "hierarchy").touch()
    cut = CutConfig(regions=7)
    stats = {**stats_of(output), "cut": cut.as_options(), "levels": []}
    asked = BatchConfig(save=save, cut=cut)
    assert is_complete(JOB, output, stats, asked)
    for other in (CutConfig(), CutConfig(regions=8), CutConfig(regions="raw")):
        assert not is_complete(JOB, output, stats, replace(asked, cut=other))
    assert not is_complete(JOB, output, {name: stats[name] for name in stats if name != "cut"}, asked)


@pytest.mark.parametrize("version", [{"schema_version": 1}, {}], ids=["1", "none"])
@pytest.mark.parametrize("cut", [CutConfig(), CutConfig(regions="raw")])
def test_labels_of_version_1_were_not_cut(output: OutputFolder, version: dict[str, int], cut: CutConfig) -> None:
    stats = {name: entry for name, entry in stats_of(output).items() if name != "schema_version"}
    stats |= {**version, "cut": cut.as_options()}
    assert not is_complete(JOB, output, stats, BatchConfig(cut=cut))


@pytest.mark.parametrize("product", ["color", "overlay", "recording"])
def test_what_has_colours_is_complete_as_long_as_they_are_chosen_alike(output: OutputFolder, product: Product) -> None:
    output.result(JOB, product).parent.mkdir(parents=True, exist_ok=True)
    output.result(JOB, product).touch()
    stats = stats_of(output)
    for before, now in itertools.product(COLORS, COLORS):
        asked = BatchConfig(save=(product, "stats"), colors=now)
        assert is_complete(JOB, output, {**stats, "colors": before}, asked) == (before == now)
        needless = replace(asked, save=("labels", "stats"))
        assert is_complete(JOB, output, {**stats, "colors": before}, needless), "nothing with colours is asked for"


def test_report_is_complete_with_what_it_shows_of_the_image(output: OutputFolder) -> None:
    stats = stats_of(output)
    asked = BatchConfig(report=True)
    assert not is_complete(JOB, output, stats, asked)
    for files in (ENTRY_FILES[-1:], ENTRY_FILES):
        assert not is_complete(JOB, output, stats, asked)
        ReportEntry(JOB, output).write([(suffix, b"") for suffix in files])
    assert is_complete(JOB, output, stats, asked)
    assert not is_complete(JOB, output, stats, replace(asked, colors="mean"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"options": 3}',
        b"\xff\xfe",
        json.dumps({"options": TINY.as_options(), "source": []}).encode(),
    ],
    ids=["empty", "half", "list", "null", "bare", "no options", "binary", "no source"],
)
def test_damaged_stats_mark_nothing_as_complete(output: OutputFolder, content: bytes) -> None:
    output.result(JOB, "stats").write_bytes(content)
    assert earlier_stats(JOB, output, HASH, None, TINY) is None


def test_stats_that_are_not_there_are_none(tmp_path: Path) -> None:
    assert read_stats(JOB, OutputFolder(tmp_path)) is None


def test_same_options_are_let_through(output: OutputFolder) -> None:
    refuse_other_options([JOB], output, TINY)
    refuse_other_options([JOB], output, dataclasses.replace(TINY, alpha=50.0))  # the default, written out


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 7}, "seed was 0, now 7"),
        ({"alpha": 9.0}, "alpha was 50.0, now 9.0"),
        ({"max_size": 0}, "max-size was 16, now 0"),
        ({"min_labels": "auto"}, "min-labels was 3, now auto"),
        ({"seed": 7, "iterations": 3}, "iterations was 2, now 3; seed was 0, now 7"),
    ],
    ids=str,
)
def test_other_options_are_refused_by_name(output: OutputFolder, change: dict[str, Any], difference: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"({difference})")) as raised:
        refuse_other_options([JOB], output, dataclasses.replace(TINY, **change))
    assert str(output.result(JOB, "stats")) in str(raised.value)
    assert "`overwrite=True`" in str(raised.value)


DEEP, SHALLOW = (encoded(np.full((2, 2), 7, kind), "PNG") for kind in (np.uint16, np.uint8))


def record_range(output: OutputFolder, option: str) -> None:
    path = output.result(JOB, "stats")
    stats = json.loads(path.read_text())
    stats["source"]["range"] = {"option": option, "low": 0, "high": 1}
    path.write_text(json.dumps(stats))


def test_another_range_than_the_recorded_one_is_refused(output: OutputFolder) -> None:
    record_range(output, "auto")
    refuse_other_options([JOB], output, TINY)
    with pytest.raises(UsageError, match=re.escape("(range was auto, now 0,4095)")):
        refuse_other_options([JOB], output, TINY, value_range=(0, 4095))
    with pytest.raises(ImageError, match="range was auto, now full"):
        earlier_stats(JOB, output, HASH, None, TINY, "full", DEEP)


def test_recorded_numbers_count_however_they_were_written(output: OutputFolder) -> None:
    record_range(output, "0,4095")
    assert earlier_stats(JOB, output, HASH, None, TINY, (0.0, 4095.0), DEEP) is not None
    with pytest.raises(ImageError, match="range was 0,4095, now auto"):
        earlier_stats(JOB, output, HASH, None, TINY, "auto", DEEP)


def test_results_of_a_version_without_range_go_on_as_the_default(output: OutputFolder) -> None:
    refuse_other_options([JOB], output, TINY, value_range="full")
    assert earlier_stats(JOB, output, HASH, None, TINY, "auto", DEEP) is not None
    with pytest.raises(ImageError, match="range was none, now full"):
        earlier_stats(JOB, output, HASH, None, TINY, "full", DEEP)


def test_range_does_not_matter_to_an_image_of_8_bits(output: OutputFolder) -> None:
    assert earlier_stats(JOB, output, HASH, None, TINY, "full", SHALLOW) is not None


def test_option_that_one_version_lacks_counts_as_different(output: OutputFolder) -> None:
    path = output.result(JOB, "stats")
    path.write_text(json.dumps({"options": {**TINY.as_options(), "later": 1}}))
    with pytest.raises(UsageError, match="later was 1, now none"):
        refuse_other_options([JOB], output, TINY)


@pytest.mark.parametrize("count", [1, 2, 3, 999, 1000])
def test_every_job_is_looked_at_while_there_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    jobs = [Job(f"{number}.jpg", f"{number:06}") for number in range(count)]
    assert looked_at(jobs, OutputFolder(tmp_path), monkeypatch) == [job.name for job in jobs]


@pytest.mark.parametrize("count", [1001, 1500, 1999, 2000, 123_456])
def test_of_many_jobs_a_thousand_are_looked_at_from_the_first_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    jobs = [Job(f"{number}.jpg", f"{number:06}") for number in range(count)]
    numbers = [int(name) for name in looked_at(jobs, OutputFolder(tmp_path), monkeypatch)]
    assert (len(numbers), numbers[0], numbers[-1]) == (1000, 0, count - 1)
    gaps = {later - earlier for earlier, later in pairwise(numbers)}
    assert gaps <= {(count - 1) // 999, (count - 1) // 999 + 1}


def looked_at(jobs: list[Job], output: OutputFolder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the jobs whose earlier results are read before a start."""
    read: list[str] = []
    (output.path / "stats").mkdir()
    monkeypatch.setattr("dynaseg_cli.batch.resume.read_stats", lambda job, folder: read.append(job.name))
    refuse_other_options(jobs, output, TINY)
    return read


def test_nothing_is_looked_at_where_nothing_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynaseg_cli.batch.resume.read_stats", lambda *_: pytest.fail("statistics were read"))
    refuse_other_options([JOB], OutputFolder(tmp_path), TINY)


def test_no_job_has_no_earlier_result(output: OutputFolder) -> None:
    refuse_other_options([], output, dataclasses.replace(TINY, seed=7))


def test_results_of_other_images_do_not_matter(output: OutputFolder) -> None:
    other = Job("photos/dog.jpg", "dog")
    refuse_other_options([other], output, dataclasses.replace(TINY, seed=7))
