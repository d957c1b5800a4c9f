"""What `segment` does about the network of a whole folder: fits it, keeps it, and takes its options from its file."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import FOLDER_FIT, SegmentConfig, WeightsFile, WorkersConfig
from ..errors import InterruptedWorkError, UsageError, WorkerError
from .console import say
from .report_files import refuse_unwritable

if TYPE_CHECKING:
    from ..batch.planning import Plan

APPLIED_WITH = ("precision", "min_region", "refine")
"""Options that say how a network is applied, and may differ from those that it was fitted with."""

NOTABLE = 0.01
"""Share of all pixels from which a label is worth counting."""


class FitInterruptedError(Exception):
    """A signal came while the network was fitted."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def fit_options(
    preset: SegmentConfig, given: dict[str, Any], classes: int | None, load_model: Path | None
) -> SegmentConfig:
    """The options of a run: those `given`, and for the others those of the model, or else of the preset.

    Raises
    ------
    UsageError
        If options contradict each other, or what the model was fitted with.
    """
    if classes is not None:
        if "clusters" in given:
            raise UsageError("--clusters belongs to --fit image, --classes to --fit folder: give one")
        given = {**given, "clusters": classes}
    if load_model is not None:
        return _options_of_model(load_model, given)
    if given.get("fit") == "folder":
        # The default threshold must be below the number of classes, or the fit would stop at once.
        labels = min(FOLDER_FIT["min_labels"], max(1, given.get("clusters", FOLDER_FIT["clusters"]) - 1))
        preset = dataclasses.replace(preset, **FOLDER_FIT | {"min_labels": labels})
    elif classes is not None:
        raise UsageError("--classes belongs to --fit folder")
    return dataclasses.replace(preset, **given)


def _options_of_model(path: Path, given: dict[str, Any]) -> SegmentConfig:
    from ..model_file import read_model

    config = read_model(path, "--load-model")
    for name, value in given.items():
        if name == "weights":
            raise UsageError(f"--weights: the model {path} has all weights inside; leave the option out")
        theirs = getattr(config, name)
        if name not in APPLIED_WITH and value != theirs:
            option = "classes" if name == "clusters" else name.replace("_", "-")
            raise UsageError(f"--{option} {value}: the model {path} was fitted with {theirs}; leave the option out")
    return dataclasses.replace(config, **given)


def check_save_model(path: Path, plan: Plan) -> None:
    """Refuse, before any work, to keep a model where there is no fit, or in place of another file.

    Raises
    ------
    UsageError
        If it cannot be kept there.
    """
    if plan.segment.fit != "folder":
        raise UsageError("--save-model keeps the network of a folder: it goes with --fit folder")
    refuse_unwritable("--save-model", path, _is_model)
    if not path.exists() or not path.stat().st_size or plan.batch.overwrite:
        return
    model = plan.segment.model
    if model is None or path.read_bytes() != _content(model):
        raise UsageError(f"--save-model {path} is another model; --overwrite replaces it, or choose another name")


def with_model(plan: Plan, workers: WorkersConfig, save_model: Path | None, *, quiet: bool) -> Plan:
    """The plan with a model, fitted now if it has none, and kept as `save_model` as well.

    Raises
    ------
    FitInterruptedError
        If a signal came in between.
    WorkerError
        If it cannot be written.
    """
    if plan.lacks_model:
        plan = _fitted(plan, workers, quiet=quiet)
    elif not quiet:
        assert plan.segment.model is not None
        say(f"applying the network of {plan.segment.model.path}")
    if save_model is not None:
        from ..writing import write_atomically

        assert plan.segment.model is not None
        content = _content(plan.segment.model)
        try:
            write_atomically(save_model, lambda stream: stream.write(content))
        except OSError as error:
            raise WorkerError(f"--save-model {save_model} cannot be written: {error.strerror}") from None
    return plan


def _fitted(plan: Plan, workers: WorkersConfig, *, quiet: bool) -> Plan:
    from ..batch.folder_fit import fit_folder, visits
    from .progress import FitProgressBar
    from .signals import first_signal_calls

    stop = threading.Event()
    with FitProgressBar(visits(plan), quiet=quiet) as progress, first_signal_calls(stop.set) as signals:
        try:
            return fit_folder(plan, workers, progress.show, stop)
        except InterruptedWorkError:
            raise FitInterruptedError(signals[0]) from None


def save_folder_statistics(plan: Plan, *, quiet: bool) -> None:
    """Write `clusters.json`, where there are statistics of the images to make it of, and say what is notable in it."""
    from ..batch.folder_statistics import write_folder_statistics
    from ..batch.output_folder import CLUSTERS_NAME

    if "stats" not in plan.batch.save:
        return
    try:
        document = write_folder_statistics(plan)
    except OSError as error:
        say(f"error: {plan.output / CLUSTERS_NAME} cannot be written: {error.strerror}", "red")
        return
    clusters = document["clusters"]
    if quiet or not clusters:
        return
    found = sum(cluster["fraction"] >= NOTABLE for cluster in clusters)
    say(f"labels over the folder: {len(clusters)} of {plan.segment.clusters}, {found} with {NOTABLE:.0%} of it or more")


def _is_model(path: Path) -> bool:
    """Whether a file is a model that dynaseg wrote."""
    from ..model_file import read_model

    try:
        read_model(path)
    except UsageError:
        return False
    return True


def _content(model: WeightsFile) -> bytes:
    from ..weights_file import read_weights

    return read_weights(model, "the model")
