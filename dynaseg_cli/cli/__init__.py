"""The command line: options become a config, the library works, its result is rendered and becomes an exit code.

Heavy imports happen inside the commands, so that ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .benchmark import benchmark
from .command_line import Command, Group
from .evaluate import evaluate
from .export import export
from .report import report
from .segment import segment

app = typer.Typer(
    name="dynaseg",
    cls=Group,
    help="Segment a folder of images with no labels, no training set and no tuning.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (segment, report, export, evaluate, benchmark):
    app.command(command.__name__, cls=Command, epilog=command.epilog)(command)  # type: ignore[attr-defined]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dynaseg {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of dynaseg itself."""


def main() -> None:
    """Entry point of the ``dynaseg`` command."""
    app(prog_name="dynaseg")
