#!/usr/bin/env python3
"""Write what follows from the declared options: tables in ``cli/README.md``, the options in ``stats.schema.json``.

Run it after an option has changed; a test compares.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import dynaseg_cli
from dynaseg_cli.cli.benchmark import OPTIONS as BENCHMARK
from dynaseg_cli.cli.console import Flags, with_flags
from dynaseg_cli.cli.evaluate import OPTIONS as EVALUATE
from dynaseg_cli.cli.export import OPTIONS as EXPORT
from dynaseg_cli.cli.options import flags_of
from dynaseg_cli.cli.report import OPTIONS as REPORT
from dynaseg_cli.cli.segment import OPTIONS as SEGMENT
from dynaseg_cli.config import SegmentConfig, WeightsFile
from dynaseg_cli.fields import Option, alternatives, options_of

ROOT = Path(dynaseg_cli.__file__).parent
README = ROOT / "cli" / "README.md"
SCHEMA = ROOT / "batch" / "stats.schema.json"
OPTIONS = {"segment": SEGMENT, "report": REPORT, "export": EXPORT, "evaluate": EVALUATE, "benchmark": BENCHMARK}
MARKS = "<!-- options of {}: written by .ci/option_tables.py -->", "<!-- end of options of {} -->"


def main() -> None:
    README.write_text(with_tables(README.read_text()))
    SCHEMA.write_text(with_options(SCHEMA.read_text()))


def with_tables(text: str) -> str:
    """The README with the table of each command between its marks."""
    for command, options in OPTIONS.items():
        start, end = (mark.format(command) for mark in MARKS)
        before, _, rest = text.partition(f"{start}\n")
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n\n{option_table(options)}\n{end}{after}"
    return text


def option_table(options: list[Option]) -> str:
    """The options of a command in Markdown, a table for each group."""
    flags = flags_of(options)
    lines: list[str] = []
    group = None
    for one in options:
        if one.group != group:
            group = one.group
            lines += ["", f"| {group or 'Arguments'} | meaning | default |", "| --- | --- | --- |"]
        cells = (_written(one), with_flags(one.help, flags), _default(one, flags))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines[1:], ""])


def _written(one: Option) -> str:
    if one.positional:
        return f"`{one.placeholder}`"
    spellings = one.spellings[0].split("/") if "/" in one.spellings[0] else one.spellings
    return ", ".join(f"`{f'{spelling} {one.placeholder}'.strip()}`" for spelling in spellings)


def _default(one: Option, flags: Flags) -> str:
    if one.kind is not bool:
        return with_flags(one.default_words, flags)
    on, _, off = one.spellings[0].partition("/")
    return (on if one.default else off).removeprefix("--")


def with_options(text: str) -> str:
    """The schema of statistics with its object `options` as the fields of `SegmentConfig` have it."""
    options = options_of(SegmentConfig)
    properties = ",\n".join(f'        "{one.name}": {json.dumps(schema_of(one))}' for one in options)
    required = json.dumps([one.name for one in options])
    written = (
        f'"required": {required},\n      "additionalProperties": true,\n      "properties": {{\n{properties}\n      }}'
    )
    pattern = r'("options": \{\n[^\n]*\n      "type": "object",\n      ).*?(\n    \},\n    "device")'
    return re.sub(pattern, lambda match: f"{match[1]}{written}{match[2]}", text, count=1, flags=re.DOTALL)


def schema_of(one: Option) -> dict[str, Any]:
    """JSON Schema of a recorded option: its type, choices and range."""
    names, others = alternatives(one.kind)
    null = [{"type": "null"}] if NoneType in get_args(one.kind) else []
    choices: list[dict[str, Any]] = [{"const": name} for name in names]
    described = {"description": one.help + (" null where it does not apply." if null else "")}
    if WeightsFile in others:
        described["description"] += " Recorded as the first 8 hexadecimal digits of the file's SHA-256."
        return {**described, "oneOf": [*null, *choices, {"type": "string", "pattern": "^[0-9a-f]{8}$"}]}
    if not others:
        return {**described, "enum": list(names)}
    if str in others:
        return {**described, "type": "string"}
    kind = {bool: "boolean", int: "integer", float: "number"}[others[0]]
    limits = {
        "minimum": 0 if one.zero else one.least,
        "exclusiveMinimum": one.above,
        "maximum": one.most,
        "exclusiveMaximum": None if one.below == math.inf else one.below,
    }
    value = {"type": kind, **{name: limit for name, limit in limits.items() if limit is not None}}
    return {**described, **(value if not null + choices else {"oneOf": [*null, *choices, value]})}


if __name__ == "__main__":
    main()
