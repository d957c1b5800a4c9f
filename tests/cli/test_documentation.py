"""Every command and option is described where people look: in its help and in the README."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from dynaseg_cli.cli import app
from dynaseg_cli.config import METHODS

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
GROUPS = {
    "segment": (
        "Method",
        "When to stop",
        "Size and arithmetic",
        "One label space for a folder",
        "Guidance",
        "Regions",
        "Input",
        "Output",
        "Pictures and exports",
        "Running",
    ),
    "evaluate": ("Scoring", "Input", "Report"),
    "benchmark": ("What to compare", "Quality", "Running", "Report"),
}


def section(command: str) -> str:
    """The part of the README under the command's own heading."""
    start = README.index(f"## Options of `dynaseg {command}`")
    return README[start : README.index("\n## ", start + 1)]


def spellings() -> list[tuple[str, str]]:
    return [
        (name, spelling)
        for name, command in COMMANDS.items()
        for option in command.params
        if option.param_type_name == "option"
        for spelling in itertools.chain(option.opts, option.secondary_opts)
    ]


def test_every_command_is_known_here() -> None:
    assert set(GROUPS) == set(COMMANDS)
    assert len(spellings()) > 50


@pytest.mark.parametrize(("command", "spelling"), spellings())
def test_each_option_is_described_in_the_readme(command: str, spelling: str) -> None:
    assert re.search(rf"`[^`\n]*(?<![\w-]){re.escape(spelling)}(?![\w-])[^`\n]*`", section(command))


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", GROUPS)
def test_help_has_the_options_in_named_groups(command: str, flag: str) -> None:
    top, own = (CliRunner().invoke(app, arguments) for arguments in ([flag], [command, flag]))
    assert (top.exit_code, own.exit_code) == (0, 0)
    assert command in top.stdout
    for group in GROUPS[command]:
        assert f"─ {group} ─" in own.stdout
    for name, spelling in spellings():
        if name == command and spelling.startswith("--"):
            assert spelling in own.stdout


def test_every_method_of_the_benchmark_is_described_in_the_readme() -> None:
    for method in METHODS:
        assert re.search(rf"^\| `{method}`", section("benchmark"), re.MULTILINE)
