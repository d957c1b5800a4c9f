"""What the tests share: which of them can run on this machine, and small images that look like photos."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

# No deadline: the machine may be busy. No database: the working tree stays clean.
settings.register_profile("dynaseg", deadline=None, database=None, derandomize=True, max_examples=50)
settings.load_profile("dynaseg")

# Images this small gain nothing from a second thread, and on a busy machine lose minutes to it: here, and in processes
# that tests start.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""That tests send."""
BSDS500 = Path(os.environ.get("DYNASEG_BSDS500") or Path(__file__).parents[2] / "shared" / "data" / "bsds500")


def pytest_report_header() -> list[str]:
    cuda = "available" if torch.cuda.is_available() else "NOT available: tests marked requires_cuda are skipped"
    bsds500 = BSDS500 if BSDS500.is_dir() else f"NOT in {BSDS500}: tests marked requires_bsds500 are skipped"
    return [f"CUDA: {cuda}", f"BSDS500: {bsds500}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The slow ones first: several processes then end at about the same time.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    lacking: dict[str, str] = {}
    if not torch.cuda.is_available():
        lacking["requires_cuda"] = "no CUDA device here: CUDA is not compared with the CPU"
    if not BSDS500.is_dir():
        lacking["requires_bsds500"] = f"no BSDS500 in {BSDS500}: set DYNASEG_BSDS500 to its folder"
    for item in items:
        for marker, reason in lacking.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def no_ignored_signals() -> Iterator[None]:
    """Processes that tests start do not ignore the signals that they are sent.

    Under nohup, and in the background of a script, this process ignores some, and so would all that it starts. A
    handler is not inherited: this process still ignores them, the others do not.
    """
    ignored = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda number, frame: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session")
def bsds500() -> Path:
    """The folder of the BSDS500 photos and annotations; for tests marked requires_bsds500."""
    return BSDS500


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """Sky, ground, a disc and a box under uneven light and noise: (24, 32, 3) uint8, read-only."""
    rows, columns = np.mgrid[:24, :32]
    image = np.where(rows[..., None] < 10, [120, 160, 220], [90, 130, 60]).astype(float)
    image[(rows - 8) ** 2 + (columns - 8) ** 2 < 30] = [230, 200, 60]
    image[12:20, 18:28] = [150, 50, 40]
    image *= 0.8 + 0.4 * columns[..., None] / 32
    image += np.random.default_rng(0).normal(0, 8, image.shape)
    pixels = image.clip(0, 255).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels


@pytest.fixture(scope="session")
def patches() -> NDArray[np.uint8]:
    """Four noisy patches, (8, 12, 3): so few pixels that rounding seldom decides a label and runs can be compared."""
    image = np.empty((8, 12, 3))
    image[:4, :6], image[:4, 6:] = [200, 180, 60], [100, 120, 140]
    image[4:, :6], image[4:, 6:] = [170, 60, 150], [40, 60, 50]
    image += np.random.default_rng(0).normal(0, 25, image.shape)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
