"""``dynaseg report``: the page of a folder that is segmented already, or of two side by side."""

from __future__ import annotations

import dataclasses
import threading
from contextlib import closing
from dataclasses import MISSING, dataclass
from pathlib import Path

from ..config import RUN, names_option
from ..errors import UsageError
from ..fields import option
from .console import ExitCode, print_json
from .options import CommandLine, Shared, command, command_options
from .signals import first_signal_calls


@dataclass(frozen=True)
class Results:
    """The folders, and whether to look at their page."""

    outputs: tuple[Path, ...] = option(
        MISSING,
        "A folder that segment wrote; or two of them, of the same photos, to be compared.",
        metavar="OUT",
        positional=True,
    )
    names: Path | None = names_option()
    open: bool = option(False, "Open the page in the browser.", RUN)


OPTIONS = command_options(Results, Shared)


@command(OPTIONS)
def report(line: CommandLine) -> ExitCode:
    """Make the page of a folder that is segmented already, OUT/report.html.

    Nothing is segmented again. Photos that were not in a report so far are read once more, from where they were. Two
    folders are shown side by side in a page of the first one, OUT/comparison.html.
    """
    from ..batch.results import plan_of_results, refuse_other_page
    from ..run import compare_results, report_results
    from .run_summary import open_page
    from .segment_run import RunDisplay, exit_code_of, show_notes

    results, shared = line.build(Results), line.build(Shared)
    if len(results.outputs) > 2:
        raise UsageError(f"a page shows one folder, or two side by side, not {len(results.outputs)}")
    # A comparison shows the labels of the first folder.
    plan, *others = (
        plan_of_results(output, report=True, names=None if place else results.names)
        for place, output in enumerate(results.outputs)
    )
    if not shared.quiet:
        show_notes(plan)
    if others:
        refuse_other_page(plan.folder)
    if others and plan.folder.path.resolve() == others[0].folder.path.resolve():
        raise UsageError(f"{others[0].folder} is named twice; name two folders of results to compare them")
    page, stop = plan.folder.comparison if others else plan.folder.report, threading.Event()
    shown = dataclasses.replace(plan, jobs=[job for each in (plan, *others) for job in each.jobs])
    with (
        first_signal_calls(stop.set) as signals,
        closing(compare_results(plan, others[0], stop) if others else report_results(plan, stop)) as events,
        RunDisplay(shown, quiet=shared.quiet) as display,
    ):
        for event in events:
            display.show(event)
    if shared.json:
        failures = [outcome.as_entry(reason=outcome.reason) for outcome in display.failures]
        written = str(page) if display.complete and not signals else None
        print_json({"output": str(plan.folder), "report": written, "images": len(plan.jobs), "failures": failures})
    code = exit_code_of(signals, complete=display.complete and not display.failures)
    if results.open and not signals and display.complete:
        open_page(page, plan.folder.path)
    return code
