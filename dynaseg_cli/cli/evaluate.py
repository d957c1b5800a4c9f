"""``dynaseg evaluate``: label maps scored against ground truth."""

from __future__ import annotations

import csv
import heapq
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import EvaluateConfig, Protocol, Use
from ..errors import UsageError
from .console import ExitCode, errors_as_exit_codes, print_json, quoted, say, stderr
from .lists import read_list
from .report_files import refuse_reports, write_each

if TYPE_CHECKING:
    from ..evaluation.evaluate import Evaluation

_SCORING, _INPUT, _REPORT = "Scoring", "Input", "Report"
_DEFAULT = EvaluateConfig()
WORST = 10
"""Images named below the table."""
MOST_ALONE = 5
"""Files without a partner that are named; --json has all."""
MOST_CLASSES = 40
"""Classes that a person reads through; --json has all."""


def _ignore_index(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return text if text == "auto" else None
    try:
        return int(text, 0)
    except ValueError:
        raise typer.BadParameter(f"must be auto, none or a whole number, not {quoted(text)}") from None


def evaluate(
    prediction: Annotated[
        Path,
        typer.Argument(
            metavar="PRED", help="A folder that segment wrote, or any folder of label maps.", show_default=False
        ),
    ],
    truth: Annotated[
        Path,
        typer.Argument(
            metavar="GT", help="A folder of label maps, or of BSDS500's .mat files. Names pair.", show_default=False
        ),
    ],
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="bsds500: several annotations an image. regions: one map of regions an image. classes: labels that"
            " mean the same in every image. coco-stuff27: stuffthingmaps as 27 classes. auto looks at the files and"
            " says what it takes.",
            rich_help_panel=_SCORING,
        ),
    ] = _DEFAULT.protocol,
    use: Annotated[
        Use,
        typer.Option(
            help="Which maps of PRED to score: labels, or what segment --save regions,hierarchy writes. Hierarchies are"
            " cut at every granularity: ODS is the best for all images, OIS the best of each.",
            rich_help_panel=_SCORING,
        ),
    ] = _DEFAULT.use,
    connected: Annotated[
        bool,
        typer.Option(
            help="Split each label into its 4-connected regions before segments are compared.",
            rich_help_panel=_SCORING,
        ),
    ] = _DEFAULT.connected,
    num_things: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Classes below N are things, the others stuff (protocol classes).",
            show_default=False,
            rich_help_panel=_SCORING,
        ),
    ] = _DEFAULT.num_things,
    ignore_index: Annotated[
        Any,
        typer.Option(
            metavar="auto|none|N",
            parser=_ignore_index,
            help="Ground-truth value that counts nowhere. auto: 255 in 8-bit maps with other values than 0 and 255,"
            " none for bsds500 and for colours.",
            rich_help_panel=_SCORING,
        ),
    ] = _DEFAULT.ignore_index,
    resize: Annotated[
        bool,
        typer.Option(
            "--resize",
            help="Bring a prediction of another size to that of its ground truth (nearest neighbour).",
            rich_help_panel=_INPUT,
        ),
    ] = _DEFAULT.resize,
    center_crop: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            help="Resize both maps until their shorter side is this and cut the middle square; 0 leaves them whole."
            " The published figures of COCO-Stuff-27 are at 320.",
            rich_help_panel=_INPUT,
        ),
    ] = _DEFAULT.center_crop,
    image_list: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Score only the images named in a list, one a line, with or without extension.",
            show_default=False,
            rich_help_panel=_INPUT,
        ),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(help="Refuse larger label maps.", rich_help_panel=_INPUT)
    ] = _DEFAULT.max_pixels,
    per_image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Write each image's metrics to a file.",
            show_default=False,
            rich_help_panel=_REPORT,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw the images' scores, how many labels they have beside their ground truth, and each class's IoU:"
            " a slide, as .png, .svg or .pdf (needs matplotlib).",
            show_default=False,
            rich_help_panel=_REPORT,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the scores as JSON on stdout.", rich_help_panel=_REPORT)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel=_REPORT)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.", rich_help_panel=_REPORT)] = False,
) -> None:
    """Score segmentations against ground truth.

    Files pair by their path below PRED and GT, without extension. Labels need
    no order: only which pixels share one counts.
    """
    with errors_as_exit_codes(verbose):
        from ..evaluation.evaluate import Evaluation
        from ..figures import refuse_undrawable

        config = EvaluateConfig(
            protocol=protocol,
            use=use,
            connected=connected,
            ignore_index=ignore_index,
            resize=resize,
            center_crop=center_crop,
            num_things=num_things,
            max_pixels=max_pixels,
        )
        if plot is not None:
            refuse_undrawable("--plot", plot)
        refuse_reports({"--per-image": per_image, "--plot": plot})
        evaluation = Evaluation(prediction, truth, config, _read_names(image_list) if image_list else None)
        code = _run(evaluation, per_image, plot, as_json=as_json, quiet=quiet)
    raise typer.Exit(code)


