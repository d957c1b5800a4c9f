"""The READMEs: short, linked, and every command and Python block in them runs, on small stand-ins for photos."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from label_samples import save_labels
from samples import noise, save_photo
from typer.testing import CliRunner
from video_samples import moving_square, write_video

import dynaseg_cli
from dynaseg_cli.benchmark.variants import METHODS
from dynaseg_cli.cli import app
from dynaseg_cli.config import FOLDER_FIT, SegmentConfig, WorkersConfig

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("dynaseg_cli/**/README.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in READMES}

TRY = (
    "python3 -m venv .venv && .venv/bin/pip install --quiet . && .venv/bin/dynaseg segment sample_images -o out",
    "python3 -m venv .venv && .venv/bin/pip install --quiet -e '.[dev]' && .venv/bin/python -m pytest -n 2"
    " --dist worksteal",
)
"""The lines of the README that do everything: .ci/run runs the second, which it finds as the first with pytest."""

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4}(dynaseg .*)$", re.MULTILINE)
INLINE = re.compile(r"`(dynaseg \w+ [^`\n]+)`")
SHELL_ENDS = {"|", "||", "&&", ";", ">", "2>", "<"}

QUICK = {"iterations": 2, "max_size": 16, "features": 8, "clusters": 8, "min_labels": 3}
WIDTH, HEIGHT = 16, 12
PHOTOS = (
    *("photos/cat.jpg", "photos/sub/dog.jpg", "sample_images/cat.jpg", "more/new.jpg"),
    *("data/images/a.jpg", "val/1.jpg", "val/2.jpg"),
)
SLURM = {"ID": "1", "MIN": "1", "MAX": "8", "STEP": "1", "COUNT": "8"}


def prose(text: str) -> str:
    """A README without its code blocks."""
    return FENCED.sub("", text)


def commands_in(script: str) -> list[list[str]]:
    """The arguments of each `dynaseg` that a shell script starts, also through another command."""
    found = []
    for line in script.replace("\\\n", "").splitlines():
        words = shlex.split(line, comments=True)
        words = [part for word in words for part in (shlex.split(word) if word.startswith("dynaseg ") else [word])]
        while "dynaseg" in (names := [Path(word).name for word in words]):
            words = words[names.index("dynaseg") + 1 :]
            end = next((index for index, word in enumerate(words) if word in SHELL_ENDS), len(words))
            found.append([word.replace("{}", "1") for word in words[:end]])
            words = words[end:]
    return found


def scripts() -> Iterator[tuple[str, list[list[str]]]]:
    """Each block of commands, and each command in the text, with where it stands."""
    for name, text in TEXTS.items():
        blocks = [block for language, block in FENCED.findall(text) if language != "python"]
        for script in (*blocks, *INDENTED.findall(prose(text)), *INLINE.findall(prose(text))):
            if commands := commands_in(script):
                yield f"{name}: {' '.join(commands[0])}", commands


SCRIPTS = list(scripts())
PYTHON = [
    pytest.param(block, id=f"{name}-{number}")
    for name, text in TEXTS.items()
    for number, (language, block) in enumerate(FENCED.findall(text))
    if language == "python"
]


def made_quick(command: list[str]) -> list[str]:
    """The command with what keeps it short; of an option that is given twice, the last one counts.

    Shown but not run, by --dry-run: commands that need a CUDA device or a Ray cluster. The weights of the ResNet, which
    would be downloaded, are random. `--no-stream` leaves out the benchmark's fresh processes, and `--workers 0` the
    workers: both have tests of their own.
    """
    name, text = command[0], " ".join(command)
    if name in ("report", "export", "evaluate"):
        return command
    if name == "benchmark":
        sizes = [] if Path(command[1]).is_dir() else ["--size", "16x12,20x16"]
        steps = "--epochs" if "folder" in command else "--iterations"
        return [*command, *sizes, steps, "1", "--repeats", "1", "--no-stream"]
    assert name == "segment", f"an unknown command: {text}"
    if "--device cuda" in text or "--executor ray" in text:
        return [*command, "--dry-run"]
    if "--load-model" in command:
        return [*command, "--workers", "0"]
    quick = dict(QUICK)
    if "--preset" in command:
        quick = {"iterations": 1, "max_size": 16}
    if "resnet18-fpn" in command:
        command = [*command, "--weights", "random"]
    if "folder" in command or "--tiles" in command:
        del quick["clusters"]  # --classes says how many
        command = [*command, "--epochs", "1"]
    options = [word for key, value in quick.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    return [*command, *options, "--workers", "0"]


def run(command: list[str]) -> None:
    result = CliRunner().invoke(app, made_quick(command))
    assert result.exit_code == 0, f"dynaseg {' '.join(command)}: {result.stderr}"


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the READMEs' commands read."""
    folder = tmp_path_factory.mktemp("stand-ins")
    for seed, name in enumerate(PHOTOS):
        save_photo(folder / name, seed, WIDTH, HEIGHT)
    (folder / "names.txt").write_text("sky\n\nsea\n")
    (folder / "scans").mkdir()
    tifffile.imwrite(folder / "scans/ct.tif", np.arange(HEIGHT * WIDTH, dtype=np.int16).reshape(HEIGHT, WIDTH) - 90)
    (folder / "videos").mkdir()
    write_video(folder / "videos/street.mp4", moving_square(6, (16, 32)))
    (folder / "tiles").mkdir()
    for left, name in enumerate(("west", "east")):
        corner = (0.0, 0.0, 0.0, 5e5 + WIDTH * left, 5e6, 0.0)
        place = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (33922, "d", 6, corner, True)]
        tifffile.imwrite(folder / f"tiles/{name}.tif", noise(left, WIDTH, HEIGHT), photometric="rgb", extratags=place)
    (folder / "stacks").mkdir()
    tifffile.imwrite(
        folder / "stacks/cells.ome.tif",
        np.random.default_rng(0).integers(0, 4096, (2, 4, HEIGHT, WIDTH), dtype=np.uint16),
        photometric="minisblack",
        metadata={"axes": "ZCYX"},
    )
    tifffile.imwrite(folder / "slide.tif", noise(0, 2100, 16), photometric="rgb", tile=(16, 64))
    halves = np.repeat(np.array([[0], [1]], np.uint8), HEIGHT // 2, axis=0).repeat(WIDTH, axis=1)
    for name in ("cat", "sub/dog"):
        save_labels(folder / f"ground_truth/{name}.png", halves)
    for name in ("1", "2"):
        save_labels(folder / f"groundTruth/val/{name}.mat", halves + 1, 2 - halves)
        save_labels(folder / f"gpb-owt-ucm/{name}.png", np.zeros((2 * HEIGHT - 1, 2 * WIDTH - 1), np.uint16))
    halves[1:-1] = 255
    save_labels(folder / "drawn/cat.png", halves)
    save_labels(folder / "masks/cat.png", halves)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        run(["segment", "photos", "--save", "labels,color,stats,regions,hierarchy"])
        run(["segment", "photos", "-o", "folder", "--fit", "folder"])
    return folder


@pytest.fixture
def here(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the stand-ins, as the current folder."""
    shutil.copytree(stand_ins, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("commands", [pytest.param(commands, id=where) for where, commands in SCRIPTS])
def test_every_command_runs(commands: list[list[str]], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    if commands[0][0] == "segment" and "--load-model" not in commands[0]:
        for folder in ("photos-dynaseg", "folder"):  # the command may write there with other options
            shutil.rmtree(folder)
    for command in commands:
        run(command)


@pytest.mark.parametrize("block", PYTHON)
def test_every_python_block_runs(block: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process = WorkersConfig(device="cpu", workers=0)
    segment_folder = functools.partial(dynaseg_cli.segment_folder, workers=in_this_process)
    monkeypatch.setitem(vars(dynaseg_cli), "segment_folder", segment_folder)
    monkeypatch.setitem(vars(dynaseg_cli), "SegmentConfig", functools.partial(SegmentConfig, **QUICK))
    monkeypatch.setitem(vars(dynaseg_cli), "FOLDER_FIT", FOLDER_FIT | QUICK | {"epochs": 1})
    exec(compile(block, "README", "exec"), {})


def test_what_a_readme_draws_fits_the_photo(here: Path) -> None:
    shutil.copyfile(ROOT / "sample_images/cat.jpg", "sample_images/cat.jpg")
    blocks = [block for _, block in FENCED.findall(TEXTS["dynaseg_cli/images/README.md"]) if "ImageDraw" in block]
    for block in blocks:
        exec(compile(block, "README", "exec"), {})
    assert len(blocks) == 2
    run(["segment", "sample_images", "--scribbles", "drawn", "--mask", "masks"])


def test_commands_are_found_in_all_their_forms() -> None:
    """The tests above would hold for a parser that finds nothing."""
    assert commands_in("seq 8 | xargs -I{} dynaseg segment a --shard {}/8 -q") == [
        ["segment", "a", "--shard", "1/8", "-q"]
    ]
    assert commands_in('sbatch --wrap "dynaseg segment a -o b"') == [["segment", "a", "-o", "b"]]
    assert commands_in("dynaseg segment a --json > b  # c") == [["segment", "a", "--json"]]
    assert commands_in("pip install . && .venv/bin/dynaseg segment a \\\n-o b && dynaseg evaluate b c") == [
        ["segment", "a", "-o", "b"],
        ["evaluate", "b", "c"],
    ]
    assert {command[0] for _, commands in SCRIPTS for command in commands} == {
        *("segment", "report", "export", "evaluate", "benchmark")
    }
    assert {name for name in TEXTS if any(where.startswith(f"{name}:") for where, _ in SCRIPTS)} == set(TEXTS) - {
        "dynaseg_cli/README.md"
    }


def anchors(text: str) -> set[str]:
    """The headings of a README as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(TEXTS[name])):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / name).parent / path if path else ROOT / name
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text()), target


