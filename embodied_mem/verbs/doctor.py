"""Say what is installed, what each missing part would add, and the line that mends it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json as json_format
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

PACKAGE = "embodied-mem"
ADDS = {
    "": "memory, replay, queries, maps",
    "sim": "MiniGrid, the memory tasks and the House",
    "rl": "training and running policies",
    "ros": "joining a ROS 2 graph without ROS",
    "viz": "the live view",
    "mcp": "a server for planners that are language models",
    "data": "datasets for offline learning",
    "graph": "the scene graph in networkx and spark_dsg",
    "text": "words found by their meaning",
}
"""What each extra is for; "" is what every installation has. Test and developer extras are left out."""

OLDEST, NEWEST = (3, 10), (3, 12)
LIBRARY_FIXES = {
    "libusb": "apt-get install libusb-1.0-0",
    "libGL": "apt-get install libgl1",
    "libgomp": "apt-get install libgomp1",
    "libX11": "apt-get install libx11-6",
    "libEGL": "apt-get install libegl1",
}
"""System libraries that wheels expect, by how the loader's message begins."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: the extra or area it belongs to.
        name: what it is.
        verdict: "ok"; "missing" (optional, adds something); "broken" (there, or needed, and unusable).
        says: version, place, or what is wrong.
        mend: the line that mends it; "" where nothing is to mend.
    """

    part: str
    name: str
    verdict: Literal["ok", "missing", "broken"]
    says: str
    mend: str = ""


def doctor(json: bool = False) -> int:
    """Say what is installed, what each missing extra would add, and the line that mends it.

    Exits with 1 where something that every use needs is broken.

    Examples:
        embodied-mem doctor
        embodied-mem doctor --json

    Args:
        json: print JSON.
    """
    findings = examine()
    if json:
        print(json_format.dumps({"findings": [asdict(f) for f in findings]}, indent=2))
    else:
        print(in_words(findings))
    return int(any(f.verdict == "broken" for f in findings))


def examine() -> list[Finding]:
    """Looks at the interpreter, every package by extra, the kernel cache, GPU, ROS and Habitat."""
    return [
        _python(),
        *packages(),
        kernel_cache(),
        _gpu(),
        _ros(),
        _habitat(),
    ]


def in_words(findings: list[Finding]) -> str:
    """Returns the findings as lines, by part, each with the line that mends it below it."""
    signs = {"ok": "ok     ", "missing": "missing", "broken": "BROKEN "}
    width = max(len(f.name) for f in findings)
    lines: list[str] = []
    part = None
    for finding in findings:
        if finding.part != part:
            part = finding.part
            lines.append(f"{part}:")
        lines.append(f"  {signs[finding.verdict]}  {finding.name:<{width}}  {finding.says}")
        if finding.mend:
            lines.append(f"           {'':<{width}}  -> {finding.mend}")
    return "\n".join(lines)


def _python() -> Finding:
    says = f"{platform.python_version()} at {sys.executable}, {os.cpu_count()} cores, {platform.platform()}"
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return Finding("interpreter", "Python", "ok", says)
    return Finding(
        "interpreter", "Python", "broken", says, "make setup PYTHON=/path/to/python3.12 (or 3.10, 3.11)"
    )


def packages() -> Iterator[Finding]:
    """Yields a finding for each package that the installed distribution asks for, by extra."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            ADDS[""], PACKAGE, "broken", "runs from a folder that is not installed", "pip install -e ."
        )
        return
    wanted = [Requirement(line) for line in lines]
    for extra, adds in ADDS.items():
        part = f"extra {extra} ({adds})" if extra else adds
        for requirement in wanted:
            marker = requirement.marker
            always = marker is None or marker.evaluate({"extra": ""})
            if (
                always
                if not extra
                else (not always and marker is not None and marker.evaluate({"extra": extra}))
            ):
                yield _package(part, extra, requirement.name, str(requirement.specifier))


