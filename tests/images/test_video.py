"""Frames of videos, compared with those that PyAV decodes from the first to the last."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dynaseg_cli import read_photo
from dynaseg_cli.errors import DecodeError
from dynaseg_cli.files.output_folder import Job
from dynaseg_cli.images import video
from dynaseg_cli.images.pages import count_pages, read_job, read_page

av = pytest.importorskip("av", reason="the extra video is not installed")

from video_samples import decoded_in_order, moving_square, write_video  # noqa: E402 - needs the extra

MANY = 10_000_000
KINDS = {
    "a.mp4": ("mpeg4", {}),
    "b.avi": ("mpeg4", {}),
    "c.mkv": ("mpeg4", {}),
    "d.mov": ("libx264", {"bf": "2"}),
    "e.mkv": ("libx264", {"bf": "2", "x264-params": "open-gop=1"}),
    "f.mp4": ("libx264", {"x264-params": "intra-refresh=1"}),
    "g.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "12"}),
    "h.webm": ("libvpx-vp9", {"lag-in-frames": "12"}),
    "i.avi": ("mjpeg", {}),
}


def frame(path: Path, number: int) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(read_page(path, number, MANY).content)))


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    return write_video(tmp_path / "movie.mp4", moving_square(20))


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_those_of_the_whole_video_in_any_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, options = KINDS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV was built without {codec}")
    path = write_video(tmp_path / name, moving_square(31), codec, **options)
    expected = decoded_in_order(path)
    assert count_pages(path, MANY) == len(expected)
    # A short way and a short memory, so that the file is read from other places.
    monkeypatch.setattr(video, "_FAR", 3)
    monkeypatch.setattr(video, "_KEPT", 2)
    numbers = [*range(1, len(expected) + 1), *np.random.default_rng(0).integers(1, len(expected) + 1, 40).tolist()]
    for number in numbers:
        assert np.array_equal(frame(path, number), expected[number - 1]), number


def test_frames_in_order_are_decoded_once(movie: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    usual = video._Opened.__init__

    def counting(self: video._Opened, path: Path, max_pixels: int | None) -> None:
        opened.append(path)
        usual(self, path, max_pixels)

    monkeypatch.setattr(video._Opened, "__init__", counting)
    for number in range(1, 21):
        frame(movie, number)
    assert len(opened) == 2, "once to count the frames, once to decode them"


def test_hash_is_that_of_the_file_and_follows_its_content(movie: Path) -> None:
    first, last = read_page(movie, 1, MANY), read_page(movie, 20, MANY)
    assert first.sha256 == last.sha256
    write_video(movie, moving_square(21))
    assert read_page(movie, 1, MANY).sha256 != first.sha256


def test_without_pages_the_first_frame_is_the_photo(movie: Path) -> None:
    source = read_job(Job(str(movie), "movie"), MANY)
    photo = source.photo(MANY)
    assert np.array_equal(photo.pixels, decoded_in_order(movie)[0])
    assert (photo.frames, photo.warnings) == (20, ("first of 20 frames, 19 left out",))
    assert np.array_equal(read_photo(movie).pixels, photo.pixels)
    assert np.array_equal(read_photo(movie, page=7).pixels, decoded_in_order(movie)[6])


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_frames_are_turned_as_a_phone_says(movie: Path, matrix: tuple[int, ...], turns: int) -> None:
    """The matrix of the track header, (a, b, c, d) of ISO 14496-12: x' = a x + c y, y' = b x + d y, y is down."""
    upright = frame(movie, 3)
    content = bytearray(movie.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 1, 3, 4), matrix, strict=True):
        content[at + 4 * place : at + 4 * place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    movie.write_bytes(content)
    # (0, 1, -1, 0) sends right to down and down to left: a quarter clockwise, which np.rot90 calls -1.
    assert np.array_equal(frame(movie, 3), np.rot90(upright, turns))


# Damage


def test_of_a_video_that_is_cut_off_one_frame_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    noise = [np.random.default_rng(seed).integers(0, 255, (48, 64, 3)).astype(np.uint8) for seed in range(30)]
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for each in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(each, "rgb24")))
        container.mux(stream.encode(None))
    whole = path.read_bytes()
    assert whole.index(b"moov") < whole.index(b"mdat"), "the header comes first"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    count = count_pages(path, MANY)
    assert count is not None and 10 < count < 30
    for number in range(1, count - 1):  # the last one may be cut in two
        assert frame(path, number).shape == (48, 64, 3)
    with pytest.raises(DecodeError, match=f"its frame {count} cannot be decoded, or is missing"):
        frame(path, count)


def test_without_its_end_with_the_header_nothing_is_read(movie: Path) -> None:
    content = movie.read_bytes()
    assert content.index(b"mdat") < content.index(b"moov")
    movie.write_bytes(content[: len(content) // 2])
    assert count_pages(movie, MANY) is None
    with pytest.raises(DecodeError, match="damaged: its header cannot be read, as in a video that is cut off"):
        read_job(Job(str(movie), "movie"), MANY)


@pytest.mark.parametrize("name", ["a.mp4", "b.avi", "c.mkv"])
def test_damage_anywhere_is_named_or_survived(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, moving_square(12))
    content, generator = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for at in generator.integers(0, len(content), 20):
            damaged[at] = generator.integers(0, 256)
        path.write_bytes(damaged[: generator.integers(len(content) // 2, len(content))])
        count_pages(path, MANY)
        for number in (1, 5, 12):
            with contextlib.suppress(DecodeError):
                assert frame(path, number).ndim == 3


@pytest.mark.parametrize("name", ["a.mp4", "b.avi", "c.mkv"])
def test_video_without_frames_fails(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.start_encoding()
    assert count_pages(path, MANY) is None
    with pytest.raises(DecodeError):
        read_job(Job(str(path), "a"), MANY).photo(MANY)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert count_pages(path, MANY) is None
    with pytest.raises(DecodeError, match="a video file without pictures"):
        read_job(Job(str(path), "sound"), MANY)


def test_frames_of_too_many_pixels_are_refused(movie: Path) -> None:
    with pytest.raises(DecodeError, match="64 x 48 pixels are more than `max_pixels=3071` allows"):
        assert read_page(movie, 1, 3071).content
    assert read_page(movie, 1, 3072).content


def test_missing_frame_is_named(movie: Path) -> None:
    with pytest.raises(DecodeError, match="its frame 21 cannot be decoded, or is missing"):
        frame(movie, 21)
    assert frame(movie, 20).shape == (48, 64, 3)


def test_video_that_is_gone_is_named_by_the_system(movie: Path) -> None:
    movie.unlink()
    with pytest.raises(FileNotFoundError):
        read_page(movie, 1, MANY)


# Without the extra


def test_photos_load_no_library_of_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # importing it would fail
    path = tmp_path / "a.png"
    Image.fromarray(moving_square(1)[0]).save(path)
    assert read_job(Job(str(path), "a"), MANY).content
