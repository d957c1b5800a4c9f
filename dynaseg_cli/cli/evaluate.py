"""``dynaseg evaluate``: label maps scored against ground truth."""

from __future__ import annotations

import csv
import heapq
import io
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import INPUT, REPORT, EvaluateConfig
from ..errors import UsageError
from ..fields import option, quoted
from .console import ExitCode, for_the_command_line, print_json, say, stderr
from .named_files import read_list, refuse_reports, write_each
from .options import CommandLine, Shared, command, command_options

if TYPE_CHECKING:
    from ..evaluation.evaluate import Evaluation

WORST = 10
"""Images named below the table."""
MOST_ALONE = 5
"""Files without a partner that are named; --json has all."""
MOST_CLASSES = 40
"""Classes that a person reads through; --json has all."""


@dataclass(frozen=True)
class Files:
    """Folders that are compared, and files that are read and written beside them."""

    prediction: Path = option(
        MISSING, "A folder that segment wrote, or any folder of label maps.", metavar="PRED", positional=True
    )
    truth: Path = option(
        MISSING, "A folder of label maps, or of BSDS500's .mat files. Names pair.", metavar="GT", positional=True
    )
    image_list: Path | None = option(
        None, "Score only the images named in a list, one a line, with or without extension.", INPUT, metavar="FILE"
    )
    per_image: Path | None = option(None, "Write each image's metrics to a file.", REPORT, metavar="FILE.csv")
    plot: Path | None = option(
        None,
        "Draw the images' scores, the best and the worst of them, how many labels they have, and each class's IoU: a"
        " slide, as .png, .svg or .pdf (needs matplotlib).",
        REPORT,
        metavar="FILE.png",
    )


OPTIONS = command_options(EvaluateConfig, Files, Shared)


@command(OPTIONS)
def evaluate(line: CommandLine) -> ExitCode:
    """Score segmentations against ground truth.

    Files pair by their path below PRED and GT, without extension. Labels need
    no order: only which pixels share one counts.
    """
    from ..evaluation.evaluate import Evaluation
    from ..plots.style import refuse_undrawable

    config = evaluate_config(line)
    files, shared = line.build(Files), line.build(Shared)
    if files.plot is not None:
        refuse_undrawable("--plot", files.plot)
    refuse_reports({"per_image": files.per_image, "plot": files.plot})
    names = None if files.image_list is None else _read_names(files.image_list)
    evaluation = Evaluation(files.prediction, files.truth, config, names)
    return _run(evaluation, files, as_json=shared.json, quiet=shared.quiet)


def evaluate_config(line: CommandLine) -> EvaluateConfig:
    """How to score, from those options of `EvaluateConfig` that a command has."""
    return line.build(EvaluateConfig, ignore_index=_ignore_index)


def _ignore_index(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return text if text == "auto" else None
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"`ignore_index` must be auto, none or a whole number, not {quoted(text)}") from None


def _run(evaluation: Evaluation, files: Files, *, as_json: bool, quiet: bool) -> ExitCode:
    from .progress import CountProgress

    known = list(evaluation.notes)
    if not quiet:
        for note in known:
            say(note, "yellow")
        _show_alone(evaluation)
    with CountProgress(len(evaluation.pairing.pairs), "images", quiet=quiet) as progress:
        for scored in evaluation.run():
            if scored.reason is not None:
                say(f"failed: {scored.reason}", "red")
            progress.describe(scored.pair.name)
            progress.advance(scored.pair.name)
    if not quiet:
        for note in evaluation.notes[len(known) :]:
            say(note, "yellow")
        if evaluation.images:
            _show_scores(evaluation)
    if as_json:
        print_json(for_the_command_line(evaluation.document()))
    drawn = files.plot if evaluation.images else None
    whole = write_each(
        [
            (files.per_image, lambda path: _write_csv(path, evaluation)),
            (drawn, lambda path: _draw(path, evaluation)),
        ],
        quiet=quiet,
    )
    if files.plot is not None and drawn is None:
        say(f"--plot: no image was scored, so {files.plot} is not drawn", "yellow")
    return ExitCode.DONE if whole and not evaluation.failures else ExitCode.SOME_FAILED


def _show_alone(evaluation: Evaluation) -> None:
    sides = (
        ("without a ground truth", evaluation.pairing.predictions_alone),
        ("without a prediction", evaluation.pairing.truths_alone),
    )
    for what, paths in sides:
        if paths:
            named = ", ".join(str(path) for path in paths[:MOST_ALONE])
            more = f" and {len(paths) - MOST_ALONE} more" if len(paths) > MOST_ALONE else ""
            say(f"not scored, {what}: {named}{more}", "yellow")


def _show_scores(evaluation: Evaluation) -> None:
    from ..evaluation.class_scores import MANY_TO_ONE, without_many_to_one
    from .tables import arrows_for, heading, show_metrics

    total = f"all {evaluation.images}" if evaluation.images > 1 else "the image"
    if evaluation.failures:
        total = f"{evaluation.images} of {evaluation.images + len(evaluation.failures)}"
    rows_of_images = (
        (name, {**row, "ignored_fraction": counts.ignored_fraction})
        for (name, row), (_, counts) in zip(evaluation.per_image(), evaluation.label_counts(), strict=True)
    )
    worst = heapq.nsmallest(WORST, rows_of_images, key=lambda named: named[1][evaluation.main_metric] or 0.0)
    metrics = evaluation.metrics()
    rows = [(total, {**metrics, "ignored_fraction": evaluation.ignored_fraction})]
    if evaluation.images > 1:
        rows += [(f"the {len(worst)} worst:" if evaluation.images > WORST else "from the worst:", {}), *worst]
    show_metrics("images", [(name, without_many_to_one(row)) for name, row in rows])
    if evaluation.of_classes:
        one_to_one = {name: metrics[name] for name in MANY_TO_ONE}
        many_to_one = {name: metrics[other] for name, other in MANY_TO_ONE.items()}
        show_metrics("assignment", [("one-to-one", one_to_one), ("many-to-one", many_to_one)])
    arrows = arrows_for(stderr.encoding)
    readings = [(heading(metric, arrows), reading) for metric, reading in evaluation.readings().items()]
    if readings:
        show_metrics("hierarchies", readings)
    classes = evaluation.per_class()
    if 1 < len(classes) <= MOST_CLASSES:
        show_metrics("class", [(one.name or str(one.value), {"miou": one.iou}) for one in classes])


def _write_csv(path: Path, evaluation: Evaluation) -> None:
    from ..files.writing import write_atomically

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["image", *evaluation.metrics(), "labels", "truth_labels", "ignored_fraction"])
    writer.writeheader()
    for (name, row), (_, counts) in zip(evaluation.per_image(), evaluation.label_counts(), strict=True):
        of_labels = {
            "labels": counts.predicted,
            "truth_labels": f"{counts.truth_mean:.10g}",
            "ignored_fraction": f"{counts.ignored_fraction:.10g}",
        }
        writer.writerow({"image": name, **row, **of_labels})
    write_atomically(path, text.getvalue().encode(errors="surrogateescape"))


def _draw(path: Path, evaluation: Evaluation) -> None:
    from ..plots.scores import picture
    from ..plots.style import save_picture

    save_picture(path, lambda: picture(evaluation))


def _read_names(path: Path) -> list[str]:
    names = read_list("--image-list", str(path))
    if not names:
        raise UsageError(f"--image-list {path} names no image")
    return names
