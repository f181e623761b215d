from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from embodied_mem.cli import main
from embodied_mem.log.replay import replay
from embodied_mem.loop import Moment
from embodied_mem.memory import Memory
from embodied_mem.memory.config import MemoryConfig, OctreeConfig
from embodied_mem.memory.octree import Octree
from embodied_mem.verbs.export import FORMATS
from embodied_mem.verbs.record import record_episode


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_episode(
        "EmbodiedMem/Playground-v0", tmp_path_factory.mktemp("run"), seed=7, steps=120
    ).memory


def export(memory: Path, to: str, out: Path) -> tuple[int, Path]:
    with pytest.raises(SystemExit) as end:
        main(["export", str(memory), "--to", to, "--out", str(out)])
    return int(end.value.code or 0), out


def scattered(extent: int, resolution: float = 0.1) -> Octree:
    """A tree of solid and free boxes, so that whole branches prune, and scattered voxels."""
    rng = np.random.default_rng(3)
    tree = Octree(resolution=resolution)
    block = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    loose = rng.integers(-extent, extent, (400, 3))
    cells = np.concatenate([block, block - [48, 16, 0], loose])
    hit = np.concatenate([np.ones(len(block), bool), np.zeros(len(block), bool), rng.random(400) < 0.5])
    points = ((cells + 0.5) * resolution).astype(np.float32)
    tree.integrate_cells(points, hit)
    return tree


class Holding:
    """What the writer of a tree asks of a memory."""

    def __init__(self, tree: Octree) -> None:
        self.octree = tree


@pytest.mark.parametrize("extent", [40, 3000])
def test_octomap_reads_its_format_and_would_write_the_same_bytes(tmp_path: Path, extent: int):
    pyoctomap = pytest.importorskip("pyoctomap", reason="pyoctomap is not installed (extra: dev)")
    from embodied_mem.exports.octomap_bt import write_octomap_bt

    tree = scattered(extent)
    write_octomap_bt(Holding(tree), tmp_path / "ours.bt")  # type: ignore[arg-type]
    theirs = pyoctomap.OcTree(0.1)
    assert theirs.readBinary(str(tmp_path / "ours.bt"))
    voxels = tree.voxels(occupied=True, free=True)
    for center, log_odds in zip(voxels.centers.astype(float), voxels.log_odds):
        node = theirs.search(center)
        assert node is not None and theirs.isNodeOccupied(node) == (log_odds >= 0)
    theirs.writeBinary(str(tmp_path / "theirs.bt"))
    ours = (tmp_path / "ours.bt").read_bytes()
    assert ours.partition(b"data\n")[2] == (tmp_path / "theirs.bt").read_bytes().partition(b"data\n")[2]
    assert f"size {theirs.size()}\n".encode() in ours


def test_a_map_beyond_octomaps_keys_is_refused(tmp_path: Path):
    tree = Octree(resolution=0.05)
    tree.integrate_cells(np.array([[1800.0, 0, 0]], np.float32), np.array([True]))
    memory = Memory(MemoryConfig(octree=OctreeConfig(resolution=0.05)))
    memory.octree.integrate_cells(np.array([[1800.0, 0, 0]], np.float32), np.array([True]))
    memory.save(tmp_path / "far.emem")
    code, out = export(tmp_path / "far.emem", "octomap_bt", tmp_path / "far.bt")
    assert code == 2 and not out.exists()


def test_open3d_reads_the_points_with_their_colours(recorded: Path, tmp_path: Path):
    open3d = pytest.importorskip("open3d", reason="open3d is not installed (extra: sim)")
    code, out = export(recorded, "ply", tmp_path / "map.ply")
    cloud = open3d.io.read_point_cloud(str(out))
    with Memory.open(recorded, read_only=True) as memory:
        voxels = memory.octree.voxels()
        labels = memory.labels
    assert code == 0
    np.testing.assert_allclose(np.asarray(cloud.points), voxels.centers)
    colors = np.asarray(cloud.colors)
    red = np.array(["red" in labels.name(label) for label in voxels.labels])
    assert red.any() and (colors[red].argmax(axis=1) == 0).all()


def test_the_occupancy_grid_reads_back_as_map_server_reads_it(recorded: Path, tmp_path: Path):
    cv2 = pytest.importorskip("cv2")
    code, out = export(recorded, "occupancy_grid", tmp_path / "plan.yaml")
    facts = yaml.safe_load(out.read_text())
    picture = cv2.imread(str(out.parent / facts["image"]), cv2.IMREAD_UNCHANGED)
    occupancy = (255 - picture.astype(float)) / 255  # map_server's rule for `negate: 0`, mode trinary
    cells = np.where(
        occupancy > facts["occupied_thresh"], 100, np.where(occupancy < facts["free_thresh"], 0, -1)
    )
    with Memory.open(recorded, read_only=True) as memory:
        plan = memory.grid_map()
    assert code == 0
    np.testing.assert_array_equal(cells[::-1], plan.cells)
    assert {-1, 0, 100} == set(np.unique(cells))
    np.testing.assert_allclose(facts["origin"], [*plan.origin, 0.0])
    assert facts["resolution"] == plan.resolution


def test_json_names_every_room_and_object(recorded: Path, tmp_path: Path):
    code, out = export(recorded, "json", tmp_path / "scene.json")
    scene = json.loads(out.read_text())
    with Memory.open(recorded, read_only=True) as memory:
        ids = {thing.id for thing in memory.scene.objects()}
    listed = [thing["id"] for room in scene["rooms"] for thing in room["objects"]]
    listed += [thing["id"] for thing in scene["objects"]]
    assert code == 0 and ids and set(listed) == ids and len(listed) == len(ids)


