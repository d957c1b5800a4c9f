"""Options in a file count as if a person had written them, unless the command line says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dynaseg_cli.cli.benchmark import OPTIONS as BENCHMARK
from dynaseg_cli.cli.console import ExitCode
from dynaseg_cli.cli.evaluate import OPTIONS as EVALUATE
from dynaseg_cli.cli.export import OPTIONS as EXPORT
from dynaseg_cli.cli.options import CommandLine, Shared, command, command_options
from dynaseg_cli.cli.options_file import keys_of, read_options
from dynaseg_cli.cli.report import OPTIONS as REPORT
from dynaseg_cli.cli.segment import OPTIONS as SEGMENT
from dynaseg_cli.config import BatchConfig, CutConfig, EvaluateConfig, SegmentConfig, WorkersConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.fields import Option

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def invoked(*arguments: str) -> tuple[int, str, list[tuple[object, ...]]]:
    """Exit code, stderr, and what a command with some of the real options was given."""
    made: list[tuple[object, ...]] = []
    options = command_options(SegmentConfig, CutConfig, BatchConfig, WorkersConfig, Shared)

    @command(options)
    def segment(line: CommandLine) -> ExitCode:
        """Try options."""
        made.append((line.build(SegmentConfig), line.build(CutConfig), line.build(BatchConfig), line.build(Shared)))
        return ExitCode.DONE

    app = typer.Typer()
    app.command()(segment)
    result = CliRunner().invoke(app, [*arguments])
    return result.exit_code, result.stderr, made


TABLE = """
[segment]
mode = "fsf"
max-size = 192
alpha = 12.5
save = ["labels", "stats"]
include = ["*.png", "*.jpg"]
recursive = false
keep_extension = true
regions = 12
range = "0,4095"
"""


def test_values_of_every_kind_become_those_of_the_fields() -> None:
    Path("dynaseg.toml").write_text(TABLE)
    code, said, [(config, cut, batch, _)] = invoked()
    assert code == 0
    assert config == SegmentConfig(mode="fsf", max_size=192, alpha=12.5)
    assert cut == CutConfig(regions=12)
    assert batch == BatchConfig(
        save=("labels", "stats"),
        include=("*.png", "*.jpg"),
        recursive=False,
        keep_extension=True,
        range=(0.0, 4095.0),
    )
    names = "mode, max_size, alpha, save, include, recursive, keep_extension, regions, range"
    assert said == f"options from dynaseg.toml: {names}\n"


def test_command_line_counts_more() -> None:
    Path("dynaseg.toml").write_text(TABLE)
    _, _, [(config, cut, batch, _)] = invoked("--mode", "scf", "--regions", "fine", "--recursive", "--save", "raw")
    assert (config.mode, config.max_size) == ("scf", 192)  # type: ignore[attr-defined]
    assert cut == CutConfig(regions="fine")
    assert (batch.recursive, batch.save) == (True, ("raw",))  # type: ignore[attr-defined]


def test_pyproject_has_a_table_of_tables() -> None:
    Path("pyproject.toml").write_text('[project]\nname = "x"\n[tool.dynaseg.segment]\nseed = 5\n')
    assert invoked()[2][0][0] == SegmentConfig(seed=5)
    Path("dynaseg.toml").write_text("[segment]\nseed = 6\n")
    assert invoked()[2][0][0] == SegmentConfig(seed=6), "dynaseg's own file comes first"
    Path("other.toml").write_text("[segment]\nseed = 7\n")
    code, said, made = invoked("--config", "other.toml")
    assert (code, said, made[0][0]) == (0, "options from other.toml: seed\n", SegmentConfig(seed=7))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pyproject.toml", "[tool.other]\nseed = 5\n"),
        ("pyproject.toml", "not TOML, and not ours"),
        ("dynaseg.toml", "[evaluate]\nuse = 'raw'\n"),
        ("dynaseg.toml", ""),
    ],
)
def test_files_without_such_a_table_say_nothing(name: str, content: str) -> None:
    Path(name).write_text(content)
    assert invoked()[:2] == (0, "")


def test_quiet_in_a_file_is_quiet() -> None:
    Path("dynaseg.toml").write_text("[segment]\nquiet = true\nseed = 1\n")
    code, said, made = invoked()
    assert (code, said) == (0, "")
    assert made[0][3] == Shared(quiet=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[segment]\nmax-sise = 4", "dynaseg.toml: 'max-sise' is no option of segment; did you mean max-size?"),
        ("[segment]\ninputs = 'a'", "dynaseg.toml: 'inputs' is no option of segment"),
        ("[segment]\nrecursive = 'no'", "dynaseg.toml: recursive must be true or false, not 'no'"),
        ("[segment]\nseed = 'few'", "`seed` must be a whole number, not 'few'"),
        ("[segment]\nseed = 2026-11-28", "dynaseg.toml: seed must be a text or a number, or a list of them"),
        ("segment = 3", "dynaseg.toml: segment must be a table of options"),
        ("[segment\n", "dynaseg.toml is not TOML"),
    ],
)
def test_mistakes_are_named_with_the_file(content: str, message: str) -> None:
    Path("dynaseg.toml").write_text(content)
    code, said, made = invoked()
    assert (code, made) == (2, [])
    assert message.replace("`seed`", "--seed") in said


def test_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"`config=none\.toml` cannot be read: No such file"):
        read_options(Path("none.toml"), "segment", SEGMENT)


def test_keys_are_flags_or_fields() -> None:
    options = command_options(EvaluateConfig, SegmentConfig)
    for key in ("load-model", "model"):
        Path("dynaseg.toml").write_text(f"[segment]\n{key} = 'a.safetensors'\n")
        assert read_options(None, "segment", options)[1] == {"model": "a.safetensors"}


@pytest.mark.parametrize("options", [SEGMENT, EVALUATE, BENCHMARK, REPORT, EXPORT])
def test_every_key_leads_to_one_option(options: list[Option]) -> None:
    keys = [key for one in options if not one.positional for key in keys_of(one)]
    assert len(keys) == len(set(keys))
