"""The labels of an image, iteration by iteration, as an animated WebP."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..regions.segments import areas_and_colors
from ..resampling import shrink, working_size
from .palette import palette_colors

MOST_FRAMES = 96
"""Most iterations that are shown; of more, every second, every fourth, ..., to bound memory and file size."""
PANEL = 480
"""Longest side in pixels of the photo and of the labels beside it."""
WIDE = 2.0
"""Width over height from which the photo stands above the labels."""
GAP = 8
CAPTION = 40
LEAST_WIDTH = 360
"""Room for the caption."""
FONT_SIZE = 18
BACKGROUND, TEXT, FAINT = (24, 26, 31), (240, 240, 240), (150, 155, 165)
RUN_MS = 6000
"""Duration of all iterations together, within the limits for one."""
FASTEST_MS, SLOWEST_MS = 60, 250
LAST_MS = 2500
EFFORT = 50
"""Effort of WebP's lossless compression, 0..100. Flat colours take fewer bytes than lossy, in a third of the time."""


@dataclass(frozen=True)
class Frame:
    """The labels after an iteration."""

    iteration: int
    present: int
    """Number of labels that are present, q'."""
    labels: NDArray[np.uint16]
    """(h, w) raw channels of the network, at most as large as they are shown."""


class Recorder:
    """Keeps the labels of the last iteration and of at most `MOST_FRAMES` before it."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._every = 1
        self._last: Frame | None = None

    def add(self, iteration: int, present: int, labels: NDArray[np.integer]) -> None:
        """Add the (h, w) labels after an iteration, counted from 1, which starts a new recording."""
        if iteration == 1:
            self._frames, self._every = [], 1
        height, width = labels.shape
        small = _sampled(labels, *working_size(width, height, PANEL))
        self._last = Frame(iteration, present, small.astype(np.uint16))
        if (iteration - 1) % self._every:
            return
        if len(self._frames) == MOST_FRAMES:
            self._frames = self._frames[::2]
            self._every *= 2
            if (iteration - 1) % self._every:
                return
        self._frames.append(self._last)

    @property
    def frames(self) -> list[Frame]:
        """The frames in order of the iterations."""
        if self._last is None or (self._frames and self._frames[-1].iteration == self._last.iteration):
            return self._frames
        return [*self._frames, self._last]


def recording(
    photo: NDArray[np.uint8],
    frames: Sequence[Frame],
    numbers: NDArray[np.integer],
    labels: NDArray[np.integer],
    colors: NDArray[np.uint8],
    *,
    means: bool = False,
) -> bytes:
    """An animated WebP: the photo beside the labels of each frame and, last, of the result, with captions.

    Parameters
    ----------
    photo : (H, W, 3) uint8 RGB.
    frames : may be empty.
    numbers : (C,) the label that each of the first raw channels became.
    labels : (H, W), the result.
    colors : (K, 3) uint8 RGB of the labels.
    means : whether labels have the mean colours of the photo, which differ from frame to frame.
    """
    height, width = photo.shape[:2]
    shrunk = shrink(photo, *working_size(width, height, PANEL))
    stage = _Stage(np.asarray(Image.fromarray(shrunk).resize(_enlarged(shrunk.shape[1], shrunk.shape[0]))))
    table = _channel_colors(frames, numbers, colors)
    # Once per size, not per frame: the photo may have many megapixels.
    fitted = {(h, w): shrink(photo, w, h) for h, w in {frame.labels.shape for frame in frames}} if means else {}
    last = frames[-1].iteration if frames else 0
    pictures = [
        stage.picture(
            (areas_and_colors(frame.labels, fitted[frame.labels.shape])[1] if means else table)[frame.labels],
            f"iteration {frame.iteration}",
            f"q' = {frame.present}",
            frame.iteration / last,
        )
        for frame in frames
    ]
    found = np.count_nonzero(np.bincount(labels.reshape(-1)))
    what = "1 label" if found == 1 else f"{found} labels"
    after = f"after {last} iteration{'' if last == 1 else 's'}" if frames else ""
    pictures.append(stage.picture(colors[_sampled(labels, *stage.size)], what, after, 1.0))
    pace = int(np.clip(RUN_MS / max(len(frames), 1), FASTEST_MS, SLOWEST_MS))
    stream = io.BytesIO()
    first, *rest = pictures
    first.save(
        stream,
        "WEBP",
        save_all=True,
        append_images=rest,
        duration=[pace] * len(frames) + [LAST_MS],
        loop=0,
        lossless=True,
        quality=EFFORT,
        method=0,
    )
    return stream.getvalue()


class _Stage:
    """The parts that all pictures of a recording share."""

    def __init__(self, photo: NDArray[np.uint8]) -> None:
        height, width = photo.shape[:2]
        stacked = width >= WIDE * height
        self.size = width, height
        content = (width, 2 * height + GAP) if stacked else (2 * width + GAP, height)
        self._canvas = Image.new("RGB", (max(content[0], LEAST_WIDTH), content[1] + CAPTION), BACKGROUND)
        left = (self._canvas.width - content[0]) // 2
        self._place = (left, height + GAP) if stacked else (left + width + GAP, 0)
        self._canvas.paste(Image.fromarray(photo), (left, 0))
        self._font = ImageFont.load_default(FONT_SIZE)

    def picture(self, painted: NDArray[np.uint8], left: str, right: str, progress: float) -> Image.Image:
        """A picture with painted (h, w, 3) labels, a text at either end of the caption, and a line for the progress."""
        picture = self._canvas.copy()
        picture.paste(Image.fromarray(painted).resize(self.size, Image.Resampling.NEAREST), self._place)
        draw = ImageDraw.Draw(picture)
        top, width = picture.height - CAPTION, picture.width
        middle = top + CAPTION // 2 + 1
        draw.text((10, middle), left, TEXT, self._font, anchor="lm")
        draw.text((width - 10, middle), right, TEXT, self._font, anchor="rm")
        draw.line((0, top + 2, round(progress * (width - 1)), top + 2), FAINT, 2)
        return picture


def _enlarged(width: int, height: int) -> tuple[int, int]:
    """The size of a small image in whole multiples, so that its pixels stay square."""
    times = max(1, PANEL // max(width, height))
    return width * times, height * times


def _sampled(labels: NDArray[np.integer], width: int, height: int) -> NDArray[np.integer]:
    """Every n-th pixel of an (H, W) map, (height, width)."""
    rows, columns = (np.arange(side) * n // side for side, n in zip((height, width), labels.shape, strict=True))
    sampled: NDArray[np.integer] = labels[rows[:, None], columns]
    return sampled


def _channel_colors(
    frames: Sequence[Frame], numbers: NDArray[np.integer], colors: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """(C, 3) uint8: for each raw channel, the colour of the label it became, or another if it became none."""
    channels = 1 + max((int(frame.labels.max()) for frame in frames), default=0)
    label_of = np.arange(max(channels, len(numbers)))
    label_of[: len(numbers)] = numbers
    table = palette_colors(max(int(label_of.max()) + 1, len(colors)))
    table[: len(colors)] = colors
    return table[label_of]
