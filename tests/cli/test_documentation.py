"""Every command and option is described where people look: in its help and in the README of the command line."""

from __future__ import annotations

import itertools
import json

import jsonschema
import option_tables
import pytest
import typer.main
from typer.testing import CliRunner

from dynaseg_cli.cli import app
from dynaseg_cli.cli.options import flags_of
from dynaseg_cli.cli.segment import COMMON
from dynaseg_cli.cli.segment import OPTIONS as SEGMENT
from dynaseg_cli.config import SegmentConfig

README = option_tables.README.read_text()
SCHEMA = option_tables.SCHEMA.read_text()
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
GROUPS = {
    "segment": (
        "Output",
        "Regions",
        "Method",
        "One label space for a folder",
        "Guidance",
        "When to stop",
        "Size and arithmetic",
        "Advanced",
        "Input",
        "Pictures",
        "Exports",
        "Running",
    ),
    "report": ("Output", "Running"),
    "export": ("Output", "Exports"),
    "evaluate": ("Scoring", "Input", "Report"),
    "benchmark": ("What to compare", "Quality", "Running", "Report"),
}


def spellings() -> list[tuple[str, str]]:
    return [
        (name, spelling)
        for name, command in COMMANDS.items()
        for option in command.params
        if option.param_type_name == "option" and option.name != "help_all"
        for spelling in itertools.chain(option.opts, option.secondary_opts)
    ]


def test_every_command_is_known_here() -> None:
    assert set(GROUPS) == set(COMMANDS) == set(option_tables.OPTIONS)
    assert len(spellings()) > 50


def test_tables_of_the_readme_are_those_of_the_declared_options() -> None:
    assert option_tables.with_tables(README) == README, "run .ci/option_tables.py"


@pytest.mark.parametrize(("command", "spelling"), spellings())
def test_each_option_has_a_row_in_the_readme(command: str, spelling: str) -> None:
    start, end = (mark.format(command) for mark in option_tables.MARKS)
    rows = README.partition(start)[2].partition(end)[0].splitlines()
    assert sum(f"`{spelling}`" in row or f"`{spelling} " in row for row in rows) == 1


def test_schema_of_statistics_has_the_declared_options() -> None:
    assert option_tables.with_options(SCHEMA) == SCHEMA, "run .ci/option_tables.py"
    schema = json.loads(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(schema)
    options = schema["properties"]["options"]
    recorded = SegmentConfig().as_options()
    assert options["required"] == list(options["properties"]) == list(recorded)
    jsonschema.validate(recorded, {"$defs": schema["$defs"], **options})


@pytest.mark.parametrize(
    ("option", "schema"),
    [
        ("mode", {"enum": ["scf", "fsf", "fixed"]}),
        ("literal", {"type": "boolean"}),
        ("max_size", {"type": "integer", "minimum": 0}),
        ("momentum", {"type": "number", "minimum": 0, "exclusiveMaximum": 1}),
        ("learning_rate", {"type": "number", "exclusiveMinimum": 0}),
        ("min_labels", {"oneOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
        ("epochs", {"oneOf": [{"type": "null"}, {"type": "integer", "minimum": 1}]}),
        ("model", {"oneOf": [{"type": "null"}, {"type": "string", "pattern": "^[0-9a-f]{8}$"}]}),
    ],
)
def test_recorded_option_has_its_type_choices_and_range(option: str, schema: dict[str, object]) -> None:
    written = json.loads(SCHEMA)["properties"]["options"]["properties"][option]
    assert {key: value for key, value in written.items() if key != "description"} == schema


@pytest.mark.parametrize("command", GROUPS)
def test_help_has_the_options_in_named_groups(command: str) -> None:
    full = "--help-all" if command == "segment" else "--help"
    top, own = (CliRunner().invoke(app, arguments) for arguments in (["-h"], [command, full]))
    assert (top.exit_code, own.exit_code) == (0, 0)
    assert command in top.stdout
    found = [own.stdout.index(f"─ {group} ─") for group in GROUPS[command]]
    assert found == sorted(found)
    for name, spelling in spellings():
        if name == command and spelling.startswith("--"):
            assert spelling in own.stdout
    assert "<" not in own.stdout, "a type in place of a placeholder"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_segment_has_the_common_options_in_short_and_examples(flag: str) -> None:
    own = CliRunner().invoke(app, ["segment", flag], env={"COLUMNS": "80"})
    shown = [word for line in own.stdout.splitlines() if line.startswith("│ --") for word in line.split()[1:2]]
    assert sorted(shown) == sorted([*(flags_of(SEGMENT)[name][0] for name in COMMON), "--help-all", "--help"])
    assert len(shown) <= 18
    assert len(own.stdout.splitlines()) < 80
    assert "Weighting of the two losses" in own.stdout
    assert "spatial continuity focus" not in own.stdout
    assert own.stdout.partition("Examples")[2].count("dynaseg segment photos") == 3
    again = CliRunner().invoke(app, ["segment", "--help-all"], env={"COLUMNS": "80"})
    assert "spatial continuity focus" in again.stdout, "the short help leaves nothing behind"
