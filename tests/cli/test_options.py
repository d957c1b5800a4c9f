"""Options on the command line: what a person writes becomes the fields of the configs, and messages name the flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dynaseg_cli.cli.benchmark import OPTIONS as BENCHMARK
from dynaseg_cli.cli.console import ExitCode, with_flags
from dynaseg_cli.cli.export import OPTIONS as EXPORT
from dynaseg_cli.cli.options import CommandLine, Shared, command, command_options, completions, flags_of
from dynaseg_cli.cli.segment import OPTIONS as SEGMENT
from dynaseg_cli.config import METHOD, OUTPUT, RUN, BatchConfig, CutConfig, SegmentConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.fields import Option, check_fields, option


@dataclass(frozen=True)
class Example:
    files: tuple[Path, ...] = option((), "Files.", metavar="FILE", positional=True)
    many: int = option(3, "So many, unless `quick`.", METHOD, least=1)
    quick: bool = option(False, "Be quick.", METHOD)
    tidy: bool = option(True, "Clean up.", OUTPUT)
    into: Path | None = option(None, "Folder.", OUTPUT, flags=("--into", "-i"), default_text="`many` folders")
    parts: tuple[str, ...] = option((), "Parts.", RUN)
    hidden: int = option(1, "Not on the command line.")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.quick and not self.tidy:
            raise UsageError("`quick=True` has no meaning with `tidy=False`: `many=2 x` and `hidden` are not options")


OPTIONS = command_options(Example, Shared)


def run(*arguments: str) -> tuple[int, str, list[Example]]:
    """Exit code, stderr and the values of a command with the options of `Example`."""
    made: list[Example] = []

    @command(OPTIONS)
    def example(line: CommandLine) -> ExitCode:
        """Try options."""
        made.append(line.build(Example))
        return ExitCode.SOME_FAILED

    app = typer.Typer()
    app.command()(example)
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stderr, made


def test_what_nobody_wrote_has_its_default() -> None:
    assert run() == (1, "", [Example()])


def test_what_is_written_becomes_the_values_of_the_fields() -> None:
    line = ("a", "b", "--many", "5", "--quick", "-i", "out", "--parts", "x", "--parts", "y", "--tidy")
    files = (Path("a"), Path("b"))
    assert run(*line)[2] == [Example(files, many=5, quick=True, into=Path("out"), parts=("x", "y"))]
    assert run("--no-tidy")[2] == [Example(tidy=False)]


@pytest.mark.parametrize("item", [str, Path])
@pytest.mark.parametrize("several", [list, tuple])
def test_several_values_have_the_type_of_their_field_in_every_version_of_typer(several: type, item: type) -> None:
    """Typer before 0.29 leaves texts in the context and converts only what it hands to the function."""
    context = typer.main.get_command(typer_app()).make_context("example", ["a", "b", "--parts", "x"])
    context.params |= {"files": several([item("a"), item("b")]), "parts": several(["x"])}
    given = CommandLine(context, {}).given(Example)
    assert given == {"files": (Path("a"), Path("b")), "parts": ("x",)}


def test_values_that_do_not_fit_are_refused_by_the_name_of_the_option() -> None:
    assert run("--many", "few") == (2, "error: --many must be a whole number, not 'few'\n", [])
    assert run("--many", "0") == (2, "error: --many must be at least 1, not 0\n", [])


def test_error_of_the_library_names_options_of_the_command_alone() -> None:
    message = "--quick has no meaning with --no-tidy: --many '2 x' and `hidden` are not options"
    assert run("--quick", "--no-tidy")[1] == f"error: {message}\n"


def test_options_are_sorted_into_groups() -> None:
    names = [one.name for one in OPTIONS]
    assert names == ["files", "tidy", "into", "many", "quick", "parts", "config", "json", "quiet", "verbose"]
    assert {one.group for one in OPTIONS[-5:]} == {RUN}


def test_help_has_options_where_declarations_name_fields() -> None:
    shown = " ".join(CliRunner().invoke(typer_app(), ["--help"], env={"COLUMNS": "200"}).stdout.split())
    assert "So many, unless --quick. [default: 3]" in shown
    assert "Folder. [default: --many folders]" in shown
    assert "--hidden" not in shown


def typer_app() -> typer.Typer:
    app = typer.Typer()
    app.command()(command(OPTIONS)(lambda line: ExitCode.DONE))
    return app


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`max_pixels` must be at least 1", "--max-pixels must be at least 1"),
        ("`regions=5` has another cut", "--regions 5 has another cut"),
        ("`overwrite=True` redoes, `overwrite=False` skips", "--overwrite redoes, --resume skips"),
        ("`recursive=False` or `report=False`", "--no-recursive or no --report"),
        ("apply `model`, or `weights=None`", "apply --load-model, or --weights none"),
        ("`save=...` names `labels`", "--save ... names `labels`"),
        ("`include=*.png`", "--include '*.png'"),
        ("(`save`): `mode`'s `fit`.", "(--save): --mode's --fit."),
        ("photos/`mode`, a`mode`, `mode`.png, `mode`/a.png", "photos/`mode`, a`mode`, `mode`.png, `mode`/a.png"),
    ],
)
def test_fields_in_backticks_become_options(text: str, shown: str) -> None:
    assert with_flags(text, flags_of(command_options(SegmentConfig, CutConfig, BatchConfig))) == shown


@pytest.mark.parametrize(
    ("incomplete", "offered"),
    [
        ("", ["labels", "color", "stats"]),
        ("l", ["labels"]),
        ("labels,", ["labels,color", "labels,stats"]),
        ("labels,st", ["labels,stats"]),
        ("labels,color,c", []),
        ("x", []),
    ],
)
def test_shells_complete_the_last_word_of_a_list(incomplete: str, offered: list[str]) -> None:
    assert completions(incomplete, ("labels", "color", "stats"), several=True) == offered


def test_shells_complete_one_word_where_one_is_asked_for() -> None:
    assert completions("f", ("scf", "fsf", "fixed"), several=False) == ["fsf", "fixed"]
    assert completions("scf,f", ("scf", "fsf", "fixed"), several=False) == []


@pytest.mark.parametrize("options", [SEGMENT, EXPORT, BENCHMARK])
def test_lists_of_words_say_which_words_there_are(options: list[Option]) -> None:
    words = {one.name: one.words for one in options if one.placeholder == "LIST"}
    assert words
    assert all(len(of_option) >= 4 for of_option in words.values())
