"""A memory, and a run that fills it, in Rerun: cameras, voxels, objects, rooms, places, path, rewards.

`RerunView` is a listener of the loop: it shows a live run, a replay and a recorded one alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.loop import Moment
from embodied_mem.memory import Memory
from embodied_mem.types import NS_PER_S, TOKEN_KINDS, LabelMap, MemoryTokens, Observation, Recall
from embodied_mem.viz.map_raster import label_color
from embodied_mem.viz.voxel_colors import Coloring, voxel_colors

APPLICATION = "embodied-mem"
MOST_BOXES = 30_000
"""A map with more voxels than this is drawn as balls, which cost less than boxes."""
HEADROOM = 1.8
"""What is higher above the agent's base than this hides the map from above: ceilings [m]."""
PATH_COLOR, PLACE_COLOR, FRONTIER_COLOR = (30, 100, 220), (120, 120, 120), (240, 140, 20)
RECALL_COLOR = (220, 30, 140)
RECALLS = "world/recalls"
"""Entity of what was recalled."""


class RerunView:
    """Shows every step of a loop as it happens.

    Args:
        memory: the memory that the loop writes.
        stream: where to: a file, a viewer or a server.
        map_every: steps between two pictures of the voxels, which are what costs most.
        by: what colours the voxels.
        attention: returns how much the policy looks at nothing and at each token, (1 + K,) float.
    """

    def __init__(
        self,
        memory: Memory,
        stream: rr.RecordingStream,
        map_every: int = 20,
        by: Coloring = "label",
        attention: Callable[[], NDArray[np.float32]] | None = None,
    ) -> None:
        self._memory = memory
        self._by: Coloring = by
        self._attention = attention
        memory.on_recall.append(lambda query, answers: log_recall(stream, answers))
        self._stream = stream
        self._every = map_every
        self._first: int | None = None
        self._drawn = -1
        attends = attention is not None
        _open(stream, blueprint(("color", "depth", "labels"), rewards=True, attention=attends))

    def __call__(self, moment: Moment) -> None:
        """Shows one step."""
        self._at(moment.obs.stamp, moment.obs.step)
        self._log_cameras(moment.obs)
        log_agent(self._stream, moment.percept.map_T_base)
        self._log_tokens(moment)
        self._log_events(moment)
        log_objects(self._stream, self._memory)
        if moment.obs.step // self._every != self._drawn:
            self._drawn = moment.obs.step // self._every
            self._log_map()

    def finish(self) -> None:
        """Shows what the last steps added to the map, and waits until all is written."""
        self._log_map()
        self._stream.flush()

    def _at(self, stamp: int, step: int) -> None:
        self._first = stamp if self._first is None else self._first
        self._stream.set_time("step", sequence=step)
        self._stream.set_time("time", duration=(stamp - self._first) / NS_PER_S)

    def _log_map(self) -> None:
        log_voxels(self._stream, self._memory, by=self._by)
        log_graph(self._stream, self._memory)
        log_path(self._stream, self._memory)

    def _log_cameras(self, obs: Observation) -> None:
        for camera in obs.cameras:
            if camera.color is not None:
                color = rr.Image(camera.color.data).compress(jpeg_quality=80)
                self._stream.log(f"cameras/color/{camera.name}", color)
            if camera.depth is not None:
                millimetres = np.nan_to_num(1000 * camera.depth.data, posinf=0.0).clip(0, 65535)
                depth = rr.DepthImage(millimetres.astype(np.uint16), meter=1000.0)
                self._stream.log(f"cameras/depth/{camera.name}", depth)
            if camera.semantic is not None:
                self._stream.log("cameras/labels", label_colors(obs.labels))
                self._stream.log(f"cameras/labels/{camera.name}", rr.SegmentationImage(camera.semantic.data))
        if obs.grid is not None:
            self._stream.log("cameras/color/grid", rr.SegmentationImage(obs.grid.cells[:, :, 0].T))

    def _log_tokens(self, moment: Moment) -> None:
        tokens, base = moment.tokens, moment.percept.map_T_base
        if not base.is_finite:
            return
        chosen = tokens.mask & np.isfinite(tokens.position).all(axis=1)
        points = base.transform(tokens.position[chosen])
        kinds = [TOKEN_KINDS[kind] for kind in tokens.kind[chosen]]
        colors = [FRONTIER_COLOR if frontier else PLACE_COLOR for frontier in tokens.frontier[chosen]]
        shown = rr.Points3D(points, colors=colors, radii=0.05, labels=kinds, show_labels=False)
        self._stream.log("world/tokens", shown)
        if self._attention is not None:
            log_attention(self._stream, self._attention(), base.transform(tokens.position), tokens)

    def _log_events(self, moment: Moment) -> None:
        self._stream.log("run/reward", rr.Scalars(moment.obs.reward))
        said = [moment.percept.event, moment.percept.text]
        if moment.receipt.verdict != "accepted":
            said.append(f"{moment.receipt.verdict}: {moment.receipt.reason}")
        for line in filter(None, said):
            self._stream.log("run/events", rr.TextLog(line))


