from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from samples import noise

from dynaseg_cli.pictures.palette import palette_colors
from dynaseg_cli.pictures.recording import LEAST_WIDTH, MOST_FRAMES, PANEL, Frame, Recorder, recording
from dynaseg_cli.resampling import shrink

COLORS = np.array([[250, 0, 0], [0, 0, 250]], dtype=np.uint8)


def frame(iteration: int, labels: NDArray[np.integer]) -> Frame:
    return Frame(iteration, len(np.unique(labels)), labels.astype(np.uint16))


def pictures(content: bytes) -> list[NDArray[np.int64]]:
    with Image.open(io.BytesIO(content)) as animation:
        assert animation.format == "WEBP"
        return [np.array(each.convert("RGB")).astype(int) for each in ImageSequence.Iterator(animation)]


def milliseconds(content: bytes) -> list[int]:
    with Image.open(io.BytesIO(content)) as animation:
        found = []
        for each in ImageSequence.Iterator(animation):
            each.load()
            found.append(each.info["duration"])
        return found


@pytest.mark.parametrize("iterations", [1, MOST_FRAMES, MOST_FRAMES + 1, 1000])
def test_recorder_keeps_a_bounded_number_of_evenly_spaced_iterations_and_the_last(iterations: int) -> None:
    recorder = Recorder()
    for iteration in range(1, iterations + 1):
        recorder.add(iteration, iteration, np.full((2, 3), iteration % 7))
    kept = [each.iteration for each in recorder.frames]
    assert len(kept) == min(iterations, len(kept)) <= MOST_FRAMES + 1
    assert len(kept) > MOST_FRAMES // 2 or len(kept) == iterations
    assert (kept[0], kept[-1]) == (1, iterations)
    assert len(set(np.diff(kept[:-1]))) <= 1
    assert all(each.present == each.iteration and (each.labels == each.iteration % 7).all() for each in recorder.frames)


def test_recorder_begins_anew_with_the_iterations() -> None:
    recorder = Recorder()
    for iteration in (1, 2, 3, 1, 2):
        recorder.add(iteration, 5, np.zeros((1, 1), dtype=int))
    assert [each.iteration for each in recorder.frames] == [1, 2]


def test_recorder_keeps_labels_as_they_were() -> None:
    recorder, labels = Recorder(), np.zeros((1, 1), dtype=np.int16)
    recorder.add(1, 1, labels)
    labels[:] = 9
    assert recorder.frames[0].labels.tolist() == [[0]]


def test_recorder_keeps_no_more_than_is_shown() -> None:
    recorder = Recorder()
    labels = np.arange(960)[None].repeat(600, axis=0)
    recorder.add(1, 960, labels)
    (kept,) = recorder.frames
    assert kept.labels.shape == (300, PANEL)
    np.testing.assert_array_equal(kept.labels, labels[::2, ::2])


def test_labels_stand_beside_the_photo_in_the_colours_they_have_in_the_end() -> None:
    """Channel 5 becomes label 0, channel 2 label 1."""
    photo = np.full((60, 80, 3), 128, dtype=np.uint8)
    numbers = np.array([2, 3, 1, 4, 5, 0])
    halves = np.repeat([[5, 2]], 40, axis=1).repeat(60, axis=0)
    content = recording(photo, [frame(1, halves[:, ::-1]), frame(2, halves)], numbers, numbers[halves], COLORS)
    first, second, last = pictures(content)
    assert first.shape == second.shape == last.shape
    height = 6 * 60
    for picture, (left, right) in ((first, COLORS[::-1]), (second, COLORS), (last, COLORS)):
        np.testing.assert_array_equal(picture[height // 2, PANEL // 2], 128)
        np.testing.assert_array_equal(picture[height // 2, -PANEL * 3 // 4], left)
        np.testing.assert_array_equal(picture[height // 2, -PANEL // 4], right)
    assert (first[height:] != second[height:]).any(), "the caption tells the iteration"


def test_channels_that_vanished_have_colours_of_their_own() -> None:
    """All are gone but channel 1."""
    labels = np.array([[0, 1, 2, 3]]).repeat(4, axis=0)
    content = recording(noise(0, 4, 4), [frame(1, labels)], np.array([1, 0]), np.zeros((4, 4), dtype=int), COLORS[:1])
    row = pictures(content)[0][100, -PANEL:].reshape(4, -1, 3)[:, 60]
    table = palette_colors(4).astype(int)
    table[0] = COLORS[0]
    np.testing.assert_array_equal(row, table[[1, 0, 2, 3]])


def test_photo_is_made_small_once_a_size_whatever_the_number_of_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(
        sys.modules[recording.__module__],
        "shrink",
        lambda image, width, height: made.append((width, height)) or shrink(image, width, height),
    )
    labels = np.zeros((40, 60), dtype=np.uint8)
    frames = [frame(iteration, labels[:size, :size]) for iteration, size in enumerate((5, 5, 5, 10, 10, 10), 1)]
    recording(noise(0, 60, 40), frames, np.arange(1), labels, COLORS, means=True)
    assert sorted(made) == [(5, 5), (10, 10), (60, 40)]


def test_means_are_those_of_the_photo_at_the_time() -> None:
    photo = np.zeros((4, 4, 3), dtype=np.uint8)
    photo[:, :2], photo[:, 2:] = 40, 200
    whole, halves = np.zeros((4, 4), dtype=int), np.array([[0, 0, 1, 1]]).repeat(4, axis=0)
    means = np.array([[40] * 3, [200] * 3], dtype=np.uint8)
    content = recording(photo, [frame(1, whole), frame(2, halves)], np.arange(2), halves, means, means=True)
    first, second, last = (picture[100, [-PANEL * 3 // 4, -PANEL // 4]] for picture in pictures(content))
    np.testing.assert_array_equal(first, 120)
    np.testing.assert_array_equal(second, means)
    np.testing.assert_array_equal(last, means)


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (3, 2), (2000, 1), (1, 2000), (481, 321), (321, 481), (1000, 400)]
)
def test_photos_of_any_shape_fit(width: int, height: int) -> None:
    labels = np.zeros((height, width), dtype=np.uint8)
    small = frame(1, np.zeros((max(1, height // 10), max(1, width // 10)), dtype=int))
    for frames in ([], [small], [small, small]):
        found = pictures(recording(noise(0, width, height), frames, np.zeros(1, dtype=int), labels, COLORS))
        assert len(found) <= len(frames) + 1  # equal ones are joined
        assert all(LEAST_WIDTH <= picture.shape[1] <= 2 * PANEL + 20 for picture in found)
        assert all(picture.shape[0] <= 2 * PANEL + 60 for picture in found)


def test_result_stays_longer_than_iterations_do() -> None:
    frames = [frame(iteration, np.full((2, 2), iteration % 2)) for iteration in range(1, 41)]
    *run, last = milliseconds(recording(noise(0), frames, np.arange(2), np.ones((20, 24), dtype=int), COLORS))
    assert len(set(run)) == 1
    assert 4000 <= sum(run) <= 8000
    assert last >= 5 * run[0]
