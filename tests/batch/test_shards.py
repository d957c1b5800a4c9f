from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynaseg_cli.batch.planning import Plan, parse_shard, plan_batch
from dynaseg_cli.config import BatchConfig
from dynaseg_cli.errors import UsageError

NAMES = [f"{folder}{number}.jpg" for folder in ("", "b/", "b/c/", "d/") for number in (1, 10, 2, 30, 4)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty files in folders."""
    folder = tmp_path_factory.mktemp("photos")
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def plan(inputs: Path, shard: tuple[int, int] = (1, 1), output: Path = Path("/nowhere/out")) -> Plan:
    return plan_batch([inputs], output, batch=BatchConfig(shard=shard))


def slurm(task: int | str, least: int = 0, most: int = 7, step: int | str = 1, count: int = 8) -> dict[str, str]:
    """The variables of a task of an array."""
    values = {"ID": task, "MIN": least, "MAX": most, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


# What a shard is


@given(count=st.integers(1, 30))
def test_shards_share_out_every_job_once_and_in_order(photos: Path, count: int) -> None:
    jobs = plan(photos).jobs
    assert len(jobs) == len(NAMES)
    shards = [plan(photos, (index, count)).jobs for index in range(1, count + 1)]
    assert sorted((job for shard in shards for job in shard), key=lambda job: job.name) == jobs
    assert all(shard == sorted(shard, key=lambda job: job.name) for shard in shards)
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    dealt = [shard[turn] for turn in range(max(sizes)) for shard in shards if turn < len(shard)]
    assert dealt == jobs


def test_partition_is_the_same_in_any_order_of_listing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan(photos, (2, 3)).jobs
    scandir = os.scandir

    def backwards(path: str) -> Iterator[os.DirEntry[str]]:
        return reversed(list(scandir(path)))

    monkeypatch.setattr("os.scandir", backwards)
    assert plan(photos, (2, 3)).jobs == before


def test_shard_of_more_shards_than_images_is_empty(photos: Path) -> None:
    assert plan(photos, (21, 21)).jobs == []


@pytest.mark.parametrize("index", [1, 2, 3])
def test_images_that_cannot_be_together_are_refused_by_every_shard(tmp_path: Path, index: int) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg", "c.png"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"would both be written as c\.png"):
        plan(tmp_path, (index, 3))


@pytest.mark.parametrize("index", [1, 2, 3])
def test_folder_without_images_is_refused_by_every_shard(tmp_path: Path, index: int) -> None:
    with pytest.raises(UsageError, match="no images in"):
        plan(tmp_path, (index, 3))


@pytest.mark.parametrize("index", [1, 2, 30])
def test_folder_that_cannot_be_listed_is_named_by_every_shard(
    photos: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if Path(path).name == "d":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    assert [outcome.path for outcome in plan(photos, (index, 30)).unlistable] == [str(photos / "d")]


# How it is written


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("2/8", (2, 8)), ("1000/1000", (1000, 1000))])
def test_shard_is_read_as_it_is_written(text: str, shard: tuple[int, int]) -> None:
    assert parse_shard(text, slurm(3)) == shard


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "/",
        "2/",
        "/8",
        "2/8/1",
        "2 of 8",
        "-1/8",
        "+1/8",
        "1.0/2",
        "a/b",
        "Auto",
        "\u0662/\u0668",
        "2/8\n",
        "9" * 5000 + "/1",
    ],
)
def test_text_that_is_no_shard_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="^`shard` must be I/N, such as 2/8, or auto, not " + re.escape(text)):
        parse_shard(text, {})


@pytest.mark.parametrize(
    ("variables", "shard"),
    [
        (slurm(0), (1, 8)),
        (slurm(7), (8, 8)),
        (slurm(1, least=1, most=8), (1, 8)),
        (slurm(8, least=1, most=8), (8, 8)),
        (slurm(10, least=4, most=16, step=3, count=5), (3, 5)),
        (slurm(10, least=4, most=17, step=3, count=5), (3, 5)),
        (slurm(5, least=5, most=5, count=1), (1, 1)),
    ],
    ids=str,
)
def test_task_of_an_array_knows_its_shard(variables: dict[str, str], shard: tuple[int, int]) -> None:
    assert parse_shard("auto", variables) == shard


@given(first=st.integers(0, 5), step=st.integers(1, 5), count=st.integers(1, 20))
def test_tasks_of_an_array_have_the_shards_from_first_to_last(first: int, step: int, count: int) -> None:
    tasks = range(first, first + step * count, step)
    shards = [parse_shard("auto", slurm(task, first, tasks[-1], step, count)) for task in tasks]
    assert shards == [(index, count) for index in range(1, count + 1)]


@pytest.mark.parametrize(
    "variables",
    [
        slurm(1, least=1, most=5, count=3),
        slurm(4, least=1, most=7, step=2, count=4),
        slurm(1, least=1, most=7, step=0, count=4),
    ],
    ids=str,
)
def test_array_with_gaps_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"^`shard=auto` needs a Slurm array without gaps.*; give I/N"):
        parse_shard("auto", variables)


@pytest.mark.parametrize("lacking", slurm(0))
def test_auto_outside_an_array_is_refused_saying_what_it_needs(lacking: str) -> None:
    variables = slurm(0)
    del variables[lacking]
    with pytest.raises(UsageError, match=f"^`shard=auto` needs .*{lacking}.*give I/N, such as `shard=2/8`"):
        parse_shard("auto", variables)


@pytest.mark.parametrize("variables", [slurm("", 0), slurm("many"), slurm(0, step="")], ids=str)
def test_variables_that_are_no_numbers_are_refused(variables: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"^`shard=auto` needs a task of a Slurm array, with numbers in"):
        parse_shard("auto", variables)
