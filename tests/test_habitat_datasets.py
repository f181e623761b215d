"""Scene datasets in the formats of others: what habitat-sim makes of them, and what becomes of it here.

The datasets themselves are for those who have signed their terms; these are a house in their layouts.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from embodied_mem.configs import load_config
from embodied_mem.geometry import Pose
from embodied_mem.sim.gltf import linear_from_srgb, write_glb
from embodied_mem.sim.habitat.config import HabitatConfig
from embodied_mem.sim.habitat.simulator import INSTALL
from embodied_mem.sim.habitat.site import HabitatSite, shared_site
from embodied_mem.sim.house.catalog import HOUSE_LABELS
from embodied_mem.sim.house.export import instance_color, split_by_instance
from embodied_mem.sim.house.house import House, make_house
from embodied_mem.sim.house.mesh import build_mesh
from embodied_mem.sim.house.renderer import Camera, scene_of
from embodied_mem.sim.house.robot import camera_mount

pytestmark = pytest.mark.habitat
habitat_sim = pytest.importorskip("habitat_sim", reason=INSTALL)

CONFIGS = Path(__file__).parents[1] / "sim_configs" / "habitat"
CAMERA = Camera(128, 128, 79.0)
MAX_DEPTH = 10.0
HM3D_NAMES = {"sofa": "couch", "television": "tv", "chair": "office chair", "plant": "decorative plant"}
"""What HM3D's annotators write for some things of a house."""


