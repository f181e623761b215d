"""Houses as scene datasets: what is in the files, checked by readers that are not ours."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import open3d
import pytest

from embodied_mem.cli import main
from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.sim.gltf import linear_from_srgb
from embodied_mem.sim.habitat.frames import HABITAT_T_MAP, from_habitat, habitat_camera, to_habitat
from embodied_mem.sim.house.catalog import HOUSE_LABELS
from embodied_mem.sim.house.export import DATASET, export_house, instance_color
from embodied_mem.sim.house.house import House, make_house
from embodied_mem.sim.house.mesh import build_mesh
from embodied_mem.sim.house.robot import camera_mount

SEED = 7


@pytest.fixture(scope="module")
def house() -> House:
    return make_house(SEED)


@pytest.fixture(scope="module")
def folder(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("houses")
    export_house(house, out)
    return out


def descriptor(folder: Path) -> dict[int, tuple[str, str, int]]:
    """Returns (colour, category, room) by id, as the text file tells them."""
    lines = (folder / "semantics" / f"house_{SEED}.semantic.txt").read_text().splitlines()
    assert lines[0] == "HM3D Semantic Annotations"
    rows = [line.split(",") for line in lines[1:]]
    return {int(id): (color, name.strip('"'), int(room)) for id, color, name, room in rows}


def to_srgb(linear: np.ndarray) -> np.ndarray:
    c = np.asarray(linear, float)
    return np.round(255 * np.where(c <= 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)).astype(int)


def test_axes_turn_without_rounding_and_back():
    points = np.random.default_rng(0).normal(size=(50, 3))
    assert np.array_equal(from_habitat(to_habitat(points)), points)
    assert to_habitat(np.array([1.0, 2.0, 3.0])).tolist() == [1.0, 3.0, -2.0]
    assert np.allclose(HABITAT_T_MAP.transform(points), to_habitat(points))
    assert np.linalg.det(to_habitat(np.eye(3)).T) == pytest.approx(1.0)  # no mirror


def test_a_habitat_camera_looks_along_minus_z_with_y_up():
    for yaw, tilt in ((0.0, 0.0), (2.0, 0.5), (-1.0, -1.0)):
        map_T_camera = Pose.from_xyz_yaw(3.0, -2.0, 0.5, yaw) @ camera_mount(0.9, tilt)
        ours = map_T_camera.rotate(np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]))
        camera = habitat_camera(map_T_camera)
        theirs = camera.rotate(np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
        assert np.allclose(theirs, to_habitat(ours))
        assert np.allclose(camera.position, [3.0, 1.4, 2.0])


def test_the_stage_has_the_triangles_and_colours_of_the_house(house: House, folder: Path):
    mesh = build_mesh(house)
    stage = open3d.io.read_triangle_model(str(folder / "stages" / f"house_{SEED}.glb"))
    assert len(stage.meshes) == 1
    read = stage.meshes[0].mesh
    vertices, triangles = np.asarray(read.vertices), np.asarray(read.triangles)
    corners = from_habitat(vertices[triangles])
    assert np.array_equal(corners.astype(np.float32), mesh.vertices[mesh.triangles])
    palette = np.asarray(stage.materials[stage.meshes[0].material_idx].albedo_img)[..., :3]
    u = np.asarray(read.triangle_uvs).reshape(-1, 3, 2)[:, :, 0]
    colors = palette[0, np.floor(u * palette.shape[1]).astype(int)]
    assert np.array_equal(colors, np.repeat(mesh.shaded[:, None], 3, axis=1))


def test_every_triangle_of_the_semantic_mesh_has_the_colour_of_its_thing(house: House, folder: Path):
    mesh = build_mesh(house)
    read = open3d.io.read_triangle_mesh(str(folder / "semantics" / f"house_{SEED}.semantic.glb"))
    colors, triangles = to_srgb(np.asarray(read.vertex_colors)), np.asarray(read.triangles)
    rows = descriptor(folder)
    id_of = {tuple(bytes.fromhex(color)): id for id, (color, _, _) in rows.items()}
    ids = np.array([id_of[tuple(color)] for color in colors.tolist()])[triangles]
    assert (ids == ids[:, :1]).all()
    own = ids[: len(mesh.triangles), 0]
    things = mesh.instance < 1_000_000
    assert np.array_equal(own[things], mesh.instance[things])
    names = np.array([HOUSE_LABELS.id(rows[id][1]) for id in own.tolist()])
    assert np.array_equal(names, mesh.label)


def test_links_between_the_parts_of_a_thing_have_no_area_and_leave_one_part(house: House, folder: Path):
    count = len(build_mesh(house).triangles)
    read = open3d.io.read_triangle_mesh(str(folder / "semantics" / f"house_{SEED}.semantic.glb"))
    triangles = np.asarray(read.triangles)
    assert len(triangles) > count and (triangles[count:, 1] == triangles[count:, 2]).all()
    colors = {tuple(c) for c in np.asarray(read.vertex_colors).tolist()}
    assert _parts(len(read.vertices), triangles) == len(colors)


def _parts(count: int, triangles: np.ndarray) -> int:
    """Returns the number of connected parts, by joining sets."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b, c in triangles.tolist():
        parent[root(b)] = root(a)
        parent[root(c)] = root(a)
    return len({root(i) for i in range(count)})


