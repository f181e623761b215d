"""Transforms of a log: a buffer of the TF tree, and which of its frames are map, odom and base.

As DESIGN section 9 says: odom_T_base is interpolated at the measurement's stamp, map_T_odom is
the newest received, held, and never waited for. All in float64.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose, interpolate
from embodied_mem.types import NS_PER_S

KEEP_NS = 30 * NS_PER_S
"""How much of a link's past is kept."""

_BASE_NAMES = ("base_link", "base_footprint", "base")
_ODOM_NAMES = ("odom", "odom_combined", "odometry")
_MAP_NAMES = ("map",)
_WORLD_NAMES = ("world",)
_GLOBE_NAMES = ("earth", "utm", "ecef")


@dataclass
class _Link:
    """parent_T_child over time; a static link has one pose, which always holds."""

    parent: str
    is_static: bool
    stamps: list[int] = field(default_factory=list)
    poses: list[Pose] = field(default_factory=list)
    received: Pose = field(default_factory=Pose)

    def add(self, stamp: int, pose: Pose) -> None:
        self.received = pose
        if self.is_static:
            return
        i = bisect_left(self.stamps, stamp)
        if i < len(self.stamps) and self.stamps[i] == stamp:
            self.poses[i] = pose
            return
        self.stamps.insert(i, stamp)
        self.poses.insert(i, pose)
        # Old poses go in batches, so that a long log costs no quadratic time.
        if len(self.stamps) % 1024 == 0:
            old = bisect_left(self.stamps, self.stamps[-1] - KEEP_NS)
            del self.stamps[:old], self.poses[:old]

    def forget_after(self, stamp: int) -> None:
        i = bisect_left(self.stamps, stamp + 1)
        del self.stamps[i:], self.poses[i:]

    def covers(self, stamp: int) -> bool:
        return self.is_static or (bool(self.stamps) and self.stamps[-1] >= stamp)

    def at(self, stamp: int, slack: int | None) -> Pose | None:
        if self.is_static:
            return self.received
        i = bisect_left(self.stamps, stamp)
        if i < len(self.stamps) and self.stamps[i] == stamp:
            return self.poses[i]
        if 0 < i < len(self.stamps):
            before, after = self.stamps[i - 1], self.stamps[i]
            fraction = (stamp - before) / (after - before)
            start, end = self.poses[i - 1], self.poses[i]
            if not (start.is_finite and end.is_finite):
                return start if not start.is_finite else end  # the memory's gate says so
            return interpolate(start, end, fraction)
        if not self.stamps:
            return None
        nearest = 0 if i == 0 else -1
        if slack is not None and abs(self.stamps[nearest] - stamp) > slack:
            return None
        return self.poses[nearest]


