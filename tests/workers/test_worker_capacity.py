from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from samples import TINY

from dynaseg_cli import BatchConfig, Engine
from dynaseg_cli.config import PRESETS, SegmentConfig
from dynaseg_cli.files.output_folder import Job
from dynaseg_cli.workers import worker as capacity
from dynaseg_cli.workers.messages import Assignment, Message, Ready
from dynaseg_cli.workers.worker import (
    WORKER_BYTES,
    available_memory,
    card_workers_with_room,
    free_memory,
    new_engines,
    threads_of_worker,
    workers_of_card,
    workers_with_room,
)


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


# On GPUs


@pytest.mark.parametrize(
    ("config", "cores", "workers"),
    [
        (SegmentConfig(), 16, 8),
        (SegmentConfig(), 64, 8),
        (SegmentConfig(), 7, 3),
        (SegmentConfig(), 1, 1),
        (SegmentConfig(max_size=512), 16, 8),
        (SegmentConfig(max_size=513), 16, 1),
        (PRESETS["paper"], 16, 1),
    ],
)
def test_workers_of_a_gpu_have_two_cores_each_if_fits_are_small(
    config: SegmentConfig, cores: int, workers: int
) -> None:
    assert workers_of_card(config, cores) == workers


@pytest.mark.parametrize(("free", "available", "workers"), [(24, 100, 8), (7, 100, 2), (80, 9, 3), (1, 1, 1)])
def test_workers_of_a_gpu_have_memory_on_both_sides(free: int, available: int, workers: int) -> None:
    assert card_workers_with_room(8, free * 10**9, available * 10**9) == workers


def test_only_the_own_gpu_is_asked_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    totals = {"cuda:0": 80, "cuda:1": 24, "cuda:2": 40}
    asked: list[str] = []

    def free(card: str) -> tuple[int, int]:
        asked.append(card)
        return totals[card] - 10, totals[card]

    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda card: SimpleNamespace(total_memory=totals[card]))
    assert free_memory([*totals], "cuda:2") == 24
    assert free_memory([*totals], "cuda:1") == 14
    assert free_memory(["cuda:0"], "cuda:0") == 70
    assert asked == ["cuda:2", "cuda:1", "cuda:0"]


@dataclasses.dataclass
class Mail:
    """What a worker says that gets no jobs."""

    sent: list[Message] = dataclasses.field(default_factory=list)
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    begun: bool = False

    def jobs(self) -> Iterator[Job]:
        return iter(())

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def observe(self, message: Message) -> None:
        pass


@dataclasses.dataclass
class Machine:
    """A machine that pretends to have 16 cores and 4 GPUs with 24 GB each."""

    out: Path
    cards: int = 4
    cores: int = 16
    devices: list[str] = dataclasses.field(default_factory=list)

    def ready(self, config: SegmentConfig = TINY, **assignment: Any) -> tuple[int, str, int]:
        """Workers that a worker asks for, its device and its threads."""
        told = {"device": "cuda", "number": 0, "workers": None, "threads": None, **assignment}
        mail: Any = Mail()
        torch.set_num_threads(self.cores)
        capacity._serve(mail, Assignment(config, BatchConfig(), str(self.out), str(self.out), **told))
        (ready,) = mail.sent
        assert isinstance(ready, Ready)
        return ready.workers, self.devices[-1], torch.get_num_threads()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine, threads = Machine(tmp_path / "out"), [1]

    def engines(config: SegmentConfig, device: str) -> list[Engine]:
        machine.devices.append(device)
        return [Engine(config, "cpu")]

    def resolve(names: str) -> list[str]:
        return [f"cuda:{index}" for index in range(machine.cards)] if names == "cuda" else names.split(",")

    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr("dynaseg_cli.engine.device.resolve_devices", resolve)
    monkeypatch.setattr(capacity, "new_engines", engines)
    monkeypatch.setattr(capacity, "free_memory", lambda cards, own: 24 * 10**9)
    monkeypatch.setattr(capacity, "available_memory", lambda: 100 * 10**9)
    return machine


def test_each_gpu_gets_several_workers_which_are_dealt_round(machine: Machine) -> None:
    assert [machine.ready(number=number) for number in range(8)] == [
        (8, f"cuda:{number % 4}", 2) for number in range(8)
    ]
    machine.cards = 1
    assert machine.ready(number=5) == (8, "cuda:0", 2)
    assert machine.ready(dataclasses.replace(TINY, max_size=0)) == (1, "cuda:0", 16)


def test_threads_beside_a_gpu_do_not_depend_on_memory(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.cards = 1
    monkeypatch.setattr(capacity, "free_memory", lambda cards, own: 7 * 10**9)
    assert machine.ready() == (2, "cuda:0", 2)
    machine.cores = 64
    assert machine.ready() == (2, "cuda:0", 8)


def test_numbers_that_are_given_hold_on_gpus(machine: Machine) -> None:
    assert machine.ready(workers=3, number=2) == (3, "cuda:2", 5)
    assert machine.ready(workers=6, number=5, device="cuda:1,cuda:3") == (6, "cuda:3", 2)
    assert machine.ready(threads=1) == (8, "cuda:0", 1)
    assert machine.ready(device="mps") == (1, "mps", 16)


def test_engines_are_several_on_a_gpu_for_small_fits_out_of_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pretended:
        def __init__(self, config: SegmentConfig, device: str, beside: object = None) -> None:
            self.device = torch.device(device)

    monkeypatch.setattr("dynaseg_cli.engine.engine.Engine", Pretended)
    assert len(new_engines(SegmentConfig(), "cuda:1")) == 2
    for config in (SegmentConfig(max_size=0), PRESETS["paper"], SegmentConfig(sequence=True)):
        assert len(new_engines(config, "cuda:1")) == 1
    for device in ("cpu", "mps"):
        assert len(new_engines(SegmentConfig(), device)) == 1
