"""The loop over the iterations as one CUDA graph: the device goes on by itself, the host only asks how far it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from .iteration import Iteration, Watch
from .memory import is_out_of_memory
from .training_step import TrainingStep
from .trajectory import End, Status, Trajectory, read_status

REPLAYS = 4
"""Iterations that are given to the device at a time. After the end at most twice as many more do nothing."""


class CaptureError(RuntimeError):
    """The work runs on the device, but could not be recorded."""


class CapturedIteration(Iteration):
    """An iteration that is recorded once and replayed for every image of its size.

    Raises
    ------
    CaptureError
        If the iteration runs, but cannot be recorded.
    """

    def __init__(self, step: TrainingStep, update: Callable[[], None], trajectory: Trajectory) -> None:
        super().__init__(step, update, trajectory)
        self.rehearse()
        self._graph = CudaGraph(self._look_and_improve, trajectory.ended.device)
        self._mail, self._next_mail = (Mail(trajectory.ended.device) for _ in range(2))

    def _loop(self, watch: Watch) -> End:
        self._replay(self._mail)
        while True:
            # Before the host looks at what it has, so that the device is never out of work.
            self._replay(self._next_mail)
            status = self._mail.read()
            watch(status)
            if status.end is not None:
                return status.end
            self._mail, self._next_mail = self._next_mail, self._mail

    def _replay(self, mail: Mail) -> None:
        for _ in range(REPLAYS):
            self._graph.replay()
        mail.send(self.trajectory.status())


class CudaGraph:
    """What `work` does on the current CUDA device, recorded. It must neither wait for it nor depend on its values.

    `work` must have run before: what a library prepares for the first call cannot be recorded.

    Raises
    ------
    CaptureError
        If it cannot be recorded.
    """

    _failed: ClassVar[list[torch.cuda.CUDAGraph]] = []
    """Graphs whose capture failed. They must not be freed: torch's allocator goes on calling them."""

    def __init__(self, work: Callable[[], None], device: torch.device) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # Not `torch.cuda.graph`, which waits for the device, collects garbage and empties the cache every time.
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            # Other threads may use the device meanwhile.
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


class Mail:
    """A status on its way from the device to the host."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._content = torch.empty(3, dtype=torch.int64, pin_memory=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def send(self, status: Tensor) -> None:
        self._content.copy_(status, non_blocking=True)
        self._arrived.record(torch.cuda.current_stream(self._device))

    def read(self) -> Status:
        """Wait for it, and for nothing that was begun after it."""
        self._arrived.synchronize()
        return read_status(self._content)
