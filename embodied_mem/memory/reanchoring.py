"""Re-anchoring: after a correction of the past, everything moves with its keyframes.

Entries, objects, places and the trajectory move at once. The octree is rebuilt from the submaps on
a thread of its own, while the old one goes on answering, and takes its place a fixed number of
writes later: a replay of the log does the same at the same step. Then, too, objects become what their
sightings show at the corrected poses, where that is another thing than was made of them before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose, interpolate
from embodied_mem.memory.contents import Contents
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.regrouping import believe
from embodied_mem.memory.scene.motion import move_scene
from embodied_mem.memory.scene.objects import Objects
from embodied_mem.memory.submaps.correction import Correction
from embodied_mem.memory.submaps.keyframe import Keyframe, count_scans, unpack_sightings
from embodied_mem.memory.submaps.rebuild import Rebuild
from embodied_mem.memory.submaps.retelling import Retelling

BLENDED = 0.02
"""An object that its sightings' corrections move apart by more than this is a blend of places [m]."""
BESIDE = 1.0
"""An object that came back this close to where it had been was taken to be where it was [m]."""

Points = NDArray[np.float64]


def correct(contents: Contents, anchors: Iterable[tuple[int, Pose]]) -> None:
    """Moves what is remembered as corrected keyframes demand, and begins to rebuild the octree.

    Args:
        contents: changed in place.
        anchors: (stamp [ns], corrected `map_T_base`) of keyframes; what lies between is interpolated.

    Raises:
        InputError: no anchors, or anchors outside the time that is remembered.
    """
    correction = _correction(contents, sorted(anchors, key=lambda anchor: anchor[0]))
    finish(contents)
    episodes = contents.episodes
    packed = contents.submaps.packed()
    keyframes = [(i, unpack_sightings(payload)) for i, payload in packed.items()]
    shifts, doubts = _shifts(contents, correction, keyframes)
    episodes.move(correction.poses(_stamps_of_evidence(contents), episodes.poses.copy()))
    now = np.array([contents.stamp or 0], np.int64)
    contents.pose = Pose.from_list(correction.poses(now, np.array([contents.pose.to_list()]))[0])
    if episodes.keyframe is not None:
        last = correction.poses(now, np.array([episodes.keyframe.to_list()]))[0]
        episodes.keyframe = Pose.from_list(last)
    move_scene(contents.scene, correction.points, shifts)
    contents.doubts = tuple(sorted(doubts))
    if correction.largest > contents.octree.resolution:
        if any(map(count_scans, packed.values())):
            begin(contents, packed)
            return
        replace_octree(contents, _moved(contents, correction))
    if retelling := _retelling(contents):
        for i, keyframe in keyframes:
            if (row := episodes.index(i)) >= 0:
                retelling.take(i, keyframe, Pose.from_list(episodes.poses[row]))
        believe(contents, retelling, packed)
    contents.doubts = ()


def _retelling(contents: Contents) -> Retelling | None:
    """Returns what tells again what objects in doubt are; None where there are none."""
    if not contents.doubts:
        return None
    return Retelling(contents.scene, contents.labels, contents.new_octree(), contents.doubts)


def _correction(contents: Contents, anchors: list[tuple[int, Pose]]) -> Correction:
    episodes = contents.episodes
    if not anchors or not len(episodes):
        raise InputError("a correction needs anchors, and a memory that holds keyframes")
    stamps = np.array([stamp for stamp, _ in anchors], np.int64)
    first, last = int(episodes.stamps[0]), int(episodes.stamps[-1])
    if stamps[0] < first or stamps[-1] > max(last, contents.stamp or 0):
        raise InputError(f"anchors must lie between the first keyframe ({first} ns) and the newest write")
    knots, rows = np.unique(episodes.stamps, return_index=True)
    before = _interpolated(knots, episodes.poses[rows], stamps)
    return Correction(stamps, before, np.array([pose.to_list() for _, pose in anchors]))


def _interpolated(
    knots: NDArray[np.int64], poses: NDArray[np.float64], stamps: NDArray[np.int64]
) -> NDArray[np.float64]:
    found = np.empty((len(stamps), 7))
    for i, stamp in enumerate(stamps.tolist()):
        right = min(int(np.searchsorted(knots, stamp)), len(knots) - 1)
        left = right if knots[right] <= stamp else right - 1
        span = int(knots[right] - knots[left])
        share = (stamp - int(knots[left])) / span if span else 0.0
        a, b = Pose.from_list(poses[left]), Pose.from_list(poses[right])
        found[i] = interpolate(a, b, share).to_list() if share else poses[left]
    return found


