"""A run for Python: an object that does it image by image, and knows what became of it and where the files are."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType

from .batch.outcomes import Outcome
from .batch.planning import Plan, plan_batch
from .batch.summary import RunSummary, Summary
from .config import BatchConfig, Product, SegmentConfig, WorkersConfig
from .errors import UsageError
from .export.exporting import ExportFailure
from .files.output_folder import Job
from .run import FileFailed, FileWritten, ModelReady, fetch_weights, run
from .workers.pool import check_executor

_log = logging.getLogger(__name__)


def segment_folder(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    config: SegmentConfig | None = None,
    batch: BatchConfig | None = None,
    workers: WorkersConfig | None = None,
    *,
    progress: bool = False,
) -> Run:
    """Plan to segment every image below `inputs` into `output`. Nothing is done until the `Run` is iterated.

    It writes the same files as the command.

    Parameters
    ----------
    inputs : one or more image files and folders.
    output : the folder of results; it may be there already, with results of the same options.
    config : the options of the method.
    batch : what is read and what is written.
    workers : who does the work, and where.
    progress : whether to show a bar, by tqdm: in a notebook a widget, otherwise a line on stderr.

    Raises
    ------
    UsageError
        If the options or the input are unusable, or the weights of the backbone cannot be found: nothing is written
        then. A device that does not exist is found with the first outcome.
    """
    paths = [inputs] if isinstance(inputs, (str, Path)) else inputs
    if "" in (*paths, output):  # as a Path it would be the current folder
        raise UsageError("the path of an input or of the output is empty: name one")
    plan = plan_batch([Path(path) for path in paths], Path(output), config, batch)
    workers = workers or WorkersConfig()
    check_executor(workers)
    fetch_weights(plan.segment, progress=progress)
    return Run(plan, workers, progress=progress)


class Run:
    """A run over a folder: iterate it for an outcome as each image is finished, or `run` it to its end.

    It goes once through the images: a second loop continues where the first one stopped. A network that is to be fitted
    to the folder is fitted before the first outcome. Report and exports are written after the last one. If a file of
    the whole run cannot be written, OSError or DynasegError is raised after the last outcome.

    `segment_folder` makes one. ``len`` is the number of images, and of folders that could not be listed. `close`, or
    the end of a ``with`` block, drops what is not finished; the same call of `segment_folder` continues later.
    """

    def __init__(self, plan: Plan, workers: WorkersConfig, *, progress: bool = False) -> None:
        self.output: Path = plan.folder.path
        """The folder of results."""
        self._plan = plan
        self._counted = RunSummary(plan)
        self._done: list[Outcome] = []
        self._whole: list[Path] = []
        """Files of the whole run."""
        self._jobs: dict[tuple[str, object], Job] = {}
        # Without a reference to this object, so that one that nobody keeps ends its workers at once.
        self._outcomes = _outcomes(plan, workers, self._counted, self._done, self._whole, progress=progress)

    def __len__(self) -> int:
        return self._counted.images

    def __iter__(self) -> Iterator[Outcome]:
        return self

    def __next__(self) -> Outcome:
        return next(self._outcomes)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Run({self.output}: {self.summary})"

    def run(self) -> Summary:
        """Do everything that is left, and say what became of it."""
        for _ in self:
            pass
        return self.summary

    def close(self) -> None:
        """End the run. Unfinished images are dropped, and ``run.json`` says that it was interrupted."""
        self._outcomes.close()

    @property
    def summary(self) -> Summary:
        """What became of the images by now."""
        return self._counted.so_far()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that this run has written by now: of each image in the order of outcomes, then of the whole run.

        The export is named by its folder.
        """
        of_images = (path for outcome in self._done for path in self.files(outcome).values())
        return (*of_images, *self._whole)

    def files(self, outcome: Outcome) -> dict[Product, Path]:
        """The files of one image that `BatchConfig.save` asks for, by product, where they exist."""
        if not self._jobs:
            self._jobs = {(job.path, job.page): job for job in self._plan.jobs}
        job = self._jobs.get((outcome.path, outcome.page))
        if job is None:  # a folder that could not be listed
            return {}
        folder = self._plan.folder
        found: dict[Product, Path] = {}
        for product in self._plan.batch.save:
            names = [folder.result(job, product), *([folder.many_regions(job)] if product == "regions" else [])]
            found.update((product, path) for path in names if path.is_file())
        return found


def _outcomes(
    plan: Plan,
    workers: WorkersConfig,
    summary: RunSummary,
    done: list[Outcome],
    whole: list[Path],
    *,
    progress: bool,
) -> Generator[Outcome, None, None]:
    """Yield the outcomes of a run. Adds those that wrote files to `done`, and files of the whole run to `whole`."""
    failed: FileFailed | None = None
    with ExitStack() as stack:
        events = stack.enter_context(closing(run(plan, workers, summary=summary)))
        bar = None
        if progress:
            from .progress_bar import RunBar  # noqa: PLC0415 - loads tqdm

            bar = stack.enter_context(closing(RunBar(plan)))
        for event in events:
            if bar is not None:
                bar.show(event)
            if isinstance(event, Outcome):
                if event.status == "done":
                    done.append(event)
                yield event
            elif isinstance(event, FileFailed):
                failed = failed or event
            elif isinstance(event, FileWritten):
                whole.append(event.path)
            elif isinstance(event, ModelReady):
                whole += [Path(event.model.path)] if event.fitted else []
                whole += [] if plan.batch.save_model is None else [plan.batch.save_model]
            elif isinstance(event, ExportFailure):
                _log.warning("not exported as %s: %s: %s", event.format, event.name, event.reason)
    if failed is not None:
        raise failed.error
