from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import pytest

from embodied_mem.cli import main
from embodied_mem.verbs import doctor
from embodied_mem.verbs.bench import forget_kernels

ASKED = ["numpy>=1.26", "zstandard>=0.22", "open3d>=0.19; extra == 'sim'", "rerun-sdk>=0.26; extra == 'viz'"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A distribution that asks for few packages, whatever is installed here."""
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ASKED)
    return monkeypatch


def by_name() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.packages()}


def test_what_is_installed_is_named_with_its_version(asked):
    found = by_name()
    assert set(found) == {"numpy", "zstandard", "open3d", "rerun-sdk"}
    assert found["numpy"].verdict == "ok"
    assert found["numpy"].says == importlib.metadata.version("numpy")


def test_a_missing_extra_says_what_it_adds_and_how_to_get_it(asked):
    version, find_spec = importlib.metadata.version, importlib.util.find_spec

    def without_open3d(name: str) -> str:
        if name == "open3d":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    asked.setattr(importlib.metadata, "version", without_open3d)
    asked.setattr(importlib.util, "find_spec", lambda name: None if name == "open3d" else find_spec(name))
    finding = by_name()["open3d"]
    assert finding.verdict == "missing" and "House" in finding.part
    assert finding.mend == "pip install 'embodied-mem[sim]'"


def test_a_version_out_of_range_is_broken(asked):
    version = importlib.metadata.version
    asked.setattr(importlib.metadata, "version", lambda name: "1.2" if name == "numpy" else version(name))
    finding = by_name()["numpy"]
    assert finding.verdict == "broken" and "1.2" in finding.says and ">=1.26" in finding.mend


def test_a_system_library_that_is_not_there_is_named(asked):
    missing = "libusb-1.0.so.0: cannot open shared object file: No such file or directory"
    asked.setattr(doctor, "import_complaint", lambda module: missing if module == "open3d" else "")
    finding = by_name()["open3d"]
    assert finding.verdict == "broken" and finding.mend == "apt-get install libusb-1.0-0"


def test_an_import_that_fails_gives_its_first_line(monkeypatch):
    def fail(name: str) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file\nmore")

    monkeypatch.setattr(importlib, "import_module", fail)
    assert doctor.import_complaint("cv2") == "libGL.so.1: cannot open shared object file"


def test_the_kernel_cache_follows_the_environment(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    assert doctor.kernel_cache().mend == "embodied-mem bench warmup"
    (tmp_path / "kernels" / "a").mkdir(parents=True)
    (tmp_path / "kernels" / "a" / "k.nbi").touch()
    assert doctor.kernel_cache().verdict == "ok"
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nothing/can/be/written")
    finding = doctor.kernel_cache()
    assert finding.verdict == "broken" and "NUMBA_CACHE_DIR" in finding.mend


def test_ros_without_rclpy_is_broken_and_no_ros_is_only_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert doctor.examine()[-2].verdict == "broken"
    monkeypatch.delenv("ROS_DISTRO")
    assert doctor.examine()[-2].verdict == "missing"


def test_the_verb_prints_words_or_json(asked, capsys):
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {"part", "name", "verdict", "says", "mend"} == set(findings[0])
    assert end.value.code == int(any(f["verdict"] == "broken" for f in findings))
    with pytest.raises(SystemExit):
        main(["doctor"])
    out = capsys.readouterr().out
    for finding in findings:
        assert finding["name"] in out and finding["mend"] in out


def test_warming_up_first_forgets_kernels_that_may_be_stale(tmp_path: Path):
    kept, module = tmp_path / "octree" / "__pycache__" / "asking.ask-1.py311.nbi", tmp_path / "asking.py"
    kept.parent.mkdir(parents=True)
    kept.touch(), module.touch()
    forget_kernels(tmp_path)
    assert not kept.exists() and module.exists()
