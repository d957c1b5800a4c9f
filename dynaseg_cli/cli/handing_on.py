"""What `segment` makes of all results together: the report page, exports, and how a person can look at them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from .console import say, stderr
from .folder_model import save_folder_statistics

if TYPE_CHECKING:
    from ..batch.planning import Plan

MOST_NAMED = 5
"""Images of an export that are named with what is wrong with them; beyond that they are counted."""


def hand_on(plan: Plan, run: dict[str, Any], *, quiet: bool) -> bool:
    """Write what is made of all results and of `run`, as in `run.json`; whether what was asked for could be."""
    if plan.segment.model is not None:
        save_folder_statistics(plan, quiet=quiet)
    whole = not plan.batch.report or _save_report(plan, run, quiet=quiet)
    if plan.batch.export and not run["interrupted"]:  # else it is exported once it is complete
        whole = _save_exports(plan, quiet=quiet) and whole
    return whole


def _save_report(plan: Plan, run: dict[str, Any], *, quiet: bool) -> bool:
    from ..batch.output_folder import REPORT_NAME
    from ..batch.report_page import write_report

    try:
        write_report(plan, run)
    except OSError as error:
        say(f"error: {plan.output / REPORT_NAME} cannot be written: {error.strerror or error}", "red")
        return False
    if not quiet:
        say(f"reported in {plan.output / REPORT_NAME}")
    return True


def _save_exports(plan: Plan, *, quiet: bool) -> bool:
    from ..batch.exports import export_folder
    from ..batch.output_folder import EXPORT_FOLDER
    from .progress import CountProgress

    try:
        with CountProgress(len(plan.found), "exported", quiet=quiet) as progress:
            failures = export_folder(plan, progress.advance)
    except ImageError as error:
        say(f"error: {error}", "red")
        return False
    except OSError as error:
        place = error.filename2 or plan.output / EXPORT_FOLDER  # the former where a file could not take its name
        say(f"error: {place} cannot be written: {error.strerror or error}", "red")
        return False
    for failure in failures[:MOST_NAMED]:
        say(f"not exported as {failure.format}: {failure.name}: {failure.reason}", "red")
    if len(failures) > MOST_NAMED:
        say(f"and {len(failures) - MOST_NAMED} more were not exported", "red")
    if not quiet:
        say(f"exported as {', '.join(plan.batch.export)} to {plan.output / EXPORT_FOLDER}")
    return not failures


def show_how_to_look(plan: Plan) -> None:
    """On a terminal, the command that shows the results."""
    if stderr.is_live:
        say(f"look at them with: {look_command(plan.output, _worth_looking_at(plan), os.environ)}", "cyan")


def _worth_looking_at(plan: Plan) -> str:
    from ..batch.output_folder import REPORT_NAME

    names = [REPORT_NAME] if plan.batch.report else []
    names += [product for product in ("overlay", "color", "recording") if product in plan.batch.save]
    # Where everything failed, there is none.
    return next((name for name in names if (plan.output / name).exists()), "")


def look_command(output: Path, name: str, environment: Mapping[str, str]) -> str:
    """What a person types to look at a page or a folder below `output`, with a desktop's own program for it.

    Where there is no desktop, it serves the folder to a browser on this machine, or at the other end of a tunnel.
    """
    path = shlex.quote(str(output / name))
    if sys.platform == "darwin":
        return f"open {path}"
    if shutil.which("xdg-open") and not {"DISPLAY", "WAYLAND_DISPLAY"}.isdisjoint(environment):
        return f"xdg-open {path}"
    return f"python3 -m http.server -b 127.0.0.1 -d {shlex.quote(str(output))}  # http://127.0.0.1:8000/{name}"
