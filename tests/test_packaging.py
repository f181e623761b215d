"""What the files that describe the package say about it, and about each other."""

from __future__ import annotations

import ast
import runpy
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import setuptools
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import embodied_mem

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12")
TOP_LEVEL = {
    *(
        "package.xml",
        "setup.py",
        "embodied_mem",
        "launch",
        "sim_configs",
        "models",
        "tests",
        "README.md",
        "LICENSE",
    ),
    *("Makefile", "constraints.txt", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff"),
}
EXTRAS = {"sim", "rl", "ros", "graph", "viz", "mcp", "text", "data", "test", "dev"}
IMPORT_NAMES = {
    "opencv-python": "cv2",
    "pyyaml": "yaml",
    "rerun-sdk": "rerun",
    "sb3-contrib": "sb3_contrib",
    "spark-dsg": "spark_dsg",
    "stable-baselines3": "stable_baselines3",
}
"""What a package is imported as, where that is not its own name."""

FROM_ROS = {"rclpy", "launch", "launch_ros", "rcl_interfaces", "std_srvs"}
FROM_CONDA = {"habitat_sim", "magnum"}
ROS_KEYS = {
    "matplotlib": "python3-matplotlib",
    "numpy": "python3-numpy",
    "opencv-python": "python3-opencv",
    "pyyaml": "python3-yaml",
    "scipy": "python3-scipy",
    "hypothesis": "python3-hypothesis",
    "pytest": "python3-pytest",
}
"""rosdep's keys for the packages that ROS knows from its distributions."""


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that setup.py hands to setuptools."""
    caught: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", caught.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return caught


@pytest.fixture(scope="module")
def manifest() -> ET.Element:
    """The root element of package.xml."""
    return ET.parse(ROOT / "package.xml").getroot()


def direct_requirements(metadata: dict[str, Any]) -> list[Requirement]:
    lines = [
        *metadata["install_requires"],
        *(r for extra in metadata["extras_require"].values() for r in extra),
    ]
    return [Requirement(line) for line in lines]


def pins(python: str) -> dict[str, str]:
    """Returns the version that constraints.txt pins for each package on a Python version."""
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        environment = {"python_version": python, "python_full_version": f"{python}.0"}
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in found, f"constraints.txt pins {name} twice for Python {python}"
            (specifier,) = pin.specifier
            assert specifier.operator == "==", f"constraints.txt does not pin {name}"
            found[name] = specifier.version
    return found


def test_every_file_states_the_same_version(metadata: dict[str, Any], manifest: ET.Element):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = embodied_mem.__version__
    assert metadata["version"] == version
    assert manifest.findtext("version") == version
    assert str(citation["version"]) == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_file_states_the_same_licence(metadata: dict[str, Any], manifest: ET.Element):
    assert metadata["license"] == manifest.findtext("license") == "Apache-2.0"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0" in text and "END OF TERMS AND CONDITIONS" in text


def test_setup_and_package_xml_name_the_same_maintainer(metadata: dict[str, Any], manifest: ET.Element):
    maintainer = manifest.find("maintainer")
    assert maintainer is not None
    assert (maintainer.text, maintainer.get("email")) == (
        metadata["maintainer"],
        metadata["maintainer_email"],
    )
    assert manifest.findtext("author") == metadata["author"]


def test_package_xml_names_every_dependency_that_has_a_ros_key(
    metadata: dict[str, Any], manifest: ET.Element
):
    keys = {element.text for element in manifest if element.tag in ("depend", "exec_depend", "test_depend")}
    for line in metadata["install_requires"] + metadata["extras_require"]["test"]:
        name = canonicalize_name(Requirement(line).name)
        if name in ROS_KEYS:
            assert ROS_KEYS[name] in keys, f"package.xml lacks {ROS_KEYS[name]}"
    assert not {key for key in keys if key is not None and key.endswith("-pip")}
    assert manifest.findtext("export/build_type") == "ament_python"


def test_the_extras_are_the_ones_that_are_documented(metadata: dict[str, Any]):
    assert set(metadata["extras_require"]) == EXTRAS
    assert set(metadata["extras_require"]["test"]) <= set(metadata["extras_require"]["dev"])


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_dependency_is_pinned_within_its_range(metadata: dict[str, Any], python: str):
    pinned = pins(python)
    for requirement in direct_requirements(metadata):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"constraints.txt has no pin of {name} for Python {python}"
        assert requirement.specifier.contains(pinned[name]), f"{name}=={pinned[name]} is not in {requirement}"


def test_the_workflow_runs_on_every_python_that_setup_names(metadata: dict[str, Any]):
    assert set(PYTHONS) == {
        line.rsplit(" ", 1)[1]
        for line in metadata["classifiers"]
        if line.startswith("Programming Language :: Python :: 3.")
    }
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert tuple(workflow["jobs"]["test"]["strategy"]["matrix"]["python"]) == PYTHONS


def test_whatever_is_imported_is_declared(metadata: dict[str, Any]):
    declared = {canonicalize_name(r.name) for r in direct_requirements(metadata)}
    known = {IMPORT_NAMES.get(name, name) for name in declared} | FROM_ROS | FROM_CONDA | {"embodied_mem"}
    undeclared = set()
    for path in [*(ROOT / "embodied_mem").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            tops = {name.split(".")[0] for name in names} - sys.stdlib_module_names - known
            undeclared |= {f"{path.relative_to(ROOT)} imports {top}" for top in tops}
    assert not undeclared, "\n".join(sorted(undeclared))


def test_the_top_level_holds_only_what_belongs_there():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is in the folder is not what is in the repository")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    tops = {name.split("/")[0] for name in listed.stdout.split("\0") if name}
    assert {top for top in tops if not top.startswith(".")} <= TOP_LEVEL


def test_everything_that_ros_and_users_need_is_installed_to_share(metadata: dict[str, Any]):
    installed = {name: folder for folder, names in metadata["data_files"] for name in names}
    assert installed["embodied_mem/resource/embodied_mem"] == "share/ament_index/resource_index/packages"
    assert installed["package.xml"] == "share/embodied_mem"
    wanted = [*(ROOT / "launch").glob("*_launch.py"), *(ROOT / "sim_configs").rglob("*.yaml")]
    assert wanted
    for path in wanted:
        relative = path.relative_to(ROOT)
        assert installed[relative.as_posix()] == f"share/embodied_mem/{relative.parent.as_posix()}"
    assert all((ROOT / name).is_file() for name in installed)


def test_ros_gets_an_executable_for_every_node_and_pip_none(monkeypatch: pytest.MonkeyPatch):
    from embodied_mem.verbs.ros import NODES

    for line, names in ((["python3", "setup.py", "install"], set(NODES)), (["python3", "-c", "..."], set())):
        caught: dict[str, Any] = {}
        monkeypatch.setattr(setuptools, "setup", caught.update)
        monkeypatch.setattr(sys, "orig_argv", line)
        monkeypatch.chdir(ROOT)
        runpy.run_path(str(ROOT / "setup.py"))
        scripts = dict(entry.split(" = ") for entry in caught["entry_points"]["console_scripts"])
        assert scripts.pop("embodied-mem") == "embodied_mem.cli:main"
        assert set(scripts) == names and set(scripts.values()) <= {"embodied_mem.cli:node"}
        assert bool(caught["options"]) == bool(names)


def test_rviz_shows_what_a_memory_publishes_as_it_is_published():
    from embodied_mem.ros.maps import MAPS

    view = yaml.safe_load((ROOT / "launch" / "memory.rviz").read_text())["Visualization Manager"]
    shown = {d["Topic"]["Value"]: d["Topic"] for d in view["Displays"] if "Topic" in d}
    published = {f"/{endpoint.topic}" for endpoint, _ in MAPS}
    assert {"/memory/voxels", "/memory/rooms", "/memory/object_markers", "/memory/grid"} == set(shown)
    assert set(shown) <= published
    for topic in shown.values():
        assert (topic["Durability Policy"], topic["Reliability Policy"]) == ("Transient Local", "Reliable")
    assert view["Global Options"]["Fixed Frame"] == "map"


def test_every_folder_of_code_is_a_package(metadata: dict[str, Any]):
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "embodied_mem").rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} == set(metadata["packages"])
    assert set(metadata["package_data"]["embodied_mem"]) >= {"py.typed", "resource/embodied_mem"}


def test_the_environments_of_conda_ask_for_extras_that_there_are(metadata: dict[str, Any]):
    files = sorted((ROOT / "sim_configs" / "conda").glob("*.yaml"))
    assert [path.stem for path in files] == ["habitat", "ros"]
    for path in files:
        facts = yaml.safe_load(path.read_text())
        (line,) = next(part["pip"] for part in facts["dependencies"] if isinstance(part, dict))
        wanted = Requirement(line)
        assert wanted.name == metadata["name"] and wanted.extras <= set(metadata["extras_require"])
        python = Requirement(next(d for d in facts["dependencies"] if str(d).startswith("python ")))
        assert any(python.specifier.contains(f"{version}.5") for version in PYTHONS)
        assert not python.specifier.contains("3.13.0") and not python.specifier.contains("3.9.0")


@pytest.mark.slow
def test_the_sdist_builds_a_wheel_that_runs_without_the_checkout(tmp_path: Path):
    def run(*command: object, cwd: Path = tmp_path) -> str:
        done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "build", "*.egg-info")
    )
    run(sys.executable, "setup.py", "-q", "sdist", "-d", tmp_path / "sdist", cwd=source)
    (archive,) = (tmp_path / "sdist").iterdir()
    options = ["--no-deps", "--no-build-isolation", "-q"]
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", tmp_path / "wheel", archive)
    (wheel,) = (tmp_path / "wheel").iterdir()
    run(sys.executable, "-m", "pip", "install", *options, "--target", tmp_path / "site", wheel)
    start = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); "]
    code = "import embodied_mem; print(embodied_mem.__file__); from embodied_mem.cli import main; main({})"
    for arguments, promised in (
        (["--version"], embodied_mem.__version__),
        (["guide", "ask"], "# Ask a memory"),
        (["record", "--env", "EmbodiedMem/Playground-v0", "--steps", "5"], "digest"),
    ):
        said = run(*start[:2], start[2] + code.format(arguments))
        assert str(tmp_path / "site") in said and promised in said
    shipped = tmp_path / "site" / "share" / "embodied_mem" / "sim_configs" / "proof_of_memory.yaml"
    assert shipped.exists() and (tmp_path / "site" / "embodied_mem" / "py.typed").exists()


def test_every_launch_argument_is_described():
    for path in sorted((ROOT / "launch").glob("*_launch.py")):
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeclareLaunchArgument"
        ]
        assert calls, f"{path.name} declares no argument"
        for call in calls:
            described = {keyword.arg: keyword.value for keyword in call.keywords}.get("description")
            assert isinstance(described, ast.Constant) and described.value, f"{path.name}:{call.lineno}"


def test_python_m_runs_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "embodied_mem", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stdout.strip()) == (0, embodied_mem.__version__)