def _package(part: str, extra: str, name: str, versions: str) -> Finding:
    """Looks at one package: is it there, is its version in the range, can it be imported."""
    from packaging.specifiers import SpecifierSet

    install = f"pip install '{PACKAGE}[{extra}]'" if extra else f"pip install {PACKAGE}"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if importlib.util.find_spec(_module_of(name)):  # such as the cv2 of a ROS installation
            return Finding(part, name, "ok", "from the system")
        return Finding(part, name, "missing" if extra else "broken", f"needs {versions}", install)
    if not SpecifierSet(versions).contains(version, prereleases=True):
        return Finding(
            part, name, "broken", f"{version}, but needs {versions}", f"pip install '{name}{versions}'"
        )
    complaint = import_complaint(_module_of(name))
    if complaint:
        mend = next((fix for start, fix in LIBRARY_FIXES.items() if complaint.startswith(start)), "")
        mend = mend or f"pip install --force-reinstall {name}"
        return Finding(part, name, "broken", f"{version}, but cannot be imported: {complaint}", mend)
    return Finding(part, name, "ok", version)


def _module_of(distribution: str) -> str:
    """Returns the name under which a distribution is imported."""
    known = {"opencv-python": "cv2", "PyYAML": "yaml", "rerun-sdk": "rerun"}
    return known.get(distribution, distribution.replace("-", "_"))


def import_complaint(module: str) -> str:
    """Returns why a module cannot be imported, in one line; "" where it can.

    Only small or library-dependent packages are really imported; for the others being there is enough.
    """
    if module not in ("cv2", "open3d", "numba", "cyclonedds"):
        return "" if importlib.util.find_spec(module) else "no such module"
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever goes wrong there is what is to be said
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return ""


def kernel_cache() -> Finding:
    """Looks where Numba keeps compiled kernels, and whether it can write and has something there."""
    part, name = "kernels", "Numba cache"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    package = Path(__file__).resolve().parents[1]
    folder = Path(chosen) if chosen else package
    says = str(folder) if chosen else f"beside the modules in {folder}"
    kept = sum(1 for _ in folder.rglob("*.nbi")) if folder.is_dir() else 0
    if not kept and not _writable(folder):
        mend = "export NUMBA_CACHE_DIR=~/.cache/embodied-mem (and then: embodied-mem bench warmup)"
        return Finding(
            part, name, "broken", f"{says}: cannot be written, so every process compiles anew", mend
        )
    if not kept:
        return Finding(
            part, name, "missing", f"{says}: empty, the first call takes long", "embodied-mem bench warmup"
        )
    return Finding(part, name, "ok", f"{says}: {kept} kernels")


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _gpu() -> Finding:
    part, name = "machine", "GPU"
    mend = "not needed: everything runs without one; training with large networks is faster with CUDA"
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding(part, name, "missing", "no NVIDIA driver", mend)
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Finding(part, name, "missing", "a driver that does not answer", mend)
    return Finding(part, name, "ok", "; ".join(told.strip().splitlines()) or "a driver without a device")


def _ros() -> Finding:
    part, name = "robot", "ROS 2"
    distro = os.environ.get("ROS_DISTRO")
    if importlib.util.find_spec("rclpy") is not None:
        return Finding(part, name, "ok", f"rclpy of {distro or 'an unnamed distribution'}")
    if distro:
        mend = f"source /opt/ros/{distro}/setup.bash; a virtual environment needs --system-site-packages"
        return Finding(part, name, "broken", f"ROS_DISTRO is {distro}, but rclpy cannot be imported", mend)
    mend = "source /opt/ros/jazzy/setup.bash (or humble); logs of robots replay without it"
    return Finding(part, name, "missing", "no rclpy: needed for nodes on a robot", mend)


def _habitat() -> Finding:
    part, name = "simulators", "habitat-sim"
    if importlib.util.find_spec("habitat_sim") is not None:
        return Finding(part, name, "ok", "habitat_sim can be imported")
    mend = "conda install habitat-sim headless -c conda-forge -c aihabitat"
    return Finding(part, name, "missing", "needed for HM3D, HSSD, MP3D and Replica scenes", mend)