def test_the_descriptor_names_every_thing_and_its_room(house: House, folder: Path):
    rows = descriptor(folder)
    for thing in house.things:
        assert rows[thing.id][1:] == (thing.label, thing.room)
    others = {row[1] for id, row in rows.items() if id > max(t.id for t in house.things)}
    assert others == {"floor", "wall", "ceiling"}
    assert len({row[0] for row in rows.values()}) == len(rows)


def test_rooms_are_annotated_between_their_walls(house: House, folder: Path):
    config = json.loads((folder / "semantics" / f"house_{SEED}.semantic_config.json").read_text())
    assert [region["label"] for region in config["region_annotations"]] == [r.type for r in house.rooms]
    for room, region in zip(house.rooms, config["region_annotations"]):
        loop = from_habitat(np.array(region["poly_loop"]))
        assert (*loop[:, :2].min(axis=0), *loop[:, :2].max(axis=0)) == pytest.approx(room.rect)
        lo, hi = np.array(region["min_bounds"]), np.array(region["max_bounds"])
        assert (lo < hi).all() and hi[1] - lo[1] == pytest.approx(house.config.height)


def test_obstacles_are_the_boxes_of_what_blocks_the_way(house: House, folder: Path):
    stem = f"house_{SEED}_obstacles"
    config = json.loads((folder / "objects" / f"{stem}.object_config.json").read_text())
    hull = open3d.io.read_triangle_mesh(str(folder / "objects" / config["collision_asset"]))
    corners = from_habitat(np.asarray(hull.vertices)).reshape(-1, 8, 3)
    lo, hi = corners.min(axis=1), corners.max(axis=1)
    assert len(corners) == len(house.obstacles) > 20
    for thing, low, high in zip(house.obstacles, lo, hi):
        assert (*low[:2], *high[:2]) == pytest.approx(thing.rect, abs=1e-5)
        assert (low[2], high[2]) == pytest.approx((thing.position[2], thing.top), abs=1e-5)
    hull.compute_triangle_normals()
    up = from_habitat(np.asarray(hull.triangle_normals))[:, 2].reshape(-1, 10)
    assert np.allclose(up[:, 8:], -1.0) and np.allclose(up[:, :8], 0.0)
    triangles = np.asarray(hull.triangles).reshape(-1, 10, 3)
    middle = corners.mean(axis=1)
    points = from_habitat(np.asarray(hull.vertices))[triangles[:, :8, 0]]
    outward = from_habitat(np.asarray(hull.triangle_normals)).reshape(-1, 10, 3)[:, :8]
    assert ((points - middle[:, None]) * outward).sum(axis=-1).min() > 0


def test_configs_lead_to_files_that_are_there(folder: Path):
    json.loads((folder / DATASET).read_text())
    stage = json.loads((folder / "stages" / f"house_{SEED}.stage_config.json").read_text())
    semantic = json.loads((folder / "semantics" / f"house_{SEED}.semantic_config.json").read_text())
    assert (folder / "stages" / stage["render_asset"]).is_file()
    for key in ("semantic_asset", "semantic_descriptor_filename"):
        assert (folder / "semantics" / semantic[key]).is_file()


def test_ids_and_dark_colours_survive_as_colours():
    ids = np.arange(1, 5000)
    colors = np.array([instance_color(int(id)) for id in ids], np.uint8)
    assert len({tuple(c) for c in colors.tolist()}) == len(ids)
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_srgb(linear_from_srgb(every)), every)


def test_export_is_the_same_each_time_and_houses_share_a_folder(house: House, folder: Path, tmp_path: Path):
    export_house(house, tmp_path)
    export_house(make_house(8), tmp_path)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DATASET)
    assert {file.suffix for file in files} >= {".glb", ".json", ".navmesh"}
    for file in files:
        assert (tmp_path / file.relative_to(folder)).read_bytes() == file.read_bytes()
    assert len(list((tmp_path / "scenes").iterdir())) == 2
    both = json.loads((tmp_path / DATASET).read_text())["navmesh_instances"]
    assert both == {name: f"navmeshes/{name}.navmesh" for name in (f"house_{SEED}", "house_8")}


def test_the_command_writes_a_dataset_and_complains_in_one_line(tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as done:
        main(["export-house", "--seed", "7", "--out", str(tmp_path / "out"), "--nights", "1"])
    assert done.value.code == 0 and "house_7" in capsys.readouterr().out
    (tmp_path / "file").write_text("")
    for arguments, word in (
        (["--seed", "-1"], "negative"),
        (["--nights", "-2"], "negative"),
        (["--out", str(tmp_path / "file")], "cannot write"),
    ):
        with pytest.raises(SystemExit) as failed:
            main(["export-house", "--out", str(tmp_path / "x"), *arguments])
        error = capsys.readouterr().err
        assert failed.value.code == 2 and error.count("\n") == 1 and word in error


def test_a_folder_that_cannot_be_written_is_a_config_error(house: House, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        export_house(house, tmp_path / "file")


def test_the_palette_is_a_png_of_the_colours_there_are(house: House, folder: Path):
    data = (folder / "stages" / f"house_{SEED}.glb").read_bytes()
    start = data.index(b"\x89PNG")
    palette = cv2.imdecode(np.frombuffer(data[start:], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(palette[0], np.unique(build_mesh(house).shaded, axis=0))
