"""What a worker knows of the sequences of its images: what was before each, and the network to start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..config import BatchConfig
from ..engine.engine import Engine
from ..engine.networks import fitted_bytes, read_fitted
from ..engine.segmentation import FittedNetwork, Segmentation
from ..errors import DecodeError, ImageError, reason
from ..files.output_folder import Job, OutputFolder
from ..images.pages import read_job
from .resume import Stats, differing_options, read_stats
from .sequences import history_after, history_including, history_of


@dataclass(frozen=True)
class Start:
    """What the fit of an image starts from."""

    history: str | None = None
    """What was before the image in its sequence; None if it is the first that has a result."""
    network: FittedNetwork | None = None
    """None for the initial weights."""


@dataclass(frozen=True)
class _Last:
    """The last image that was segmented, or found complete."""

    sequence: Sequence[Job]
    index: int
    history: str
    """Including this image."""
    is_known: bool
    """Whether the network is at hand."""
    network: FittedNetwork | None = None
    """None for images of one colour at the start, which are not fitted."""


class SequenceNetworks:
    """Says for each image, in the order of its sequence, what it depends on.

    An image follows on the nearest one before it that has a result: one that fails is as if it were not there. The
    network after the last image of a sequence is kept in the output folder, under the name of the first one. If it is
    not the one that is needed, the images before are fitted again, which gives the same network.

    Parameters
    ----------
    sequences : with all images of the run, in order.
    """

    def __init__(
        self, sequences: Sequence[Sequence[Job]], folder: OutputFolder, batch: BatchConfig, engine: Engine
    ) -> None:
        self._places = {job.name: (sequence, index) for sequence in sequences for index, job in enumerate(sequence)}
        self._folder = folder
        self._batch = batch
        self._engine = engine
        self._last: _Last | None = None

    def claim(self, job: Job) -> bool:
        """Claim the whole sequence of an image; False if another process has it."""
        return self._folder.claim(self._first(job).name)

    def release(self, job: Job) -> None:
        """Release the sequence behind its last image."""
        sequence, index = self._places[job.name]
        if index == len(sequence) - 1:
            self._folder.release(sequence[0].name)

    def is_current(self, job: Job, stats: Stats) -> bool:
        """Whether the results of an image follow on those of the images before it; they are then taken as they are."""
        if history_of(stats) != self._history(job):
            return False
        self._note(job, history_including(stats))
        return True

    def start(self, job: Job, on_iteration: Callable[[int, int], None]) -> Start:
        """What the fit of an image starts from.

        Raises
        ------
        ImageError
            If the network must be made again, and an image before is not there as it was.
        """
        history = self._history(job)
        return Start(history, None if history is None else self._network(job, history, on_iteration))

    def add(self, job: Job, start: Start, segmentation: Segmentation, sha256: str) -> None:
        """Note the network that was fitted to an image."""
        history = history_after(start.history, sha256, job.page)
        self._note(job, history, segmentation.fitted, is_known=True)

    def save(self, job: Job, start: Start, segmentation: Segmentation, sha256: str) -> None:
        """Keep the network of an image whose results are written; raises OSError."""
        if segmentation.fitted is not None:
            content = fitted_bytes(segmentation.fitted, history_after(start.history, sha256, job.page))
            self._folder.write(self._folder.sequence_network(self._first(job)), content)

    def _history(self, job: Job) -> str | None:
        sequence, index = self._places[job.name]
        last = self._last
        if last is not None and last.sequence is sequence and last.index < index:
            # With `overwrite`, what lies in the folder of an image that failed just now is outdated.
            between = [] if self._batch.overwrite else sequence[last.index + 1 : index]
            return self._walk(between, last.history)[1]
        return self._walk(sequence[:index])[1]

    def _network(self, job: Job, history: str, on_iteration: Callable[[int, int], None]) -> FittedNetwork | None:
        last, sequence = self._last, self._places[job.name][0]
        if last is not None and last.sequence is sequence and last.history == history and last.is_known:
            return last.network
        saved = self._read(job)
        if saved is not None and saved[0] == history:
            return saved[1]
        before, _ = self._walk(sequence[: self._places[job.name][1]])
        histories = [history_including(stats) for _, stats in before]
        if history not in histories:
            raise ImageError("the results before it in its sequence have changed meanwhile: run it again")
        before = before[: histories.index(history) + 1]
        network = None
        if saved is not None and saved[0] in histories:
            before, network = before[histories.index(saved[0]) + 1 :], saved[1]
        for earlier, stats in before:
            network = self._fit_again(earlier, stats, network, on_iteration)
        return network

    def _first(self, job: Job) -> Job:
        return self._places[job.name][0][0]

    def _note(self, job: Job, history: str, network: FittedNetwork | None = None, *, is_known: bool = False) -> None:
        sequence, index = self._places[job.name]
        self._last = _Last(sequence, index, history, is_known, network)

    def _walk(self, jobs: Sequence[Job], history: str | None = None) -> tuple[list[tuple[Job, Stats]], str | None]:
        """Those of consecutive images that have a result which follows on the one before; the history at the end."""
        found = []
        for job in jobs:
            stats = read_stats(job, self._folder)
            if stats is None or "source" not in stats or differing_options(stats["options"], self._engine.config):
                continue
            if history_of(stats) == history:
                history = history_including(stats)
                found.append((job, stats))
        return found, history

    def _read(self, job: Job) -> tuple[str, FittedNetwork] | None:
        saved = read_fitted(self._folder.sequence_network(self._first(job)))
        return saved if saved is not None and self._engine.fitter.fits(saved[1].weights) else None

    def _fit_again(
        self, job: Job, stats: Stats, network: FittedNetwork | None, on_iteration: Callable[[int, int], None]
    ) -> FittedNetwork | None:
        batch = self._batch
        try:
            source = read_job(job, batch.max_pixels)
            if source.sha256 != stats["source"].get("sha256"):
                raise DecodeError("it has changed")
            photo = source.photo(batch.max_pixels, batch.range, batch.channels)
        except (OSError, DecodeError) as error:
            raise ImageError(f"it follows on {job.shown}, which must be fitted again: {reason(error)}") from None
        return self._engine.segment(photo.pixels, on_iteration=on_iteration, after=network).fitted
