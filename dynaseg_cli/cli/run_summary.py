"""The end of a run for people: counts, time, labels, the files that were written, and the command to look at them."""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..batch.planning import Plan
from ..batch.summary import RunSummary
from ..counting import duration
from ..files.names import printable
from .console import say, stderr

MOST_WARNED = 5
"""Warnings about images that are shown; further ones are counted."""
BAR_WIDTH = 40
BARS, LINE = "▁▂▃▄▅▆▇█", "━"
LEAST_DRAWN = 8
"""Images from which the distribution of their labels is drawn."""
BINS = 12


def show_summary(summary: RunSummary, written: Sequence[Path]) -> None:
    """Show what a run did.

    Parameters
    ----------
    written : files of the whole run, other than the report and exports.
    """
    if stderr.is_live and summary.images:
        stderr.print(_bar(summary))
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("images", ", ".join(_counts(summary)))
    table.add_row("failures", Text(str(len(summary.failures)), style="red" if summary.failures else ""))
    each = f", {summary.seconds / summary.done:.1f} s an image" if summary.done else ""
    table.add_row("elapsed", f"{elapsed(summary.seconds)}{each}")
    if summary.labels:
        table.add_row("labels per image", _labels(summary.labels))
    files = _names(summary, written)
    if files:
        table.add_row("files", Text(printable(", ".join(files))))
    stderr.print(table)
    if len(summary.warnings) > MOST_WARNED:
        more = len(summary.warnings) - MOST_WARNED
        say(f"and {more} more warnings; {summary.plan.folder.run} has all", "yellow")
    if summary.done or summary.skipped:
        saved = summary.plan.batch.save
        one = len(saved) == 1 and not saved[0].endswith("s")
        say(f"{', '.join(saved)} {'is' if one else 'are'} in {summary.plan.folder}")


def elapsed(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def _counts(summary: RunSummary) -> list[str]:
    counts = [f"{summary.done - summary.reused} segmented"]
    if summary.reused:
        counts.append(f"{summary.reused} written from earlier labels")
    if summary.skipped:
        counts.append(f"{summary.skipped} complete already")
    missing = summary.images - summary.finished
    if missing:
        counts.append(f"{missing} not started")
    return counts


def _bar(summary: RunSummary) -> Text:
    """How much is done (green), was done before (cyan), failed (red) and is missing (dim); and the count."""
    parts = ((summary.done, "green"), (summary.skipped, "cyan"), (len(summary.failures), "red"))
    count = f" {summary.done + summary.skipped}/{summary.images}"
    width = max(1, min(BAR_WIDTH, stderr.width - len(count)))
    bar, line, so_far, filled = Text(), LINE if _shows(LINE) else "-", 0, 0
    for number, style in (*parts, (summary.images - summary.finished, "dim")):
        so_far += number
        end = round(width * so_far / summary.images)
        bar.append(line * (end - filled), style)
        filled = end
    return bar.append(count, "bold")


def _labels(labels: Sequence[int]) -> str:
    """Median and range; of many images on a terminal, the distribution too."""
    least, most = min(labels), max(labels)
    text = f"{statistics.median(labels):g} in the median, {least} to {most}"
    if not stderr.is_live or len(labels) < LEAST_DRAWN or least == most or not _shows(BARS):
        return text
    bins = [0] * min(BINS, most - least + 1)
    for number in labels:
        bins[(number - least) * len(bins) // (most - least + 1)] += 1
    heights = (-(-count * len(BARS) // max(bins)) for count in bins)
    return f"{text}  {''.join(BARS[height - 1] if height else ' ' for height in heights)}"


def _names(summary: RunSummary, written: Sequence[Path]) -> list[str]:
    """Files by their names in OUT; those elsewhere by their paths."""
    folder = summary.plan.folder
    logged = [folder.log] if summary.done or summary.failures else []
    return [path.name if path.parent == folder.path else str(path) for path in (*written, *logged)]


def _shows(text: str) -> bool:
    """Whether the terminal has these characters."""
    try:
        text.encode(stderr.encoding)
    except UnicodeEncodeError:
        return False
    return True


def show_how_to_look(plan: Plan) -> None:
    """On a terminal, show the command that opens the results."""
    if not stderr.is_live:
        return
    folder = plan.folder
    candidates = [folder.report] if plan.batch.report else []
    candidates += [folder.path / name for name in ("overlay", "color", "recording") if name in plan.batch.save]
    # If everything failed, none exists.
    found = next((path for path in candidates if path.exists()), folder.path)
    shell, _, address = look_command(folder.path, found, os.environ).partition("  # ")
    say(f"look at them with: {shell}", "cyan")
    if address:
        say(f"in a browser: {address}", "cyan")


def open_page(page: Path, output: Path) -> None:
    """Show a page below `output` in the browser; where there is none, say how to look at it."""
    if not webbrowser.open(page.resolve().as_uri()):
        say(f"no browser was found here; look at it with: {look_command(output, page, os.environ)}", "yellow")


def look_command(output: Path, path: Path, environment: Mapping[str, str]) -> str:
    """The shell command that opens a page or folder below `output` on the desktop.

    Without a desktop, it serves the folder to a browser, on this machine or at the other end of a tunnel.
    """
    if sys.platform == "darwin":
        return f"open {shlex.quote(str(path))}"
    if shutil.which("xdg-open") and not {"DISPLAY", "WAYLAND_DISPLAY"}.isdisjoint(environment):
        return f"xdg-open {shlex.quote(str(path))}"
    name = "" if path == output else path.relative_to(output)
    return f"python3 -m http.server -b 127.0.0.1 -d {shlex.quote(str(output))}  # http://127.0.0.1:8000/{name}"
