"""One keyframe's submap as a value and as bytes: scans and sightings in the base frame."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.submaps.thin import one_per_voxel
from embodied_mem.types import Detection, Percept, Scan

_FORMAT = 4
_SEEN = 3
"""The last format that did not say what was missed, and what the sightings were taken for."""
_BARE = 2
"""The last format that had no sizes and covariances of what was seen."""
_ZSTD = b"\x28\xb5\x2f\xfd"
"""Bytes that format 1 began with: there all was compressed, sightings too."""
_LEVEL = 1
_HEAD = struct.Struct("<BqII")
_COUNT = struct.Struct("<I")
_UPPER = np.triu_indices(3)
LOOK = 11
"""Numbers of a row of `Keyframe.looks`."""
_SCAN = struct.Struct("<I?fddd")


@dataclass(frozen=True, eq=False)
class Keyframe:
    """What was seen at one keyframe, relative to it.

    Attributes:
        stamp: [ns].
        scans: range evidence in the base frame, thinned.
        objects: (M,) int64 ids of the objects seen.
        positions: (M, 3) float64 [m], where, in the base frame.
        looks: (M, 11) float32, what else there is to fuse: covariance (upper triangle, 6), extent (3), yaw
            and visible fraction; (0, 11) in files of earlier releases.
        origin: (3,) float64 [m], the sensor in the base frame.
        labels: (M,) int32 what they were taken for, and
        scores: (M,) float32 how surely; (0,) both in files of earlier releases.
        missed: (K,) int64 ids of the objects whose place showed itself without them; none in files of
            earlier releases.
    """

    stamp: int
    scans: tuple[Scan, ...]
    objects: NDArray[np.int64]
    positions: NDArray[np.float64]
    looks: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, LOOK), np.float32))
    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    labels: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    scores: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    missed: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of(
        cls,
        percept: Percept,
        object_ids: tuple[int, ...],
        missed: tuple[int, ...],
        resolution: float,
        scans: bool,
    ) -> Keyframe:
        """Takes from a percept what a correction of its pose will need.

        Args:
            percept: that made the keyframe.
            object_ids: the objects seen, in the order of its detections.
            missed: ids of the objects that should have been seen.
            resolution: edge of a voxel [m].
            scans: whether range evidence is kept.
        """
        kept = tuple(_thin(scan, resolution) for scan in percept.scans) if scans else ()
        told = percept.detections if len(object_ids) == len(percept.detections) else ()
        ids = np.array(object_ids if told else (), np.int64)
        positions = np.array([d.position for d in told], np.float64).reshape(-1, 3)
        looks = [(*d.covariance[_UPPER], *d.extent, d.yaw, d.visible) for d in told]
        origin = next((scan.origin for scan in percept.scans if scan.origin is not None), np.zeros(3))
        return cls(
            percept.stamp,
            kept,
            ids,
            positions,
            np.array(looks, np.float32).reshape(-1, LOOK),
            origin,
            np.array([d.label for d in told], np.int32),
            np.array([d.score for d in told], np.float32),
            np.array(missed, np.int64),
        )

    def detections(self) -> tuple[Detection, ...]:
        """Returns the sightings as detections; none, or without labels, in files of earlier releases."""
        count = len(self.looks)
        labels, scores = self.labels.tolist() or [0] * count, self.scores.tolist() or [1.0] * count
        found = []
        for position, look, label, score in zip(
            self.positions, self.looks.astype(np.float64), labels, scores
        ):
            covariance = np.empty((3, 3))
            covariance[_UPPER] = covariance.T[_UPPER] = look[:6]
            yaw, visible = float(look[9]), float(look[10])
            found.append(Detection(label, position, look[6:9], covariance, score, yaw=yaw, visible=visible))
        return tuple(found)


def _thin(scan: Scan, resolution: float) -> Scan:
    if scan.origin is None:
        return scan
    chosen = one_per_voxel(scan.points, scan.hit, resolution)
    return Scan(scan.points[chosen], scan.hit[chosen], scan.labels[chosen], scan.origin)


def pack_keyframe(keyframe: Keyframe) -> bytes:
    """Returns a keyframe as bytes: sightings as they are, then scans, zstd-compressed.

    Points are int16, in steps that fit the farthest.
    """
    form, looks = _FORMAT, keyframe.looks
    if len(looks) < len(keyframe.objects):
        form, looks = _BARE, looks[:0]
    head = _HEAD.pack(form, keyframe.stamp, len(keyframe.scans), len(keyframe.objects))
    seen = keyframe.objects.astype("<i8").tobytes() + keyframe.positions.astype("<f8").tobytes()
    if form == _FORMAT:
        seen += looks.astype("<f4").tobytes() + keyframe.origin.astype("<f8").tobytes()
        seen += keyframe.labels.astype("<i4").tobytes() + keyframe.scores.astype("<f4").tobytes()
        seen += _COUNT.pack(len(keyframe.missed)) + keyframe.missed.astype("<i8").tobytes()
    parts = []
    for scan in keyframe.scans:
        reach = float(np.abs(scan.points).max()) if len(scan.points) else 0.0
        step = np.float32(max(reach / 32767.0, 1e-4))
        origin = (np.nan,) * 3 if scan.origin is None else tuple(scan.origin.tolist())
        parts.append(_SCAN.pack(len(scan.points), scan.origin is not None, step, *origin))
        steps = np.rint(scan.points.astype(np.float64) / float(step)).astype("<i2")
        parts += [np.ascontiguousarray(steps.T).tobytes(), np.packbits(scan.hit).tobytes()]
        parts.append(scan.labels.astype("<i4").tobytes())
    return head + seen + (zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(parts)) if parts else b"")


def with_objects(payload: bytes, ids: Mapping[int, int]) -> bytes:
    """Returns what `pack_keyframe` made with other ids of objects.

    Args:
        payload: not of the first format.
        ids: by the number of the sighting.
    """
    count = _HEAD.unpack_from(payload)[3]
    held = np.frombuffer(payload, "<i8", count, _HEAD.size).copy()
    held[list(ids)] = list(ids.values())
    return payload[: _HEAD.size] + held.tobytes() + payload[_HEAD.size + held.nbytes :]


def unpack_sightings(payload: bytes) -> Keyframe:
    """Reads what `pack_keyframe` made without its scans, in microseconds.

    Raises:
        StoreError: the payload is damaged.
    """
    return _opened(payload)[0]


def count_scans(payload: bytes) -> int:
    """Returns how many scans there are in what `pack_keyframe` made.

    Raises:
        StoreError: the payload is damaged.
    """
    return _opened(payload)[1]


def unpack_keyframe(payload: bytes) -> Keyframe:
    """Reads what `pack_keyframe` made.

    Raises:
        StoreError: the payload is damaged.
    """
    seen, count, reader = _opened(payload)
    try:
        if count and payload[:4] != _ZSTD:
            reader = _Reader(zstandard.ZstdDecompressor().decompress(payload[reader.at :]), 0)
        scans = tuple(_read_scan(reader) for _ in range(count))
    except (zstandard.ZstdError, struct.error, ValueError) as error:
        raise StoreError("a submap is damaged; restore the memory from a copy") from error
    return replace(seen, scans=scans)


def _opened(payload: bytes) -> tuple[Keyframe, int, _Reader]:
    """Returns a keyframe without its scans, how many these are, and what reads them."""
    try:
        is_old = payload[:4] == _ZSTD
        data = zstandard.ZstdDecompressor().decompress(payload) if is_old else payload
        form, stamp, scans, count = _HEAD.unpack_from(data)
        reader = _Reader(data, _HEAD.size)
        objects = reader.take("<i8", count).astype(np.int64)
        positions = reader.take("<f8", 3 * count).reshape(-1, 3).astype(np.float64)
        found = Keyframe(int(stamp), (), objects, positions)
        if form > _BARE:
            looks = reader.take("<f4", LOOK * count).reshape(-1, LOOK)
            found = replace(found, looks=looks, origin=reader.take("<f8", 3).astype(np.float64))
        if form > _SEEN:
            labels, scores = reader.take("<i4", count), reader.take("<f4", count)
            missed = reader.take("<i8", int(reader.take("<u4", 1)[0])).astype(np.int64)
            found = replace(found, labels=labels.astype(np.int32), scores=scores, missed=missed)
    except (zstandard.ZstdError, struct.error, ValueError) as error:
        raise StoreError("a submap is damaged; restore the memory from a copy") from error
    return found, scans, reader


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, kind: str, count: int) -> NDArray[Any]:
        """Returns the next `count` numbers."""
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found


def _read_scan(reader: _Reader) -> Scan:
    count, cast, step, x, y, z = _SCAN.unpack_from(reader.data, reader.at)
    reader.at += _SCAN.size
    steps = reader.take("<i2", 3 * count).reshape(3, count)
    points = (np.ascontiguousarray(steps.T).astype(np.float64) * step).astype(np.float32)
    hit = np.unpackbits(reader.take("u1", -(-count // 8)), count=count).astype(bool)
    labels = reader.take("<i4", count).astype(np.int32)
    return Scan(points, hit, labels, np.array([x, y, z]) if cast else None)
