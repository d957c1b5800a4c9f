"""``dynaseg benchmark``: methods side by side on the same images, in seconds and in quality."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import METHODS, BenchmarkConfig, EvaluateConfig, Protocol
from ..errors import UsageError
from .console import ExitCode, errors_as_exit_codes, print_json, say, stderr
from .report_files import refuse_reports, write_each

if TYPE_CHECKING:
    from ..batch.job import Job
    from ..benchmark.benchmark import Benchmark
    from ..benchmark.variants import Variant
    from .progress import CountProgress

_WHAT, _QUALITY, _RUN, _REPORT = "What to compare", "Quality", "Running", "Report"
_DEFAULT = BenchmarkConfig()
_EVALUATE = EvaluateConfig()
_SIZES = ",".join(f"{width}x{height}" for width, height in _DEFAULT.sizes)
SYNTHETIC_IMAGES = 2
"""Made of each size without INPUT."""


def benchmark(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT",
            help="Image files, and folders of them; without any, images are made.",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help=f"Methods, separated by commas: {', '.join(METHODS)}. Options follow a method after colons:"
            " kmeans:clusters=8:window=7 or scf:max_size=240.",
            rich_help_panel=_WHAT,
        ),
    ] = _DEFAULT.methods,
    iterations: Annotated[
        int | None,
        typer.Option(
            help="At most so many iterations, for every method that iterates.",
            show_default="each method's own",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    max_images: Annotated[
        int, typer.Option(metavar="N", help="Only the first N images by name; 0 is all.", rich_help_panel=_WHAT)
    ] = _DEFAULT.max_images,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH,...",
            help="Width and height of the images that are made without INPUT; several, separated by commas.",
            show_default=_SIZES,
            rich_help_panel=_WHAT,
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Runs of each method on each image, in reverse order every other time.",
            rich_help_panel=_WHAT,
        ),
    ] = _DEFAULT.repeats,
    ground_truth: Annotated[
        Path | None,
        typer.Option(
            metavar="GT",
            help="Score against a ground truth, as evaluate does.",
            show_default=False,
            rich_help_panel=_QUALITY,
        ),
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="How to score, as in evaluate.", rich_help_panel=_QUALITY)
    ] = _EVALUATE.protocol,
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda|cuda:N|mps",
            help="Where networks compute; kmeans, felzenszwalb and reference use the CPU.",
            rich_help_panel=_RUN,
        ),
    ] = "auto",
    stream: Annotated[
        bool,
        typer.Option(
            help="Time scf, fsf and fixed as segment runs them, too: from disk to disk, in a process of their own,"
            " over up to 32 of the images, in several passes if these are few.",
            rich_help_panel=_RUN,
        ),
    ] = _DEFAULT.stream,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Keep the label maps, in OUT/METHOD/labels and color.",
            show_default="not kept",
            rich_help_panel=_REPORT,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="Write the figures to a file.", show_default=False, rich_help_panel=_REPORT
        ),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md", help="Write the table as Markdown.", show_default=False, rich_help_panel=_REPORT
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw seconds by stage and, if the images' sizes differ, seconds and memory against these; with"
            " --ground-truth quality against seconds and against the number of segments, too: a .png, .svg or .pdf"
            " (needs matplotlib).",
            show_default=False,
            rich_help_panel=_REPORT,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON on stdout.", rich_help_panel=_REPORT)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel=_REPORT)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.", rich_help_panel=_REPORT)] = False,
) -> None:
    """Compare methods on the same images: seconds, and with a ground truth the metrics of evaluate.

    Every method sees every image, in turns. Seconds go from decoded pixels to
    labels. Where reference is among the methods, the others are compared with it.
    Then scf, fsf and fixed are timed as segment runs them, from disk to disk.
    """
    with errors_as_exit_codes(verbose), ExitStack() as stack:
        from ..benchmark.benchmark import Benchmark
        from ..benchmark.synthetic import write_synthetic_photos
        from ..benchmark.variants import parse_variants
        from ..figures import refuse_undrawable

        config = BenchmarkConfig(
            methods=methods, max_images=max_images, repeats=repeats, stream=stream, sizes=_read_sizes(size or _SIZES)
        )
        if inputs and size is not None:
            raise UsageError("--size is of the images that are made without INPUT; leave out one of them")
        if not inputs and ground_truth is not None:
            raise UsageError("--ground-truth needs INPUT: images that are made have none")
        if plot is not None:
            refuse_undrawable("--plot", plot)
        refuse_reports({"--save": save, "--markdown": markdown, "--plot": plot})
        variants = parse_variants(config.methods, iterations)
        folder = output or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dynaseg-benchmark-")))
        if not inputs:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dynaseg-synthetic-")))
            write_synthetic_photos(made, SYNTHETIC_IMAGES, config.sizes)
        work = Benchmark(
            inputs or [made],
            variants,
            folder,
            truth=ground_truth,
            evaluate=EvaluateConfig(protocol=protocol),
            max_images=config.max_images,
            repeats=config.repeats,
            device=device,
        )
        code = _run(work, save, markdown, plot, stream=config.stream, as_json=as_json, quiet=quiet)
    raise typer.Exit(code)


def _read_sizes(text: str) -> tuple[tuple[int, int], ...]:
    sizes = [size.lower().partition("x") for size in text.split(",")]
    if not all(width.isdecimal() and height.isdecimal() for width, _, height in sizes):
        raise UsageError(f"--size must be a width and a height such as 481x321, not {text}")
    return tuple((int(width), int(height)) for width, _, height in sizes)


def _interrupted(steps: Iterable[tuple[Job, Variant, str | None]], progress: CountProgress) -> bool:
    """Go through the steps; whether Ctrl-C has put an end to it."""
    try:
        for job, variant, reason in steps:
            if reason is not None:
                say(f"failed: {job.path}, {variant.name}: {reason}", "red")
            progress.describe(job.source.name, f", {variant.name}")
            progress.advance(f"{job.source.name}, {variant.name}")
    except KeyboardInterrupt:
        return True
    return False


def _run(
    work: Benchmark,
    save: Path | None,
    markdown: Path | None,
    plot: Path | None,
    *,
    stream: bool,
    as_json: bool,
    quiet: bool,
) -> ExitCode:
    from ..benchmark.markdown import markdown_table
    from ..writing import write_content, write_json
    from .metrics_table import metrics_table
    from .progress import CountProgress

    total = work.steps + (work.stream_steps if stream else 0) + (work.curve_steps if plot is not None else 0)
    with (
        CountProgress(total, "steps", quiet=quiet) as progress,
        closing(work.stream()) as streamed,
        closing(work.curves()) as curves,
    ):
        interrupted = _interrupted(chain(work.run(), streamed if stream else ()), progress)
        work.score()
        if plot is not None and not interrupted:
            interrupted = _interrupted(curves, progress)
    document = {**work.document(), "interrupted": interrupted}
    if not quiet:
        for note in work.notes:
            say(note, "yellow")
        for table in work.tables():
            stderr.print(metrics_table("method", table))
        versions = ", ".join(f"{package} {document['versions'][package]}" for package in ("torch", "python"))
        say(f"{len(work.jobs)} images; seconds in the median of a run, on {document['device']}, {versions}")
        say("decode to write: seconds by stage; host and device GB: the most memory meanwhile")
        if any(report.stream for report in work.reports):
            say("images/s and first image s: as segment runs, from disk to disk, in a process of its own")
    if as_json:
        print_json(document)
    writers: list[tuple[Path | None, Callable[[Path], None]]] = [
        (save, lambda path: write_json(path, document, indent=2)),
        (markdown, lambda path: write_content(path, markdown_table(work.rows()).encode(errors="surrogateescape"))),
        (plot, lambda path: _draw(path, work, document["device"])),
    ]
    whole = write_each(writers)
    if interrupted:
        say("interrupted: the figures are of what was done so far; the last image may lack some methods", "yellow")
        return ExitCode.INTERRUPTED
    return ExitCode.DONE if whole and not work.failures else ExitCode.SOME_FAILED


def _draw(path: Path, work: Benchmark, device: str) -> None:
    from ..benchmark.plot import picture
    from ..figures import plain, save_picture

    images = len({run.image for report in work.reports for run in report.runs})
    if not images:
        say(f"--plot: no image was labelled, so {path} is not drawn", "yellow")
        return
    against = "" if work.truth is None else f" against {plain(str(work.truth), 50)}"
    title = f"{images} image{'' if images == 1 else 's'}{against}, {plain(device, 50)}"
    save_picture(path, lambda: picture(work.reports, title))
