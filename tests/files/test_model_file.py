from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from dynaseg_cli.config import FOLDER_FIT, PRESETS, SegmentConfig, WeightsFile
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.weights import OPTIONS_KEY, read_model

CONFIG = SegmentConfig(**FOLDER_FIT | {"features": 8})


def written(path: Path, options: Any) -> Path:
    """A model's file as far as its options go."""
    text = options if isinstance(options, str) else json.dumps(options)
    path.write_bytes(save({"weight": np.zeros(3, np.float32)}, {OPTIONS_KEY: text}))
    return path


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        dataclasses.replace(CONFIG, mode="fsf", alpha=7.5, seed=3, min_region=9),
        dataclasses.replace(CONFIG, mode="fixed", mu=0.5, max_size=0),
        dataclasses.replace(PRESETS["paper"], **FOLDER_FIT),
        dataclasses.replace(CONFIG, backbone="resnet18-fpn", freeze_backbone=True),
        dataclasses.replace(CONFIG, backbone="resnet18-fpn", weights="random"),
        dataclasses.replace(CONFIG, backbone="resnet18-fpn", weights=WeightsFile("/a.pth", "0123456789abcdef")),
    ],
    ids=["default", "fsf", "fixed", "paper", "imagenet", "random", "weights"],
)
def test_options_come_back_and_the_file_is_known_by_its_content(config: SegmentConfig, tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors", config.as_options())
    found = read_model(path)
    assert found.model == WeightsFile(str(path), hashlib.sha256(path.read_bytes()).hexdigest())
    assert dataclasses.replace(found, model=None).as_options() == config.as_options()


def test_refinement_of_an_earlier_use_is_not_taken_over(tmp_path: Path) -> None:
    path = written(tmp_path / "m", CONFIG.as_options() | {"refine": 5, "model": "01234567"})
    assert read_model(path).refine == 0


def test_option_that_came_later_has_its_default(tmp_path: Path) -> None:
    options = CONFIG.as_options()
    del options["min_region"]
    assert read_model(written(tmp_path / "m", options)).min_region == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (CONFIG.as_options() | {"depth": 3}, "depth"),
        (CONFIG.as_options() | {"clusters": 1}, "`clusters` must be at least 2, not 1"),
        (CONFIG.as_options() | {"features": "many"}, ""),
        (CONFIG.as_options() | {"mode": "xyz"}, "`mode` must be one of"),
        (SegmentConfig().as_options(), "--load-model"),
        ("{", ""),
        (None, ""),
        ([], ""),
        ("[" * 100_000, ""),
    ],
    ids=["unknown", "out of range", "text", "mode", "of one image", "no JSON", "null", "list", "deep"],
)
def test_options_of_another_version_are_refused(options: Any, reason: str, tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors", options)
    start = f"--load-model {path}: its options are not those of this version of dynaseg ("
    with pytest.raises(UsageError, match="^" + re.escape(start)) as raised:
        read_model(path, "--load-model")
    assert reason in str(raised.value)


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    for metadata in (None, {"format": "pt"}):
        path.write_bytes(save({"weight": np.zeros(3, np.float32)}, metadata))
        with pytest.raises(UsageError, match="^" + re.escape(f"--load-model {path}: not a network that `save_model`")):
            read_model(path, "--load-model")


@pytest.mark.parametrize("content", [b"", b"no model", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      "])
def test_file_that_is_no_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="^" + re.escape(f"model {path}: not a")):
        read_model(path)


@pytest.mark.parametrize("keep", [7, 100, -1])
def test_truncated_file_is_refused(keep: int, tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors", CONFIG.as_options())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match="^" + re.escape(f"model {path}: not a safetensors file")):
        read_model(path)


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file or directory"), ("", "Is a directory")])
def test_file_that_cannot_be_read_is_named(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="^" + re.escape(f"--load-model {tmp_path / name}: {reason}")):
        read_model(tmp_path / name, "--load-model")


def test_options_are_read_without_torch(tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors", CONFIG.as_options())
    code = (
        "import sys; from dynaseg_cli.files.weights import read_model;"
        "print(read_model(sys.argv[1]).clusters); assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True)
    assert result.stdout == "27\n"