def test_networkx_reads_rooms_places_and_objects_back(recorded: Path, tmp_path: Path):
    networkx = pytest.importorskip("networkx", reason="networkx is not installed (extra: graph)")
    code, out = export(recorded, "networkx", tmp_path / "graph.graphml")
    graph = networkx.read_graphml(out)
    with Memory.open(recorded, read_only=True) as memory:
        things = {f"object {t.id}": t for t in memory.scene.objects()}
        rooms = {f"room {r.id}": r.name for r in memory.scene.rooms()}
        length = {(a, b): d for a, b, d in memory.scene.edges()}
        digest = memory.digest()
    assert code == 0 and graph.is_directed() and graph.graph["digest"] == digest
    read = {n: d for n, d in graph.nodes(data=True) if d["kind"] == "object"}
    assert set(read) == set(things) and things
    for node, about in read.items():
        assert about["name"] == things[node].name
        np.testing.assert_allclose([about[axis] for axis in "xyz"], things[node].position)
    assert {n: d["name"] for n, d in graph.nodes(data=True) if d["kind"] == "room"} == rooms
    for (a, b), metres in length.items():
        assert graph.edges[f"place {a}", f"place {b}"]["length"] == pytest.approx(metres)


def test_spark_dsg_loads_the_graph_it_is_given(recorded: Path, tmp_path: Path):
    dsg = pytest.importorskip("spark_dsg", reason="spark-dsg is not installed (extra: graph)")
    code, out = export(recorded, "spark_dsg", tmp_path / "graph.json")
    graph = dsg.DynamicSceneGraph.load(str(out))
    with Memory.open(recorded, read_only=True) as memory:
        things = [t for t in memory.scene.objects() if t.existence >= 0.5]
        rooms, places = memory.scene.rooms(), memory.scene.places()
    assert code == 0 and graph.num_nodes() == len(things) + len(rooms) + len(places)
    for thing in things:
        node = graph.get_node(dsg.NodeSymbol("O", thing.id)).attributes
        assert node.name == thing.name
        np.testing.assert_allclose(node.position, thing.position)


def test_minari_reads_the_run_back_step_by_step(recorded: Path, tmp_path: Path):
    minari = pytest.importorskip("minari", reason="minari is not installed (extra: data)")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra: data)")
    log = recorded.with_name("episode.mcap")
    code, out = export(log, "minari", tmp_path / "dataset")
    dataset = minari.MinariDataset(out)
    moments: list[Moment] = []
    replay(log, watch=lambda memory: moments.append)
    episode = dataset[0]
    assert code == 0 and dataset.total_episodes == 1 and dataset.total_steps == len(moments) - 1
    np.testing.assert_array_equal(episode.actions, [m.obs.action for m in moments[1:]])
    np.testing.assert_array_equal(episode.rewards, [m.obs.reward for m in moments[1:]])
    np.testing.assert_array_equal(episode.observations["mem_position"], [m.tokens.position for m in moments])
    np.testing.assert_array_equal(episode.observations["grid"], [m.obs.grid.cells for m in moments])
    assert episode.truncations[-1] and not episode.terminations.any() and not episode.truncations[:-1].any()
    first = {key: values[0] for key, values in episode.observations.items()}
    assert dataset.observation_space.contains(first)
    assert all(dataset.action_space.contains(action) for action in episode.actions)
    assert export(log, "minari", tmp_path / "dataset")[0] == 0  # again, over the former one
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    assert export(log, "minari", tmp_path / "mine")[0] == 2 and (tmp_path / "mine" / "thesis.tex").exists()


def test_rerun_verifies_the_recording_of_a_log(recorded: Path, tmp_path: Path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra: viz)")
    code, out = export(recorded.with_name("episode.mcap"), "rerun", tmp_path / "run.rrd")
    command = [sys.executable, "-m", "rerun", "rrd", "verify", str(out)]
    assert code == 0 and subprocess.run(command, capture_output=True).returncode == 0


def test_a_log_is_no_memory_and_a_memory_no_log(recorded: Path, tmp_path: Path, capsys):
    assert export(recorded.with_name("episode.mcap"), "ply", tmp_path / "x.ply")[0] == 2
    assert "embodied-mem replay" in capsys.readouterr().err
    assert export(recorded, "minari", tmp_path / "x")[0] == 2
    assert "a log" in capsys.readouterr().err


@pytest.mark.parametrize("to", FORMATS)
def test_an_empty_memory_exports_or_says_why_not(tmp_path: Path, to: str, capsys):
    Memory().save(tmp_path / "empty.emem")
    code, out = export(tmp_path / "empty.emem", to, tmp_path / f"empty{FORMATS[to][1]}")
    err = capsys.readouterr().err
    assert out.exists() if code == 0 else (code == 2 and err.count("\n") == 1)


def test_what_cannot_be_written_is_said_in_one_line(recorded: Path, tmp_path: Path, capsys):
    for out in (tmp_path / "no" / "such" / "folder.ply", tmp_path):
        assert export(recorded, "ply", out)[0] == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.glob(".export-*"))
    assert export(tmp_path / "absent.emem", "ply", tmp_path / "x.ply")[0] == 2
