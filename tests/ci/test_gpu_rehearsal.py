"""All of `.ci/gpu` on a CPU and tiny photos, with what is done before and after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import gpu_tables
import numpy as np
import pytest
from PIL import Image

CI = Path(__file__).parents[2] / ".ci"
FILES = {"log.txt", "smoke.json", "iterations.json", "profile.txt", "profile.json", "rates.json"}
FILES |= {"labels-default.tar.gz", "labels-paper.tar.gz"}
PHOTOS = "48x32-000", "48x32-001"


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_run_is_prepared_made_and_scored(tmp_path: Path) -> None:
    results = tmp_path / "results"
    prepared = "--photos", len(PHOTOS), "--size", "48x32"
    said = run(sys.executable, CI / "gpu_prepare.py", "--folder", tmp_path, "--no-wheels", *prepared)
    assert 'LIMIT=530 bash .ci/gpu "$OUT"' in said
    photos = tmp_path / "photos"
    where = {"PYTHON": sys.executable, "PHOTOS": str(photos), "WHEELS": str(tmp_path / "wheels")}
    run("bash", CI / "gpu", results, DEVICE="cpu", LIMIT="3000", **where)
    assert {path.name for path in results.iterdir()} == FILES
    assert len(FILES) <= 8

    smoke, iterations, rates = (
        json.loads((results / f"{name}.json").read_text()) for name in ("smoke", "iterations", "rates")
    )
    assert smoke["passed"]
    assert smoke["float32"]["same labels again"]
    assert [len(method["sizes"]) for method in iterations["methods"]] == [2, 2, 2]
    assert smoke["engines"]["photos"] == 8
    assert smoke["silhouette"]["k"] == smoke["silhouette"]["k on the CPU"]
    assert {name: step["images"] for name, step in rates.items()} == {
        "default": 2,
        "paper-scf": 2,
        "paper-fsf": 2,
        "workers-8": 2,
        "mixed": 2,
        "paper-literal": 2,
    }
    with tarfile.open(results / "labels-paper.tar.gz") as tar:
        assert len(tar.getnames()) == 3 * 2 * len(PHOTOS)

    truth = tmp_path / "truth"
    (truth / "val").mkdir(parents=True)
    for name in PHOTOS:
        Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8), 8)[:, None].repeat(48, axis=1)).save(
            truth / "val" / f"{name}.png"
        )
    scoring = "--photos", photos, "--ground-truth", truth, "--cache", tmp_path / "cpu"
    table = run(sys.executable, CI / "gpu_score.py", results, *scoring)
    assert (results / "table.md").read_text() in table
    found = json.loads((results / "results.json").read_text())
    assert [loop["loop"] for loop in found["iterations"]] == ["bfloat16", "float32", "literal loop, float32"]
    assert [pair["steps"] for pair in found["pairs"]] == [
        ["default", "cpu"],
        ["paper-scf", "default"],
        ["paper-scf", "paper-fsf"],
        ["paper-scf", "paper-literal"],
    ]
    assert all(pair["scored"] == len(PHOTOS) for pair in found["pairs"])
    assert found["pairs"][0]["same_silhouette"] == 1
    assert set(found["quality"]) == {"cpu", "default", "paper-scf", "paper-fsf", "paper-literal"}
    assert set(found["profile"]) == {"fit", "host_ms", "device_ms", "silhouettes", "convolution", "ceilings"}
    assert list(found["profile"]["host_ms"]) == list(gpu_tables.STEPS_OF_A_PHOTO)
    assert found["profile"]["silhouettes"]["same"] == 1
    rows = {line.split(" | ")[0]: line for line in reversed(table.splitlines())}
    busy = "device busy %"  # a CPU does not tell
    assert busy in rows["| run"]
    for name in ("default", "workers-8"):
        assert rows[f"| {gpu_tables.WORDS[name]}"].count("| - |") == 1
