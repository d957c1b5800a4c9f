"""The GPU script with a stand-in for Python, and the figures made from its files."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import gpu_collect
import gpu_mixed
import gpu_prepare
import gpu_profile
import gpu_score
import gpu_smoke
import gpu_tables
import numpy as np
import pytest
from numpy.typing import NDArray
from samples import TINY, files_below, photo_folder, read_pixels

from dynaseg_cli import Engine

SCRIPT = Path(__file__).parents[2] / ".ci" / "gpu"
STEPS = {
    "smoke": 70,
    "default": 35,
    "workers-8": 30,
    "iterations": 40,
    "profile": 45,
    "tests": 75,
    "mixed": 30,
    "workers-4": 25,
    "workers-2": 25,
    "paper-scf": 90,
    "paper-fsf": 35,
    "paper-literal": 30,
}
"""Their caps in seconds, in their order."""
SHORT = {"LIMIT": "3", "LEAST": "2"}
"""Time for one step that does not end."""

# --- The script ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Script:
    """`.ci/gpu` with something that only notes how it is called in the place of Python."""

    folder: Path
    results: Path

    def run(self, failing: str = "", slow: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it; `failing` and `slow` are shell patterns of arguments, nothing else happens."""
        python = self.folder / "python"
        python.write_text(
            f'#!/bin/sh\necho "$*" >> {self.folder}/calls\ncase "$*" in\n'
            f"{failing or 'none'}) echo broken; exit 3;;\n{slow or 'none'}) exec sleep 60;;\nesac\n"
        )
        python.chmod(0o755)
        return subprocess.run(
            [SCRIPT, self.results],
            env={**os.environ, "PYTHON": str(python), "PHOTOS": str(self.folder / "photos"), **environment},
            # Interrupts are ignored, as for a script in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    @property
    def log(self) -> str:
        return (self.results / "log.txt").read_text()

    @property
    def steps(self) -> dict[str, int]:
        """The caps of the steps that were begun."""
        return {name: int(cap) for name, cap in re.findall(r"(?m)^== (\S+), at most (\d+) s", self.log)}


@pytest.fixture
def script(tmp_path: Path) -> Script:
    photo_folder(tmp_path / "photos" / "val", "a.png")
    return Script(tmp_path, tmp_path / "results")


def test_every_step_runs_in_order_with_its_cap(script: Script) -> None:
    done = script.run(LIMIT="100000", WHEELS="nowhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert script.steps == STEPS
    assert list(script.steps) == list(STEPS)
    assert done.stdout == script.log
    runs = {re.sub(r".*-o \S+/(\S+) .*", r"\1", call): call for call in script.calls if " segment " in call}
    for name, workers in {"default": 1, "workers-8": 8, "workers-4": 4, "workers-2": 2}.items():
        assert runs[name].endswith(f"--device cuda --workers {workers}")
    assert "--workers" not in runs["mixed"]
    assert sum(STEPS.values()) <= 535


def test_device_is_watched_while_photos_are_segmented_and_no_longer(script: Script) -> None:
    tool = script.folder / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\necho "$$ $*" >> {script.folder}/watched\nexec sleep 60\n')
    tool.chmod(0o755)
    done = script.run(slow="*segment*", ONLY="default mixed", **SHORT, PATH=f"{script.folder}:{os.environ['PATH']}")
    assert done.returncode == 0, script.log
    (watched,) = (script.folder / "watched").read_text().splitlines()
    process, _, options = watched.partition(" ")
    assert "utilization.gpu" in options
    assert not Path("/proc", process).exists()


def test_a_step_has_no_more_than_the_time_that_is_left(script: Script) -> None:
    assert script.run(LIMIT="50").returncode == 0
    left = script.steps
    assert left["default"] == STEPS["default"]
    assert left["paper-literal"] == STEPS["paper-literal"]
    assert all(40 <= left[name] <= 50 for name in ("smoke", "tests", "paper-scf")), left


def test_nothing_is_begun_in_the_last_seconds(script: Script) -> None:
    done = script.run(LIMIT="7")
    assert done.returncode == 0
    assert script.steps == {}
    assert len(re.findall("skipped, [67] s are left", script.log)) == len(STEPS)


def test_without_the_first_step_there_are_no_others(script: Script) -> None:
    done = script.run(failing="*gpu_smoke*")
    assert done.returncode == 1
    assert list(script.steps) == ["smoke"]
    assert "exit code 3\n    broken" in done.stdout


def test_what_only_several_engines_need_keeps_no_step_from_running(script: Script) -> None:
    """`gpu_smoke` has written by then that the first checks passed."""
    script.results.mkdir()
    report = script.results / "smoke.json"
    writing = f"""*gpu_smoke*) echo '{{"passed": true}}' > {report}; echo broken; exit 3;;
none"""
    done = script.run(failing=writing)
    assert done.returncode == 1
    assert list(script.steps) == list(STEPS)


@pytest.mark.parametrize("failing", ["*benchmark*", "*gpu_profile*", "*-m?pytest*", "*fsf*"])
def test_any_other_failure_keeps_no_step_from_running(script: Script, failing: str) -> None:
    done = script.run(failing=failing)
    assert done.returncode == 1
    assert list(script.steps) == list(STEPS)


@pytest.mark.slow
def test_fits_may_be_broken_off_by_time(script: Script) -> None:
    done = script.run(slow="*segment*", ONLY="default paper-scf", **SHORT)
    assert done.returncode == 0, script.log
    assert re.search(r"default: \d+ s, exit code 124", done.stdout), "it was killed, not interrupted"
    assert "paper-scf: skipped" in done.stdout


@pytest.mark.slow
def test_tests_may_not_be_broken_off_by_time(script: Script) -> None:
    done = script.run(slow="*-m?pytest*", ONLY="tests", **SHORT)
    assert done.returncode == 1, script.log
    assert list(script.steps) == ["tests"]


def test_wheels_of_what_is_there_are_not_installed(script: Script) -> None:
    wheels = script.folder / "wheels"
    wheels.mkdir()
    for name in ("here-1.0-py3-none-any.whl", "away-1.0-py3-none-any.whl"):
        (wheels / name).touch()
    assert script.run(failing="*import?away*", ONLY="profile", WHEELS=str(wheels)).returncode == 0
    installed = [call for call in script.calls if "pip" in call]
    assert len(installed) == 1
    assert "--no-index --no-deps --target" in installed[0] and installed[0].endswith("away-1.0-py3-none-any.whl")


def test_results_are_not_mixed_with_others(script: Script) -> None:
    script.results.mkdir()
    (script.results / "rates.json").touch()
    assert script.run().returncode == 2
    assert not (script.results / "log.txt").exists()


def test_photos_must_have_been_prepared(script: Script) -> None:
    assert script.run(PHOTOS="nowhere").returncode == 2


# --- What is prepared ------------------------------------------------------------------------------------------------


def prepare(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_prepare.py", "--no-wheels", *map(str, arguments)])
    return gpu_prepare.main()


def test_val_is_chosen_before_train(tmp_path: Path) -> None:
    photo_folder(tmp_path / "images", "train/1.jpg", "train/2.jpg", "val/3.jpg", "val/4.jpg")
    chosen = gpu_prepare.choose_photos(tmp_path, 3)
    assert [path.relative_to(tmp_path).as_posix() for path in chosen] == [
        "images/val/3.jpg",
        "images/val/4.jpg",
        "images/train/1.jpg",
    ]


def test_photos_are_copied_with_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_folder(tmp_path / "bsds" / "images", "train/1.jpg", "val/3.jpg")
    monkeypatch.setenv("DYNASEG_BSDS500", str(tmp_path / "bsds"))
    assert prepare(monkeypatch, "--folder", tmp_path / "gpu") == 0
    photos = tmp_path / "gpu" / "photos"
    assert sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg")) == ["train/1.jpg", "val/3.jpg"]


def test_what_was_prepared_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_folder(tmp_path / "photos", "mine.png")
    with pytest.raises(SystemExit):
        prepare(monkeypatch, "--folder", tmp_path, "--size", "24x16", "--photos", "1")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["mine.png"]


def test_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_prepare, "MOST_BYTES", 100)
    assert prepare(monkeypatch, "--folder", tmp_path, "--size", "24x16", "--photos", "1") == 1
    assert "bash .ci/gpu" not in capsys.readouterr().out


def test_photos_of_mixed_sizes_are_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = photo_folder(tmp_path / "photos", *(f"val/{number}.png" for number in range(12)))
    for folder in ("one", "other"):
        monkeypatch.setattr(sys, "argv", ["gpu_mixed.py", str(photos), str(tmp_path / folder), "--most", "10"])
        assert gpu_mixed.main() == 0
    made = files_below(tmp_path / "one")
    assert made == files_below(tmp_path / "other")
    sizes = {read_pixels(tmp_path / "one" / name).shape for name in made}
    assert len(made) == 10
    assert len(sizes) > 7
    assert all(gpu_mixed.LEAST_SIDE <= side <= 3 * 24 for height, width, _ in sizes for side in (height, width))
    assert {height > width for height, width, _ in sizes} == {True, False}


# --- What is collected -----------------------------------------------------------------------------------------------


def test_rate_leaves_out_the_first_images() -> None:
    slow, fast = [float(number) for number in range(10)], [9 + number / 4 for number in range(1, 41)]
    assert gpu_collect.images_per_second([*fast, *slow], 10) == (pytest.approx(4), 40)


def test_rate_of_few_images_is_that_of_the_second_half() -> None:
    assert gpu_collect.images_per_second([0, 10, 11, 12], 20) == (pytest.approx(1), 2)
    assert gpu_collect.images_per_second([0, 2], 20) == (pytest.approx(0.5), 1)


@pytest.mark.parametrize("finished", [[], [1.0], [1.0, 1.0]])
def test_no_rate_without_two_moments(finished: list[float]) -> None:
    assert gpu_collect.images_per_second(finished, 20)[0] is None


def entry(seconds: float, iterations: int, **fit: Any) -> dict[str, Any]:
    known = {"seconds": seconds, "iterations": iterations, "stop_reason": "iterations", "precision": "bfloat16"}
    known |= {"fused": False, "captured": False}
    return {"fit": {"silhouette": {"k": 3}, **known, **fit}, "num_labels": 5, "device": "cuda:0 (A)"}


def output_of(folder: Path, entries: dict[str, dict[str, Any]], size: int = 100) -> Path:
    """A folder as `segment` leaves it, with label maps of so many random bytes."""
    for number, (name, document) in enumerate(entries.items()):
        stats, labels = folder / "stats" / f"{name}.json", folder / "labels" / f"{name}.png"
        for path in (stats, labels):
            path.parent.mkdir(parents=True, exist_ok=True)
        stats.write_text(json.dumps(document))
        os.utime(stats, (1000 + number, 1000 + number))
        labels.write_bytes(np.random.default_rng(number).bytes(size))
    return folder


def test_step_is_described_from_its_statistics(tmp_path: Path) -> None:
    entries = {"val/a": entry(2, 1000, fused=True, captured=True), "val/b": entry(4, 1000, fused=True, captured=False)}
    found = gpu_collect.describe(output_of(tmp_path, {**entries, "train/c": entry(3, 1000)}), workers=1)
    assert (found["images"], found["images_per_second"], found["counted"]) == (3, 1, 2)
    assert (found["fit_seconds"], found["ms_per_iteration"], found["iterations"]) == (3, 3, 1000)
    assert (found["fused"], found["captured"], found["stop_reasons"]) == (2, 1, {"iterations": 3})
    assert found["interrupted"] is None, "no run.json: it was killed"


def test_device_is_as_busy_as_was_noted_in_the_time_that_counts() -> None:
    at = [datetime.datetime(2026, 11, 28, 12, 0, second) for second in range(6)]
    percentages = "10", "20", "[N/A]", "60", "70", "80"
    lines = [f"{moment:%Y/%m/%d %H:%M:%S.000}, {said}" for moment, said in zip(at, percentages, strict=True)]
    log = "\n".join([*lines[:3], "Unable to determine", "", *lines[3:], "2026/11/28 12:0"])
    assert gpu_collect.busy_percent(log, at[1].timestamp(), at[4].timestamp()) == 50
    assert gpu_collect.busy_percent(log, at[2].timestamp(), at[2].timestamp()) is None
    assert gpu_collect.busy_percent("", 0, 1e10) is None


def test_step_knows_how_busy_the_device_was_and_how_many_workers_there_may_have_been(tmp_path: Path) -> None:
    output = output_of(tmp_path, {f"{number:03}": entry(1, 1) for number in range(400)})
    busy = "".join(
        f"{datetime.datetime.fromtimestamp(1000 + second):%Y/%m/%d %H:%M:%S.000}, {second}\n" for second in range(400)
    )
    found = gpu_collect.describe(output, None, busy)
    assert (found["workers"], found["counted"], found["images_per_second"]) == (None, 240, 1)
    assert found["busy_percent"] == (159 + 399) / 2
    assert gpu_collect.describe(output, 1)["busy_percent"] is None


def test_step_without_an_image_is_described(tmp_path: Path) -> None:
    found = gpu_collect.describe(tmp_path, workers=1)
    assert (found["images"], found["images_per_second"], found["fit_seconds"]) == (0, None, None)


def test_archive_holds_labels_and_statistics(tmp_path: Path) -> None:
    outputs = [output_of(tmp_path / name, {"val/a.b": entry(1, 1)}) for name in ("one", "two")]
    assert gpu_collect.pack(tmp_path / "a.tar.gz", outputs) == []
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        assert tar.getnames() == [
            f"{name}/{path}" for name in ("one", "two") for path in ("labels/val/a.b.png", "stats/val/a.b.json")
        ]


def test_archive_stays_below_its_limit_and_tells_what_is_missing(tmp_path: Path) -> None:
    output = output_of(tmp_path / "one", {f"{number:02}": entry(1, 1) for number in range(30)}, size=100_000)
    limit = 2_000_000
    left_out = gpu_collect.pack(tmp_path / "a.tar.gz", [output], limit)
    assert 1_500_000 < (tmp_path / "a.tar.gz").stat().st_size < limit
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        packed = [name for name in tar.getnames() if name.endswith(".png")]
    assert len(packed) + len(left_out) == 30
    assert left_out[-1] == "one/29"


# --- What is measured ------------------------------------------------------------------------------------------------


def test_kernels_that_no_iteration_starts_do_not_count() -> None:
    assert gpu_profile.kernels_per_iteration({"once": 1, "each": 10, "twice each": 20, "almost": 9}, 10) == 3


def test_a_result_of_slower_code_does_not_pass(photo: NDArray[np.uint8]) -> None:
    result = Engine(TINY, "cpu").segment(photo)
    assert gpu_smoke.check_fast(result, "cpu")["iterations"] == 2
    for fused, captured in ((True, False), (False, True)):
        fit = dataclasses.replace(result.fit, fused=fused, captured=captured)
        with pytest.raises(AssertionError, match="without"):
            gpu_smoke.check_fast(dataclasses.replace(result, fit=fit), "cuda")


def smoke(monkeypatch: pytest.MonkeyPatch, results: Path, failing: str = "") -> tuple[int, dict[str, Any]]:
    """The exit code and the report of `gpu_smoke`, of which nothing is computed; a check fails if asked to."""

    def check(name: str) -> Any:
        def do(*_: object) -> dict[str, Any]:
            assert name != failing, name
            return {}

        return do

    for name in ("segment_upright_and_not", "compare_with_the_cpu", "find_silhouette", "segment_in_two_threads"):
        monkeypatch.setattr(gpu_smoke, name, check(name))
    monkeypatch.setattr(sys, "argv", ["gpu_smoke.py", str(results), "--device", "cpu"])
    return gpu_smoke.main(), json.loads((results / "smoke.json").read_text())


@pytest.mark.parametrize(
    ("failing", "passed"),
    [
        ("segment_upright_and_not", False),
        ("compare_with_the_cpu", False),
        ("find_silhouette", True),
        ("segment_in_two_threads", True),
    ],
)
def test_first_checks_decide_whether_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, passed: bool
) -> None:
    code, report = smoke(monkeypatch, tmp_path, failing)
    assert (code, report["passed"]) == (1, passed)
    assert failing in report["failure"]
    code, report = smoke(monkeypatch, tmp_path)
    assert (code, report["passed"], set(gpu_score.CHECKS) <= report.keys()) == (0, True, True)


def test_engines_that_disturb_each_other_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    segment, main = Engine.segment, threading.current_thread()

    def disturbed(engine: Engine, image: NDArray[np.uint8]) -> Any:
        result = segment(engine, image)
        if threading.current_thread() is main or image.shape != (24, 40, 3):
            return result
        return dataclasses.replace(result, labels=result.labels.clip(0, 3))

    assert gpu_smoke.segment_in_two_threads("cpu")["photos"] == 8
    monkeypatch.setattr(Engine, "segment", disturbed)
    with pytest.raises(AssertionError, match="disturb each other"):
        gpu_smoke.segment_in_two_threads("cpu")


# --- What is scored --------------------------------------------------------------------------------------------------


def test_paired_differences_are_of_the_images_of_both() -> None:
    ones = {"a": {"voi": 1.0}, "b": {"voi": 3.0}, "c": {"voi": 9.0}}
    others = {"a": {"voi": 0.0}, "b": {"voi": 0.0}, "d": {"voi": 9.0}}
    found = gpu_score.paired_differences(ones, others)["voi"]
    # 1 and 3: the standard deviation is the square root of 2, and that of the mean of two is 1.
    assert found == {"mean": 2, "standard_error": pytest.approx(1), "images": 2}


def test_one_image_has_a_difference_and_no_error() -> None:
    found = gpu_score.paired_differences({"a": {"voi": 1.0}}, {"a": {"voi": 0.5}})
    assert found["voi"] == {"mean": 0.5, "standard_error": None, "images": 1}
    assert gpu_score.paired_differences({}, {"a": {"voi": 0.5}}) == {}


def test_share_is_of_the_images_that_both_know() -> None:
    assert gpu_score.same_share({"a": 3, "b": 4, "c": None, "d": 5}, {"a": 3, "b": 5, "c": 1}) == 0.5
    assert gpu_score.same_share({"a": None}, {"a": 1}) is None


def test_iterations_are_told_by_size() -> None:
    size = {"width": 48, "height": 32, "iterations": 10, "stages": {"fit": 0.05}}
    method = {"options": {"literal": False, "precision": "bfloat16"}, "sizes": [size], "fused": True, "captured": None}
    assert gpu_score.iteration_table({"methods": [method]}) == [
        {"loop": "bfloat16", "ms": {"48x32": pytest.approx(5)}, "fused": True, "captured": None}
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (12.0, "12"),
        (0.35112, "0.351"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (-0.012, "-0.012"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert gpu_tables.number(value) == text


def test_tables_are_markdown() -> None:
    assert gpu_tables.markdown([["a", "b"], ["c", ""]]) == "| a | b |\n| --- | ---: |\n| c | - |\n"


NOTHING: dict[str, Any] = {"environment": {}, "iterations": [], "steps": {}, "profile": {}, "quality": {}, "pairs": []}


def test_what_was_not_measured_is_a_dash() -> None:
    table = gpu_tables.render(NOTHING)
    rows = [line for line in table.splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) > 15
    figures = re.sub("bfloat16", "", "".join(rows))
    assert not re.search(r"\d", figures), "every one would be invented"


def test_steps_without_a_ground_truth_are_compared_all_the_same(tmp_path: Path) -> None:
    folders = {
        name: output_of(tmp_path / name, {"val/a": entry(1, 1, silhouette={"k": k})})
        for name, k in (("default", 3), ("cpu", 4))
    }
    scorer = gpu_score.Scorer(None, tmp_path)
    found = gpu_score.compare("default", "cpu", folders, scorer)
    assert found is not None
    assert (found["images"], found["scored"], found["same_silhouette"], found["mean_labels"]) == (1, 0, 0.0, [5, 5])
    assert gpu_score.compare("default", "paper-scf", folders, scorer) is None
    assert "- of them" not in gpu_tables.render({**NOTHING, "pairs": [found]})
