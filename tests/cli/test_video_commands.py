"""Videos and sequences on the command line, as a person sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from samples import files_below, read_pixels, save_photo
from typer.testing import CliRunner

from dynaseg_cli.cli import app

pytest.importorskip("av", reason="the extra video is not installed")

from video_samples import moving_square, write_video

QUICK = ["--iterations", "2", "--max-size", "16", "--features", "8", "--clusters", "8", "--min-labels", "3"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    return tmp_path


def segment(*options: str, workers: str = "0") -> tuple[int, str]:
    result = CliRunner().invoke(app, ["segment", "in", "-o", "out", *QUICK, "--workers", workers, *options])
    return result.exit_code, result.stderr


def test_first_frame_alone_is_segmented_and_a_line_says_so(folder: Path) -> None:
    write_video(folder / "in/a.mp4", moving_square(12))
    code, said = segment()
    assert code == 0
    assert "in/a.mp4: first of 12 frames, 11 left out" in said
    assert [path.name for path in (folder / "out/labels").iterdir()] == ["a.png"]


def test_every_so_manieth_frame(folder: Path) -> None:
    write_video(folder / "in/a.mp4", moving_square(12))
    assert segment("--pages", "all", "--every", "5")[0] == 0
    assert sorted(path.stem for path in (folder / "out/labels").iterdir()) == ["a-p01", "a-p06", "a-p11"]
    assert segment("--pages", "2..9", "--every", "4", "-o", "part")[0] == 0
    assert sorted(path.stem for path in (folder / "part/labels").iterdir()) == ["a-p02", "a-p06"]
    code, said = segment("--every", "5")
    assert (code, "--every 5 takes some of several --pages: add --pages all" in said) == (2, True)


def test_sequence_by_workers_is_that_of_one_process(folder: Path) -> None:
    for name in ("a.mp4", "b.avi"):
        write_video(folder / "in" / name, moving_square(5))
    assert segment("--pages", "all", "--sequence")[0] == 0
    assert segment("--pages", "all", "--sequence", "-o", "other", workers="2")[0] == 0
    one, other = files_below(folder / "out"), files_below(folder / "other")
    maps = [name for name in one if name.endswith((".png", ".safetensors"))]
    assert len(maps) == 3 * 10 + 2
    assert [name for name in maps if one[name] != other.get(name)] == []
    histories = [json.loads(one[f"stats/a-p{number}.json"])["source"].get("history") for number in range(1, 6)]
    assert histories[0] is None
    assert len(set(histories)) == 5


def test_damaged_videos_fail_and_the_rest_goes_on(folder: Path) -> None:
    whole = write_video(folder / "in/a.mp4", moving_square(3)).read_bytes()
    header = whole.index(b"moov")
    (folder / "in/cut.mp4").write_bytes(whole[: header - 50])
    (folder / "in/short.mp4").write_bytes(whole[: header + 200])
    (folder / "in/text.avi").write_text("this is no video at all, but a text")
    (folder / "in/empty.mkv").touch()
    code, said = segment("--pages", "all", "--sequence")
    assert code == 1
    for reason in (
        "in/cut.mp4: damaged: its header cannot be read",
        "in/short.mp4: it is a video file without pictures, or cut off in its header",
        "in/text.avi: not an image of a known format",
        "in/empty.mkv: the file is empty",
    ):
        assert reason in " ".join(said.split()), said
    assert sorted(path.stem for path in (folder / "out/labels").iterdir()) == ["a-p1", "a-p2", "a-p3"]


def test_export_reads_frames_again(folder: Path) -> None:
    pytest.importorskip("skimage")
    write_video(folder / "in/a.mp4", moving_square(4))
    assert segment("--pages", "all", "--sequence", "--export", "csv", "--save", "labels,stats,regions")[0] == 0
    rows = (folder / "out/export/measurements.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == {f"a-p{number}.mp4" for number in range(1, 5)}


def test_sequence_of_photos_goes_on_where_it_was_killed(folder: Path) -> None:
    for number in range(4):
        save_photo(folder / f"in/{number}.png", number)
    assert segment("--sequence")[0] == 0
    expected = files_below(folder / "out")
    for name in ("stats/3.json", "labels/3.png"):
        (folder / "out" / name).unlink()
    code, said = segment("--sequence")
    assert (code, "1 segmented, 3 complete already" in " ".join(said.split())) == (0, True)
    after = files_below(folder / "out")
    same = [name for name in expected if name.endswith((".png", ".safetensors"))]
    assert [name for name in same if expected[name] != after[name]] == []


def test_without_the_extra_videos_are_counted_with_the_remedy(folder: Path) -> None:
    save_photo(folder / "in/photo.png")
    write_video(folder / "in/a.mp4", moving_square(2))
    # A process of its own: whether the extra is installed is found out when the program starts.
    code = "import sys; sys.modules['av'] = None; from dynaseg_cli.cli import main; main()"
    for arguments, expected in (
        (["segment", "in", "-n"], "1 video file (in/a.mp4); pip install 'dynaseg[video]' reads video"),
        (["segment", "in/a.mp4", *QUICK, "-j", "0"], "it is a video, which is not read: pip install 'dynaseg[video]'"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert expected in " ".join(done.stderr.split()), done.stderr


def test_labels_of_a_still_video_stay(folder: Path) -> None:
    write_video(folder / "in/a.mkv", [moving_square(1)[0]] * 6)
    options = ["--iterations", "60", "--max-size", "64", "--clusters", "16", "--save", "labels,stats,raw"]
    assert segment("--pages", "all", "--sequence", *options)[0] == 0
    for kind in ("labels", "raw"):
        maps = [read_pixels(folder / f"out/{kind}/a-p{number}.png") for number in range(2, 7)]
        assert len(np.unique(maps[0])) > 1
        assert min(float((maps[0] == one).mean()) for one in maps) > 0.99
