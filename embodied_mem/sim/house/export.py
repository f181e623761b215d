"""Houses as scene datasets that habitat-sim opens: meshes, semantics, rooms and their configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from embodied_mem.errors import ConfigError
from embodied_mem.sim.detour import write_navmesh
from embodied_mem.sim.gltf import linear_from_srgb, write_glb
from embodied_mem.sim.habitat.frames import to_habitat
from embodied_mem.sim.house.catalog import HOUSE_LABELS
from embodied_mem.sim.house.floor_plan import NORMALS
from embodied_mem.sim.house.free_space import free_triangles
from embodied_mem.sim.house.house import KNEE, House
from embodied_mem.sim.house.mesh import Mesh, build_mesh
from embodied_mem.sim.house.thing import Thing

DATASET = "houses.scene_dataset_config.json"
"""Name of the scene dataset's config in its folder; it covers every house that is exported there."""
NO_ROOM = -1
_CORNERS = np.array([(i & 1, i >> 1 & 1, i >> 2) for i in range(8)])
"""Whether a corner of a box is at its upper end along x, y and z."""
_SIDES_AND_TOP = np.array(
    (
        *((0, 1, 5), (0, 5, 4), (1, 3, 7), (1, 7, 5), (3, 2, 6), (3, 6, 7), (2, 0, 4), (2, 4, 6)),
        *((4, 7, 5), (4, 6, 7)),  # the top looks down: nobody can walk on it
    )
)
"""Triangles of a box by its corners, counter-clockwise seen from outside but for the top."""


