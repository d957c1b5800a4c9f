"""Imports point one way, as HOUSE says: cli -> batch -> engine -> method."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dynaseg_cli

ROOT = Path(dynaseg_cli.__file__).parent
SHARED = {"config", "errors", ""}  # "" is the package itself: its version

ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "weights_file": {"config", "errors", "images"},
    "model_file": {"config", "errors", "weights_file"},
    "images": {"errors"},
    "formats": {"errors", "images"},
    "sizes": set(),
    "names": set(),
    "user_files": set(),
    "pictures": {"sizes"},
    "export": {"pictures", "writing", *SHARED},
    "report": {"names", "pictures", "regions", "sizes", *SHARED},
    "writing": {"errors"},
    "figures": {"errors", "names", "writing"},
    "regions": {"config", "sizes"},
    "evaluation": {"figures", "formats", "images", "regions", "user_files", *SHARED},
    "method": SHARED,
    "engine": {"method", "regions", "model_file", "sizes", "weights_file", *SHARED},
    "baselines": {"engine", "method", "sizes", *SHARED},
    "batch": {
        "engine",
        "evaluation",
        "export",
        "formats",
        "images",
        "method",
        "model_file",
        "pictures",
        "regions",
        "report",
        "sizes",
        "user_files",
        "weights_file",
        "writing",
        *SHARED,
    },
    "benchmark": {
        "baselines",
        "batch",
        "engine",
        "evaluation",
        "figures",
        "method",
        "pictures",
        "regions",
        "user_files",
        "weights_file",
        "writing",
        *SHARED,
    },
    "cli": {
        "benchmark",
        "batch",
        "engine",
        "figures",
        "method",
        "model_file",
        "names",
        "regions",
        "evaluation",
        "weights_file",
        "writing",
        *SHARED,
    },
}
"""What each room may import from the others."""

THIRD_PARTY: dict[str, set[str]] = {
    "errors": set(),
    "names": set(),
    "user_files": set(),
    "config": set(),
    "weights_file": set(),
    "model_file": {"safetensors"},
    "images": set(),
    "formats": {"numpy", "PIL", "tifffile"},
    "sizes": {"numpy", "PIL"},
    "pictures": {"numpy", "PIL"},
    "writing": {"numpy", "PIL"},
    "figures": {"matplotlib"},
    "regions": {"numpy", "scipy"},
    "evaluation": {"numpy", "scipy", "PIL", "matplotlib"},
    "export": {"numpy", "PIL"},
    "report": {"numpy", "PIL"},
}
"""Rooms that may import no other packages than these."""

SCREEN = {"typer", "click", "rich", "tqdm"}
"""What only the command line may know."""

MODULES = sorted(ROOT.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py") if parts else ""


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Every import of a module, absolute: ("dynaseg_cli", "batch", "job") or ("numpy",)."""
    package = ("dynaseg_cli", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
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


@pytest.mark.parametrize("path", IN_ROOMS, ids=named)
def test_imports_point_one_way(path: Path) -> None:
    assert home(path) in ROOMS, "a new room: say here what it may import"
    assert own(path) - {home(path)} <= ROOMS[home(path)]


@pytest.mark.parametrize("path", [path for path in IN_ROOMS if home(path) in THIRD_PARTY], ids=named)
def test_rooms_that_stand_alone_import_little(path: Path) -> None:
    assert foreign(path) <= THIRD_PARTY[home(path)]


@pytest.mark.parametrize("path", [path for path in MODULES if home(path) != "cli"], ids=named)
def test_only_the_command_line_knows_the_screen(path: Path) -> None:
    assert foreign(path) & SCREEN == set()


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
    tree = ast.parse(path.read_text())
    at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [alias.name for node in at_import if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in at_import if isinstance(node, ast.ImportFrom) and not node.level]
    assert "matplotlib" not in {name.split(".")[0] for name in names}
