"""The captured loop, with a recording that a CPU can replay, against the plain one; and on CUDA, for real."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from step_samples import NothingFromTheHost
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from dynaseg_cli.config import FREE, SegmentConfig
from dynaseg_cli.engine import fitting as fitting_module
from dynaseg_cli.engine.banded_step import BandedStep
from dynaseg_cli.engine.cuda import graph as captured_module
from dynaseg_cli.engine.cuda.graph import SMALL_REPLAYS, CaptureError, CudaGraph, replays_between_reads
from dynaseg_cli.engine.device import STRICT, allocator_lock, has_triton, is_out_of_memory, release_memory
from dynaseg_cli.engine.engine import Engine
from dynaseg_cli.engine.fitting import Fit, Fitter, Watch
from dynaseg_cli.engine.iteration import Iteration, Status, Trajectory, read_status
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.engine.precision import exact_arithmetic
from dynaseg_cli.engine.segmentation import FitRecord
from dynaseg_cli.errors import DivergedError
from dynaseg_cli.method.network import SegmentationNetwork

CONFIG = SegmentConfig(iterations=40, patience=6, blocks=2, features=12, clusters=16)
CPU = torch.device("cpu")


@dataclass
class Recordings:
    """Number of captures by the stand-in, of those with memory of their own, and of their replays."""

    count: int = 0
    alone: int = 0
    replays: int = 0


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> Recordings:
    """Lets a CPU pretend to capture: a graph that calls what it was given, a status that arrives at once."""
    recordings = Recordings()

    class CallingGraph:
        def __init__(self, work: Callable[[], None], device: torch.device, beside: CallingGraph | None) -> None:
            recordings.count += 1
            recordings.alone += beside is None
            self._work = work  # a recording computes nothing

        def replay(self) -> None:
            recordings.replays += 1
            self._work()

    class InstantCopy:
        def __init__(self, device: torch.device) -> None:
            self._content = torch.empty(3, dtype=torch.int64)

        def send(self, status: Tensor) -> None:
            self._content.copy_(status)

        def read(self) -> Status:
            return read_status(self._content)

    monkeypatch.setattr(captured_module, "CudaGraph", CallingGraph)
    monkeypatch.setattr(captured_module, "StatusCopy", InstantCopy)
    monkeypatch.setattr(fitting_module, "captures", lambda device, config: True)
    monkeypatch.setattr(fitting_module, "memory_is_low", lambda device: False)
    return recordings


def new_fitter(config: SegmentConfig) -> Fitter:
    network = SegmentationNetwork(config.blocks, config.features, config.clusters)
    network.initialise(config.seed)
    return Fitter(network.to(memory_format=torch.channels_last), config, torch.float32)  # type: ignore[call-overload]


def plain(
    monkeypatch: pytest.MonkeyPatch,
    config: SegmentConfig,
    levels: list[Tensor],
    threshold: int,
    scribbles: list[Tensor] | None = None,
) -> Fit:
    with monkeypatch.context() as patch:
        patch.setattr(fitting_module, "captures", lambda device, config: False)
        return new_fitter(config).fit(levels, threshold, scribbles=scribbles)


def assert_same(actual: Fit, expected: Fit) -> None:
    assert torch.equal(actual.labels, expected.labels)
    for field in dataclasses.fields(FitRecord):
        if field.name not in ("fused", "captured"):
            assert getattr(actual.record, field.name) == getattr(expected.record, field.name), field.name


def levels_of(photo: NDArray[np.uint8]) -> list[Tensor]:
    return [to_input(image, CPU) for image in (photo[::2, ::2], photo)]


def strokes_of(levels: list[Tensor], *labels: int) -> list[Tensor]:
    """A row of each label, top to bottom."""
    scribbles = [torch.full(level.shape[2:], FREE) for level in levels]
    for drawn in scribbles:
        for index, label in enumerate(labels):
            drawn[(2 * index + 1) * len(drawn) // (2 * len(labels)), 2:9] = label
    return scribbles


ENDINGS = {
    "converged": (CONFIG, 1),
    "threshold": (dataclasses.replace(CONFIG, patience=0), 6),
    "iterations": (dataclasses.replace(CONFIG, iterations=7, patience=0), 1),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_it_gives_what_the_plain_loop_gives(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8], ending: str
) -> None:
    config, threshold = ENDINGS[ending]
    expected = plain(monkeypatch, config, levels_of(photo), threshold)
    assert expected.record.stop_reason == ending
    fitter = new_fitter(config)
    for _ in range(2):
        fit = fitter.fit(levels_of(photo), threshold)
        assert_same(fit, expected)
        assert (fit.record.captured, expected.record.captured, fit.record.fused) == (True, False, False)
        # The replays after the end have left the network alone.
        with torch.no_grad():
            labels = fitter._network.train()(levels_of(photo)[1]).argmax(1)[0]
        assert torch.equal(labels, expected.labels)
    assert (recordings.count, recordings.alone) == (2, 1)
    # While the host reads that a level has ended, no more than the next replays are under way.
    assert recordings.replays <= 2 * (expected.record.iterations + 2 * (2 * SMALL_REPLAYS - 1))


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_no_more_is_launched_than_the_limit_leaves(
    recordings: Recordings, photo: NDArray[np.uint8], limit: int
) -> None:
    config = dataclasses.replace(CONFIG, patience=0)
    fitter = new_fitter(config)
    for _ in range(2):
        record = fitter.continue_fit(levels_of(photo)[1:], 1, limit).record
        assert (record.stop_reason, record.iterations) == ("iterations", limit)
    assert recordings.replays == 2 * limit


def test_the_larger_an_image_the_fewer_replays_are_launched_at_a_time() -> None:
    assert [replays_between_reads(pixels) for pixels in (128 * 85, 256 * 170, 481 * 321, 1 << 20)] == [2, 2, 1, 1]


def test_every_size_is_recorded_once_and_remembers_nothing(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8]
) -> None:
    images = [to_input(image, CPU) for image in (photo, photo[:16], photo[:, ::-1].copy(), photo[8:])]
    fitter = new_fitter(CONFIG)
    for image, threshold in zip(images, (1, 5, 2, 1), strict=True):
        assert_same(fitter.fit([image], threshold), plain(monkeypatch, CONFIG, [image], threshold))
    assert recordings.count == 2


def test_portraits_use_the_recordings_of_landscapes(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8]
) -> None:
    portrait = np.ascontiguousarray(photo.transpose(1, 0, 2))
    config = dataclasses.replace(CONFIG, iterations=5)
    expected = plain(monkeypatch, config, levels_of(portrait), 1)
    fitter = new_fitter(config)
    fitter.fit(levels_of(photo), 1)
    fit = fitter.fit(levels_of(portrait), 1)
    assert recordings.count == 2
    assert fit.labels.shape == portrait.shape[:2]
    np.testing.assert_allclose(fit.record.loss, expected.record.loss, rtol=1e-3)
    assert (fit.labels == expected.labels).double().mean() > 0.98
    # The network is left as it applies to the portrait as it lies.
    with torch.no_grad():
        labels = fitter._network.train()(levels_of(portrait)[1]).argmax(1)[0]
    assert (labels == fit.labels).double().mean() > 0.99


@pytest.mark.parametrize("portrait", [False, True])
def test_a_caller_who_wants_the_labels_has_those_of_every_iteration(
    recordings: Recordings, photo: NDArray[np.uint8], portrait: bool
) -> None:
    levels = levels_of(np.ascontiguousarray(photo.transpose(1, 0, 2)) if portrait else photo)
    expected = new_fitter(CONFIG).fit(levels, 1)
    replays = recordings.replays
    heard: list[tuple[int, int, Tensor]] = []

    def hear(iteration: int, present: int, labels: Tensor) -> None:
        heard.append((iteration, present, labels.clone()))

    fitter = new_fitter(CONFIG)
    fit = fitter.fit(levels, 1, hear, every=True)
    assert_same(fit, expected)
    assert not fit.record.captured
    assert recordings.replays == replays, "nothing ran ahead"
    assert [(iteration, present) for iteration, present, _ in heard] == list(
        enumerate(expected.record.labels_per_iteration, start=1)
    )
    for index, (_, present, labels) in enumerate(heard):
        assert len(labels.unique()) == present
        assert labels.shape == levels[index >= expected.record.levels[0].iterations].shape[2:]
    assert torch.equal(heard[-1][2], expected.labels)
    # The recording it was not used for is as good as ever.
    assert_same(fitter.fit(levels, 1), expected)


def test_images_with_scribbles_have_recordings_of_their_own(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8]
) -> None:
    levels, fitter = levels_of(photo), new_fitter(CONFIG)
    first, second = strokes_of(levels, 7, 3), strokes_of(levels, 1, 15, 0)
    for scribbles in (None, first, second, None, first):
        assert_same(fitter.fit(levels, 2, scribbles=scribbles), plain(monkeypatch, CONFIG, levels, 2, scribbles))
    assert recordings.count == 4


def test_scribbles_on_portraits_are_turned_with_them(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8]
) -> None:
    portrait = levels_of(np.ascontiguousarray(photo.transpose(1, 0, 2)))
    scribbles = strokes_of(portrait, 7, 3)
    config = dataclasses.replace(CONFIG, iterations=5)
    fit, expected = (
        new_fitter(config).fit(portrait, 2, scribbles=scribbles),
        plain(monkeypatch, config, portrait, 2, scribbles),
    )
    np.testing.assert_allclose(fit.record.loss, expected.record.loss, rtol=1e-3)
    assert (fit.labels == expected.labels).double().mean() > 0.98


def test_images_with_scribbles_take_no_kernels(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    """On a CPU the kernels would fail, with a warning."""
    levels = levels_of(photo)
    scribbles = strokes_of(levels, 7, 3)
    monkeypatch.setattr(fitting_module, "has_triton", lambda device: True)
    assert_same(
        new_fitter(CONFIG).fit(levels, 2, scribbles=scribbles), plain(monkeypatch, CONFIG, levels, 2, scribbles)
    )
    assert (recordings.count, caplog.records) == (2, [])


def test_where_memory_is_low_the_sizes_used_least_recently_are_given_up(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8]
) -> None:
    config = dataclasses.replace(CONFIG, iterations=1)
    fitter, released = new_fitter(config), list[torch.device]()
    monkeypatch.setattr(fitting_module, "release_memory", released.append)

    def captures_after(*heights: int) -> int:
        for height in heights:
            fitter.fit([to_input(photo[:height], CPU)], 1)
        return recordings.count

    assert captures_after(8, 10, 12, 14, 8) == 4
    monkeypatch.setattr(fitting_module, "memory_is_low", lambda device: True)
    assert captures_after(8) == 4, "what is there needs no memory"
    assert captures_after(16) == 5, "10 and 12 are given up"
    monkeypatch.setattr(fitting_module, "memory_is_low", lambda device: False)
    assert captures_after(8, 14, 16) == 5
    assert captures_after(10, 12) == 7
    assert (recordings.alone, released) == (1, [CPU])
    fitter.forget()
    assert not fitter.keeps_memory
    assert captures_after(8, 10) == 9
    assert (recordings.alone, released) == (2, [CPU, CPU]), "memory is shared with what is there, not with the past"
    # The only one goes, too.
    fitter.forget()
    captures_after(8)
    monkeypatch.setattr(fitting_module, "memory_is_low", lambda device: True)
    captures_after(10)
    assert recordings.alone == 4


def test_an_image_too_large_for_a_graph_is_fitted_without_one(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8]
) -> None:
    monkeypatch.setattr(fitting_module, "CAPTURED_PIXELS", 24 * 32 - 1)
    expected = plain(monkeypatch, CONFIG, levels_of(photo), 1)
    fit = new_fitter(CONFIG).fit(levels_of(photo), 1)
    assert_same(fit, expected)
    assert not fit.record.captured, "not all of it"
    assert recordings.count == 1


def test_out_of_memory_what_is_kept_of_other_images_goes_before_size(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8]
) -> None:
    config = dataclasses.replace(CONFIG, iterations=4, min_labels=2, max_size=0, levels=1, precision="float32")
    engine = Engine(config, "cpu")
    expected = engine.segment(photo)
    fit, widths = Fitter.fit, []

    def lack_once(fitter: Fitter, levels: list[Tensor], *options: Any, **more: Any) -> Fit:
        widths.append(levels[-1].shape[3])
        if len(widths) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fit(fitter, levels, *options, **more)

    monkeypatch.setattr(Fitter, "fit", lack_once)
    result = engine.segment(photo)
    assert widths == [32, 32]
    assert np.array_equal(result.labels, expected.labels)


def test_divergence_ends_it(recordings: Recordings, photo: NDArray[np.uint8]) -> None:
    with pytest.raises(DivergedError, match="in iteration 2"):
        new_fitter(dataclasses.replace(CONFIG, learning_rate=1e38)).fit(levels_of(photo)[1:], 1)


def test_the_caller_hears_how_far_it_is_and_can_end_it(recordings: Recordings, photo: NDArray[np.uint8]) -> None:
    heard: list[tuple[int, int]] = []
    watch: Watch = lambda iteration, present, labels: heard.append((iteration, present))  # noqa: E731
    config = dataclasses.replace(CONFIG, iterations=30, patience=0)
    fit = new_fitter(config).fit(levels_of(photo)[1:], 1, watch)
    assert [iteration for iteration, _ in heard] == [*range(SMALL_REPLAYS, 31, SMALL_REPLAYS)]
    assert [present for _, present in heard] == [
        fit.record.labels_per_iteration[iteration - 1] for iteration, _ in heard
    ]

    def stop(iteration: int, present: int, labels: Tensor) -> None:
        raise InterruptedError("enough")

    fitter = new_fitter(config)
    with pytest.raises(InterruptedError, match="enough"):
        fitter.fit(levels_of(photo)[1:], 1, stop)
    assert_same(fitter.fit(levels_of(photo)[1:], 1), fit)


def test_where_no_graph_can_be_captured_the_plain_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(work: Callable[[], None], *others: object) -> None:
        work()
        raise CaptureError("operation not permitted when stream is capturing")

    expected = plain(monkeypatch, CONFIG, levels_of(photo), 1)
    monkeypatch.setattr(captured_module, "CudaGraph", refuse)
    fitter = new_fitter(CONFIG)
    for _ in range(2):
        fit = fitter.fit(levels_of(photo), 1)
        assert_same(fit, expected)
        assert not fit.record.captured
    assert [record.message for record in caplog.records] == [
        "cpu: continuing without a captured graph, more slowly: operation not permitted when stream is capturing"
    ]


def test_where_kernels_cannot_run_plain_operations_are_captured(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    """A CPU is such a place."""
    pytest.importorskip("triton", reason="no Triton for this platform")
    expected = plain(monkeypatch, CONFIG, levels_of(photo), 1)
    monkeypatch.setattr(fitting_module, "has_triton", lambda device: True)
    assert_same(new_fitter(CONFIG).fit(levels_of(photo), 1), expected)
    assert recordings.count == 2  # the attempt with kernels did not get as far
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("cpu: continuing without fused kernels, more slowly: ")


def test_where_kernels_cannot_run_the_largest_images_go_without_them_too(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    """A CPU is such a place; images this large are not captured."""
    pytest.importorskip("triton", reason="no Triton for this platform")
    monkeypatch.setattr(fitting_module, "CAPTURED_PIXELS", 0)
    expected = plain(monkeypatch, CONFIG, levels_of(photo), 1)
    monkeypatch.setattr(fitting_module, "has_triton", lambda device: True)
    assert_same(new_fitter(CONFIG).fit(levels_of(photo), 1), expected)
    assert recordings.count == 0
    assert [record.message.partition(", ")[0] for record in caplog.records] == ["cpu: continuing without fused kernels"]


@pytest.mark.parametrize("strict", ["1", "yes"])
def test_strict_nothing_is_slower_without_a_word(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8], strict: str
) -> None:
    def refuse(work: Callable[[], None], *others: object) -> None:
        raise CaptureError("no")

    monkeypatch.setenv(STRICT, strict)
    with monkeypatch.context() as patch:
        patch.setattr(captured_module, "CudaGraph", refuse)
        with pytest.raises(CaptureError, match="no"):
            new_fitter(CONFIG).fit(levels_of(photo), 1)
    pytest.importorskip("triton", reason="no Triton for this platform")
    monkeypatch.setattr(fitting_module, "has_triton", lambda device: True)
    with pytest.raises(Exception, match=r"(?i)cpu|driver|triton"):
        new_fitter(CONFIG).fit(levels_of(photo), 1)
    monkeypatch.setenv(STRICT, "0")
    new_fitter(CONFIG).fit(levels_of(photo), 1)


@pytest.mark.parametrize("failing", ["work", "capture_end", "both"])
def test_a_graph_that_cannot_be_recorded_says_why_and_is_kept(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Uses stand-ins for the device. torch's allocator may go on calling the graph of a failed capture."""

    class FailingGraph:
        ends = 0

        def capture_begin(self, pool: object, capture_error_mode: str) -> None:
            assert (pool, capture_error_mode) == (None, "thread_local")

        def capture_end(self) -> None:
            FailingGraph.ends += 1
            if failing != "work":
                raise RuntimeError("operation failed due to a previous error during capture")

    def work() -> None:
        if failing != "capture_end":
            raise RuntimeError("operation not permitted")

    failed: list[object] = []
    monkeypatch.setattr(CudaGraph, "_failed", failed)
    stand_in_for_streams(monkeypatch, FailingGraph)
    with pytest.raises(CaptureError, match="previous error" if failing == "capture_end" else "not permitted"):
        CudaGraph(work, torch.device("cuda"))
    assert FailingGraph.ends == 1
    assert [type(graph) for graph in failed] == [FailingGraph]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt()], ids=str)
