"""Rebuilding the octree from submaps at corrected poses, beside the one that answers meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.submaps.keyframe import unpack_keyframe
from embodied_mem.memory.submaps.retelling import Retelling
from embodied_mem.types import Image, Scan


def integrate_scans(
    octree: Octree,
    scans: Iterable[Scan],
    pose: Pose,
    stamp: int,
    max_range: float,
    depth_mode: str = "discretized",
) -> int:
    """Adds scans to an octree; returns the number of points that it dropped.

    Args:
        octree: changed in place.
        scans: range evidence in the base frame.
        pose: `map_T_base`.
        stamp: [ns].
        max_range: longer rays clear up to it [m] and hit nothing.
        depth_mode: how scans that carry their depth image are added, as of `Octree.integrate_depth`.
    """
    dropped = 0
    for scan in scans:
        if scan.image is not None:
            _integrate_image(octree, scan, scan.image, pose, stamp, max_range, depth_mode)
            continue
        points = pose.transform(scan.points).astype(np.float32)
        if scan.origin is None:
            stats = octree.integrate_cells(points, scan.hit, labels=scan.labels, stamp=stamp)
        else:
            stats = octree.integrate(
                points,
                pose.transform(scan.origin),
                hit=scan.hit,
                labels=scan.labels,
                stamp=stamp,
                max_range=max_range,
            )
        dropped += stats.dropped
    return dropped


def _integrate_image(
    octree: Octree, scan: Scan, image: Image, pose: Pose, stamp: int, max_range: float, mode: str
) -> None:
    labels = np.zeros(image.data.shape, np.int32)
    labels.reshape(-1)[scan.pixels] = scan.labels
    octree.integrate_depth(
        image.data,
        image.intrinsics,
        pose @ image.base_T_camera,
        labels=labels,
        stamp=stamp,
        max_range=min(max_range, scan.max_range),
        mode=mode,
        drop_flying=False,  # perception has done so, before thinning
    )


class Rebuild:
    """Builds an octree on a thread of its own, from copies of what it needs.

    Args:
        octree: empty, with the memory's settings.
        packed: submaps by entry id.
        poses: `map_T_base` by entry id; keyframes without one are left out.
        max_range: as of the memory's octree [m].
        retelling: tells again what the keyframes saw, or None.

    Attributes:
        packed: as given, until the result is taken.
        late: submaps by entry id that were made since it began; they are added by who takes the result.
    """

    def __init__(
        self,
        octree: Octree,
        packed: Mapping[int, bytes],
        poses: Mapping[int, Pose],
        max_range: float,
        retelling: Retelling | None = None,
    ) -> None:
        self.octree, self.packed, self.retelling = octree, packed, retelling
        self.late: dict[int, bytes] = {}
        self._work = [(i, poses[i]) for i in sorted(packed) if i in poses]
        self._max_range = max_range
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rebuild", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it is still being built."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            for entry_id, pose in self._work:
                self.take(entry_id, self.packed[entry_id], pose)
        except BaseException as error:  # told where it can be acted on
            self._error = error

    def take(self, entry_id: int, payload: bytes, pose: Pose) -> None:
        """Adds a keyframe's submap at a pose `map_T_base`; from outside only once it is no longer running."""
        keyframe = unpack_keyframe(payload)
        integrate_scans(self.octree, keyframe.scans, pose, keyframe.stamp, self._max_range)
        if self.retelling is not None:
            self.retelling.take(entry_id, keyframe, pose)

    def result(self) -> Octree:
        """Waits for the octree; raises what went wrong."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.octree
