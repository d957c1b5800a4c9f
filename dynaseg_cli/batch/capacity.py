"""How many workers a machine's cores and memory have room for, where nobody says."""

from __future__ import annotations

import os
from pathlib import Path

from ..config import SegmentConfig

SMALL = 512
"""Longest side of the working size up to which a worker takes no more than `WORKER_BYTES`, and two threads get an image
done hardly faster than one."""
WORKER_BYTES = 1_500_000_000


def threads_of_worker(config: SegmentConfig, cores: int) -> int:
    """One for a small working size, which images side by side use better than threads; all for a large one.

    It depends on neither the images nor the memory: the number of threads changes how results round.
    """
    return 1 if 0 < config.max_size <= SMALL and not config.literal else cores


def workers_with_room(cores: int, threads: int) -> int:
    """As many as there are cores for so many threads each, and memory."""
    return max(1, min(cores // threads, available_memory() // WORKER_BYTES))


def available_memory() -> int:
    """Bytes that may be taken: what Linux says is free, or all there is, and within a container's limit."""
    try:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) << 10
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except (OSError, ValueError):
        return available
    return min(available, int(limit)) if limit.isdecimal() else available