def _run(evaluation: Evaluation, per_image: Path | None, plot: Path | None, *, as_json: bool, quiet: bool) -> ExitCode:
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
        print_json(evaluation.document())
    whole = write_each(
        [
            (per_image, lambda path: _write_csv(path, evaluation)),
            (plot, lambda path: _draw(path, evaluation)),
        ]
    )
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
    from ..evaluation.headings import HEADINGS
    from .metrics_table import metrics_table

    total = f"all {evaluation.images}" if evaluation.images > 1 else "the image"
    if evaluation.failures:
        total = f"{evaluation.images} of {evaluation.images + len(evaluation.failures)}"
    rows_of_images = (
        (name, {**row, "ignored_fraction": counts.ignored_fraction})
        for (name, row), (_, counts) in zip(evaluation.per_image(), evaluation.label_counts(), strict=True)
    )
    worst = heapq.nsmallest(WORST, rows_of_images, key=lambda named: named[1][evaluation.main_metric] or 0.0)
    rows = [(total, {**evaluation.metrics(), "ignored_fraction": evaluation.ignored_fraction})]
    if evaluation.images > 1:
        rows += [(f"the {len(worst)} worst:" if evaluation.images > WORST else "from the worst:", {}), *worst]
    stderr.print(metrics_table("images", rows))
    readings = [(HEADINGS[metric], vars(reading)) for metric, reading in evaluation.readings().items()]
    if readings:
        stderr.print(metrics_table("hierarchies", readings))
    classes = evaluation.per_class()
    if 1 < len(classes) <= MOST_CLASSES:
        stderr.print(metrics_table("class", [(one.name or str(one.value), {"miou": one.iou}) for one in classes]))


def _write_csv(path: Path, evaluation: Evaluation) -> None:
    from ..writing import write_atomically

    columns = ["image", *evaluation.metrics(), "labels", "truth_labels", "ignored_fraction"]

    def write(stream: Any) -> None:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        for (name, row), (_, counts) in zip(evaluation.per_image(), evaluation.label_counts(), strict=True):
            of_labels = {
                "labels": counts.predicted,
                "truth_labels": f"{counts.truth_mean:.10g}",
                "ignored_fraction": f"{counts.ignored_fraction:.10g}",
            }
            writer.writerow({"image": name, **row, **of_labels})
        text.detach()

    write_atomically(path, write)


def _draw(path: Path, evaluation: Evaluation) -> None:
    from ..evaluation.plot_scores import picture
    from ..figures import save_picture

    if not evaluation.images:
        say(f"--plot: no image was scored, so {path} is not drawn", "yellow")
        return
    save_picture(path, lambda: picture(evaluation))


def _read_names(path: Path) -> list[str]:
    names = read_list("--image-list", str(path))
    if not names:
        raise UsageError(f"--image-list {path} names no image")
    return names
