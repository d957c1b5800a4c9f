"""Commands made from declared options: typer's parameters, and the values that a person wrote.

typer only splits the command line. `fields.read_value` reads the values, so that messages and types have one source.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer

from ..config import GROUPS, WeightsFile
from ..fields import Option, alternatives, option, options_of, read_value
from .command_line import full_help
from .console import ExitCode, Flags, errors_as_exit_codes, say, with_flags
from .options_file import read_options

LAST_GROUP = "last"
"""Stands for the last group of a command."""

Config = TypeVar("Config")


@dataclass(frozen=True)
class Shared:
    """Options of every command."""

    config: Path | None = option(
        None,
        "Read options from a TOML file, in which each command has a table; what is written here counts more.",
        LAST_GROUP,
        metavar="FILE",
        default_text="dynaseg.toml in this folder, or [tool.dynaseg] of pyproject.toml",
    )
    json: bool = option(False, "Print the result as JSON on stdout.", LAST_GROUP)
    quiet: bool = option(False, "Say nothing but errors.", LAST_GROUP, flags=("--quiet", "-q"))
    verbose: bool = option(
        False, "Say more: tracebacks, and in segment a line for each image.", LAST_GROUP, flags=("--verbose", "-v")
    )


class CommandLine:
    """The options that a person wrote for a command, on the command line or in a file.

    Parameters
    ----------
    flags : the command's, by field. Messages are written with them; `segment` changes them.
    in_file : values by field, as `read_options` gives them.
    """

    def __init__(self, context: typer.Context, flags: Flags, in_file: Mapping[str, Any] | None = None) -> None:
        self._context = context
        self._in_file = in_file or {}
        self.flags = flags

    def wrote(self, name: str) -> bool:
        """Whether a person wrote the option."""
        return name in self._in_file or self._wrote_here(name)

    def _wrote_here(self, name: str) -> bool:
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
            value = self._context.params[one.name] if self._wrote_here(one.name) else self._in_file[one.name]
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


def command(
    options: list[Option], common: Collection[str] = (), examples: Sequence[str] = ()
) -> Callable[[Callable[[CommandLine], ExitCode]], Callable[..., None]]:
    """Decorate a function from the command line that a person wrote to the command's exit code.

    Parameters
    ----------
    common : fields that ``--help`` shows, in short; ``--help-all`` shows all of them. Without any, ``--help`` does.
    examples : lines for the end of the help.
    """
    flags = flags_of(options)

    def decorate(function: Callable[[CommandLine], ExitCode]) -> Callable[..., None]:
        def run(context: typer.Context, **values: Any) -> None:
            with errors_as_exit_codes(dict(flags), values["verbose"]) as current:
                named = CommandLine(context, current).given(Shared).get("config")
                path, in_file = read_options(named, function.__name__, options)
                if in_file and not values["quiet"] and not in_file.get("quiet"):
                    say(f"options from {path}: {', '.join(in_file)}")
                code = function(CommandLine(context, current, in_file))
            raise typer.Exit(code)

        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        help_all = [_help_all(len(options), options[-1].group)] if common else []
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [context, *(_parameter(one, flags) for one in options), *help_all]
        )
        run.common = frozenset((*common, *(one.name for one in help_all))) if common else None  # type: ignore[attr-defined]
        run.epilog = "\n\n".join(("Examples", *examples)) if examples else None  # type: ignore[attr-defined]
        paragraphs = (inspect.getdoc(function) or "").split("\n\n")
        run.__name__, run.__doc__ = function.__name__, "\n\n".join(" ".join(text.split()) for text in paragraphs)
        return run

    return decorate


def _show_all(context: typer.Context, wanted: bool) -> None:
    if wanted:
        typer.echo(full_help(context))
        raise typer.Exit


def _help_all(count: int, group: str) -> inspect.Parameter:
    """The option that shows the options that are not common, too."""
    text = f"Show all {count} options, in full."
    declared = typer.Option(
        "--help-all", help=text, metavar="", rich_help_panel=group, callback=_show_all, is_eager=True
    )
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter("help_all", kind, default=False, annotation=Annotated[bool, declared])


def command_options(*configs: type, further: Sequence[Option] = ()) -> list[Option]:
    """The options on the command line that dataclasses declare, in the order of ``--help``: arguments, then groups.

    In a group, `further` options are the last.
    """
    declared = (one for config in configs for one in options_of(config))
    found = [one for one in (*declared, *further) if one.group or one.positional]
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
    texts: dict[str, Any] = {"help": with_flags(one.help, flags), "metavar": one.placeholder}
    if one.positional:
        default: Any = inspect.Parameter.empty if one.default is MISSING else None
        declared = typer.Argument(**texts, show_default=False)
    else:
        default = one.default if single is bool else with_flags(one.default_words, flags) or None
        texts |= {"show_default": default is not None, "rich_help_panel": one.group}
        words = names or one.words
        if words:
            texts["autocompletion"] = lambda incomplete: completions(incomplete, words, several=not names)
        declared = typer.Option(*one.spellings, **texts)
    annotation = Annotated[single, declared]
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def completions(incomplete: str, words: Collection[str], *, several: bool) -> list[str]:
    """What a shell offers for the beginning of a value that is one of `words`, or several, separated by commas."""
    before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
    taken = before.split(",")
    return [before + comma + word for word in words if word.startswith(last) and word not in taken]
