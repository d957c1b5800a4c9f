"""``dynaseg export``: a folder that is segmented already, in formats of other tools."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import get_args

from ..config import EXPORTS, ExportConfig, Format, names_option
from ..errors import UsageError
from ..fields import check_fields, option
from .console import ExitCode, print_json
from .options import CommandLine, Shared, command, command_options
from .signals import first_signal_calls


@dataclass(frozen=True)
class Exports:
    """The folder, and the formats."""

    output: Path = option(MISSING, "A folder that segment wrote.", metavar="OUT", positional=True)
    format: tuple[Format, ...] = option(
        (),
        f"Formats, separated by commas: {', '.join(get_args(Format))}.",
        EXPORTS,
        metavar="LIST",
    )
    names: Path | None = names_option()

    def __post_init__(self) -> None:
        check_fields(self)


OPTIONS = command_options(Exports, ExportConfig, Shared)


@command(OPTIONS)
def export(line: CommandLine) -> ExitCode:
    """Write a folder that is segmented already in formats of other tools, to OUT/export.

    Nothing is segmented again; geotiff, csv, parquet and cutouts need the photos. Regions are exported if saved, else
    labels.
    """
    from ..batch.results import plan_of_results
    from ..run import export_results
    from .segment_run import RunDisplay, exit_code_of, show_notes

    exports, shared = line.build(Exports), line.build(Shared)
    if not exports.format:
        raise UsageError(f"nothing to do: give `format`, one or more of {', '.join(get_args(Format))}")
    plan = plan_of_results(
        exports.output, export=exports.format, export_config=line.build(ExportConfig), names=exports.names
    )
    if not shared.quiet:
        show_notes(plan)
    stop = threading.Event()
    with (
        first_signal_calls(stop.set) as signals,
        closing(export_results(plan, stop)) as events,
        RunDisplay(plan, quiet=shared.quiet) as display,
    ):
        for event in events:
            display.show(event)
    if shared.json:
        folder = str(plan.folder.export) if not signals else None
        print_json({"output": str(plan.folder), "export": folder, "images": len(plan.jobs), "formats": exports.format})
    return exit_code_of(signals, complete=display.complete)