def test_what_ends_a_recording_from_outside_is_passed_on(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    class Graph:
        ended = False

        def capture_begin(self, pool: object, capture_error_mode: str) -> None:
            pass

        def capture_end(self) -> None:
            Graph.ended = True

    def work() -> None:
        raise error

    stand_in_for_streams(monkeypatch, Graph)
    with pytest.raises(type(error)):
        CudaGraph(work, torch.device("cuda"))
    assert Graph.ended


@pytest.mark.parametrize("on_default", [True, False])
def test_graphs_share_memory_and_are_captured_and_launched_while_no_other_thread_does(
    monkeypatch: pytest.MonkeyPatch, on_default: bool
) -> None:
    done: list[object] = []

    class Graph:
        def capture_begin(self, pool: object, capture_error_mode: str) -> None:
            assert allocator_lock.locked()
            done.append(pool)

        def pool(self) -> str:
            return "pool"

        def capture_end(self) -> None:
            assert allocator_lock.locked()

        def replay(self) -> None:
            assert allocator_lock.locked()
            done.append("replay")

    streams = stand_in_for_streams(monkeypatch, Graph, on_default=on_default)
    first = CudaGraph(lambda: done.append(streams[-1]), torch.device("cuda"))
    second = CudaGraph(lambda: done.append(streams[-1]), torch.device("cuda"), first)
    second.replay()
    assert not allocator_lock.locked()
    # Nothing can be captured in the default stream. An engine's own is not left.
    stream = "new" if on_default else "current"
    assert done == [None, stream, "pool", stream, "replay"]
    assert streams == ["current"]
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append(allocator_lock.locked()))
    release_memory(torch.device("cuda"))
    assert done[-1] is True


