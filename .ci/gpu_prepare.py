"""Collects what ``.ci/gpu`` needs where there is no network: photos, and wheels that may be missing there.

Photos are those of BSDS500, val first, from the folder that DYNASEG_BSDS500 names; without it, or with --size, they are
synthetic. Nothing here needs a GPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 50 * 2**20
"""Limit on everything that is prepared."""
WHEELS = "typer==0.28.*", "tifffile"
"""Pure Python that a machine with torch may lack. Later versions of typer need pydantic, which it may also lack."""
PYTHON = "3.12"
SPLITS = "val", "train"
VAL = 100
"""Photos taken from val; the others come from train."""


def choose_photos(bsds500: Path, count: int) -> list[Path]:
    """The first photos by name, those of val before those of train."""
    return [path for split in SPLITS for path in sorted((bsds500 / "images" / split).glob("*.jpg"))][:count]


def copy_photos(chosen: list[Path], photos: Path) -> None:
    for path in chosen:
        target = photos / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def make_photos(count: int, size: tuple[int, int], photos: Path) -> None:
    from dynaseg_cli.benchmark.synthetic import write_synthetic_photos  # noqa: PLC0415 (--help needs no packages)

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        write_synthetic_photos(made, count, [size])
        for split, paths in (("val", sorted(made.iterdir())[:VAL]), ("train", sorted(made.iterdir())[VAL:])):
            for path in paths:
                (photos / split).mkdir(parents=True, exist_ok=True)
                shutil.move(path, photos / split / path.name)


def download_wheels(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", PYTHON, "--dest", str(folder), *WHEELS]
    if subprocess.run(command, check=False).returncode:
        print(f"warning: {' and '.join(WHEELS)} could not be downloaded; the run needs a machine that has them")


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=200, metavar="N", help="at most so many (default: %(default)s)")
    parser.add_argument("--size", type=size, metavar="WxH", help="make synthetic photos of this size")
    parser.add_argument("--no-wheels", action="store_true", help="download nothing")
    parser.add_argument("--folder", type=Path, default=ROOT / ".gpu", help="where to (default: .gpu)")
    options = parser.parse_args()
    photos = options.folder / "photos"
    if photos.exists():
        parser.error(f"{photos} is there already; remove it first")
    bsds500 = os.environ.get("DYNASEG_BSDS500")
    if bsds500 and options.size is None:
        copy_photos(choose_photos(Path(bsds500), options.photos), photos)
    else:
        make_photos(options.photos, options.size or (481, 321), photos)
    if not options.no_wheels:
        download_wheels(options.folder / "wheels")
    found = [path for path in photos.rglob("*") if path.is_file()]
    total = size_of(photos) + size_of(options.folder / "wheels")
    print(f"{len(found)} photos in {photos}; {total / 2**20:.1f} MiB in all")
    if not found or total > MOST_BYTES:
        print(f"error: there must be photos, and at most {MOST_BYTES / 2**20:.0f} MiB")
        return 1
    print(
        "On the machine with the GPU, in a copy of this folder, the ignored .gpu included; OUT is what to bring back:\n"
        '    LIMIT=530 bash .ci/gpu "$OUT"\n'
        "Afterwards, here, on what came back:\n"
        "    python .ci/gpu_score.py RESULTS"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
