"""The loop over iterations as a CUDA graph: the device runs ahead, and the host only reads how far it got."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ..device import is_out_of_memory
from ..iteration import End, Iteration, Status, Trajectory, read_status
from ..training_step import TrainingStep

REPLAYS = 4
"""Iterations launched between two reads of the status. At most twice as many run without effect after the end."""


class CaptureError(RuntimeError):
    """The work runs on the device, but could not be captured."""


class CapturedIteration(Iteration):
    """An iteration that is captured once and replayed for every image of its size.

    Raises
    ------
    CaptureError
        If the iteration runs, but cannot be captured.
    """

    def __init__(self, step: TrainingStep, update: Callable[[], None], trajectory: Trajectory) -> None:
        super().__init__(step, update, trajectory)
        self.rehearse()
        self._graph = CudaGraph(self._evaluate_and_update, trajectory.ended.device)
        self._status, self._next_status = (StatusCopy(trajectory.ended.device) for _ in range(2))

    def _loop(self, watch: Callable[[Status], None]) -> End:
        self._replay(self._status)
        while True:
            # Launched before the host waits for the previous status, so that the device is never idle.
            self._replay(self._next_status)
            status = self._status.read()
            watch(status)
            if status.end is not None:
                return status.end
            self._status, self._next_status = self._next_status, self._status

    def _replay(self, copy: StatusCopy) -> None:
        for _ in range(REPLAYS):
            self._graph.replay()
        copy.send(self.trajectory.status())


class CudaGraph:
    """A capture of `work` on the current CUDA device, which must neither wait for the device nor depend on its values.

    `work` must have run before, because a library's preparations on its first call cannot be captured.

    Raises
    ------
    CaptureError
        If it cannot be captured.
    """

    _failed: ClassVar[list[torch.cuda.CUDAGraph]] = []
    """Graphs whose capture failed. They must not be freed, because torch's allocator still calls them."""

    def __init__(self, work: Callable[[], None], device: torch.device) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # Not `torch.cuda.graph`, which waits for the device, collects garbage and empties the cache on each capture.
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            # Other threads may use the device during the capture.
            self._graph.capture_begin(capture_error_mode="thread_local")
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
        torch.cuda.current_stream(device).wait_stream(stream)

    def replay(self) -> None:
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
