from __future__ import annotations

import itertools
import json
import signal
import time
from pathlib import Path

import psutil
import pytest
from samples import TINY, photo_folder, pictures_of, stand_in_for_python

from dynaseg_cli.batch.stages import READERS, WRITERS
from dynaseg_cli.benchmark.stream import AHEAD, COUNTED, MOST_IMAGES, UNCOUNTED, Stream, steps_of_stream
from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.files.output_folder import Job
from dynaseg_cli.files.weights import identify
from dynaseg_cli.workers.worker import ENGINES


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    photo_folder(tmp_path / "photos", "a.png", "b.png", "sub/c.png")
    return [Job(str(tmp_path / "photos" / f"{name}.png"), name) for name in ("a", "b", "sub/c")]


def outcomes(*seconds: float, then: str = "") -> str:
    """A shell script that says when its images were finished, in seconds from now, and does something else then."""
    now = time.monotonic()
    lines = [
        {"finished": now + second, "reason": None, "host_bytes": 1000 * number, "device_bytes": None}
        for number, second in enumerate(seconds, 1)
    ]
    return "".join(f"echo '{json.dumps(line)}'\n" for line in lines) + then


# The process itself


def test_figures_are_of_a_process_that_does_what_segment_does(jobs: list[Job], tmp_path: Path) -> None:
    stream = Stream(TINY, jobs, "cpu")
    started = time.monotonic()
    steps: list[tuple[str, str | None]] = []
    for job, reason in stream.run(tmp_path / "out"):
        steps.append((job.source.stem, reason))
        if len(steps) == 1:
            (folder,) = (tmp_path / "out").iterdir()
            written = {path.relative_to(folder).as_posix() for path in folder.rglob("0/a.*")}
            assert written == {*pictures_of("0/a"), "stats/0/a.json"}
            assert 0 < (stream.first_image_seconds or 0) < time.monotonic() - started
            assert (stream.images, stream.images_per_second) == (0, None)
            # Ctrl-C reaches every process of a terminal: this one leaves it to the other.
            (process,) = psutil.Process().children()
            process.send_signal(signal.SIGINT)
    passed = time.monotonic() - started
    assert steps == [(name, None) for name in "abcabcabca"]  # the first, and three passes over all
    figures = stream.document()
    assert figures["images"] == 9
    # The clock of both processes is the same one: what they measured fits into what has passed here.
    assert 0 < figures["first_image_seconds"] + 9 / figures["images_per_second"] < passed
    assert figures["peak_bytes"]["host"] > 1e8
    assert figures["peak_bytes"]["device"] is None
    assert list((tmp_path / "out").iterdir()) == []
    assert psutil.Process().children() == []


def test_options_that_segment_cannot_be_given_reach_the_process(jobs: list[Job], tmp_path: Path) -> None:
    config = SegmentConfig(**{**vars(TINY), "blocks": 1, "learning_rate": 0.2, "literal": True, "levels": 1})
    steps = Stream(config, jobs[:1], "cpu").run(tmp_path)
    assert next(steps)[1] is None
    (stats,) = tmp_path.glob(".dynaseg-stream-*/stats/0/a.json")
    options = json.loads(stats.read_text())["options"]
    steps.close()
    assert options == config.as_options()
    assert not list(tmp_path.glob(".dynaseg-stream-*"))
    assert psutil.Process().children() == []


def test_file_of_weights_reaches_the_process(jobs: list[Job], tmp_path: Path) -> None:
    (tmp_path / "made.pth").write_bytes(b"no weights")
    weights = identify(tmp_path / "made.pth")
    config = SegmentConfig(**{**vars(TINY), "backbone": "resnet18-fpn", "weights": weights})
    ((_, reason),) = Stream(config, jobs, "cpu").run(tmp_path / "out")
    assert reason is not None
    assert f"`weights` {weights.path}: neither a state dict" in reason


def test_image_that_fails_ends_the_stream_with_its_reason(jobs: list[Job], tmp_path: Path) -> None:
    jobs[1].source.write_bytes(b"nothing")
    stream = Stream(TINY, jobs, "cpu")
    (first, second) = stream.run(tmp_path / "out")
    assert first == (Job(jobs[0].path, "0/a"), None)
    assert second == (Job(jobs[1].path, "0/b"), "not an image of a known format, or damaged at its start")
    assert stream.first_image_seconds
    assert stream.images_per_second is None
    assert list((tmp_path / "out").iterdir()) == []


