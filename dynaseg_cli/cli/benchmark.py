"""``dynaseg benchmark``: methods side by side on the same images, in seconds and in quality."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import QUALITY, REPORT, RUN, WHAT, BenchmarkConfig, EvaluateConfig
from ..errors import UsageError
from ..fields import check_fields, option, options_of, quoted
from .console import ExitCode, for_the_command_line, print_json, say
from .evaluate import evaluate_config
from .named_files import refuse_reports, write_each
from .options import CommandLine, Shared, command, command_options

if TYPE_CHECKING:
    from ..benchmark.benchmark import Benchmark
    from ..benchmark.variants import Variant
    from ..files.output_folder import Job
    from .progress import CountProgress

SYNTHETIC_IMAGES = 2
"""Made of each size without INPUT."""


@dataclass(frozen=True)
class Work:
    """On what the methods are compared, and what is written about it."""

    inputs: tuple[Path, ...] = option(
        (), "Image files, and folders of them; without any, images are made.", metavar="INPUT", positional=True
    )
    iterations: int | None = option(
        None, "At most so many iterations, for every method that iterates.", WHAT, default_text="each method's own"
    )
    fit_on: Path | None = option(
        None,
        "With `fit=folder`: fit to the images of another folder, and label those of INPUT.",
        WHAT,
        metavar="OTHER",
        default_text="INPUT",
    )
    classes: int | None = option(
        None,
        "With `fit=folder`: the number of labels of every method that does not say otherwise.",
        WHAT,
        least=2,
        default_text="each method's own",
    )
    backbone: str | None = option(
        None,
        "With `fit=folder`: the features of every method that does not say otherwise, as in segment.",
        WHAT,
        metavar="cnn|resnet18-fpn|efficientnet-lite0|timm:NAME",
        default_text="cnn",
    )
    epochs: int | None = option(
        None,
        "With `fit=folder`: how often every method that has epochs sees each image, unless it says otherwise.",
        WHAT,
        default_text="each method's own",
    )
    ground_truth: Path | None = option(None, "Score against a ground truth, as evaluate does.", QUALITY, metavar="GT")
    hierarchies: Path | None = option(
        None,
        "Hierarchies of the same images by another method, as evaluate reads them: scored, and drawn beside the curves"
        " of the methods. Needs `ground_truth`.",
        QUALITY,
        metavar="DIR",
    )
    device: str = option(
        "auto",
        "Where networks compute; kmeans, felzenszwalb and reference use the CPU.",
        RUN,
        metavar="auto|cpu|cuda|cuda:N|mps",
        flags=("--device", "-d"),
    )
    output: Path | None = option(
        None,
        "Keep the label maps, in OUT/METHOD/labels and color.",
        REPORT,
        metavar="OUT",
        flags=("--output", "-o"),
        default_text="not kept",
    )
    save: Path | None = option(None, "Write the figures to a file.", REPORT, metavar="FILE.json")
    markdown: Path | None = option(None, "Write the table as Markdown.", REPORT, metavar="FILE.md")
    plot: Path | None = option(
        None,
        "Draw seconds by stage and, if the images' sizes differ, seconds and memory against these; with `ground_truth`"
        " quality against seconds and against the number of segments, too: a .png, .svg or .pdf (needs matplotlib).",
        REPORT,
        metavar="FILE.png",
    )

    def __post_init__(self) -> None:
        check_fields(self)


SCORING = [
    replace(one, group=QUALITY)
    for one in options_of(EvaluateConfig)
    if one.name in ("protocol", "num_things", "ignore_index")
]
"""Options of evaluate that say how to score here, too."""
OPTIONS = command_options(BenchmarkConfig, Work, Shared, further=SCORING)


@command(OPTIONS)
def benchmark(line: CommandLine) -> ExitCode:
    """Compare methods on the same images: seconds, and with a ground truth the metrics of evaluate.

    Every method sees every image, in turns. Seconds go from decoded pixels to
    labels. Where reference is among the methods, the others are compared with it.
    Then scf, fsf and fixed are timed as segment runs them, from disk to disk.
    With --fit folder, methods of one label space are fitted to all images first.
    """
    from ..benchmark.benchmark import Benchmark
    from ..benchmark.synthetic import write_synthetic_photos
    from ..benchmark.variants import OF_ALL, parse_variants
    from ..plots.style import refuse_undrawable

    config = line.build(BenchmarkConfig, sizes=_sizes)
    work, scoring, shared = line.build(Work), evaluate_config(line), line.build(Shared)
    if work.inputs and line.wrote("sizes"):
        raise UsageError("--size is of the images that are made without INPUT; leave out one of them")
    if not work.inputs and work.ground_truth is not None:
        raise UsageError("--ground-truth needs INPUT: images that are made have none")
    for name in ("hierarchies", *(one.name for one in SCORING)):
        if work.ground_truth is None and line.wrote(name):
            raise UsageError(f"`{name}` needs `ground_truth`: without it nothing is scored")
    if work.plot is not None:
        refuse_undrawable("--plot", work.plot)
    refuse_reports({"save": work.save, "markdown": work.markdown, "plot": work.plot})
    for name in ("fit_on", "classes", "backbone", "epochs"):
        if config.fit == "image" and line.wrote(name):
            raise UsageError(f"`{name}` needs `fit=folder`")
    if config.fit == "folder" and line.wrote("iterations"):
        raise UsageError("`iterations` belongs to `fit=image`; with `fit=folder` give `epochs`")
    of_all = {name: getattr(work, name) for name in OF_ALL}
    variants = parse_variants(config.methods, config.fit, **of_all)
    with ExitStack() as stack:
        folder = work.output or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dynaseg-benchmark-")))
        inputs = list(work.inputs)
        if not inputs:
            inputs = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dynaseg-synthetic-")))]
            write_synthetic_photos(inputs[0], SYNTHETIC_IMAGES, config.sizes)
        comparison = Benchmark(
            inputs,
            variants,
            folder,
            truth=work.ground_truth,
            evaluate=scoring,
            max_images=config.max_images,
            repeats=config.repeats,
            device=work.device,
            hierarchies=work.hierarchies,
            fit_on=work.fit_on,
        )
        return _run(comparison, work, stream=config.stream, as_json=shared.json, quiet=shared.quiet)


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    sizes = [size.lower().partition("x") for size in text.split(",")]
    if not all(width.isdecimal() and height.isdecimal() for width, _, height in sizes):
        raise UsageError(f"`sizes` must be a width and a height such as 481x321, not {quoted(text)}")
    return tuple((int(width), int(height)) for width, _, height in sizes)


def _interrupted(
    work: Benchmark,
    steps: Iterable[tuple[Job | None, Variant, str | None]],
    progress: CountProgress,
    doing: str = "",
) -> bool:
    """Go through the steps; whether Ctrl-C has put an end to it."""
    try:
        for job, variant, reason in steps:
            if reason is not None:
                say(f"failed: {'' if job is None else f'{job.path}, '}{variant.name}: {reason}", "red")
            if job is not None:
                progress.describe(job.source.name, f", {doing}{variant.name}")
                progress.advance(f"{job.source.name}, {doing}{variant.name}", left=work.seconds_left)
    except KeyboardInterrupt:
        return True
    return False


def _run(work: Benchmark, files: Work, *, stream: bool, as_json: bool, quiet: bool) -> ExitCode:
    from ..benchmark.results import markdown_table
    from ..evaluation.headings import columns_of
    from ..files.encoding import json_text
    from ..files.writing import write_atomically
    from .progress import CountProgress
    from .tables import show_metrics

    total = work.expect(stream=stream, curves=files.plot is not None)
    with (
        CountProgress(total, "steps", quiet=quiet) as progress,
        closing(work.fit()) as fitted,
        closing(work.stream()) as streamed,
        closing(work.curves()) as curves,
    ):
        interrupted = _interrupted(work, fitted, progress, "fitting ")
        interrupted = interrupted or _interrupted(work, chain(work.run(), streamed if stream else ()), progress)
        work.score()
        if files.plot is not None and not interrupted:
            interrupted = _interrupted(work, curves, progress)
    images = len({run.image for result in work.results for run in result.runs})
    document = for_the_command_line({**work.document(), "interrupted": interrupted})
    if not quiet:
        for note in work.notes:
            say(note, "yellow")
        for table in work.tables():
            if columns_of(row for _, row in table):
                show_metrics("method", table)
        versions = ", ".join(f"{package} {document['versions'][package]}" for package in ("torch", "python"))
        fitted_on = "" if work.fit_on is None else f", fitted on {work.fit_on}"
        say(f"{len(work.jobs)} images{fitted_on}; seconds in the median of a run, on {document['device']}, {versions}")
        if images:
            say("decode to write: seconds by stage; host and device GB: the most memory meanwhile")
        if any(result.fit for result in work.results):
            say("fit s: the whole fit; photos/s: from decoded pixels to labels; fit GB: the most memory meanwhile")
        if any(result.stream for result in work.results):
            say("images/s and first image s: as segment runs, from disk to disk, in a process of its own")
    if as_json:
        print_json(document)
    drawn = files.plot if images else None
    writers: list[tuple[Path | None, Callable[[Path], None]]] = [
        (files.save, lambda path: write_atomically(path, json_text(document, indent=2))),
        (
            files.markdown,
            lambda path: write_atomically(path, markdown_table(work.rows()).encode(errors="surrogateescape")),
        ),
        (drawn, lambda path: _draw(path, work, document["device"], images)),
    ]
    whole = write_each(writers, quiet=quiet)
    if files.plot is not None and drawn is None:
        say(f"--plot: no image was labelled, so {files.plot} is not drawn", "yellow")
    if files.output is not None and images and not quiet:
        say(f"label maps are in {files.output}, in labels and color of each method")
    if interrupted:
        missing = "the last image may lack some methods" if images else "no image was labelled"
        say(f"interrupted: the figures are of what was done so far; {missing}", "yellow")
        return ExitCode.INTERRUPTED
    return ExitCode.DONE if whole and not work.failures else ExitCode.SOME_FAILED


def _draw(path: Path, work: Benchmark, device: str, images: int) -> None:
    from ..plots.benchmark import picture
    from ..plots.style import plain, save_picture

    against = "" if work.truth is None else f" against {plain(str(work.truth), 50)}"
    fitted_on = "" if work.fit_on is None else f", fitted on {plain(str(work.fit_on), 50)}"
    title = f"{images} image{'' if images == 1 else 's'}{against}{fitted_on}, {plain(device, 50)}"
    save_picture(path, lambda: picture(work.results, title, work.points_of_hierarchies))
