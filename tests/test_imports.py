"""Who may import whom (DESIGN: rooms of the house), read from the source of every module."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "embodied_mem"

BASE = {"types", "labels", "geometry", "errors", "configs"}
BELOW = {"base", "perception", "memory", "policy", "loop"}
EVERYTHING = BELOW | {"sim", "log", "ros", "viz", "exports", "mcp_server", "top"}
ALLOWED = {
    "base": set(),
    "perception": {"base"},
    "memory": {"base"},
    "policy": {"base"},
    "loop": {"base", "memory", "policy"},
    "sim": BELOW,
    "viz": BELOW,
    "exports": BELOW | {"viz", "sim"},  # a dataset has the observation keys of MemoryWrapper
    "mcp_server": BELOW | {"viz"},
    "log": BELOW | {"viz"},  # replay draws the map it rebuilt
    "ros": BELOW | {"log", "viz"},
    "top": EVERYTHING,
}
"""Which rooms each room may import from, besides itself."""

HOMES = {
    "torch": {"policy", "top"},
    "safetensors": {"policy", "top"},
    "stable_baselines3": {"policy", "top"},
    "sb3_contrib": {"policy", "top"},
    "gymnasium": {"policy", "sim", "exports", "top"},
    "minigrid": {"sim", "top"},
    "open3d": {"perception", "sim", "viz"},
    "habitat_sim": {"sim"},
    "magnum": {"sim"},
    "rosbags": {"log", "ros"},
    "mcap": {"log"},
    "numba": {"perception", "memory", "sim"},
    "matplotlib": {"viz"},
    "tyro": {"top"},
    "rerun": {"viz"},
    "cyclonedds": {"ros"},
    "rclpy": {"ros"},
    "minari": {"exports"},
    "mcp": {"mcp_server"},
    "uvicorn": {"mcp_server"},
}
"""The only rooms that may import a package that not every user has or that is slow to load."""

EXTRA_PACKAGES = (
    *("torch", "stable_baselines3", "sb3_contrib", "safetensors", "gymnasium", "minigrid", "pygame"),
    *("open3d", "rerun", "cyclonedds", "minari", "mcp", "rclpy", "pyoctomap", "pytest", "hypothesis"),
    *("habitat_sim", "magnum"),
)


def room(module: str) -> str:
    """Returns the room of a dotted module name, for example "memory" of "embodied_mem.memory.octree"."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "__init__"
    if name in BASE or name == "__init__":
        return "base"
    return name if name in ALLOWED else "top"


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(module: str, path: Path) -> Iterator[tuple[str, int]]:
    """Yields every module that a file imports, at its top or inside a function, and the line."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            stem = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                stem = ".".join([*parent, *([node.module] if node.module else [])])
            if stem == "embodied_mem":  # `from embodied_mem import x`: x may be a room
                for alias in node.names:
                    yield f"{stem}.{alias.name}", node.lineno
            else:
                yield stem, node.lineno


def is_defined_in_root(name: str) -> bool:
    """True where `embodied_mem.NAME` is no module but a name that `embodied_mem/__init__.py` offers."""
    top = name.split(".")[1]
    return not (PACKAGE / f"{top}.py").exists() and not (PACKAGE / top).is_dir()


def wrong_directions(module: str, path: Path) -> list[str]:
    here = room(module)
    found = []
    for name, line in imports(module, path):
        if name.split(".")[0] != "embodied_mem":
            continue
        there = "base" if name == "embodied_mem" or is_defined_in_root(name) else room(name)
        if there != here and there not in ALLOWED[here]:
            found.append(f"{module}:{line} ({here}) imports {name} ({there})")
    return found


def test_dependencies_point_one_way():
    # The package itself names what others may import from it; it loads none of that by itself.
    inner = [(module, path) for module, path in modules() if module != PACKAGE.name]
    found = [wrong for module, path in inner for wrong in wrong_directions(module, path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("embodied_mem.memory.octree", "from embodied_mem.perception import camera"),
        ("embodied_mem.policy.core", "import embodied_mem.memory.octree"),
        ("embodied_mem.perception.depth", "from embodied_mem import memory"),
        ("embodied_mem.log.replay", "def f():\n    from embodied_mem.cli import main"),
        ("embodied_mem.memory.octree", "from ..policy import core"),
        ("embodied_mem.types", "from embodied_mem.loop import Loop"),
    ],
)
def test_a_wrong_direction_would_be_seen(module: str, line: str, tmp_path: Path):
    path = tmp_path / "module.py"
    path.write_text(line + "\n")
    assert len(wrong_directions(module, path)) == 1


def test_slow_and_optional_packages_stay_in_their_own_rooms():
    found = [
        f"{module}:{line} ({room(module)}) imports {name}"
        for module, path in modules()
        for name, line in imports(module, path)
        if room(module) not in HOMES.get(name.split(".")[0], {room(module)})
    ]
    assert not found, "\n".join(found)


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_loads_numpy_and_the_standard_library_alone():
    loaded = json.loads(
        run_python(
            "import json, sys\n"
            "import numpy\n"
            "before = {name.split('.')[0] for name in sys.modules}\n"
            "import embodied_mem\n"
            "after = {name.split('.')[0] for name in sys.modules}\n"
            "print(json.dumps(sorted(after - before - sys.stdlib_module_names)))"
        )
    )
    assert loaded == ["embodied_mem"]


def test_memory_replay_and_query_work_without_any_extra():
    run_python(
        "import sys\n"
        f"for name in {EXTRA_PACKAGES!r}:\n"
        "    sys.modules[name] = None  # importing it now raises ImportError\n"
        "import embodied_mem.cli, embodied_mem.loop, embodied_mem.memory\n"
        "import embodied_mem.perception, embodied_mem.log.replay\n"
        "import embodied_mem.verbs.replay, embodied_mem.verbs.query, embodied_mem.verbs.info\n"
    )