def file_stream(name: str, path: Path) -> rr.RecordingStream:
    """Returns a stream into an .rrd file, which is replaced; `name` is the recording's."""
    stream = rr.RecordingStream(APPLICATION, recording_id=name)
    stream.save(str(path))
    return stream


def log_memory(stream: rr.RecordingStream, memory: Memory, by: Coloring = "label") -> None:
    """Shows a memory without its run: the map and the graph, and its entries along the time axis."""
    _open(stream, blueprint(("color",), rewards=False))
    log_entries(stream, memory)
    stream.reset_time()
    log_contents(stream, memory, by=by, static=True)
    number = itertools.count()
    memory.on_recall.append(
        lambda query, answers: log_recall(stream, answers, f"world/recalls/{next(number)}", static=True)
    )


def log_contents(
    stream: rr.RecordingStream, memory: Memory, *, by: Coloring = "label", static: bool = False
) -> None:
    """Shows what a memory holds: voxels, rooms, places, objects and the path."""
    log_voxels(stream, memory, by=by, static=static)
    log_graph(stream, memory, static=static)
    log_objects(stream, memory, static=static)
    log_path(stream, memory, static=static)
    stream.flush()


def log_entries(stream: rr.RecordingStream, memory: Memory, after: int = -1) -> int:
    """Shows entries along the time axis, and returns the id of the last one.

    Args:
        stream: where to.
        memory: whose entries.
        after: only those with a larger id.
    """
    episodes = memory.episodes
    ids = [i for i in episodes.ids.tolist() if i > after]
    for entry_id in ids:
        entry = episodes.entry(entry_id)
        assert entry is not None
        stream.set_time("step", sequence=entry.step)
        stream.set_time("time", duration=(entry.stamp - episodes.first_stamp) / NS_PER_S)
        image = memory.snapshot(entry_id)
        if image is not None:
            stream.log("cameras/color/snapshot", rr.Image(image).compress(jpeg_quality=80))
        log_agent(stream, entry.pose)
        for line in filter(None, (entry.event, entry.text, *(text for _, text in entry.changes))):
            stream.log("run/events", rr.TextLog(line))
    return max(ids, default=after)


def follow(stream: rr.RecordingStream, memory: Memory, after: int = -1, by: Coloring = "label") -> int:
    """Shows what a memory has come to since the last look at it; returns the id of its last entry."""
    if after < 0:
        _open(stream, blueprint(("color",), rewards=False))
    memory.on_recall.append(lambda query, answers: log_recall(stream, answers))
    last = log_entries(stream, memory, after)
    log_contents(stream, memory, by=by)
    return last


def _open(stream: rr.RecordingStream, layout: rrb.Blueprint) -> None:
    stream.send_blueprint(layout)
    stream.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)


def log_agent(stream: rr.RecordingStream, map_T_base: Pose) -> None:
    """Shows where the agent is and which way it faces."""
    if map_T_base.is_finite:
        turn = rr.Quaternion(xyzw=map_T_base.orientation)
        stream.log("world/agent", rr.Transform3D(translation=map_T_base.position, quaternion=turn))
        arrow = rr.Arrows3D(vectors=[[0.5, 0.0, 0.0]], colors=[PATH_COLOR], radii=0.04)
        stream.log("world/agent/heading", arrow)


def log_path(stream: rr.RecordingStream, memory: Memory, *, static: bool = False) -> None:
    """Shows where the agent has been."""
    _, positions = memory.scene.trajectory()
    stream.log("world/path", rr.LineStrips3D([positions], colors=[PATH_COLOR], radii=0.02), static=static)


def log_voxels(
    stream: rr.RecordingStream, memory: Memory, *, by: Coloring = "label", static: bool = False
) -> None:
    """Shows the occupied voxels, coloured by label or height; what is overhead can be hidden."""
    voxels = memory.octree.voxels()
    colors = voxel_colors(voxels, memory.labels, by)
    overhead = voxels.centers[:, 2] > memory.map_T_base.position[2] + HEADROOM
    half = memory.octree.resolution / 2
    for name, chosen in (("voxels", ~overhead), ("overhead", overhead)):
        centers, tint = voxels.centers[chosen], colors[chosen]
        shape: Any = rr.Points3D(centers, colors=tint, radii=half)
        if len(voxels) <= MOST_BOXES:
            sizes = np.full((len(centers), 3), half, np.float32)
            shape = rr.Boxes3D(centers=centers, half_sizes=sizes, colors=tint, fill_mode="solid")
        stream.log(f"world/{name}", shape, static=static)