class TfBuffer:
    """The TF tree of a log, filled in log order."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}

    def add(self, parent: str, child: str, stamp: int, parent_T_child: Pose, static: bool = False) -> bool:
        """Takes a transform in; True where it changes the tree's shape.

        Args:
            parent: frame name without a leading slash.
            child: frame name without a leading slash.
            stamp: [ns].
            parent_T_child: as it was published, NaN included.
            static: True for /tf_static: it holds at all times.
        """
        link = self._links.get(child)
        is_new = link is None or link.parent != parent or link.is_static != static
        if link is None or is_new:
            link = self._links[child] = _Link(parent, static)
        link.add(stamp, parent_T_child)
        return is_new

    def forget_after(self, stamp: int) -> None:
        """Drops what moving links did after a stamp [ns]: the clock has jumped back to it."""
        for link in self._links.values():
            link.forget_after(stamp)

    @property
    def is_empty(self) -> bool:
        """True where no transform has come in."""
        return not self._links

    def ancestors(self, frame: str) -> list[str]:
        """Returns the frame itself, its parent, and so on up to the root."""
        path = [frame]
        while path[-1] in self._links:
            parent = self._links[path[-1]].parent
            if parent in path:
                raise LogError(f"the TF tree has a loop at {parent}; fix the robot's transforms")
            path.append(parent)
        return path

    def is_fixed(self, frame: str) -> bool:
        """True where every link from a frame up to the root is static."""
        return all(self._links[f].is_static for f in self.ancestors(frame)[:-1])

    def has_parent(self, frame: str) -> bool:
        """True where some transform places the frame."""
        return frame in self._links

    def is_connected(self, target: str, source: str) -> bool:
        """True where a path of transforms joins two frames."""
        return self.ancestors(target)[-1] == self.ancestors(source)[-1]

    def covers(self, target: str, source: str, stamp: int) -> bool:
        """True where `lookup` has a transform at or after the stamp for every link of the path."""
        return all(self._links[f].covers(stamp) for path in self._paths(target, source) for f in path)

    def lookup(self, target: str, source: str, stamp: int, slack: int | None = 0) -> Pose | None:
        """Returns target_T_source at a stamp, interpolated on every link that moves.

        Args:
            target: frame name.
            source: frame name.
            stamp: [ns].
            slack: how far [ns] before the first or after the last transform of a link the nearest
                one may stand in; None: any distance.

        Returns:
            None where the frames are not connected, or a link has nothing at that stamp.
        """
        if not self.is_connected(target, source):
            return None
        down, up = self._paths(target, source)
        target_T_common = self._compose([self._links[f].at(stamp, slack) for f in down])
        common_T_source = self._compose([self._links[f].at(stamp, slack) for f in up])
        return _joined(target_T_common, common_T_source, bool(down))

    def newest(self, target: str, source: str) -> Pose | None:
        """Returns target_T_source from the newest transform received on every link, or None."""
        if not self.is_connected(target, source):
            return None
        down, up = self._paths(target, source)
        target_T_common = self._compose([self._links[f].received for f in down])
        common_T_source = self._compose([self._links[f].received for f in up])
        return _joined(target_T_common, common_T_source, bool(down))

    def _paths(self, target: str, source: str) -> tuple[list[str], list[str]]:
        """Returns the frames whose links lead from target and from source to their common ancestor."""
        targets, sources = self.ancestors(target), self.ancestors(source)
        common = next((f for f in targets if f in sources), None)
        if common is None:
            return [], []
        return targets[: targets.index(common)], sources[: sources.index(common)]

    @staticmethod
    def _compose(links: Sequence[Pose | None]) -> Pose | None:
        """Composes links listed from the lowest frame up; a single one stays bit for bit."""
        pose: Pose | None = None
        for link in reversed(links):
            if link is None:
                return None
            pose = link if pose is None else pose @ link
        return Pose() if pose is None else pose


def _joined(common_T_target: Pose | None, common_T_source: Pose | None, inverted: bool) -> Pose | None:
    if common_T_target is None or common_T_source is None:
        return None
    return common_T_target.inverse() @ common_T_source if inverted else common_T_source


@dataclass(frozen=True)
class Frames:
    """The frames of a robot by role (REP-105).

    Attributes:
        map: the world-fixed frame that localisation corrects; `odom` where there is none.
        odom: the world-fixed frame that odometry drifts in.
        base: the robot's body.
    """

    map: str
    odom: str
    base: str


def find_frames(tree: TfBuffer, camera: str, odometry: Iterable[tuple[str, str]] = ()) -> Frames:
    """Finds map, odom and base on the path from the camera to the tree's root.

    Names decide first (also with a prefix, as in "robot1/base_link"), then the frames that
    nav_msgs/Odometry names, then the tree: what hangs below the odometry frame is the base, what
    stands above it is the map.

    Args:
        tree: the TF tree.
        camera: frame_id of the camera's images.
        odometry: (frame_id, child_frame_id) of each odometry topic.

    Raises:
        LogError: nothing in TF says where the camera is.
    """
    path = tree.ancestors(camera)  # camera first, root last
    if len(path) == 1:
        raise LogError(
            f'no TF says where the camera frame "{camera}" is; record /tf and /tf_static with the images'
        )
    pairs = list(odometry)
    map_ = _named(path, _MAP_NAMES)
    odom = _named(path, _ODOM_NAMES) or next((p for p, _ in pairs if p in path), None)
    world_fixed = odom or map_ or _named(path, _WORLD_NAMES)
    if world_fixed is None and tree.is_fixed(camera):
        raise LogError(
            f'no TF moves "{path[-1]}", which carries the camera; record /tf (odom -> base_link) or an '
            "odometry topic"
        )
    limit = min((path.index(f) for f in (odom, map_) if f is not None), default=len(path) - 1)
    below = path[:limit] or path[:1]
    named = _named(below, _BASE_NAMES) or next((c for _, c in pairs if c in below), None)
    base = named or below[-1]
    if odom is None:
        odom = map_ or _root(path, base)
    if map_ is None or path.index(map_) < path.index(odom):
        map_ = _root(path, odom)
    return Frames(map=map_, odom=odom, base=base)


def _named(path: Sequence[str], names: Sequence[str]) -> str | None:
    for name in names:
        # "robot1/base" is a base, "camera_base" is not; "robot1_odom" is an odometry frame.
        prefix = "/" if name == "base" else "[/_]"
        for frame in path:
            if re.search(rf"(^|{prefix}){name}$", frame):
                return frame
    return None


def _root(path: Sequence[str], above: str) -> str:
    """Returns the highest frame at or above one, leaving out frames of the whole globe."""
    frames = list(path[path.index(above) :])
    while len(frames) > 1 and _named(frames[-1:], _GLOBE_NAMES):
        frames.pop()
    return frames[-1]
