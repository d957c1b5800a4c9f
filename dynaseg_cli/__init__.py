"""Segment a folder of images with no labels, no training set and no tuning.

The names below are the Python API. Importing this package does not import torch: that happens when one of them is
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .config import FOLDER_FIT as FOLDER_FIT
    from .config import BatchConfig as BatchConfig
    from .config import CutConfig as CutConfig
    from .config import EvaluateConfig as EvaluateConfig
    from .config import SegmentConfig as SegmentConfig
    from .config import WorkersConfig as WorkersConfig
    from .engine.engine import Engine as Engine
    from .engine.segmentation import Segmentation as Segmentation
    from .evaluation.evaluate import Evaluation as Evaluation
    from .files.weights import read_model as read_model
    from .images.label_maps import read_hierarchy as read_hierarchy
    from .regions.hierarchy import Hierarchy as Hierarchy
    from .regions.hierarchy import build_hierarchy as build_hierarchy
    from .run import segment_folder as segment_folder

_HOMES = {
    "BatchConfig": "config",
    "CutConfig": "config",
    "Engine": "engine.engine",
    "EvaluateConfig": "config",
    "FOLDER_FIT": "config",
    "Evaluation": "evaluation.evaluate",
    "Hierarchy": "regions.hierarchy",
    "SegmentConfig": "config",
    "Segmentation": "engine.segmentation",
    "WorkersConfig": "config",
    "build_hierarchy": "regions.hierarchy",
    "read_hierarchy": "images.label_maps",
    "read_model": "files.weights",
    "segment_folder": "run",
}

__all__ = [
    "FOLDER_FIT",
    "BatchConfig",
    "CutConfig",
    "Engine",
    "EvaluateConfig",
    "Evaluation",
    "Hierarchy",
    "SegmentConfig",
    "Segmentation",
    "WorkersConfig",
    "__version__",
    "build_hierarchy",
    "read_hierarchy",
    "read_model",
    "segment_folder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
