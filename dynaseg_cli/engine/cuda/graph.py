"""The loop over iterations as a CUDA graph: the device runs ahead, and the host only reads how far it got."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ..device import allocator_lock, is_out_of_memory
from ..iteration import End, Iteration, Status, Step, Trajectory, read_status

LARGE_PIXELS = 1 << 16
"""From this size on an iteration keeps the device busy for longer than the host needs to launch the next one."""
SMALL_REPLAYS = 2
"""Iterations of a smaller image between two reads of the status. As many are under way while the host reads, and run
without effect if the loop has ended. With the default patience most fits take 2: more would mostly be in vain."""


class CaptureError(RuntimeError):
    """The work runs on the device, but could not be captured."""


class CapturedIteration(Iteration):
    """An iteration that is captured once and replayed for every image of its size.

    Parameters
    ----------
    beside : another one, whose graph may give memory to this one's. The two must never run at once.

    Raises
    ------
    CaptureError
        If the iteration runs, but cannot be captured.
    """

    def __init__(self, step: Step, trajectory: Trajectory, beside: CapturedIteration | None = None) -> None:
        super().__init__(step, trajectory)
        self.rehearse()
        device = trajectory.ended.device
        self._graph: CudaGraph = CudaGraph(
            self._evaluate_and_descend, device, None if beside is None else beside._graph
        )
        self._status, self._next_status = (StatusCopy(device) for _ in range(2))

    def _loop(self, limit: int, watch: Callable[[Status], None]) -> End:
        at_a_time = replays_between_reads(self.trajectory.labels.numel())
        left = limit - self._replay(min(at_a_time, limit), self._status)
        while True:
            if left:
                # Launched before the host waits for the previous status, so that the device is never idle.
                left -= self._replay(min(at_a_time, left), self._next_status)
            status = self._status.read()
            watch(status)
            if status.end is not None:
                return status.end
            self._status, self._next_status = self._next_status, self._status

    def _replay(self, times: int, copy: StatusCopy) -> int:
        for _ in range(times):
            self._graph.replay()
        copy.send(self.trajectory.status())
        return times


def replays_between_reads(pixels: int) -> int:
    return 1 if pixels >= LARGE_PIXELS else SMALL_REPLAYS


class CudaGraph:
    """A capture of `work` on the current CUDA device, which must neither wait for the device nor depend on its values.

    `work` must have run before, because a library's preparations on its first call cannot be captured.

    Graphs can share memory: each then overwrites what the others have made. So `work` must leave all that is wanted
    later in tensors that were made before the capture, and graphs that share must run one after another. Any of them
    can be dropped at any time: their memory is released with the last one.

    Parameters
    ----------
    beside : shares its memory with this one.

    Raises
    ------
    CaptureError
        If it cannot be captured.
    """

    _failed: ClassVar[list[torch.cuda.CUDAGraph]] = []
    """Graphs whose capture failed. They must not be freed, because torch's allocator still calls them."""

    def __init__(self, work: Callable[[], None], device: torch.device, beside: CudaGraph | None = None) -> None:
        self._graph = torch.cuda.CUDAGraph()
        pool = None if beside is None else beside._graph.pool()
        # Not `torch.cuda.graph`, which waits for the device, collects garbage and empties the cache on each capture.
        current = torch.cuda.current_stream(device)
        stream = current
        if current == torch.cuda.default_stream(device):  # where nothing can be captured
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            stream.wait_stream(current)
        with allocator_lock, torch.cuda.stream(stream):
            # Other threads may use the device during the capture.
            self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                work()
            except BaseException as error:
                with contextlib.suppress(RuntimeError):
                    self._graph.capture_end()
                if isinstance(error, Exception) and not is_out_of_memory(error):
                    self._failed.append(self._graph)
                    raise CaptureError(str(error)) from error
                raise
            try:
                self._graph.capture_end()
            except RuntimeError as error:
                self._failed.append(self._graph)
                raise CaptureError(str(error)) from error
        current.wait_stream(stream)

    def replay(self) -> None:
        with allocator_lock:
            self._graph.replay()


class StatusCopy:
    """An asynchronous copy of a status from the device to pinned memory of the host."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._host = torch.empty(3, dtype=torch.int64, pin_memory=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def send(self, status: Tensor) -> None:
        self._host.copy_(status, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self._device))

    def read(self) -> Status:
        """Wait for the copy, but not for work that was launched after it."""
        self._copied.synchronize()
        return read_status(self._host)