def log_graph(stream: rr.RecordingStream, memory: Memory, *, static: bool = False) -> None:
    """Shows rooms by name, places, and the edges between places."""
    scene = memory.scene
    places = {place.id: place.position for place in scene.places()}
    nodes = rr.Points3D(list(places.values()), colors=[PLACE_COLOR], radii=0.06)
    stream.log("world/places", nodes, static=static)
    edges = [[places[a], places[b]] for a, b, *_ in scene.edges() if a in places and b in places]
    stream.log("world/places/edges", rr.LineStrips3D(edges, colors=[PLACE_COLOR], radii=0.01), static=static)
    rooms = scene.rooms()
    above = [room.position + np.array([0.0, 0.0, 2.0]) for room in rooms]
    names = [room.name for room in rooms]
    stream.log("world/rooms", rr.Points3D(above, labels=names, radii=0.1, show_labels=True), static=static)


def log_objects(stream: rr.RecordingStream, memory: Memory, *, static: bool = False) -> None:
    """Shows objects as boxes with their names; the less certain one is, the paler."""
    things = memory.scene.objects()
    sizes = np.array([np.maximum(thing.extent, 0.02) / 2 for thing in things]).reshape(-1, 3)
    centers = np.array([thing.position for thing in things]).reshape(-1, 3)
    names = [f"{thing.name} #{thing.id}" for thing in things]
    colors = [_faded(memory.labels, thing.label, thing.existence) for thing in things]
    boxes = rr.Boxes3D(centers=centers, half_sizes=sizes, labels=names, colors=colors)
    stream.log("world/objects", boxes, static=static)


def log_recall(
    stream: rr.RecordingStream, answers: Sequence[Recall], place: str = RECALLS, *, static: bool = False
) -> None:
    """Shows what was recalled, and where: the better an answer matches, the larger."""
    points = np.array([answer.position for answer in answers]).reshape(-1, 3)
    top = max((answer.score for answer in answers), default=1.0) or 1.0
    radii = [0.06 + 0.1 * max(answer.score, 0.0) / top for answer in answers]
    words = [answer.text for answer in answers]
    shown = rr.Points3D(points, colors=[RECALL_COLOR], radii=radii, labels=words, show_labels=True)
    stream.log(place, shown, static=static)
    for answer in answers:
        stream.log("run/recalls", rr.TextLog(f"{answer.text} | {answer.why}"), static=static)


def log_attention(
    stream: rr.RecordingStream,
    weights: NDArray[np.float32],
    points: NDArray[np.float64],
    tokens: MemoryTokens,
) -> None:
    """Shows at which tokens the policy looks, in the map and as bars; the first bar is "at none".

    Args:
        stream: where to.
        weights: (1 + K,) float32, summing to 1; the first is that of no token.
        points: (K, 3) float64 [m] the tokens in the map frame.
        tokens: what they are.
    """
    stream.log("run/attention", rr.BarChart(weights))
    chosen = tokens.mask & np.isfinite(points).all(axis=1)
    share = weights[1:][chosen]
    heat = share / max(float(share.max(initial=0.0)), 1e-6)
    colors = np.stack([255 * heat, 60 + 0 * heat, 255 * (1 - heat)], axis=1).astype(np.uint8)
    labels = [f"{TOKEN_KINDS[kind]} {s:.0%}" for kind, s in zip(tokens.kind[chosen], share)]
    shown = rr.Points3D(
        points[chosen], colors=colors, radii=0.05 + 0.25 * heat, labels=labels, show_labels=False
    )
    stream.log("world/attention", shown)


def _faded(labels: LabelMap, label: int, existence: float) -> tuple[int, int, int, int]:
    red, green, blue = (round(255 * channel) for channel in label_color(labels, label))
    return red, green, blue, round(80 + 175 * existence)


def label_colors(labels: LabelMap) -> rr.AnnotationContext:
    """Returns the names and colours of label images."""
    rows = [(i, name, labels.color(i)) for i, name in enumerate(labels.names)]
    return rr.AnnotationContext(rows)


def blueprint(images: Sequence[str], *, rewards: bool, attention: bool = False) -> rrb.Blueprint:
    """Returns the layout: the map, the images beside it, events and rewards below.

    Args:
        images: which kinds of images there are: "color", "depth", "labels".
        rewards: whether there are rewards.
        attention: whether a policy looks at memory tokens.
    """
    hidden: Any = {"world/overhead": rrb.EntityBehavior(visible=False)}
    below: list[rrb.View] = [rrb.TextLogView(origin="run/events", name="events")]
    below.append(rrb.TextLogView(origin="run/recalls", name="recalls"))
    if attention:
        below.append(rrb.BarChartView(origin="run/attention", name="attention: none, then tokens"))
    if rewards:
        below.insert(0, rrb.TimeSeriesView(origin="run/reward", name="reward"))
    return rrb.Blueprint(
        rrb.Vertical(
            rrb.Horizontal(
                rrb.Spatial3DView(origin="world", name="memory", overrides=hidden),
                rrb.Vertical(*(rrb.Spatial2DView(origin=f"cameras/{kind}", name=kind) for kind in images)),
                column_shares=[3, 1],
            ),
            rrb.Horizontal(*below),
            row_shares=[3, 1],
        ),
        collapse_panels=True,
    )