def _stamps_of_evidence(contents: Contents) -> NDArray[np.int64]:
    """Returns (N,) int64 when each entry's pose was taken: a summary has that of an older entry."""
    episodes = contents.episodes
    stamps = episodes.stamps.copy()
    for summary, evidence in episodes.summaries().items():
        row = episodes.index(evidence[len(evidence) // 2])
        if row >= 0:
            stamps[episodes.index(summary)] = episodes.stamps[row]
    return stamps


def _shifts(
    contents: Contents, correction: Correction, keyframes: list[tuple[int, Keyframe]]
) -> tuple[dict[int, Points], set[int]]:
    """Returns by how much objects move [m], and the ids of those that are in doubt.

    Where the corrections of all sightings of an object's present stay move its place alike, so it goes. Where
    they do not, it was a blend of places that were apart. In doubt are these, and what is held to be gone.
    """
    episodes, table = contents.episodes, contents.scene.object_table
    begins = {int(i): _began(table, row) for row, i in enumerate(table.ids.tolist())}
    motions: dict[int, list[Points]] = {}
    for entry_id, keyframe in keyframes:
        if episodes.index(entry_id) < 0:
            continue
        rows = [row for i in keyframe.objects.tolist() if (row := table.index(i)) >= 0]
        rows = [row for row in rows if keyframe.stamp >= begins[int(table.ids[row])] >= 0]
        # Where it is believed to be, not where this sighting was: a turn moves these differently.
        places = table.positions[rows]
        moved = correction.points(np.full(len(rows), keyframe.stamp, np.int64), places)
        for row, motion in zip(rows, moved - places):
            motions.setdefault(int(table.ids[row]), []).append(motion)
    alike = {i: np.ptp(np.array(found), axis=0).max() <= BLENDED for i, found in motions.items()}
    shifts = {i: np.mean(found, axis=0) for i, found in motions.items()}
    blends = {i for i in motions if not alike[i]}
    return shifts, (blends | set(table.ids[table.since < 0].tolist()) if blends else blends)


def _began(table: Objects, row: int) -> int:
    """Returns since when an object's place is one that was fused [ns]; it may have been gone between."""
    began = int(table.since[row])
    for stay in reversed(table.past[row]):
        if np.abs(stay.position - table.positions[row]).max() > BESIDE:
            break
        began = stay.valid_from
    return began


# ---- the octree


def begin(contents: Contents, packed: Mapping[int, bytes]) -> None:
    """Starts to rebuild the octree from submaps at the poses that their entries now have."""
    episodes = contents.episodes
    rows = {i: episodes.index(i) for i in packed}
    poses = {i: Pose.from_list(episodes.poses[row]) for i, row in rows.items() if row >= 0}
    reach, retelling = contents.config.octree.max_range, _retelling(contents)
    contents.rebuild = Rebuild(contents.new_octree(), packed, poses, reach, retelling)
    contents.rebuild_left = contents.config.submaps.swap_after


def tick(contents: Contents) -> bool:
    """Counts a write; returns True where the rebuilt octree has taken the old one's place."""
    if contents.rebuild_left == 0:
        return False
    contents.rebuild_left -= 1
    if contents.rebuild_left:
        return False
    finish(contents)
    return True


def finish(contents: Contents) -> None:
    """Puts the rebuilt octree in the old one's place now; nothing happens where none is being built."""
    rebuild = contents.rebuild
    if rebuild is None:
        return
    octree, retelling = rebuild.result(), rebuild.retelling
    contents.rebuild, contents.rebuild_left = None, 0
    if retelling is not None:
        retelling.know(contents.scene)
    for entry_id, payload in sorted(rebuild.late.items()):  # written while it was being built
        row = contents.episodes.index(entry_id)
        if row >= 0:
            rebuild.take(entry_id, payload, Pose.from_list(contents.episodes.poses[row]))
    if retelling is not None:
        believe(contents, retelling, {**rebuild.packed, **rebuild.late})
    contents.doubts = ()
    replace_octree(contents, octree)


def replace_octree(contents: Contents, octree: Octree) -> None:
    """Puts an octree in the place of the one there is."""
    contents.gone_version += 1
    for key in octree.succeed(contents.octree).tolist():
        contents.gone_blocks[key] = contents.gone_version
    contents.octree = octree


def _moved(contents: Contents, correction: Correction) -> Octree:
    """Returns an octree of the voxels that there are, each moved as what was seen when it was last seen."""
    octree = contents.new_octree()
    for occupied in (False, True):  # what is occupied wins where voxels meet
        voxels = contents.octree.voxels(occupied=occupied, free=not occupied)
        if not len(voxels.centers):
            continue
        stamps = np.asarray(voxels.stamps, np.int64)
        moved = correction.points(stamps, voxels.centers.astype(np.float64)).astype(np.float32)
        labels = voxels.labels if occupied else None
        octree.integrate_cells(
            moved, np.full(len(moved), occupied), labels=labels, stamp=int(stamps.max(initial=0))
        )
    return octree
