"""What the command line refuses, and how it says so; that help shows what is written."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer.main
from refusal import refused
from samples import photo_folder
from typer.testing import CliRunner, Result

from dynaseg_cli import segment_folder
from dynaseg_cli.cli import app
from dynaseg_cli.cli.command_line import Command, spelling
from dynaseg_cli.errors import UsageError

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
ARGUMENTS = {
    "segment": {"inputs": "photos"},
    "report": {"output": "out"},
    "export": {"output": "out"},
    "evaluate": {"prediction": "a", "truth": "b"},
    "benchmark": {},
}
"""What a command needs beside an option, by its parameter's name."""


def dynaseg(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(app, list(arguments), **options)


def takes_text() -> list[tuple[str, str]]:
    """Every command's options and arguments that a person gives a value."""
    return [
        (name, parameter.name)
        for name, command in COMMANDS.items()
        for parameter in command.params
        if not getattr(parameter, "is_flag", False)
    ]


def test_all_options_that_take_a_value_are_found() -> None:
    assert len(takes_text()) > 50
    assert {("segment", "inputs"), ("segment", "output"), ("evaluate", "truth")} <= set(takes_text())
    assert {type(command) for command in COMMANDS.values()} == {Command}


@pytest.mark.parametrize(("name", "parameter"), takes_text())
def test_empty_value_is_refused(name: str, parameter: str, here: Path) -> None:
    photo_folder(here / "photos", "a.png")
    (option,) = (one for one in COMMANDS[name].params if one.name == parameter)
    positional = {**ARGUMENTS[name]}
    written: list[str] = []
    if option.param_type_name == "argument":
        positional[parameter] = ""
    else:
        written = [spelling(option), ""]
    result = dynaseg(name, *positional.values(), *written)
    assert refused(result).startswith(f"{spelling(option)} is empty (an unset shell variable?)")
    assert sorted(path.name for path in here.iterdir()) == ["photos"]


@pytest.mark.parametrize(
    "arguments", [("segment", "photos", ""), ("segment", "photos", "--include", "*.png", "--include", "")]
)
def test_empty_value_among_others_is_refused(arguments: tuple[str, ...]) -> None:
    assert "is empty" in refused(dynaseg(*arguments))


def test_empty_command_is_refused() -> None:
    assert "the command is empty" in refused(dynaseg("", "photos"))


@pytest.mark.parametrize(("inputs", "output"), [("", "out"), ("photos", ""), (["photos", ""], "out")])
def test_python_takes_no_empty_path_for_the_current_folder(inputs: Any, output: str, here: Path) -> None:
    photo_folder(here / "photos", "a.png")
    with pytest.raises(UsageError, match="is empty"):
        segment_folder(inputs, output)
    assert sorted(path.name for path in here.iterdir()) == ["photos"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("segment", "x", "--mode", "abc"), "--mode must be one of scf, fsf, fixed, not 'abc'"),
        (("evaluate", "x", "y", "--use", "all"), "--use must be one of labels, regions, hierarchy, raw, not 'all'"),
        (("segment", "x", "--iterations", "ten"), "--iterations must be a whole number, not 'ten'"),
        (("segment", "x", "--workers", "2.5"), "--workers must be a whole number, not '2.5'"),
        (("segment", "x", "--alpha", "much"), "--alpha must be a number, not 'much'"),
        (("segment", "x", "--min-labels", "few"), "--min-labels must be auto or a whole number, not 'few'"),
        (("segment", "x", "--regions", "x"), "--regions must be auto, coarse, fine, raw or a whole number, not 'x'"),
        (("evaluate", "x", "y", "--ignore-index", "z"), "--ignore-index must be auto, none or a whole number, not 'z'"),
        (("segment", "x", "--seed", "9" * 5000), f"--seed must be a whole number, not '{'9' * 100}…'"),
        (("segment", "x", "--min-labels", "9" * 5000), "--min-labels must be auto or a whole number, not '99"),
        (("segment", "x", "--granularty", "2"), "No such option: --granularty (Possible options: --granularity)"),
        (("segment", "x", "--output"), "Option '--output' requires an argument"),
        (("evaluate", "x"), "Missing argument 'GT'"),
        (("evaluate", "x", "y", "z"), "Got unexpected extra argument(s) (z)"),
        (("--mode", "scf", "photos"), "--mode belongs to a command; did you mean: dynaseg segment --mode scf photos"),
        (("photos", "-o", "a b"), "'photos' is none of the commands segment, report, export, evaluate, benchmark;"
         " did you mean: dynaseg segment photos -o 'a b'"),
        (("evalute", "a", "b"), "'evalute' is none of the commands segment, report, export, evaluate, benchmark;"
         " did you mean: dynaseg evaluate a b"),
        (("segment", "x", "-0"), "-0 applies to the list of --files-from"),
        (("segment", "loop.png", "-o", "loop"), "loop is a link that leads to itself"),
        (("--recursive-please",), "No such option: --recursive-please; dynaseg --help shows what there is"),
        (("segment",), "nothing to do: name image files or folders, or give --files-from"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_that_quotes_it(arguments: tuple[str, ...], message: str) -> None:
    Path("loop").symlink_to("loop")
    assert refused(dynaseg(*arguments)).startswith(message)


def test_dynaseg_alone_shows_its_help() -> None:
    result = dynaseg()
    assert result.exit_code == 2
    assert "segment" in result.stdout
    assert result.stderr == ""


def declared_texts(command: Any) -> list[str]:
    """The docstring's paragraphs and the help of all options, as they are written."""
    function = inspect.unwrap(command.callback)
    helps = [
        entry.help
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
        for entry in getattr(parameter.annotation, "__metadata__", ())
    ]
    return [*(inspect.getdoc(function) or "").split("\n\n"), *helps]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_text_as_it_is_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets are no markup, and what is between two colours no picture."""
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 1000)
    full = "--help-all" if name == "segment" else "--help"
    shown = " ".join(dynaseg(name, full, env={"COLUMNS": "1000"}).stdout.split())
    texts = declared_texts(COMMANDS[name])
    assert len(texts) >= 8
    for text in texts:
        assert " ".join(text.split()) in shown


def test_help_says_how_to_install_an_extra() -> None:
    assert "pip install 'dynaseg[ray]'" in " ".join(dynaseg("segment", "--help-all").stdout.replace("│", "").split())
