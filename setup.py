"""Builds embodied-mem with pip, and as an ament_python package with colcon.

Ranges are here; the set that is tested is pinned in constraints.txt. What has a ROS
key is in package.xml too.
"""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
NAME = "embodied_mem"

CORE = [  # memory, replay and query
    "lz4>=4.3",
    "matplotlib>=3.8",
    "mcap>=1.2",
    "numba>=0.61",
    "numpy>=1.26",
    "opencv-python>=4.9",
    "packaging>=23.0",
    "PyYAML>=6.0",
    "rich>=13.7",
    "rosbags>=0.10.6",
    "scipy>=1.11",
    "tyro>=0.9.17",
    "zstandard>=0.22",
]
DDS = "cyclonedds>=11.0; platform_machine == 'x86_64'"
# cyclonedds: nodes as processes; model2vec: words by their meaning; pyoctomap: what the tests compare with;
# tensorboard: where training may log
TEST = [
    DDS,
    "hypothesis>=6.100",
    "model2vec>=0.4",
    "pyoctomap>=1.2",
    "pytest>=8.2",
    "setuptools>=64",
    "tensorboard>=2.15",
]
EXTRAS = {
    "sim": ["gymnasium>=1.0", "minigrid>=3.0", "open3d>=0.19"],
    "rl": [
        "gymnasium>=1.0",
        "safetensors>=0.4.3",
        "sb3-contrib>=2.6",
        "stable-baselines3>=2.6",
        "torch>=2.5",
        "tqdm>=4.66",  # progress_bar=True
    ],
    "ros": [DDS],  # a ROS 2 graph without ROS
    "graph": ["networkx>=3.2", "spark-dsg>=1.1"],  # the scene graph for others
    "viz": ["rerun-sdk>=0.26"],  # live view
    "mcp": ["mcp>=2.0", "uvicorn>=0.30"],  # planners that are language models
    "text": ["model2vec>=0.4"],  # sentence embeddings: words found by their meaning
    "data": ["gymnasium>=1.0", "minari>=0.5.2", "pyarrow>=17"],  # datasets for offline learning
    "test": TEST,  # the name that `colcon test` looks for
    # lancedb: what `bench memory` compares recall with
    "dev": [*TEST, "lancedb>=0.30", "mypy>=1.11", "pyarrow>=17", "ruff>=0.8", "types-PyYAML"],
}

ROS_OPTIONS = {
    # What other ament_python packages keep in setup.cfg: `ros2 run` looks in lib/<package>, and takes
    # the python3 of the environment that it is called from.
    "develop": {"script_dir": f"$base/lib/{NAME}"},
    "install": {"install_scripts": f"$base/lib/{NAME}"},
    "build_scripts": {"executable": "/usr/bin/env python3"},
}
# ROS's tools run `python setup.py ...`. pip never does (it goes by `python -c` or by a script of its own),
# and has to put the command, and nothing else, into bin.
RUN_BY_ROS = any(Path(word).name == "setup.py" for word in sys.orig_argv)
NODES = ("robot", "perception", "memory", "policy", "recorder", "player", "sim")


def version() -> str:
    """Returns the version that the package itself states."""
    text = (HERE / NAME / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def shared_files() -> list[tuple[str, list[str]]]:
    """Returns what goes to share/: the ament marker, package.xml, and the folders beside the package."""
    files = [
        ("share/ament_index/resource_index/packages", [f"{NAME}/resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ]
    for top in ("launch", "sim_configs", "models"):
        for folder in [HERE / top, *sorted(p for p in (HERE / top).rglob("*") if p.is_dir())]:
            names = sorted(p for p in folder.glob("[!._]*") if p.is_file())
            if names:
                place = folder.relative_to(HERE).as_posix()
                files.append((f"share/{NAME}/{place}", [p.relative_to(HERE).as_posix() for p in names]))
    return files


setup(
    name="embodied-mem",
    version=version(),
    description="The memory stack for robots that learn: octree, scene graph, episodes, and policies on them",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The embodied-mem authors",
    maintainer="embodied-mem maintainers",
    maintainer_email="maintainers@embodied-mem.example",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        "robotics",
        "embodied AI",
        "memory",
        "octree",
        "scene graph",
        "reinforcement learning",
        "ROS 2",
    ],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "guides/*.md", f"resource/{NAME}"]},
    data_files=shared_files(),
    python_requires=">=3.10",
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "embodied-mem = embodied_mem.cli:main",
            # ros2 run embodied_mem robot
            *(f"{node} = embodied_mem.cli:node" for node in NODES if RUN_BY_ROS),
        ],
        # gymnasium.make("EmbodiedMem/...") works without importing embodied_mem.sim first
        "gymnasium.envs": ["__root__ = embodied_mem.sim.registration:register"],
    },
    zip_safe=False,
    options=ROS_OPTIONS if RUN_BY_ROS else {},
)
