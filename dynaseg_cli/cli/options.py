"""Commands made from declared options: typer's parameters, and the values that a person wrote.

typer only splits the command line. `fields.read_value` reads the values, so that messages and types have one source.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer

from ..config import GROUPS, WeightsFile
from ..fields import Option, alternatives, option, options_of, read_value
from .console import ExitCode, Flags, errors_as_exit_codes, with_flags

LAST_GROUP = "last"
"""Stands for the last group of a command."""

Config = TypeVar("Config")


@dataclass(frozen=True)
class Shared:
    """Options of every command."""

    json: bool = option(False, "Print the result as JSON on stdout.", LAST_GROUP)
    quiet: bool = option(False, "Say nothing but errors.", LAST_GROUP, flags=("--quiet", "-q"))
    verbose: bool = option(False, "Show tracebacks.", LAST_GROUP, flags=("--verbose", "-v"))


class CommandLine:
    """The options that a person wrote for a command.

    Parameters
    ----------
    flags : the command's, by field. Messages are written with them; `segment` changes them.
    """

    def __init__(self, context: typer.Context, flags: Flags) -> None:
        self._context = context
        self.flags = flags

    def wrote(self, name: str) -> bool:
        """Whether a person wrote the option."""
        source = self._context.get_parameter_source(name)
        return source is not None and source.name != "DEFAULT"

    def given(self, config: type, **readers: Callable[[str], Any]) -> dict[str, Any]:
        """Values of those fields of a dataclass that a person wrote.

        Parameters
        ----------
        readers : by field, functions from text to its value, for types that do not say how they are written.

        Raises
        ------
        UsageError
            If a text is no value of its field.
        """
        values: dict[str, Any] = {}
        for one in options_of(config):
            if not self.wrote(one.name):
                continue
            value = self._context.params[one.name]
            if one.name in readers:
                value = readers[one.name](str(value))
            elif isinstance(value, list | tuple):  # texts or paths, depending on typer's version
                value = tuple(get_args(one.kind)[0](item) for item in value)
            elif not isinstance(value, bool):
                value = read_value(one.name, str(value), one.kind)
            values[one.name] = value
        return values

    def build(self, config: type[Config], **readers: Callable[[str], Any]) -> Config:
        """A dataclass with the values that a person wrote, and its defaults for the others; see `given`."""
        return config(**self.given(config, **readers))


def command(options: list[Option]) -> Callable[[Callable[[CommandLine], ExitCode]], Callable[..., None]]:
    """Decorate a function from the command line that a person wrote to the command's exit code."""
    flags = flags_of(options)

    def decorate(function: Callable[[CommandLine], ExitCode]) -> Callable[..., None]:
        def run(context: typer.Context, **values: Any) -> None:
            with errors_as_exit_codes(dict(flags), values["verbose"]) as current:
                code = function(CommandLine(context, current))
            raise typer.Exit(code)

        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [context, *(_parameter(one, flags) for one in options)]
        )
        paragraphs = (inspect.getdoc(function) or "").split("\n\n")
        run.__name__, run.__doc__ = function.__name__, "\n\n".join(" ".join(text.split()) for text in paragraphs)
        return run

    return decorate


def command_options(*configs: type) -> list[Option]:
    """The options on the command line that dataclasses declare, in the order of ``--help``: arguments, then groups."""
    found = [one for config in configs for one in options_of(config) if one.group or one.positional]
    last = max((one.group for one in found if one.group in GROUPS), key=GROUPS.index)
    found = [replace(one, group=last) if one.group == LAST_GROUP else one for one in found]
    return sorted(found, key=lambda one: -1 if one.positional else GROUPS.index(one.group))


def flags_of(options: list[Option]) -> Flags:
    """The flags of a command's options, by field."""
    spelled = [(one.name, one.spellings[0].partition("/")) for one in options if not one.positional]
    return {name: (flag, opposite) for name, (flag, _, opposite) in spelled}


def _parameter(one: Option, flags: Flags) -> inspect.Parameter:
    """An option as typer declares it. Its default is only shown: a value that nobody wrote is not read."""
    names, others = alternatives(one.kind)
    single: Any = bool if bool in others else str
    if Path in others or (WeightsFile in others and not names):
        single = Path  # shells complete it
    elif one.kind in (tuple[str, ...], tuple[Path, ...]):
        single = list[get_args(one.kind)[0]]  # type: ignore[misc]
    texts: dict[str, Any] = {"help": with_flags(one.help, flags), "metavar": one.placeholder or None}
    if one.positional:
        default: Any = inspect.Parameter.empty if one.default is MISSING else None
        declared = typer.Argument(**texts, show_default=False)
    else:
        default = one.default if single is bool else with_flags(one.default_words, flags) or None
        texts |= {"show_default": default is not None, "rich_help_panel": one.group}
        if names:
            texts["autocompletion"] = lambda incomplete: [name for name in names if name.startswith(incomplete)]
        declared = typer.Option(*one.spellings, **texts)
    annotation = Annotated[single, declared]
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
