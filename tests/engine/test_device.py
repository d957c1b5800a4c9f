from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from dynaseg_cli.engine.device import (
    available_devices,
    describe_device,
    memory_is_low,
    on_stream,
    resolve_device,
    resolve_devices,
)
from dynaseg_cli.engine.precision import compute_dtype
from dynaseg_cli.errors import DeviceUnavailableError, UsageError


def pretend(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False) -> None:
    """Make the machine look as if it had so many CUDA devices, and MPS or not."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(0, False, ["cpu"]), (0, True, ["mps", "cpu"]), (2, False, ["cuda:0", "cuda:1", "cpu"])],
)
def test_auto_is_the_first_of_the_devices_there_are(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: list[str]
) -> None:
    pretend(monkeypatch, cuda, mps)
    assert available_devices() == expected
    assert resolve_device("auto") == torch.device(expected[0])


@pytest.mark.parametrize(
    ("name", "expected"), [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1")]
)
def test_device_is_taken_by_name(monkeypatch: pytest.MonkeyPatch, name: str, expected: str) -> None:
    pretend(monkeypatch, cuda=2)
    assert resolve_device(name) == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "quantum", "cuda:x", ""])
def test_missing_device_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend(monkeypatch)
    with pytest.raises(DeviceUnavailableError, match=f"`device={name}`: .* choose from cpu$") as raised:
        resolve_device(name)
    assert isinstance(raised.value, UsageError)


def test_cuda_device_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=2)
    with pytest.raises(DeviceUnavailableError, match="choose from cuda:0, cuda:1, cpu"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("cuda", "names", "expected"),
    [
        (3, "auto", ["cuda:0", "cuda:1", "cuda:2"]),
        (3, "cuda", ["cuda:0", "cuda:1", "cuda:2"]),
        (3, "cuda:0,cuda:2", ["cuda:0", "cuda:2"]),
        (3, "cuda:2, cuda:0,cuda:2", ["cuda:2", "cuda:0"]),
        (3, "cpu", ["cpu"]),
        (0, "auto", ["cpu"]),
    ],
)
def test_several_devices_are_taken_each_once(
    monkeypatch: pytest.MonkeyPatch, cuda: int, names: str, expected: list[str]
) -> None:
    pretend(monkeypatch, cuda)
    assert resolve_devices(names) == expected


@pytest.mark.parametrize("names", ["cuda", "cuda:0,cuda:2", "cpu,", "cpu;mps"])
def test_missing_device_among_several_is_refused(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    pretend(monkeypatch, cuda=2 if "," in names else 0)
    with pytest.raises(DeviceUnavailableError, match="there is no such device here"):
        resolve_devices(names)


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda:0"])
def test_precision_asked_for_is_taken(device: str) -> None:
    assert compute_dtype(torch.device(device), "float32") == torch.float32
    assert compute_dtype(torch.device(device), "bfloat16") == torch.bfloat16


@pytest.mark.parametrize(("amx", "avx512"), [(True, False), (False, True), (False, False)])
def test_auto_precision_on_a_cpu_asks_for_native_bfloat16(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert compute_dtype(torch.device("cpu"), "auto") == (torch.bfloat16 if amx or avx512 else torch.float32)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_auto_precision_on_cuda_asks_for_native_bfloat16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert compute_dtype(torch.device("cuda:0"), "auto") == expected


def test_auto_precision_on_mps_is_float32() -> None:
    assert compute_dtype(torch.device("mps"), "auto") == torch.float32


@pytest.mark.parametrize(("threads", "told"), [(1, ", 1 thread)"), (2, ", 2 threads)")])
def test_cpu_is_described_with_its_threads(monkeypatch: pytest.MonkeyPatch, threads: int, told: str) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    description = describe_device(torch.device("cpu"))
    assert description.startswith("cpu (")
    assert description.endswith(told)


@pytest.mark.parametrize(("free", "low"), [(5, False), (4.9, True), (0, True)])
def test_memory_is_low_when_a_sixteenth_is_not_free(monkeypatch: pytest.MonkeyPatch, free: float, low: bool) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * 2**30), 80 * 2**30))
    assert memory_is_low(torch.device("cuda:0")) == low


@pytest.mark.parametrize("error", [None, InterruptedError("enough")])
def test_work_on_a_stream_follows_what_was_launched_before_and_is_done_at_the_end(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """With a stand-in for a stream. Errors change nothing."""
    done: list[str] = []

    class Stream:
        device = torch.device("cuda:1")

        def wait_stream(self, other: str) -> None:
            done.append(f"wait for {other}")

        def synchronize(self) -> None:
            done.append("synchronize")

    @contextlib.contextmanager
    def enter(stream: Stream) -> Iterator[None]:
        done.append("enter")
        yield
        done.append("leave")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the current one of {device}")
    monkeypatch.setattr(torch.cuda, "stream", enter)
    with contextlib.suppress(InterruptedError), on_stream(Stream()):  # type: ignore[arg-type]
        done.append("work")
        if error is not None:
            raise error
    expected = ["wait for the current one of cuda:1", "enter", "work", "synchronize"]
    assert done[:4] == expected


def test_a_cpu_never_imports_triton() -> None:
    code = (
        "import sys, numpy, torch\n"
        "before = 'triton' in sys.modules\n"
        "from dynaseg_cli import Engine, SegmentConfig\n"
        "Engine(SegmentConfig(iterations=2), 'cpu').segment(numpy.zeros((20, 20, 3), numpy.uint8))\n"
        "assert before == ('triton' in sys.modules) == False"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
