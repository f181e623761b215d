"""What a user is told about scene datasets, with and without habitat-sim."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from embodied_mem.cli import main
from embodied_mem.configs import load_config
from embodied_mem.errors import ConfigError
from embodied_mem.sim import make
from embodied_mem.sim.habitat.config import HabitatConfig, habitat_config
from embodied_mem.sim.habitat.simulator import INSTALL, find_scene
from embodied_mem.sim.house.catalog import HOUSE_LABELS
from embodied_mem.sim.house.export import DATASET, export_house
from embodied_mem.sim.house.house import make_house
from embodied_mem.sim.registration import resolve

CONFIGS = sorted((Path(__file__).parents[1] / "sim_configs" / "habitat").glob("*.yaml"))
INSTALLED = importlib.util.find_spec("habitat_sim") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("houses")
    export_house(make_house(7), out)
    return out


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load_and_name_labels(path: Path):
    config = load_config(HabitatConfig, path)
    assert config.label_map.names[0] == "unknown" and len(config.label_map) > 5
    assert set(config.rename.values()) <= set(config.label_map.names)


def test_the_defaults_have_the_labels_and_the_robot_of_houses(folder: Path):
    config = habitat_config(folder)
    assert config.label_map is HOUSE_LABELS and config.dataset_file == folder / DATASET
    assert habitat_config(folder / DATASET).dataset_file == folder / DATASET
    assert habitat_config({"dataset": str(folder)}) == config and habitat_config(config) is config


def test_a_spec_with_a_path_is_multi_object_nav_there():
    assert resolve("habitat:/some/where") == (
        "EmbodiedMem/Habitat-MultiObjectNav-v0",
        {"habitat": "/some/where"},
    )
    assert resolve("EmbodiedMem/House-ObjectNav-v0") == ("EmbodiedMem/House-ObjectNav-v0", {})


def test_bad_configs_are_told_in_one_line(tmp_path: Path):
    for values, word in (
        ({"dataset": "x", "robot_radius": 0.0}, "positive"),
        ({"dataset": "x", "max_climb": -1.0}, "negative"),
        ({"dataset": "x", "rename": {"couch": "settee"}}, "settee"),
        ({"dataset": "x", "scene": "one"}, "scenes"),
    ):
        with pytest.raises(ConfigError, match=word):
            habitat_config(values)
    with pytest.raises(ConfigError, match=r"no scene dataset at .*export-house"):
        _ = habitat_config(tmp_path / "nowhere").dataset_file
    with pytest.raises(ConfigError, match=r"has no \.scene_dataset_config\.json"):
        _ = habitat_config(tmp_path).dataset_file
    for name in "ab":
        (tmp_path / f"{name}.scene_dataset_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="several"):
        _ = habitat_config(tmp_path).dataset_file


def test_an_unknown_scene_names_the_nearest():
    with pytest.raises(ConfigError, match='no scene "house_77"; did you mean "house_7"'):
        find_scene({"house_7": "a", "other": "b"}, "house_77", Path("d"))


def test_an_environment_without_its_dataset_says_what_is_missing():
    with pytest.raises(ConfigError, match="habitat=PATH"):
        make("EmbodiedMem/Habitat-ObjectNav-v0")


@pytest.mark.skipif(INSTALLED, reason="habitat-sim is installed")
def test_without_habitat_sim_the_error_says_how_to_install_it(folder: Path, tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as done:
        main(["record", "--env", f"habitat:{folder}", "--out", str(tmp_path)])
    error = capsys.readouterr().err
    assert done.value.code == 2 and error == f"embodied-mem: {INSTALL}\n"
    assert "conda install" in error and "3.10-3.12" in error


def test_a_missing_dataset_is_told_before_the_missing_simulator(tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as done:
        main(["record", "--env", f"habitat:{tmp_path}/gone", "--out", str(tmp_path)])
    error = capsys.readouterr().err
    assert done.value.code == 2 and error.count("\n") == 1 and "no scene dataset at" in error