def export_house(house: House, folder: Path) -> Path:
    """Writes a house as a scene of a scene dataset; houses exported to one folder form one dataset.

    The scene is named `house_SEED`. Its meshes have y up, as glTF demands (`to_habitat`). Semantics are
    HM3D's: a mesh whose vertex colours tell the instances, and a text file that names them. Things keep
    their ids; floor, walls and ceiling have the ids after them. Rooms are region annotations. The navigation
    mesh is the floor that the house's own robot can be on, to 0.2 mm. For robots of other sizes, the
    boxes around what stands in the way are a static object of the scene that is not seen, which navigation
    meshes take in with `include_static_objects`.

    Args:
        house: the house.
        folder: of the dataset, made where it is missing.

    Returns:
        the dataset's config.

    Raises:
        ConfigError: the folder cannot be written.
    """
    name = f"house_{house.seed}"
    mesh = build_mesh(house)
    try:
        for part in ("stages", "objects", "scenes", "semantics", "navmeshes"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        _write_stage(mesh, folder / "stages" / f"{name}.glb")
        _write_semantics(house, mesh, folder / "semantics" / name)
        frame = {"up": [0, 1, 0], "front": [0, 0, -1]}
        stage = {"render_asset": f"{name}.glb", **frame, "force_flat_shading": True}
        _write_json(folder / "stages" / f"{name}.stage_config.json", stage)
        _write_obstacles(house, folder / "objects" / f"{name}_obstacles")
        _write_navmesh(house, folder / "navmeshes" / f"{name}.navmesh")
        placed = {"template_name": f"{name}_obstacles", "motion_type": "static"}
        scene = {
            "stage_instance": {"template_name": name},
            "object_instances": [{**placed, "translation": [0, 0, 0], "translation_origin": "asset_local"}],
            "default_lighting": "no_lights",
            "semantic_scene_instance": name,
            "navmesh_instance": name,
        }
        _write_json(folder / "scenes" / f"{name}.scene_instance.json", scene)
        navmeshes = sorted(path.name for path in (folder / "navmeshes").glob("*.navmesh"))
        dataset = {
            "stages": {"paths": {".json": ["stages"]}},
            "objects": {"paths": {".json": ["objects"]}},
            "scene_instances": {"paths": {".json": ["scenes"]}},
            "semantic_scene_descriptor_instances": {"paths": {".json": ["semantics"]}},
            "navmesh_instances": {name.split(".")[0]: f"navmeshes/{name}" for name in navmeshes},
        }
        _write_json(folder / DATASET, dataset)
    except OSError as error:
        raise ConfigError(f"cannot write the house to {folder}: {error.strerror}") from None
    return folder / DATASET


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_stage(mesh: Mesh, path: Path) -> None:
    """Writes what the house looks like: every triangle takes its shaded colour from a palette."""
    colors, which = np.unique(mesh.shaded, axis=0, return_inverse=True)
    done, palette = cv2.imencode(".png", np.ascontiguousarray(colors[None, :, ::-1]))
    assert done
    corners = mesh.vertices[mesh.triangles].reshape(-1, 3)  # corners share no vertices: colours differ
    u = (which.reshape(-1) + 0.5) / len(colors)
    uv = np.repeat(np.stack([u, np.full(len(u), 0.5)], axis=-1), 3, axis=0)
    triangles = np.arange(len(corners), dtype=np.uint32).reshape(-1, 3)
    write_glb(
        path,
        to_habitat(corners).astype(np.float32),
        triangles,
        uv=uv.astype(np.float32),
        palette=palette.tobytes(),
    )


def _write_obstacles(house: House, stem: Path) -> None:
    """Writes the boxes that block the way as what a hidden object collides with."""
    boxes = np.array([(*thing.rect, thing.position[2], thing.top) for thing in house.obstacles])
    boxes = boxes.reshape(-1, 6)[:, [0, 1, 4, 2, 3, 5]]
    corners = boxes.reshape(-1, 2, 3)[:, _CORNERS, np.arange(3)]  # (B, 8, 3)
    triangles = (np.arange(len(boxes))[:, None, None] * 8 + _SIDES_AND_TOP).reshape(-1, 3)
    hull = stem.with_name(f"{stem.name}_hull.glb")
    write_glb(hull, to_habitat(corners.reshape(-1, 3)).astype(np.float32), triangles.astype(np.uint32))
    # Something must be drawn: a triangle of a millimetre, inside the wall at the corner of the house.
    speck = np.array([(0.0, 0.0, 1.0), (1e-3, 0.0, 1.0), (0.0, 1e-3, 1.0)])
    write_glb(
        stem.with_suffix(".glb"), to_habitat(speck).astype(np.float32), np.array([[0, 1, 2]], np.uint32)
    )
    config = {
        "render_asset": f"{stem.name}.glb",
        "collision_asset": hull.name,
        "up": [0, 1, 0],
        "front": [0, 0, -1],
        "COM": [0, 0, 0],
        "mass": 1.0,
    }
    _write_json(stem.with_suffix(".object_config.json"), config)


def _write_navmesh(house: House, path: Path) -> None:
    plan, config = house.floor_plan, house.config
    floor, triangles = free_triangles(plan.outlines, NORMALS, plan.offsets, house.layout.size)
    vertices = to_habitat(np.concatenate([floor, np.zeros((len(floor), 1))], axis=1)).astype(np.float32)
    write_navmesh(
        path, vertices, triangles, radius=config.robot_radius, height=config.robot_height, climb=KNEE
    )


def _write_semantics(house: House, mesh: Mesh, stem: Path) -> None:
    instances, which = np.unique(mesh.instance, return_inverse=True)  # things first: their ids are small
    things = {thing.id: thing for thing in house.things}
    labels = dict(zip(mesh.instance.tolist(), mesh.label.tolist()))
    after = max(things, default=0) + 1
    lines = ["HM3D Semantic Annotations"]
    colors = np.zeros((len(instances), 3), np.uint8)
    for row, instance in enumerate(instances.tolist()):
        thing = things.get(instance)
        id = instance if thing else after + row - len(things)
        colors[row] = instance_color(id)
        rgb = "".join(f"{channel:02X}" for channel in colors[row].tolist())
        room = thing.room if thing else NO_ROOM
        lines.append(f'{id},{rgb},"{HOUSE_LABELS.name(labels[instance])}",{room}')
    vertices, triangles, row_of = split_by_instance(mesh, which.reshape(-1))
    known = [row for row, instance in enumerate(instances.tolist()) if instance in things]
    boxes = [(things[int(instances[row])], row) for row in known]
    vertices, triangles, row_of = _span(boxes, vertices, triangles, row_of)
    write_glb(
        stem.with_suffix(".semantic.glb"),
        to_habitat(vertices).astype(np.float32),
        triangles,
        colors=linear_from_srgb(colors)[row_of],
    )
    stem.with_suffix(".semantic.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "semantic_asset": f"{stem.name}.semantic.glb",
        "semantic_descriptor_filename": f"{stem.name}.semantic.txt",
        "semantic_up": [0, 1, 0],
        "semantic_front": [0, 0, -1],
        "region_annotations": [_region(house, id) for id in range(len(house.rooms))],
    }
    _write_json(stem.with_suffix(".semantic_config.json"), config)


def split_by_instance(
    mesh: Mesh, row: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.intp]]:
    """Returns vertices that instances do not share, triangles, and the (V,) rows of the vertices.

    habitat-sim takes the largest connected part of a colour for the whole thing's box, so the parts of a
    thing (a table's top and legs) are linked by triangles without area, which nothing draws.
    """
    keys = np.stack([np.repeat(row, 3), mesh.triangles.reshape(-1)], axis=-1)
    unique, index = np.unique(keys, axis=0, return_inverse=True)
    triangles = index.reshape(-1, 3)
    count = len(unique)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, part = connected_components(graph, directed=False)
    _, first_of_part = np.unique(part, return_index=True)
    _, first_of_row = np.unique(unique[:, 0], return_index=True)
    anchor = first_of_row[unique[first_of_part, 0]]
    links = np.stack([anchor, first_of_part, first_of_part], axis=-1)[anchor != first_of_part]
    joined = np.concatenate([triangles, links]).astype(np.uint32)
    return mesh.vertices[unique[:, 1]], joined, unique[:, 0]