def stand_in_for_streams(monkeypatch: pytest.MonkeyPatch, graph: type, *, on_default: bool = True) -> list[str]:
    """Streams that do nothing, and graphs of a class. Returns the names of those that are current, the last one now."""
    entered = ["current"]

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            pass

    current = Stream("current")

    @contextlib.contextmanager
    def enter(stream: Stream) -> Iterator[None]:
        entered.append(stream.name)
        yield
        entered.pop()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("new"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: current if on_default else Stream("default"))
    monkeypatch.setattr(torch.cuda, "stream", enter)
    return entered


def test_threads_make_their_iterations_ready_one_after_another(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8]
) -> None:
    """Otherwise each would compile the same kernels."""
    rehearse, alone = Iteration.rehearse, list[bool]()

    def looking(iteration: Iteration) -> None:
        alone.append(fitting_module._preparing.locked())
        rehearse(iteration)

    monkeypatch.setattr(Iteration, "rehearse", looking)
    new_fitter(dataclasses.replace(CONFIG, iterations=1)).fit(levels_of(photo), 1)
    assert alone == [True]
    assert not fitting_module._preparing.locked()


def test_maps_too_large_for_the_libraries_are_as_if_memory_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fitter, "_new_iteration", lambda fitter, height, width, *, scribbled: (height, width))
    fitter = new_fitter(dataclasses.replace(CONFIG, clusters=100))
    fitter._device = torch.device("cuda")
    side = math.isqrt((1 << 31) // 104)  # of 104 channels, which 100 are rounded up to
    made = fitter._iteration(side - 2, side - 2, scribbled=False)  # the convolutions add a border of a pixel
    assert made == (side - 2, side - 2)
    with pytest.raises(MemoryError, match="more than 2147483648 values") as raised:
        fitter._iteration(side, side - 2, scribbled=False)
    assert is_out_of_memory(raised.value)


def test_no_memory_for_a_graph_is_not_the_end_of_graphs(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings, photo: NDArray[np.uint8]
) -> None:
    calling = captured_module.CudaGraph
    fitter = new_fitter(CONFIG)

    def lack(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(captured_module, "CudaGraph", lack)
    with pytest.raises(torch.OutOfMemoryError):
        fitter.fit(levels_of(photo), 1)
    monkeypatch.setattr(captured_module, "CudaGraph", calling)
    fitter.fit(levels_of(photo), 1)
    assert recordings.count == 2


@pytest.mark.parametrize("scribbled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_iteration_on_cuda_never_waits_for_the_device(dtype: torch.dtype, scribbled: bool) -> None:
    """Uses fake tensors, which have a device and a shape but no values: reading one raises an error."""
    with FakeTensorMode():
        cuda = torch.device("cuda")
        with torch.device(cuda):
            network = SegmentationNetwork(3, 104, 100)
        step = BandedStep(network, 24, 32, CONFIG, dtype, scribbled=scribbled)
        trajectory = Trajectory(24, 32, CONFIG, cuda)
        drawn = torch.full((24, 32), FREE, device=cuda) if scribbled else None
        step.load(torch.zeros(1, 3, 24, 32, device=cuda), drawn)
        trajectory.begin(3, 40)
        with NothingFromTheHost():
            trajectory.take(step.evaluate(trajectory.threshold))
            step.backward()
            assert trajectory.status().device.type == "cuda"
        with pytest.raises(DataDependentOutputException):
            trajectory.records()


@pytest.mark.requires_cuda
@pytest.mark.parametrize(("features", "dtype"), [(12, torch.float32), (104, torch.float32), (104, torch.bfloat16)])
def test_cuda_graph_gives_what_the_plain_loop_on_cuda_gives(
    monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8], features: int, dtype: torch.dtype
) -> None:
    config = dataclasses.replace(CONFIG, features=features)

    def cuda_fitter() -> Fitter:
        network = SegmentationNetwork(config.blocks, config.features, config.clusters)
        network.initialise(config.seed)
        return Fitter(network.cuda().to(memory_format=torch.channels_last), config, dtype)  # type: ignore[call-overload]

    fitter = cuda_fitter()
    with exact_arithmetic():
        for image in (photo, photo[:, ::-1].copy(), photo[:16], photo):
            levels = [level.cuda() for level in levels_of(image)]
            fit = fitter.fit(levels, 1)
            assert fit.record.captured
            assert fit.record.fused == has_triton(torch.device("cuda"))
            with monkeypatch.context() as patch:
                patch.setattr(fitting_module, "captures", lambda device, config: False)
                assert_same(fit, cuda_fitter().fit(levels, 1))
            heard: list[Tensor] = []
            assert_same(
                fitter.fit(levels, 1, lambda *news, heard=heard: heard.append(news[2].clone()), every=True), fit
            )
            assert len(heard) == len(fit.record.labels_per_iteration)
            assert torch.equal(heard[-1], fit.labels)


@pytest.mark.requires_cuda
def test_cuda_graph_with_scribbles_gives_what_the_plain_loop_on_cuda_gives(
    monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]
) -> None:
    def cuda_fitter() -> Fitter:
        network = SegmentationNetwork(CONFIG.blocks, CONFIG.features, CONFIG.clusters)
        network.initialise(CONFIG.seed)
        return Fitter(network.cuda().to(memory_format=torch.channels_last), CONFIG, torch.float32)  # type: ignore[call-overload]

    levels = [level.cuda() for level in levels_of(photo)]
    fitter = cuda_fitter()
    with exact_arithmetic():
        for labels in ((7, 3), (1, 15, 0), (7, 3)):
            scribbles = [drawn.cuda() for drawn in strokes_of(levels, *labels)]
            fit = fitter.fit(levels, len(labels), scribbles=scribbles)
            assert (fit.record.captured, fit.record.fused) == (True, False)
            with monkeypatch.context() as patch:
                patch.setattr(fitting_module, "captures", lambda device, config: False)
                assert_same(fit, cuda_fitter().fit(levels, len(labels), scribbles=scribbles))


@pytest.mark.requires_cuda
def test_engines_in_threads_give_what_each_gives_alone(
    monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]
) -> None:
    """Each captures many sizes while the others compute and give sizes up."""
    config = SegmentConfig(iterations=12, patience=3, features=24, clusters=20, min_labels=2, max_size=0, levels=1)
    crops = [photo[:height, :width].copy() for height in (8, 14, 20, 24) for width in (24, 32)]
    crops += [crop.transpose(1, 0, 2).copy() for crop in crops[::4]]

    def labels_of(start: int) -> list[NDArray[np.integer]]:
        engine = Engine(config, "cuda")
        order = [*crops[start:], *crops[:start], *crops[start:], *crops[:start]]
        found = [engine.segment(crop) for crop in order]
        assert all(one.fit.captured and one.fit.fused == has_triton(torch.device("cuda")) for one in found)
        return [one.labels for one in found]

    starts = [0, 3, 7]
    expected = [labels_of(start) for start in starts]
    asked = itertools.count()
    monkeypatch.setattr(fitting_module, "memory_is_low", lambda device: next(asked) % 7 == 6)
    with ThreadPoolExecutor(len(starts)) as threads:
        found = list(threads.map(labels_of, starts))
    for actual, wanted in zip(found, expected, strict=True):
        assert all(map(np.array_equal, actual, wanted))
