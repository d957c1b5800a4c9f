"""``dynaseg segment``: every image of a folder, segmented into another."""

from __future__ import annotations

import dataclasses
import errno
import os
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from ..config import (
    COMMON_GRANULARITY,
    FOLDER_FIT,
    PAPER_WEIGHT,
    PRESETS,
    Backbone,
    BatchConfig,
    Colors,
    CutConfig,
    Executor,
    Fit,
    Format,
    Mode,
    Precision,
    Preset,
    Product,
    SegmentConfig,
    WorkersConfig,
    parse_range,
    range_text,
)
from ..errors import UsageError, WorkerError
from .console import ExitCode, errors_as_exit_codes, print_json, quoted, say, stderr
from .folder_model import FitInterruptedError, check_save_model, fit_options, with_model
from .lists import read_list

if TYPE_CHECKING:
    from ..batch.planning import Plan
    from ..batch.summary import RunSummary

_METHOD, _STOP, _SIZE = "Method", "When to stop", "Size and arithmetic"
_FOLDER, _GUIDANCE, _REGIONS = "One label space for a folder", "Guidance", "Regions"
_INPUT, _OUTPUT, _PICTURES, _RUN = "Input", "Output", "Pictures and exports", "Running"
_DEFAULT = SegmentConfig()
_BATCH = BatchConfig()
_CUT = CutConfig()
_WORKERS = WorkersConfig()


def _auto_or_number(text: str) -> str | int:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"must be auto or a whole number, not {quoted(text)}") from None


