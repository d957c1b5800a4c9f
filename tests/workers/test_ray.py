"""Batches on a real Ray cluster of several nodes, all of them on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from samples import files_below, noise, photo_folder
from typer.testing import CliRunner

from dynaseg_cli.cli import app

pytest.importorskip("ray", reason="Ray is not installed: --executor ray is not tested")

pytestmark = pytest.mark.slow

FIT = (
    "--max-size",
    "64",
    "--levels",
    "1",
    "--min-labels",
    "1",
    "--patience",
    "0",
    "--iterations",
    "40",
    "--pages",
    "all",
)
DEADLINE_S = 600

CLUSTER = """
import json, logging, sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = {name: cluster.add_node(num_cpus=1) for name in sys.argv[1:]}
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes[line.strip()], allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""


class Nodes:
    """A cluster of nodes with a CPU each, kept by a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._read()

    def lose(self, name: str) -> None:
        """As when a machine fails."""
        assert self._process.stdin is not None
        print(name, file=self._process.stdin, flush=True)
        assert self._read() == "removed"

    def _read(self) -> str:
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline()).startswith(("[", "\x1b")):
            continue  # Ray's own
        return line.strip()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Two, of which one test loses the first."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER, "one", "two"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Nodes(process)
    finally:
        process.communicate()


def start(*arguments: object, device: str = "cpu") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dynaseg_cli", "segment", *map(str, arguments), "--json", "--device", device, *FIT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    stdout, stderr = process.communicate(timeout=DEADLINE_S)
    return process.returncode, json.loads(stdout) if stdout else {}, stderr


def comparable(out: Path) -> dict[str, Any]:
    """What two runs must have in common: every byte but the time that it took."""
    files: dict[str, Any] = files_below(out)
    del files["outcomes.jsonl"], files["run.json"]
    for name, content in files.items():
        if name.endswith(".json"):
            stats = json.loads(content)
            del stats["fit"]["seconds"]
            files[name] = stats
    return files


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"{index}.png" for index in range(8)]
    folder = photo_folder(tmp_path_factory.mktemp("photos"), *names, "sub/x.png", "sub/y.bmp")
    (folder / "broken.jpg").write_bytes(b"")
    pages = [Image.fromarray(noise(seed)) for seed in (11, 12)]
    pages[0].save(folder / "stack.tif", save_all=True, append_images=pages[1:])
    return folder


@pytest.fixture(scope="module")
def expected(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The files of a run in this process."""
    out = tmp_path_factory.mktemp("local")
    arguments = ["segment", str(photos), "-o", str(out), "--device", "cpu", "--workers", "0", *FIT]
    assert CliRunner().invoke(app, arguments).exit_code == 1
    return comparable(out)


def test_device_that_the_cluster_lacks_is_wrong_usage(photos: Path, nodes: Nodes, tmp_path: Path) -> None:
    ray = ("--executor", "ray", "--ray-address", nodes.address)
    code, _, stderr = end(start(photos, "-o", tmp_path / "out", *ray, device="cuda"))
    assert code == 2
    assert "the Ray cluster has no GPU" in stderr


def test_node_that_is_lost_costs_nothing_and_no_image_is_done_twice(
    photos: Path, nodes: Nodes, tmp_path: Path, expected: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    process = start(photos, "-o", out, "--executor", "ray", "--ray-address", nodes.address)
    deadline = time.monotonic() + DEADLINE_S
    while len(list(out.glob("stats/*.json"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    nodes.lose("one")
    code, run, stderr = end(process)
    assert (code, run["images"], run["done"], run["failed"]) == (1, 13, 12, 1), stderr
    assert run["failures"] == [{"path": str(photos / "broken.jpg"), "reason": "the file is empty"}]
    assert comparable(out) == expected
    lines = [json.loads(line) for line in (out / "outcomes.jsonl").read_text().splitlines()]
    pages = [(str(photos / "stack.tif"), page) for page in (1, 2)]
    others = [(str(path), None) for path in photos.rglob("*.*") if path.name != "stack.tif"]
    assert {(line["path"], line.get("page")) for line in lines} == {*pages, *others}
    assert len(lines) == 13
    assert "a worker was lost" in stderr


def test_cluster_of_its_own_writes_what_a_local_run_does(
    photos: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    code, run, stderr = end(start(photos, "-o", tmp_path / "out", "--executor", "ray", "--threads", 1))
    assert (code, run["done"]) == (1, 12), stderr
    assert comparable(tmp_path / "out") == expected
    assert run["device"].startswith("cpu")


def test_cluster_that_is_not_there_is_wrong_usage(photos: Path, tmp_path: Path) -> None:
    code, run, stderr = end(start(photos, "-o", tmp_path / "out", "--executor", "ray", "--ray-address", "127.0.0.1:1"))
    assert (code, run) == (2, {})
    assert "--ray-address 127.0.0.1:1" in stderr
    assert not (tmp_path / "out").exists()
