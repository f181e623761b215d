"""Pictures of a logged run."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from embodied_mem.cli import main
from embodied_mem.verbs.record import record_episode


def test_a_strip_shows_the_camera_and_the_memory_at_several_moments(tmp_path: Path, capsys):
    recording = record_episode("EmbodiedMem/House-MultiObjectNav-v0", tmp_path, seed=3, steps=30)
    path = tmp_path / "strip.png"
    with pytest.raises(SystemExit) as end:
        main(["strip", str(recording.log), "--out", str(path), "--frames", "3"])
    assert end.value.code == 0 and str(path) in capsys.readouterr().out
    image = cv2.imread(str(path))
    width = image.shape[1]
    columns = [image[:, i * width // 3 : i * width // 3 + width // 3] for i in range(3)]
    assert width > 500 and path.stat().st_size < 300_000
    cameras, maps = zip(*((c[40 : 40 + width // 3 - 10], c[40 + width // 3 :]) for c in columns))
    # What the first and the last moment see is not the same, and the map has grown in between.
    assert (cameras[0] != cameras[2]).any()
    unknown = maps[0][-8, -8]
    blank = [(m == unknown).all(axis=-1).mean() for m in maps]
    assert blank[0] > blank[2]


@pytest.mark.parametrize(("frames", "line"), [("1", "at least 2 frames"), ("99", "too few for 99 frames")])
def test_a_strip_that_cannot_be_is_refused_in_one_line(tmp_path: Path, capsys, frames: str, line: str):
    recording = record_episode("EmbodiedMem/MultiRoom-v0", tmp_path, seed=3, steps=4)
    with pytest.raises(SystemExit):
        main(["strip", str(recording.log), "--out", str(tmp_path / "strip.png"), "--frames", frames])
    assert line in capsys.readouterr().err