def segment(
    context: typer.Context,
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT", help="Image files, and folders of them.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder for the results.",
            show_default="INPUT's name with -dynaseg",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="Weighting of the two losses: spatial continuity focus, feature similarity focus, or constant.",
            rich_help_panel=_METHOD,
        ),
    ] = _DEFAULT.mode,
    backbone: Annotated[
        Backbone,
        typer.Option(
            help="Feature extractor: a small CNN trained from scratch on each image, or a ResNet-18 with a feature"
            " pyramid, which starts from what it learned of ImageNet.",
            rich_help_panel=_METHOD,
        ),
    ] = _DEFAULT.backbone,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|random",
            help="What the ResNet starts from: a state dict or safetensors with torchvision's names; random is for"
            " tests.",
            show_default="torchvision's ImageNet weights, downloaded once",
            rich_help_panel=_METHOD,
        ),
    ] = None,
    freeze_backbone: Annotated[
        bool,
        typer.Option(
            "--freeze-backbone",
            help="Leave the ResNet as it is and train only what follows it.",
            rich_help_panel=_METHOD,
        ),
    ] = _DEFAULT.freeze_backbone,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="alpha of scf and fsf.",
            show_default=f"{PAPER_WEIGHT['scf']:g} (scf), {PAPER_WEIGHT['fsf']:g} (fsf)",
            rich_help_panel=_METHOD,
        ),
    ] = None,
    mu: Annotated[
        float | None,
        typer.Option(help="mu of fixed.", show_default=f"{PAPER_WEIGHT['fixed']:g} (fixed)", rich_help_panel=_METHOD),
    ] = None,
    preset: Annotated[
        Preset,
        typer.Option(
            help="Starting point for all options; paper is the paper to the letter: full resolution, float32,"
            " p = q = 100, 1000 iterations, no convergence stop.",
            rich_help_panel=_METHOD,
        ),
    ] = "default",
    features: Annotated[
        int, typer.Option(help="p: channels of the feature map.", rich_help_panel=_METHOD)
    ] = _DEFAULT.features,
    clusters: Annotated[
        int,
        typer.Option(help="q: the most labels an image can have.", rich_help_panel=_METHOD),
    ] = _DEFAULT.clusters,
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the initial weights and of the silhouette sample.",
            rich_help_panel=_METHOD,
        ),
    ] = _DEFAULT.seed,
    min_region: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            help="Merge connected regions smaller than this into their most similar neighbour.",
            rich_help_panel=_METHOD,
        ),
    ] = _DEFAULT.min_region,
    iterations: Annotated[
        int,
        typer.Option(
            help="At most so many iterations.",
            show_default=f"{_DEFAULT.iterations}; {FOLDER_FIT['iterations']} a mosaic with --fit folder",
            rich_help_panel=_STOP,
        ),
    ] = _DEFAULT.iterations,
    min_labels: Annotated[
        Any,
        typer.Option(
            metavar="auto|N",
            parser=_auto_or_number,
            help="Stop when no more labels are left: a number, or auto to ask each image's silhouette score.",
            show_default=f"{_DEFAULT.min_labels}; {FOLDER_FIT['min_labels']} with --fit folder",
            rich_help_panel=_STOP,
        ),
    ] = _DEFAULT.min_labels,
    patience: Annotated[
        int,
        typer.Option(
            help="Stop when the number of labels has reached no new low for so many iterations; 0 never does.",
            rich_help_panel=_STOP,
        ),
    ] = _DEFAULT.patience,
    max_size: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            help="Longest side of the image that the network is fitted on; 0 is full resolution."
            " Labels always have the image's own size.",
            rich_help_panel=_SIZE,
        ),
    ] = _DEFAULT.max_size,
    levels: Annotated[
        int,
        typer.Option(
            help="Sizes that the network is fitted at, one after another, each twice the one before.",
            rich_help_panel=_SIZE,
        ),
    ] = _DEFAULT.levels,
    precision: Annotated[
        Precision,
        typer.Option(
            help="Arithmetic of the convolutions; auto takes bfloat16 where the device has units for it.",
            rich_help_panel=_SIZE,
        ),
    ] = _DEFAULT.precision,
    fit: Annotated[
        Fit,
        typer.Option(
            help="A network for each image, or one for the folder: its labels mean the same in every image, and it is"
            " kept in OUT/model.safetensors.",
            rich_help_panel=_FOLDER,
        ),
    ] = _DEFAULT.fit,
    classes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The most labels that a folder can have.",
            show_default=str(FOLDER_FIT["clusters"]),
            rich_help_panel=_FOLDER,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How often a folder fit sees every image.",
            show_default=str(FOLDER_FIT["epochs"]),
            rich_help_panel=_FOLDER,
        ),
    ] = None,
    save_model: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Keep the folder's network, with all options inside, here as well.",
            show_default=False,
            rich_help_panel=_FOLDER,
        ),
    ] = None,
    load_model: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Apply the network of another folder, with its options: one forward pass an image.",
            show_default=False,
            rich_help_panel=_FOLDER,
        ),
    ] = None,
    refine: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Fit a loaded network on to each image, for at most so many iterations, before it is applied.",
            rich_help_panel=_FOLDER,
        ),
    ] = _DEFAULT.refine,
    scribbles: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of label PNGs of the images' sizes and of the names of their results: 255 is free, another"
            " value is the label wanted there. On such an image as many labels as were drawn replace --min-labels.",
            show_default=False,
            rich_help_panel=_GUIDANCE,
        ),
    ] = _BATCH.scribbles,
    regions: Annotated[
        Any,
        typer.Option(
            metavar="auto|N",
            parser=_auto_or_number,
            help="Merge neighbours into so many regions an image; auto cuts all images where boundaries are equally"
            " strong. Saves regions.",
            rich_help_panel=_REGIONS,
        ),
    ] = _CUT.regions,
    granularity: Annotated[
        float | None,
        typer.Option(
            metavar="F",
            help="Where all images are cut: from 0, one region, to 1, every fragment. Saves regions.",
            show_default=f"{COMMON_GRANULARITY:g}",
            rich_help_panel=_REGIONS,
        ),
    ] = _CUT.granularity,
    recursive: Annotated[
        bool, typer.Option(help="Look into folders below INPUT.", rich_help_panel=_INPUT)
    ] = _BATCH.recursive,
    files_from: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Read more image files from a list, one a line; - is stdin. Their paths are kept below OUT.",
            show_default=False,
            rich_help_panel=_INPUT,
        ),
    ] = None,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="The list is separated by NUL, not lines.", rich_help_panel=_INPUT)
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Take only files that match: by name, or by path below INPUT if there is a slash. Repeatable.",
            show_default=False,
            rich_help_panel=_INPUT,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", help="Leave out files that match. Repeatable.", show_default=False, rich_help_panel=_INPUT
        ),
    ] = None,
    follow_symlinks: Annotated[
        bool,
        typer.Option("--follow-symlinks", help="Follow symbolic links that lead out of INPUT.", rich_help_panel=_INPUT),
    ] = _BATCH.follow_symlinks,
    max_pixels: Annotated[
        int,
        typer.Option(help="Refuse larger images from their header, before decoding.", rich_help_panel=_INPUT),
    ] = _BATCH.max_pixels,
    value_range: Annotated[
        str,
        typer.Option(
            "--range",
            metavar="auto|full|LOW,HIGH",
            help="Which numbers of images deeper than 8 bits become black and white: auto stretches between the darkest"
            " and the brightest 0.1%, full uses the whole range of the file's type.",
            rich_help_panel=_INPUT,
        ),
    ] = range_text(_BATCH.range),
    save: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="What to write, separated by commas: labels (grey PNG), color (palette PNG), stats (JSON), overlay"
            " (the photo with regions and colours laid over), regions (merged, grey PNG), hierarchy (boundary"
            " strengths: any regions can be cut from it later; grey PNG)."
            " Without stats nothing marks an image as complete, and a re-run does it again.",
            rich_help_panel=_OUTPUT,
        ),
    ] = ",".join(_BATCH.save),
    colors: Annotated[
        Colors,
        typer.Option(
            help="Colours of the labels in pictures: a fixed palette, or the mean colour of what each label is in its"
            " image.",
            rich_help_panel=_PICTURES,
        ),
    ] = _BATCH.colors,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Write OUT/report.html, a page to look at, sort and filter all images, which needs no server.",
            rich_help_panel=_PICTURES,
        ),
    ] = _BATCH.report,
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Save recording, too: an animation (WebP) of how each image's labels change with the iterations.",
            rich_help_panel=_PICTURES,
        ),
    ] = False,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Hand the results on in formats of other tools, in OUT/export, separated by commas:"
            f" {', '.join(get_args(Format))} (Segmentation mask 1.1). Regions if they are saved, else labels.",
            show_default=False,
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    keep_extension: Annotated[
        bool,
        typer.Option(
            "--keep-extension",
            help="Write a.jpg.png for a.jpg, so that a.jpg and a.png can sit together.",
            rich_help_panel=_OUTPUT,
        ),
    ] = _BATCH.keep_extension,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite/--resume",
            help="Redo every image, or skip those complete with the same options and content.",
            rich_help_panel=_OUTPUT,
        ),
    ] = _BATCH.overwrite,
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda|cuda:N,...|mps",
            help="Where to compute; auto takes CUDA, then MPS, then the CPU. auto and cuda take every CUDA device.",
            rich_help_panel=_RUN,
        ),
    ] = _WORKERS.device,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Processes that segment images; 0 does it in this one.",
            show_default="one a GPU or CPU core",
            rich_help_panel=_RUN,
        ),
    ] = _WORKERS.workers,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="CPU threads of each worker; they change how results round.",
            show_default="cores / workers",
            rich_help_panel=_RUN,
        ),
    ] = _WORKERS.threads,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Give up an image that takes longer to be read, or to be written.",
            rich_help_panel=_RUN,
        ),
    ] = _WORKERS.timeout,
    executor: Annotated[
        Executor,
        typer.Option(
            help="Where workers run: on this machine, or on a Ray cluster (pip install 'dynaseg[ray]').",
            rich_help_panel=_RUN,
        ),
    ] = _WORKERS.executor,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of a running Ray cluster; without it, one is started on this machine.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = _WORKERS.ray_address,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first image that fails.", rich_help_panel=_RUN)
    ] = _BATCH.fail_fast,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N|auto",
            help="Take every N-th image from the I-th on, for N machines with one OUT; auto, from a Slurm array's"
            " variables.",
            rich_help_panel=_RUN,
        ),
    ] = "/".join(map(str, _BATCH.shard)),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; write nothing.", rich_help_panel=_RUN)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the run's summary as JSON on stdout.", rich_help_panel=_RUN)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel=_RUN)] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.", rich_help_panel=_RUN)] = False,
) -> None:
    """Segment images without labels, training set or tuning.

    Writes OUT/labels (raw labels, PNG), OUT/color (the same in a fixed palette) and OUT/stats (JSON), mirroring
    INPUT's tree; with --regions, OUT/regions, too. Run it again to continue where it stopped.
    """
    with errors_as_exit_codes(verbose):
        from ..batch.planning import plan_batch
        from ..batch.shards import parse_shard
        from ..weights_file import identify

        given = _given(context, SegmentConfig)
        if weights is not None and weights != "random":
            given["weights"] = identify(weights, "--weights")
        if load_model is not None and _written(context, "preset"):
            raise UsageError(f"--preset {preset}: the model {load_model} has its own options; leave the option out")
        config = fit_options(PRESETS[preset], given, classes, load_model)
        batch = BatchConfig(
            recursive=recursive,
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            follow_symlinks=follow_symlinks,
            keep_extension=keep_extension,
            max_pixels=max_pixels,
            range=parse_range(value_range),
            scribbles=scribbles,
            save=_products(save, context, record=record),
            cut=CutConfig(regions=regions, granularity=granularity),
            colors=colors,
            report=report,
            export=_formats(export),
            overwrite=overwrite,
            fail_fast=fail_fast,
            shard=parse_shard(shard, os.environ),
        )
        where = WorkersConfig(
            device=device,
            executor=executor,
            workers=workers,
            threads=threads,
            timeout=timeout,
            ray_address=ray_address,
        )
        if null and files_from is None:
            raise UsageError("-0 applies to the list of --files-from: add that option")
        listed = [] if files_from is None else list(map(Path, read_list("--files-from", files_from, null=null)))
        if not inputs and not files_from:
            raise UsageError("nothing to do: name image files or folders, or give --files-from")
        plan = plan_batch(inputs or [], output or _default_output(inputs or [], files_from), config, batch, listed)
        if output is None and inputs and len(inputs) > 1 and not quiet:
            say(f"{len(inputs)} inputs; results go to {plan.output} (-o names another folder)")
        if save_model is not None:
            check_save_model(save_model, plan)
        code = _show_plan(plan, as_json) if dry_run else _run(plan, where, save_model, as_json=as_json, quiet=quiet)
    raise typer.Exit(code)


