"""``dynaseg segment``: every image of a folder, segmented into another."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import (
    FOLDER,
    FOLDER_FIT,
    INPUT,
    METHOD,
    OUTPUT,
    PICTURES,
    PRESET_CUTS,
    PRESETS,
    RUN,
    TILED_CUT,
    BatchConfig,
    CutConfig,
    ExportConfig,
    Preset,
    Product,
    SegmentConfig,
    WeightsFile,
    WorkersConfig,
    parse_channels,
    parse_pages,
)
from ..errors import UsageError
from ..fields import option, written
from .console import ExitCode, say
from .named_files import read_list
from .options import CommandLine, Shared, command, command_options

APPLIED_WITH = ("precision", "min_region", "refine")
"""Options that say how a network is applied, and may differ from those that it was fitted with."""


@dataclass(frozen=True)
class Places:
    """Where images come from and where results go."""

    inputs: tuple[Path, ...] = option((), "Image files, and folders of them.", metavar="INPUT", positional=True)
    output: Path | None = option(
        None,
        "Folder for the results.",
        OUTPUT,
        metavar="OUT",
        flags=("--output", "-o"),
        default_text="INPUT's name with -dynaseg",
    )
    files_from: str | None = option(
        None,
        "Read more image files from a list, one a line; - is stdin. Their paths are kept below OUT.",
        INPUT,
        metavar="FILE",
    )
    null: bool = option(False, "The list is separated by NUL, not lines.", INPUT, flags=("--null", "-0"))


@dataclass(frozen=True)
class Extras:
    """Shorthands for other options, and a run without work."""

    preset: Preset = option(
        "default",
        "Starting point for all options; paper is the paper to the letter: full resolution, float32, p = q = 100, 1000"
        " iterations, no convergence stop, raw labels.",
        METHOD,
    )
    classes: int | None = option(
        None, "The most labels that a folder can have.", FOLDER, default_text=written(FOLDER_FIT["clusters"])
    )
    record: bool = option(
        False,
        "Save recording, too: an animation (WebP) of how each image's labels change with the iterations.",
        PICTURES,
    )
    open: bool = option(False, "Open the report in the browser at the end; makes one.", PICTURES)
    dry_run: bool = option(False, "Show what would be done; write nothing.", RUN, flags=("--dry-run", "-n"))


OPTIONS = command_options(Places, SegmentConfig, CutConfig, WorkersConfig, BatchConfig, ExportConfig, Extras, Shared)


COMMON = (
    *("output", "save", "regions", "mode", "backbone", "classes"),
    *("report", "open", "export", "device", "workers", "dry_run"),
)
"""What ``--help`` shows."""


EXAMPLES = (
    "dynaseg segment photos --open",
    "dynaseg segment photos -o coarse --regions 12 --save labels,stats",
    "dynaseg segment photos -o things --classes 27 --backbone efficientnet-lite0",
)


@command(OPTIONS, COMMON, EXAMPLES)
def segment(line: CommandLine) -> ExitCode:
    """Segment images without labels, training set or tuning.

    Writes OUT/labels (PNG), OUT/color (the same in a fixed palette), OUT/overlay (on the photo) and OUT/stats
    (JSON), mirroring INPUT's tree; with --regions, OUT/regions, too. Run it again to continue where it stopped.
    """
    from ..batch.planning import parse_shard, plan_batch
    from .segment_run import run_plan, show_plan

    places, extras, shared = line.build(Places), line.build(Extras), line.build(Shared)
    batch = line.given(
        BatchConfig, shard=lambda text: parse_shard(text, os.environ), pages=parse_pages, channels=parse_channels
    )
    config = _segment_config(line, extras, tiled=bool(batch.get("tiles")))
    given_cut = line.given(CutConfig)
    preset_cut = TILED_CUT if batch.get("tiles") else PRESET_CUTS[extras.preset]
    cut = CutConfig(**given_cut) if given_cut else preset_cut
    workers = line.build(WorkersConfig)
    batch["save"] = _products(batch, with_regions=bool(given_cut) and not cut.is_raw, record=extras.record)
    batch["report"] = batch.get("report", False) or extras.open
    if places.null and places.files_from is None:
        raise UsageError("-0 applies to the list of --files-from: add that option")
    listed = [] if places.files_from is None else read_list("--files-from", places.files_from, null=places.null)
    if not places.inputs and places.files_from is None:
        raise UsageError("nothing to do: name image files or folders, or give --files-from")
    plan = plan_batch(
        places.inputs,
        places.output or _default_output(places),
        config,
        BatchConfig(**batch, cut=cut, export_config=line.build(ExportConfig)),
        list(map(Path, listed)),
    )
    if places.output is None and len(places.inputs) > 1 and not shared.quiet:
        say(f"{len(places.inputs)} inputs; results go to {plan.folder} (-o names another folder)")
    if extras.dry_run:
        return show_plan(plan, as_json=shared.json)
    return run_plan(plan, workers, as_json=shared.json, quiet=shared.quiet, opens_page=extras.open)


def _segment_config(line: CommandLine, extras: Extras, *, tiled: bool) -> SegmentConfig:
    """The options that were written, and for the others those of the model, or else of the preset."""
    given = line.given(SegmentConfig, weights=_weights, model=Path)
    model: Path | None = given.pop("model", None)
    if tiled and model is None:
        given.setdefault("fit", "folder")
    if model is not None or given.get("fit") == "folder" or extras.classes is not None:
        line.flags["clusters"] = line.flags["classes"]
    if extras.classes is not None:
        if model is None:
            given.setdefault("fit", "folder")
        if "clusters" in given:
            raise UsageError("--clusters belongs to --fit image, --classes to --fit folder: give one")
        given["clusters"] = extras.classes
    if model is not None:
        if line.wrote("preset"):
            raise UsageError(f"--preset {extras.preset}: the model {model} has its own options; leave the option out")
        return _with_options_of(model, given)
    preset = PRESETS[extras.preset]
    if given.get("fit") == "folder":
        # The default threshold must be below the number of classes, or the fit would stop at once.
        labels = min(FOLDER_FIT["min_labels"], max(1, given.get("clusters", FOLDER_FIT["clusters"]) - 1))
        preset = dataclasses.replace(preset, **FOLDER_FIT | {"min_labels": labels})
    elif extras.classes is not None:
        raise UsageError("--classes belongs to --fit folder")
    return dataclasses.replace(preset, **given)


def _weights(text: str) -> WeightsFile | str:
    from ..files.weights import identify

    return text if text == "random" else identify(text, "--weights")


def _with_options_of(model: Path, given: dict[str, Any]) -> SegmentConfig:
    from ..files.weights import read_model

    config = read_model(model, "--load-model")
    if "weights" in given:
        raise UsageError(f"--weights: the model {model} has all weights inside; leave the option out")
    for name, value in given.items():
        theirs = getattr(config, name)
        if name not in APPLIED_WITH and value != theirs:
            raise UsageError(f"`{name}={value}`: the model {model} was fitted with {theirs}; leave the option out")
    return dataclasses.replace(config, **given)


def _products(batch: dict[str, Any], *, with_regions: bool, record: bool) -> tuple[Product, ...]:
    """The products to save. A cut that was written adds regions, unless the products were listed."""
    products: list[Product] = [*batch.get("save", BatchConfig.save)]
    if record and "recording" not in products:
        products.append("recording")
    if with_regions and "save" not in batch:
        products.append("regions")
    return tuple(products)


def _default_output(places: Places) -> Path:
    if len(places.inputs) != 1 or places.files_from is not None:
        return Path("dynaseg-out")
    resolved = places.inputs[0].resolve()
    name = resolved.name if resolved.is_dir() else resolved.stem
    return Path(f"{name}-dynaseg" if name else "dynaseg-out")
