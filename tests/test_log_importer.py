"""Logs open in the tools that people look at them with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from embodied_mem.verbs.record import record_episode

pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra: viz)")


def test_reruns_own_importer_opens_a_log_with_its_cameras_and_poses(tmp_path: Path):
    recording = record_episode("EmbodiedMem/House-ObjectNav-v0", tmp_path, seed=3, steps=8)
    rrd = tmp_path / "imported.rrd"
    rerun = [sys.executable, "-m", "rerun"]
    subprocess.run(
        [*rerun, "mcap", "convert", str(recording.log), "-o", str(rrd)], check=True, capture_output=True
    )
    shown = subprocess.run([*rerun, "rrd", "print", str(rrd)], check=True, capture_output=True, text=True)
    for entity, column in (
        ("/head/color/image_raw", "Image:buffer"),
        ("/head/depth/image_rect_raw", "DepthImage:buffer"),
        ("/head/color/camera_info", "Pinhole:image_from_camera"),
        ("/head/depth/camera_info", "Pinhole:image_from_camera"),
        ("/tf", "Transform3D:translation"),
        ("/tf_static", "Transform3D:quaternion"),
    ):
        lines = shown.stdout.splitlines()
        assert any(f" - {entity} - " in line and column in line for line in lines), entity