def test_every_picture_and_every_readme_is_linked() -> None:
    linked = {
        ((ROOT / name).parent / target.partition("#")[0]).resolve()
        for name, text in TEXTS.items()
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(text))
    }
    assert set((ROOT / ".assets").iterdir()) <= linked
    assert set(READMES) <= linked


@pytest.mark.parametrize("name", TEXTS)
def test_modules_that_are_named_exist(name: str) -> None:
    for module in re.findall(r"`([\w./]+/\w+\.py)`", TEXTS[name]):
        assert (ROOT / module).is_file() or (ROOT / "dynaseg_cli" / module).is_file(), module


def test_readme_is_short_and_starts_with_what_works_everywhere() -> None:
    text = TEXTS["README.md"]
    assert len(text.splitlines()) <= 200
    first_screen = "\n".join(block for _, block in FENCED.findall(text[: text.index("## When to use it")]))
    assert not re.search(r"--device|--executor|--backbone", first_screen)


def test_the_lines_that_do_everything_stand_in_the_readme() -> None:
    lines = TEXTS["README.md"].splitlines()
    assert tuple(line for line in lines if line.startswith("python3 -m venv") and "&&" in line) == TRY
    assert next(line for line in lines if "pytest" in line) == TRY[1]


def test_every_method_of_the_benchmark_is_described() -> None:
    for method in METHODS:
        assert re.search(rf"^\| `{method}` \|", TEXTS["dynaseg_cli/benchmark/README.md"], re.MULTILINE)
