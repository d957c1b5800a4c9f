"""Videos that tests write with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Frames = Sequence[NDArray[np.uint8]]


def write_video(path: Path, frames: Frames, codec: str = "mpeg4", gop: int = 6, **options: str) -> Path:
    """Write (H, W, 3) frames to a file of the format that its suffix names, with a key frame every `gop` frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        stream.options = options
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    return path


def decoded_in_order(path: Path) -> list[NDArray[np.uint8]]:
    """All frames of a video as PyAV gives them from the first to the last."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def moving_square(count: int, size: tuple[int, int] = (48, 64)) -> list[NDArray[np.uint8]]:
    """A bright square that goes to the right over a dark ramp, so that no two frames are alike."""
    frames = []
    for number in range(count):
        frame = np.zeros((*size, 3), np.uint8)
        frame[..., 2] = np.arange(size[1]) * 2
        left = 2 + number * (size[1] - 20) // max(count, 1)
        frame[16:32, left : left + 16] = (250, 220, 40)
        frames.append(frame)
    return frames
