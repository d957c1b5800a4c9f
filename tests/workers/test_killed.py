"""kill -9 at random moments: no file is ever half there, and a re-run gives what an undisturbed run does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from samples import files_below, noise, photo_folder

KILLS = 30

KILL_AT_RANDOM = """
import itertools, json, os, random, signal, sys, time
from pathlib import Path

import torch
from PIL import Image
from samples import TINY
from dynaseg_cli import BatchConfig, WorkersConfig, segment_folder
from dynaseg_cli.batch import stages  # loaded once, by the parent of all that are killed

photos, killed, undisturbed, kills = sys.argv[1:]
torch.set_num_threads(1)
Image.init()  # all formats, too
here = WorkersConfig(device="cpu", workers=0)

def fork_run(output, overwrite=False):
    child = os.fork()
    if not child:
        for outcome in segment_folder(photos, output, TINY, BatchConfig(overwrite=overwrite, pages="all"), here):
            assert outcome.status != "failed", outcome
        os._exit(0)
    return child

started = time.monotonic()
assert os.waitpid(fork_run(undisturbed), 0)[1] == 0
whole = time.monotonic() - started
random.seed(0)
died = 0
for number in itertools.count():
    if died == int(kills):
        break
    # Two runs of three do everything anew, so that there is always something to spoil.
    child = fork_run(killed, overwrite=number % 3 > 0)
    time.sleep(random.uniform(0, whole))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    died += status == signal.SIGKILL
    for path in Path(killed).rglob("[!.]*.*"):
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".png":
            Image.open(path).load()
assert os.waitpid(fork_run(killed), 0)[1] == 0
"""


@pytest.mark.slow
def test_runs_killed_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", *(f"{index}.png" for index in range(6)), *(f"sub/{i}.bmp" for i in "ab"))
    pages = [Image.fromarray(noise(seed)) for seed in (11, 12)]
    pages[0].save(photos / "stack.tif", save_all=True, append_images=pages[1:])
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    # Threads and fork: Python warns of it. Nothing of torch has run when a child is made.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", KILL_AT_RANDOM]
    result = subprocess.run(
        [*command, photos, killed, undisturbed, str(KILLS)],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    after, expected = files_below(killed), files_below(undisturbed)
    assert {"labels/stack-p1.png", "labels/stack-p2.png"} < after.keys()
    assert after.keys() == expected.keys(), "nothing is missing, and nothing left behind"
    for name, content in expected.items():
        if name.endswith(".png"):
            assert after[name] == content, name
        elif name.startswith("stats/"):
            ours, theirs = json.loads(after[name]), json.loads(content)
            ours["fit"]["seconds"] = theirs["fit"]["seconds"]
            assert ours == theirs, name
