"""``dynaseg report``: the page of a folder that is segmented already."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import MISSING, dataclass
from pathlib import Path

from ..config import RUN
from ..fields import option
from .console import ExitCode, print_json
from .options import CommandLine, Shared, command, command_options
from .run_summary import open_page
from .segment_run import RunDisplay, exit_code_of
from .signals import first_signal_calls


@dataclass(frozen=True)
class Results:
    """The folder, and whether to look at its page."""

    output: Path = option(MISSING, "A folder that segment wrote.", metavar="OUT", positional=True)
    open: bool = option(False, "Open the page in the browser.", RUN)


OPTIONS = command_options(Results, Shared)


@command(OPTIONS)
def report(line: CommandLine) -> ExitCode:
    """Make the page of a folder that is segmented already, OUT/report.html.

    Nothing is segmented again. Photos that were not in a report so far are read once more, from where they were.
    """
    from ..batch.results import plan_of_results
    from ..run import report_results

    results, shared = line.build(Results), line.build(Shared)
    plan = plan_of_results(results.output, report=True)
    stop = threading.Event()
    with (
        first_signal_calls(stop.set) as signals,
        closing(report_results(plan, stop)) as events,
        RunDisplay(plan, quiet=shared.quiet) as display,
    ):
        for event in events:
            display.show(event)
    if shared.json:
        failures = [{"path": outcome.path, "reason": outcome.reason} for outcome in display.failures]
        page = str(plan.folder.report) if display.complete and not signals else None
        print_json({"output": str(plan.folder), "report": page, "images": len(plan.jobs), "failures": failures})
    code = exit_code_of(signals, complete=display.complete and not display.failures)
    if results.open and not signals and display.complete:
        open_page(plan.folder.report, plan.folder.path)
    return code
