"""Segment a folder of images with no labels, no training set and no tuning.

The names below are the Python API. Importing this package does not import torch: that happens when one of them is
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .batch.outcomes import Outcome as Outcome
    from .batch.summary import Summary as Summary
    from .config import FOLDER_FIT as FOLDER_FIT
    from .config import BatchConfig as BatchConfig
    from .config import CutConfig as CutConfig
    from .config import EvaluateConfig as EvaluateConfig
    from .config import ExportConfig as ExportConfig
    from .config import SegmentConfig as SegmentConfig
    from .config import WorkersConfig as WorkersConfig
    from .engine.engine import Engine as Engine
    from .engine.segmentation import Regions as Regions
    from .engine.segmentation import Segmentation as Segmentation
    from .evaluation.evaluate import Evaluation as Evaluation
    from .files.weights import read_model as read_model
    from .images.decoding import Photo as Photo
    from .images.label_maps import read_hierarchy as read_hierarchy
    from .images.photos import read_photo as read_photo
    from .pictures.overlay import overlay as overlay
    from .pictures.palette import palette_colors as palette_colors
    from .regions.hierarchy import Hierarchy as Hierarchy
    from .regions.hierarchy import build_hierarchy as build_hierarchy
    from .run_from_python import Run as Run
    from .run_from_python import segment_folder as segment_folder

_HOMES = {
    "BatchConfig": "config",
    "build_hierarchy": "regions.hierarchy",
    "CutConfig": "config",
    "Engine": "engine.engine",
    "EvaluateConfig": "config",
    "Evaluation": "evaluation.evaluate",
    "ExportConfig": "config",
    "FOLDER_FIT": "config",
    "Hierarchy": "regions.hierarchy",
    "Outcome": "batch.outcomes",
    "overlay": "pictures.overlay",
    "palette_colors": "pictures.palette",
    "Photo": "images.decoding",
    "read_hierarchy": "images.label_maps",
    "read_model": "files.weights",
    "read_photo": "images.photos",
    "Regions": "engine.segmentation",
    "Run": "run_from_python",
    "segment_folder": "run_from_python",
    "Segmentation": "engine.segmentation",
    "SegmentConfig": "config",
    "Summary": "batch.summary",
    "WorkersConfig": "config",
}

__all__ = [
    "FOLDER_FIT",
    "BatchConfig",
    "CutConfig",
    "Engine",
    "EvaluateConfig",
    "Evaluation",
    "ExportConfig",
    "Hierarchy",
    "Outcome",
    "Photo",
    "Regions",
    "Run",
    "SegmentConfig",
    "Segmentation",
    "Summary",
    "WorkersConfig",
    "__version__",
    "build_hierarchy",
    "overlay",
    "palette_colors",
    "read_hierarchy",
    "read_model",
    "read_photo",
    "segment_folder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
