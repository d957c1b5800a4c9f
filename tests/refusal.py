"""What the tests of all commands expect of one that refuses to start."""

from __future__ import annotations

import re

from typer.testing import Result


def refused(result: Result) -> str:
    """The one line that says why nothing was started, without its ``error:``."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr)
    return result.stderr.removeprefix("error: ").removesuffix("\n")
