"""Perception: what turns an `Observation` into a `Percept` in the base frame.

Names are imported when they are first used, so that a user of one sensor loads no other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embodied_mem.perception.camera import intrinsics_from_camera_info, register_depth
    from embodied_mem.perception.config import (
        DepthConfig,
        DetectorConfig,
        EmbedderConfig,
        MarkerConfig,
        OnnxConfig,
        PerceptionConfig,
        SnapshotConfig,
    )
    from embodied_mem.perception.detectors import SemanticDetector
    from embodied_mem.perception.embedding import ColorHistogram, Embedder
    from embodied_mem.perception.grid import GRID_LABELS, GridPerception
    from embodied_mem.perception.image_model import ImageModel
    from embodied_mem.perception.markers import MarkerDetector
    from embodied_mem.perception.onnx import OnnxDetector
    from embodied_mem.perception.perception import Perception
    from embodied_mem.perception.rgbd import RgbdPerception

_MODULES = {
    "DepthConfig": "config",
    "DetectorConfig": "config",
    "MarkerConfig": "config",
    "OnnxConfig": "config",
    "PerceptionConfig": "config",
    "SnapshotConfig": "config",
    "GRID_LABELS": "grid",
    "GridPerception": "grid",
    "Perception": "perception",
    "RgbdPerception": "rgbd",
    "SemanticDetector": "detectors",
    "MarkerDetector": "markers",
    "OnnxDetector": "onnx",
    "ColorHistogram": "embedding",
    "Embedder": "embedding",
    "EmbedderConfig": "config",
    "ImageModel": "image_model",
    "intrinsics_from_camera_info": "camera",
    "register_depth": "camera",
}

__all__ = [
    "GRID_LABELS",
    "ColorHistogram",
    "DepthConfig",
    "DetectorConfig",
    "Embedder",
    "EmbedderConfig",
    "GridPerception",
    "ImageModel",
    "MarkerConfig",
    "MarkerDetector",
    "OnnxConfig",
    "OnnxDetector",
    "Perception",
    "PerceptionConfig",
    "RgbdPerception",
    "SemanticDetector",
    "SnapshotConfig",
    "intrinsics_from_camera_info",
    "register_depth",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
