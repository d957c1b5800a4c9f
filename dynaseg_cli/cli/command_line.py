"""Reading the command line: empty values are refused, mistakes get a hint, help shows brackets."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from ..fields import quoted
from .console import ExitCode, collected_stdout, say

_WrongUsage: type[Exception] = typer.BadParameter.__bases__[0]
"""typer's usage error. It has no public name, but is the base class of this one."""


_SENTENCE = re.compile(r"[.:;] ")
"""End of the first statement of a help text, all of it that the short help shows."""


class Command(TyperCommand):
    """A command that refuses empty values of options and arguments, and whose help can be short.

    An empty value usually comes from an unset shell variable. As a path it would mean the current folder.
    """

    shows_all = False
    """Whether its help shows all options in full; otherwise the common ones, if it says which these are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _keep_brackets(self)
        for parameter in self.params:
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: None  # type: ignore[attr-defined]

    def get_params(self, ctx: Any) -> list[Any]:
        found = [*map(_without_type, super().get_params(ctx))]
        last = found[-1]  # --help
        if last.name not in {one.name for one in self.params} and self.params:
            last.rich_help_panel = getattr(self.params[-1], "rich_help_panel", None)
        return found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        common = getattr(self.callback, "common", None)
        if not common or self.shows_all:
            super().format_help(ctx, formatter)
            return
        parameters: list[Any] = [one for one in self.params if one.param_type_name == "option"]
        texts = [one.help for one in parameters]
        for one in parameters:
            one.hidden = one.name not in common
            one.help = _SENTENCE.split(one.help, maxsplit=1)[0].rstrip(".")
        try:
            super().format_help(ctx, formatter)
        finally:
            for one, text in zip(parameters, texts, strict=True):
                one.hidden, one.help = False, text

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        written, _, _ = self.make_parser(ctx).parse_args(list(args))
        if not ctx.resilient_parsing:
            for parameter in self.params:
                if "" in _texts(written.get(parameter.name)):
                    raise typer.BadParameter(
                        f"{spelling(parameter)} is empty (an unset shell variable?): give it a value, or leave it out"
                    )
        return super().parse_args(ctx, args)


class Group(TyperGroup):
    """The command ``dynaseg``: every usage error is one line on stderr, and stdout is written at the end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _keep_brackets(self)

    def get_params(self, ctx: Any) -> list[Any]:
        return [*map(_without_type, super().get_params(ctx))]

    def main(self, args: Sequence[str] | None = None, *arguments: Any, **options: Any) -> NoReturn:
        """Run a command line and exit with its code."""
        code: int = ExitCode.DONE
        with collected_stdout() as output:
            try:
                code = super().main(args, *arguments, **{**options, "standalone_mode": False}) or ExitCode.DONE
            except SystemExit as request:  # by shell completion
                code = request.code if isinstance(request.code, int) else ExitCode.SOME_FAILED
            except typer.Abort:
                code = ExitCode.INTERRUPTED
            except _WrongUsage as error:
                code = ExitCode.UNUSABLE
                # Without arguments, the help is shown, and the error would repeat it.
                if type(error).__name__ != "NoArgsIsHelpError":
                    say(f"error: {self._usage_error(error)}", "red")
        if not output.delivered and code == ExitCode.DONE:
            code = ExitCode.SOME_FAILED
        sys.exit(code)

    def _usage_error(self, error: Any) -> str:
        text = error.message if type(error) is typer.BadParameter and error.param is None else error.format_message()
        text = " ".join(text.split()).removesuffix(".")
        context = getattr(error, "ctx", None)
        return text if context is None else f"{text}; {context.command_path} --help shows what there is"

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        name = args[0]
        if name not in self.commands and not ctx.resilient_parsing:
            raise typer.BadParameter(self._no_command(ctx, name, args))
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except _WrongUsage as error:
            option = getattr(error, "option_name", None)
            for name, command in self.commands.items():
                if any(option in parameter.opts for parameter in command.params):
                    raise typer.BadParameter(
                        f"{option} belongs to a command; did you mean: {_typed(ctx, name, given)}"
                    ) from None
            raise

    def _no_command(self, ctx: typer.Context, name: str, args: list[str]) -> str:
        if name == "":
            return "the name of the command is empty (an unset shell variable?): give one of " + ", ".join(
                self.commands
            )
        near = difflib.get_close_matches(name, self.commands, 1)
        meant = _typed(ctx, near[0], args[1:]) if near else _typed(ctx, "segment", args)
        return f"{quoted(name)} is none of the commands {', '.join(self.commands)}; did you mean: {meant}"


def full_help(ctx: typer.Context) -> str:
    """The help of a command with all its options."""
    command: Any = ctx.command
    command.shows_all = True
    try:
        return str(command.get_help(ctx))
    finally:
        command.shows_all = False


def _without_type(parameter: Any) -> Any:
    """A parameter whose placeholder in help, if it is a switch, is empty."""
    if getattr(parameter, "is_flag", False):
        parameter.metavar = ""
    return parameter


def spelling(parameter: Any) -> str:
    """An option as it is written, ``--output``, or the name of an argument, ``INPUT``."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return str(max(parameter.opts, key=len))


def _typed(ctx: typer.Context, command: str, args: Sequence[str]) -> str:
    return f"{ctx.command_path} {command} {shlex.join(args)}".strip()


def _texts(value: Any) -> list[str]:
    """The texts given for one parameter: none for a flag, several for one that can be repeated."""
    values: Iterator[Any] = iter(value if isinstance(value, list | tuple) else (value,))
    return [text for text in values if isinstance(text, str)]


def _keep_brackets(command: Any) -> None:
    """Escape brackets in help texts, such as ``dynaseg[ray]``, which rich would take for markup."""
    for described in (command, *command.params):
        text = getattr(described, "help", None)
        if text:
            described.help = escape(text)