def _span(
    boxes: list[tuple[Thing, int]],
    vertices: NDArray[np.float32],
    triangles: NDArray[np.uint32],
    row_of: NDArray[np.intp],
) -> tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.intp]]:
    """Links two corners of every thing's box to it, since round things do not fill theirs.

    habitat-sim takes the box around a thing's vertices; goals are measured from it, as in the house.
    """
    ends = np.array([((*t.rect[:2], t.position[2]), (*t.rect[2:], t.top)) for t, _ in boxes])
    rows = np.array([row for _, row in boxes], np.intp)
    _, first_of_row = np.unique(row_of, return_index=True)
    new = len(vertices) + np.arange(2 * len(boxes))
    links = np.stack([np.repeat(first_of_row[rows], 2), new, new], axis=-1).astype(np.uint32)
    return (
        np.concatenate([vertices, ends.reshape(-1, 3).astype(np.float32)]),
        np.concatenate([triangles, links]),
        np.concatenate([row_of, np.repeat(rows, 2)]),
    )


def instance_color(id: int) -> tuple[int, int, int]:
    """Returns the 8-bit sRGB colour that stands for an instance id; no two ids below 2^24 share one."""
    mixed = id * 0x9E3779B1 % (1 << 24)  # an odd factor permutes the residues
    return mixed >> 16, mixed >> 8 & 255, mixed & 255


def _region(house: House, id: int) -> dict[str, Any]:
    """Returns a room as a region annotation: its floor between the walls, up to the ceiling."""
    room = house.rooms[id]
    x0, y0, x1, y1 = room.rect
    loop = [(x0, y0, 0.0), (x1, y0, 0.0), (x1, y1, 0.0), (x0, y1, 0.0)]
    ends = to_habitat(np.array([(x0, y0, 0.0), (x1, y1, house.config.height)]))
    return {
        "name": f"{id:02d} {room.type}",
        "label": room.type,
        "floor_height": 0.0,
        "extrusion_height": house.config.height,
        "min_bounds": ends.min(axis=0).tolist(),
        "max_bounds": ends.max(axis=0).tolist(),
        "poly_loop": to_habitat(np.array(loop)).tolist(),
    }