def test_mistake_in_the_process_is_named(jobs: list[Job], tmp_path: Path) -> None:
    ((job, reason),) = Stream(TINY, jobs, "cuda:99").run(tmp_path / "out")
    assert job.source == jobs[0].source
    assert reason is not None
    assert reason.startswith("the process ended early, exit code 1: ")
    assert "`device=cuda:99`: there is no such device" in reason
    assert list((tmp_path / "out").iterdir()) == []


# What is made of its lines, with a script in its place


@pytest.fixture
def one(jobs: list[Job]) -> Stream:
    return Stream(TINY, jobs[:1], "cpu")


def test_figures_worked_by_hand(one: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first image's files at 10 s to the ninth's at 26 s; a tenth counts no longer."""
    stand_in_for_python(monkeypatch, tmp_path, outcomes(10, 11, 12, 13, 14, 15, 16, 17, 26, 99, then="sleep 60"))
    assert len(list(one.run(tmp_path / "out"))) == 9
    assert one.images == 8
    assert one.images_per_second == pytest.approx(8 / 16)
    assert one.first_image_seconds == pytest.approx(10, abs=5)
    assert one.document()["peak_bytes"] == {"host": 9000, "device": None}


def test_figures_of_a_stream_broken_off(one: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_python(monkeypatch, tmp_path, outcomes(10, 12, 14, then="exec sleep 60"))
    steps = one.run(tmp_path / "out")
    list(itertools.islice(steps, 3))
    steps.close()
    assert (one.images, one.images_per_second) == (2, pytest.approx(1 / 2))
    assert psutil.Process().children() == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "the process ended early, exit code 3"),
        ("echo Traceback >&2; echo 'OSError: lost' >&2; echo >&2; exit 1", "exit code 1: OSError: lost"),
        ("kill -9 $$", "the process was ended by SIGKILL; was there memory enough?"),
        ("kill -11 $$", "the process was ended by SIGSEGV"),
        ("printf '{'", "the process ended early, exit code 0"),
    ],
)
def test_process_that_ends_early_says_why(
    one: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    stand_in_for_python(monkeypatch, tmp_path, outcomes(1, 2, then=script))
    steps = list(one.run(tmp_path / "out"))
    assert [why is None for _, why in steps] == [True, True, False]
    assert str(steps[-1][1]).endswith(reason)
    assert one.images == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_process_that_cannot_be_started_is_a_failure(
    one: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "nowhere"))
    ((_, reason),) = one.run(tmp_path / "out")
    assert reason == f"{tmp_path / 'nowhere'}: No such file or directory"


def test_folder_that_cannot_be_made_is_a_failure(one: Stream, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    ((_, reason),) = one.run(tmp_path / "out")
    assert reason == f"{tmp_path / 'out'}: File exists"


# How long it is


@pytest.mark.parametrize(("images", "counted"), [(1, 8), (2, 8), (3, 9), (7, 14), (8, 8), (32, 32), (500, 32)])
def test_steady_state_is_whole_passes_over_enough_images(images: int, counted: int) -> None:
    assert steps_of_stream(images, "cpu") == 1 + counted


def test_graphics_card_has_more_images_than_the_runner_works_ahead() -> None:
    """So that none was decoded while the first one waited for the card."""
    at_a_time = READERS + 1 + ENGINES + 1 + WRITERS
    assert at_a_time < UNCOUNTED["cuda"]
    assert at_a_time < AHEAD
    assert steps_of_stream(2, "cuda:1") == UNCOUNTED["cuda"] + COUNTED["cuda"]


def test_only_the_first_images_are_streamed_each_under_names_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_python(monkeypatch, tmp_path, outcomes(*range(200)))
    many = [Job(str(tmp_path / f"{number}.png"), f"{number:03}") for number in range(100)]
    steps = [job for job, _ in Stream(TINY, many, "cuda:0").run(tmp_path / "out")]
    assert len(steps) == UNCOUNTED["cuda"] + 2 * MOST_IMAGES
    assert {job.source for job in steps} == {job.source for job in many[:MOST_IMAGES]}
    assert len({job.name for job in steps}) == len(steps)
    assert (steps[0].name, steps[MOST_IMAGES].name) == ("0/000", "1/000")