def _run(plan: Plan, workers: WorkersConfig, save_model: Path | None, *, as_json: bool, quiet: bool) -> ExitCode:
    from ..batch.dispatcher import NO_DEVICE
    from ..batch.runner import check_executor, dispatcher_of
    from ..batch.summary import RunSummary
    from .progress import BatchProgress
    from .signals import first_signal_calls

    check_executor(workers)
    _fetch_weights(plan.segment, quiet=quiet)
    summary = RunSummary(plan)
    if not quiet:
        _say_what_is_left_out(plan)
    if plan.unused_scribbles and not quiet:
        unused = plan.unused_scribbles
        say(f"scribbles of no image, by their names: {len(unused)}, first {unused[0]}", "yellow")
    if plan.segment.fit == "folder":
        try:
            summary.plan = plan = with_model(plan, workers, save_model, quiet=quiet)
        except FitInterruptedError as interrupted:
            return _end(summary, NO_DEVICE, interrupted.signal, as_json=as_json, quiet=quiet)
        except WorkerError:
            with suppress(OSError):
                summary.write(summary.document(NO_DEVICE, interrupted=True))
            raise
    with BatchProgress(summary, quiet=quiet) as progress:
        dispatcher = dispatcher_of(plan, workers, progress.iterate)
        try:
            with first_signal_calls(dispatcher.stop) as signals, closing(dispatcher.run()) as outcomes:
                for outcome in outcomes:
                    summary.add(outcome)
                    progress.finish(outcome)
        except WorkerError:
            with suppress(OSError):
                summary.write(summary.document(dispatcher.device, interrupted=True))
            raise
    return _end(summary, dispatcher.device, signals[0] if signals else None, as_json=as_json, quiet=quiet)