def texture(colors: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Returns a PNG of all the colours that there are, and where in it each of (N, 3) colours is."""
    palette, which = np.unique(colors, axis=0, return_inverse=True)
    _, png = cv2.imencode(".png", np.ascontiguousarray(palette[None, :, ::-1]))
    u = (which.reshape(-1) + 0.5) / len(palette)
    return png.tobytes(), np.stack([u, np.full(len(u), 0.5)], axis=-1).astype(np.float32)


def write_hm3d(house: House, folder: Path) -> Path:
    """Writes a house as HM3D-Semantics v0.2 is laid out ("Loading semantics for HM3D" in DATASETS.md).

    Scans have z up; their semantic mesh has textures to draw, and vertex colours to find boxes by.
    """
    mesh = build_mesh(house)
    place = folder / "val" / "00800-TEEsavR23oF"
    place.mkdir(parents=True)
    corners = mesh.vertices[mesh.triangles].reshape(-1, 3)
    png, uv = texture(np.repeat(mesh.shaded, 3, axis=0))
    triangles = np.arange(len(corners), dtype=np.uint32).reshape(-1, 3)
    write_glb(place / "TEEsavR23oF.basis.glb", corners, triangles, uv=uv, palette=png)
    ids, which = np.unique(mesh.instance, return_inverse=True)
    colors = np.array([instance_color(row + 1) for row in range(len(ids))], np.uint8)
    vertices, triangles, row_of = split_by_instance(mesh, which.reshape(-1))
    png, uv = texture(colors[row_of])
    painted = {"colors": linear_from_srgb(colors)[row_of], "uv": uv, "palette": png}
    write_glb(place / "TEEsavR23oF.semantic.glb", vertices, triangles, **painted)
    label_of = dict(zip(mesh.instance.tolist(), mesh.label.tolist()))
    lines = ["HM3D Semantic Annotations"]
    for row, id in enumerate(ids.tolist()):
        name = HOUSE_LABELS.name(label_of[id])
        rgb = "".join(f"{channel:02X}" for channel in colors[row].tolist())
        lines.append(f'{row + 1},{rgb},"{HM3D_NAMES.get(name, name)}",0')
    (place / "TEEsavR23oF.semantic.txt").write_text("\n".join(lines) + "\n")
    asset = "%%CONFIG_NAME_AS_ASSET_FILENAME%%"
    defaults = {
        "shader_type": "flat",
        "up": [0, 0, 1],
        "front": [0, 1, 0],
        "origin": [0, 0, 0],
        "semantic_descriptor_filename": f"{asset}.semantic.txt",
        "semantic_asset": f"{asset}.semantic.glb",
        "has_semantic_textures": True,
    }
    dataset = {
        "stages": {"paths": {".glb": ["val/*/*.basis.glb"]}, "default_attributes": defaults},
        "scene_instances": {"default_attributes": {"default_lighting": "no_lights"}},
    }
    path = folder / "hm3d_annotated_basis.scene_dataset_config.json"
    path.write_text(json.dumps(dataset))
    return path


MP3D_NAMES = {"television": "tv_monitor"}


def write_ply(path: Path, vertices: np.ndarray, faces: np.ndarray, row_of: np.ndarray) -> None:
    """Writes a mesh with a colour per vertex and an object's id per face."""
    points = np.zeros(len(vertices), [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    points["xyz"] = vertices
    points["rgb"] = np.array([instance_color(row + 1) for row in range(int(row_of.max()) + 1)])[row_of]
    polygons = np.zeros(len(faces), [("count", "u1"), ("corners", "<i4", 3), ("id", "<i4")])
    polygons["count"], polygons["corners"], polygons["id"] = 3, faces, row_of[faces[:, 0]]
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    head += [f"property float {axis}" for axis in "xyz"]
    head += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    head += [f"element face {len(polygons)}", "property list uchar int vertex_indices"]
    text = "\n".join([*head, "property int object_id", "end_header"]) + "\n"
    path.write_bytes(text.encode() + points.tobytes() + polygons.tobytes())


def write_mp3d(house: House, folder: Path) -> Path:
    """Writes a house as Matterport3D is laid out: a .house file of boxes, and a PLY with an id per face."""
    mesh = build_mesh(house)
    place = folder / "17DRP5sb8fy"
    place.mkdir(parents=True)
    corners = mesh.vertices[mesh.triangles].reshape(-1, 3)
    png, uv = texture(np.repeat(mesh.shaded, 3, axis=0))
    triangles = np.arange(len(corners), dtype=np.uint32).reshape(-1, 3)
    write_glb(place / "17DRP5sb8fy.glb", corners, triangles, uv=uv, palette=png)
    ids, which = np.unique(mesh.instance, return_inverse=True)
    vertices, faces, row_of = split_by_instance(mesh, which.reshape(-1))
    write_ply(place / "17DRP5sb8fy_semantic.ply", vertices, faces, row_of)
    names = HOUSE_LABELS.names
    rest = " 0" * 5
    width, depth = house.layout.size
    counts = f"0 0 0 0 0 {len(ids)} {len(names)} 0 0 1"
    lines = ["ASCII 1.1", f"H house label {counts}{rest} 0 0 0 {width} {depth} {house.config.height}{rest}"]
    lines += [
        f"C {i} {i} {n.replace(' ', '#')} {i} {MP3D_NAMES.get(n, n)}{rest}" for i, n in enumerate(names)
    ]
    label_of = dict(zip(mesh.instance.tolist(), mesh.label.tolist()))
    for row, id in enumerate(ids.tolist()):
        box = vertices[row_of == row].astype(float)
        middle, half = (box.min(axis=0) + box.max(axis=0)) / 2, np.ptp(box, axis=0) / 2
        numbers = " ".join(f"{v:.6f}" for v in (*middle, 1, 0, 0, 0, 1, 0, *half))
        lines.append(f"O {row} -1 {label_of[id]} {numbers} 0 0 0{rest}")
    (place / "17DRP5sb8fy.house").write_text("\n".join(lines) + "\n")
    asset = "%%CONFIG_NAME_AS_ASSET_FILENAME%%"
    defaults = {
        "shader_type": "flat",
        "up": [0, 0, 1],
        "front": [0, 1, 0],
        "origin": [0, 0, 0],
        "semantic_up": [0, 1, 0],  # habitat-sim turns a PLY by itself
        "semantic_front": [0, 0, -1],
        "semantic_asset": f"{asset}_semantic.ply",
        "semantic_descriptor_filename": f"{asset}.house",
    }
    dataset = {"stages": {"paths": {".glb": ["*/*.glb"]}, "default_attributes": defaults}}
    path = folder / "mp3d.scene_dataset_config.json"
    path.write_text(json.dumps(dataset))
    return path


LAYOUTS = {"hm3d": (write_hm3d, "TEEsavR23oF"), "mp3d": (write_mp3d, "17DRP5sb8fy")}


@pytest.fixture(scope="module", params=sorted(LAYOUTS))
def scan(request: pytest.FixtureRequest, tmp_path_factory) -> tuple[House, HabitatSite]:
    house = make_house(31)
    write, scene = LAYOUTS[request.param]
    path = write(house, tmp_path_factory.mktemp(request.param))
    config = dataclasses.replace(
        load_config(HabitatConfig, CONFIGS / f"{request.param}.yaml"), dataset=str(path)
    )
    return house, shared_site(config, scene)


def test_a_scan_in_a_datasets_layout_has_its_pictures_and_the_labels_of_its_config(scan):
    house, site = scan
    rng = np.random.default_rng(0)
    cells = rng.choice(np.flatnonzero(house.floor_plan.main_part), 8)
    names = site.config.label_map
    known = np.array([names.id(n) if n in names.names else 0 for n in HOUSE_LABELS.names])
    depth, label = [], []
    for x, y in house.floor_plan.centers[cells]:
        pose = Pose.from_xyz_yaw(x, y, 0.0, rng.uniform(-3, 3)) @ camera_mount(0.9, 0.0)
        ours = CAMERA.view(scene_of(house), pose, MAX_DEPTH)
        theirs = site.view(CAMERA, pose, MAX_DEPTH)
        with np.errstate(invalid="ignore"):
            near = (np.abs(ours.depth - theirs.depth) <= 0.02) | (ours.depth == theirs.depth)
        depth.append(near.mean())
        label.append((known[ours.label] == theirs.label).mean())
    print(f"{site.title}: depth {np.mean(depth):.4f}, labels {np.mean(label):.4f}, goals {site.labels}")
    assert np.mean(depth) >= 0.99 and np.mean(label) >= 0.99
    assert {"sofa", "chair", "bed"} <= set(site.labels)


def test_goals_in_a_scan_are_boxes_of_things_and_can_be_reached(scan):
    house, site = scan
    for label in site.labels:
        ours = sorted(t.center[:2] for t in house.things if t.label == label)
        theirs = sorted(t.center[:2] for t in site.things if t.label == label)
        assert len(ours) == len(theirs) and np.allclose(ours, theirs, atol=0.3)
        start = site.start(label, 1.0, np.random.default_rng(1))
        assert 0.0 < site.distance(label, 1.0, start) < 40.0


def test_scenes_that_are_put_together_of_objects_have_things(tmp_path: Path):
    """HSSD and ReplicaCAD: a stage, objects with class ids, and a lexicon of the classes."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    box = np.array([t for a, b, c, d in faces for t in ((a, b, c), (a, c, d))], np.uint32)
    grey = np.full((8, 3), 0.5, np.float32)
    write_glb(tmp_path / "cup.glb", corners * np.float32(0.2), box, colors=grey)
    floor = np.array([[-4, 0, 4], [4, 0, 4], [4, 0, -4], [-4, 0, -4]], np.float32)
    sheet = np.array([[0, 1, 2], [0, 2, 3]], np.uint32)
    write_glb(tmp_path / "ground.glb", floor, sheet, colors=np.full((4, 3), 0.8, np.float32))
    frame = {"up": [0, 1, 0], "front": [0, 0, -1]}
    placed = {"template_name": "cup", "translation": [1.0, 0.2, -2.0], "motion_type": "static"}
    files = {
        "ground.stage_config.json": {"render_asset": "ground.glb", **frame},
        "cup.object_config.json": {"render_asset": "cup.glb", "semantic_id": 3, **frame},
        "lexicon.json": {"classes": [{"id": 3, "name": "mug"}]},
        "room.semantic_config.json": {"semantic_descriptor_filename": "lexicon.json"},
        "room.scene_instance.json": {
            "stage_instance": {"template_name": "ground"},
            "object_instances": [{**placed, "translation_origin": "asset_local"}],
            "semantic_scene_instance": "room",
        },
        "one.scene_dataset_config.json": {
            "stages": {"paths": {".json": ["*.stage_config.json"]}},
            "objects": {"paths": {".json": ["*.object_config.json"]}},
            "scene_instances": {"paths": {".json": ["*.scene_instance.json"]}},
            "semantic_scene_descriptor_instances": {"paths": {".json": ["*.semantic_config.json"]}},
        },
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    site = shared_site(HabitatConfig(str(tmp_path), rename={"mug": "cup"}), "room")
    assert [thing.label for thing in site.things] == ["cup"]
    assert np.allclose(site.things[0].center, [1.0, 2.0, 0.2], atol=0.01)
    assert np.allclose(site.things[0].size, 0.4, atol=0.01)
    camera = Pose.from_xyz_yaw(-1.0, 2.0, 0.0, 0.0) @ camera_mount(0.2, 0.0)
    view = site.view(CAMERA, camera, MAX_DEPTH)
    assert view.label[64, 64] == site.config.label_map.id("cup")
    assert view.depth[64, 64] == pytest.approx(1.8, abs=0.01)
