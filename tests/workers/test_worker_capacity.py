from __future__ import annotations

import dataclasses

import pytest

from dynaseg_cli.config import PRESETS, SegmentConfig
from dynaseg_cli.workers import worker as capacity
from dynaseg_cli.workers.worker import WORKER_BYTES, available_memory, threads_of_worker, workers_with_room


@pytest.mark.parametrize(
    ("config", "threads"),
    [
        (SegmentConfig(), 1),
        (SegmentConfig(max_size=512), 1),
        (SegmentConfig(max_size=513), 16),
        (SegmentConfig(max_size=0), 16),
        (PRESETS["paper"], 16),
        (dataclasses.replace(PRESETS["paper"], max_size=128), 16),
    ],
)
def test_small_working_sizes_have_a_thread_each(config: SegmentConfig, threads: int) -> None:
    assert threads_of_worker(config, 16) == threads


@pytest.mark.parametrize(
    ("cores", "threads", "memory", "workers"),
    [(16, 1, 100, 16), (16, 4, 100, 4), (16, 1, 5, 5), (16, 16, 100, 1), (2, 4, 100, 1), (16, 1, 0, 1)],
)
def test_workers_have_a_core_and_memory_each(
    cores: int, threads: int, memory: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "available_memory", lambda: memory * WORKER_BYTES + 1)
    assert workers_with_room(cores, threads) == workers


def test_memory_of_this_machine_is_found() -> None:
    assert 100 << 20 < available_memory() < 1 << 50