def _end(summary: RunSummary, device: str, signal: int | None, *, as_json: bool, quiet: bool) -> ExitCode:
    """Write and say what became of a run; `signal` is the one that ended it, if one did."""
    from .handing_on import hand_on, show_how_to_look
    from .progress import show_summary
    from .signals import TERMINATING

    plan, interrupted = summary.plan, signal is not None
    document = summary.document(device, interrupted=interrupted)
    answers = True
    try:
        summary.write(document)
    except OSError as error:
        say(f"error: {plan.output}/run.json cannot be written: {error.strerror}", "red")
        answers = error.errno != errno.ETIMEDOUT
    # Whatever else is written to a folder that hangs would hang as well, and Ctrl-C with it.
    whole = hand_on(plan, document, quiet=quiet) if answers else not (plan.batch.report or plan.batch.export)
    if not quiet:
        show_summary(summary)
        show_how_to_look(plan)
    if as_json:
        print_json(document)
    if interrupted:
        say("interrupted; the same command continues", "yellow")
        return ExitCode.TERMINATED if signal in TERMINATING else ExitCode.INTERRUPTED
    return ExitCode.DONE if whole and not summary.failures else ExitCode.SOME_FAILED


def _say_what_is_left_out(plan: Plan) -> None:
    for doubt in plan.doubts:
        say(doubt, "yellow")
    if plan.passed_over:
        say(f"passed over: {plan.passed_over.describe()}", "yellow")


