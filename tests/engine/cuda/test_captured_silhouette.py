"""The captured silhouette phase, with a graph that calls what it recorded; and on CUDA, for real."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaseg_cli import Engine, SegmentConfig
from dynaseg_cli.engine import engine as engine_module
from dynaseg_cli.engine.cuda import silhouette as captured_module
from dynaseg_cli.engine.cuda.graph import CaptureError
from dynaseg_cli.engine.cuda.silhouette import CapturedSilhouette, captured_silhouette
from dynaseg_cli.engine.device import STRICT
from dynaseg_cli.method.silhouette import SAMPLE, silhouette_phase

CPU = torch.device("cpu")


def photo_of(seed: int) -> NDArray[np.uint8]:
    """As many colours as `seed` + 3, with noise."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 256, (seed + 3, 3))[random.integers(seed + 3, size=(50, 60))]
    return (colours + random.normal(0, 5, colours.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a CPU pretend to be a CUDA device that is never behind."""

    class CallingGraph:
        def __init__(self, work: Callable[[], None], device: torch.device) -> None:
            self.replay = work

    class Nothing:
        def __init__(self, *arguments: object) -> None:
            pass

        def record(self, stream: object) -> None:
            pass

        def synchronize(self) -> None:
            pass

    empty = torch.empty

    def unpinned(*size: object, pin_memory: bool = False, **options: object) -> Tensor:
        return empty(*size, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(captured_module, "CudaGraph", CallingGraph)
    monkeypatch.setattr(torch, "empty", unpinned)
    for name in ("Stream", "Event"):
        monkeypatch.setattr(torch.cuda, name, Nothing)
    for name in ("stream", "device"):
        monkeypatch.setattr(torch.cuda, name, contextlib.nullcontext)


@pytest.mark.usefixtures("without_cuda")
def test_threads_take_turns_and_get_what_their_own_images_give() -> None:
    captured = CapturedSilhouette(CPU, 4)
    images = [photo_of(seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(captured.find, images))
    assert found == [silhouette_phase(image, 4) for image in images]
    assert len({silhouette.k for silhouette in found}) > 2


@pytest.mark.usefixtures("without_cuda")
@pytest.mark.parametrize("shape", [(1, 1), (20, 30), (60, 50)])
def test_small_and_plain_images_need_no_graph(shape: tuple[int, int]) -> None:
    captured = CapturedSilhouette(CPU, 0)
    image = np.zeros((*shape, 3), dtype=np.uint8)
    assert captured.find(image) == silhouette_phase(image, 0)
    assert captured.find(image).k == 1
    few = photo_of(1)[:20, :30]
    assert len(few.reshape(-1, 3)) < SAMPLE
    assert captured.find(few) == silhouette_phase(few, 0)


@pytest.mark.usefixtures("without_cuda")
def test_where_it_cannot_be_captured_there_is_a_warning_and_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(work: Callable[[], None], device: torch.device) -> None:
        raise CaptureError("no")

    monkeypatch.setattr(captured_module, "CudaGraph", refuse)
    monkeypatch.delenv(STRICT, raising=False)
    assert captured_silhouette(CPU, 0) is None
    assert "without a captured silhouette phase" in caplog.text
    monkeypatch.setenv(STRICT, "1")
    with pytest.raises(CaptureError):
        captured_silhouette(CPU, 0)


@pytest.mark.usefixtures("without_cuda")
def test_engines_beside_each_other_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "captures", lambda device, config: True)
    first = Engine(SegmentConfig(), "cpu")
    beside, alone = Engine(SegmentConfig(), "cpu", first), Engine(SegmentConfig(), "cpu")
    assert first._captured_silhouette is beside._captured_silhouette is not None
    assert alone._captured_silhouette is not first._captured_silhouette


@pytest.mark.requires_cuda
def test_a_captured_phase_finds_what_a_cpu_finds() -> None:
    captured = CapturedSilhouette(torch.device("cuda", 0), 0)
    for seed in (0, 5, 9, 0):
        found, expected = captured.find(photo_of(seed)), silhouette_phase(photo_of(seed), 0)
        assert found.k == expected.k
        assert found.scores[found.k] == pytest.approx(expected.scores[found.k], abs=1e-4)