def _fetch_weights(config: SegmentConfig, *, quiet: bool) -> None:
    """Download the ResNet's weights, here and once, before there are workers who all need them."""
    from ..weights_file import IMAGENET_URL, imagenet_path, lacks_weights

    if not lacks_weights(config):
        return
    from ..engine.weights import imagenet_weights

    if not quiet:
        say(f"downloading {IMAGENET_URL} to {imagenet_path()}")
    imagenet_weights(progress=stderr.is_live and not quiet)


def _show_plan(plan: Plan, as_json: bool) -> ExitCode:
    from ..batch.output_folder import EXPORT_FOLDER, REPORT_NAME

    jobs = [
        {"path": job.path, "results": [str(job.result(plan.output, product)) for product in plan.batch.save]}
        for job in plan.jobs
    ]
    failures = [{"path": outcome.path, "reason": outcome.reason} for outcome in plan.unlistable]
    if as_json:
        document = {"output": str(plan.output), "images": len(jobs), "jobs": jobs, "failures": failures}
        print_json({**document, "passed_over": dict(sorted(plan.passed_over.items()))})
    else:
        for job in jobs:
            say(f"{job['path']} -> {', '.join(job['results'])}")
        if plan.batch.report:
            say(f"all of it -> {plan.output / REPORT_NAME}")
        if plan.batch.export:
            say(f"all of it, as {', '.join(plan.batch.export)} -> {plan.output / EXPORT_FOLDER}")
        _say_what_is_left_out(plan)
        say(f"{len(jobs)} images; nothing was written")
    return ExitCode.SOME_FAILED if failures else ExitCode.DONE


def _given(context: typer.Context, config: type) -> dict[str, Any]:
    """The options a person wrote, among those that are fields of `config`: a preset fills in the others."""
    names = [field.name for field in dataclasses.fields(config)]
    return {name: context.params[name] for name in names if name in context.params and _written(context, name)}


def _written(context: typer.Context, name: str) -> bool:
    """Whether a person wrote the option."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _names(text: str) -> dict[str, None]:
    """Those of a list that is separated by commas, each once."""
    return dict.fromkeys(name.strip() for name in text.split(",") if name.strip())


def _formats(export: str | None) -> tuple[Format, ...]:
    names = tuple(_names(export or ""))
    if export is not None and not names:
        raise UsageError(f"--export names no format: give one or more of {', '.join(get_args(Format))}")
    return cast("tuple[Format, ...]", names)  # BatchConfig checks them


def _products(save: str, context: typer.Context, *, record: bool) -> tuple[Product, ...]:
    """What to save: regions, too, where it is said how they are cut and not what is saved."""
    names = _names(save)
    if record:
        names["recording"] = None
    for option in ("regions", "granularity"):
        if _written(context, option) and "regions" not in names:
            if not _written(context, "save"):
                names["regions"] = None
            elif "overlay" not in names and not context.params["report"]:
                raise UsageError(
                    f"--{option} says where regions are cut, but --save names neither regions nor overlay: add one"
                )
    return cast("tuple[Product, ...]", tuple(names))  # BatchConfig checks them


def _default_output(inputs: list[Path], files_from: str | None) -> Path:
    if len(inputs) != 1 or files_from:
        return Path("dynaseg-out")
    resolved = inputs[0].resolve()
    name = resolved.name if resolved.is_dir() else resolved.stem
    return Path(f"{name}-dynaseg" if name else "dynaseg-out")
