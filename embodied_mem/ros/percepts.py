"""Percepts as messages: a cloud of range evidence, detections, a snapshot, and the rest as JSON.

The JSON (`percept/info`) says which parts belong to it; all carry the same stamp. Every number
survives bit for bit, so that a memory in another process has the same digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import images, messages, topics
from embodied_mem.log.clouds import cloud, read_cloud
from embodied_mem.ros.declaration import EVENT, Endpoint
from embodied_mem.types import Detection, Image, Intrinsics, LabelMap, Percept, Scan

INFO = Endpoint("percept/info", topics.STRING, EVENT, "poses, labels, goal, what belongs to it; JSON")
POINTS = Endpoint("percept/points", "sensor_msgs/msg/PointCloud2", EVENT, "range evidence, base frame")
DETECTIONS = Endpoint("percept/detections", topics.DETECTIONS_3D, EVENT, "objects, base frame")
EMBEDDINGS = Endpoint("percept/embeddings", topics.FLOAT32_ARRAY, EVENT, "(detections, D) embeddings")
SNAPSHOT = Endpoint("percept/snapshot", topics.IMAGE, EVENT, "the moment as an image, rgb8")
DEPTH = Endpoint(
    "percept/depth", topics.IMAGE, EVENT, "the depth image of a scan; frame_id is the scan's number"
)
ENDPOINTS = (INFO, POINTS, DEPTH, DETECTIONS, EMBEDDINGS, SNAPSHOT)

_POINT = np.dtype(
    {
        "names": ["x", "y", "z", "label", "pixel", "scan", "hit", "pad"],
        "formats": ["<f4", "<f4", "<f4", "<i4", "<i4", "<u2", "u1", "u1"],
    }
)


def to_messages(percept: Percept, commands: Any = ()) -> Iterator[tuple[Endpoint, Any]]:
    """Yields a percept's messages, `INFO` last; `commands` for the memory go before it is written."""
    parts = {"points": bool(percept.scans), "snapshot": percept.snapshot is not None}
    if percept.scans:
        rows = np.concatenate([_rows(i, scan) for i, scan in enumerate(percept.scans)])
        yield POINTS, cloud(rows, percept.stamp, topics.BASE_FRAME)
    for number, scan in enumerate(percept.scans):
        if scan.image is not None:
            yield DEPTH, messages.image(scan.image.data, "32FC1", percept.stamp, str(number))
    if percept.detections:
        yield DETECTIONS, messages.detections(percept.detections, percept.stamp)
        embeddings = messages.embedding_array(percept.detections)
        if embeddings is not None:
            yield EMBEDDINGS, embeddings
            parts["embeddings"] = True
    parts["detections"] = bool(percept.detections)
    if percept.snapshot is not None:
        yield SNAPSHOT, messages.image(percept.snapshot, "rgb8", percept.stamp, topics.BASE_FRAME)
    yield INFO, messages.json_string(_info(percept, parts, commands))


def _rows(number: int, scan: Scan) -> NDArray[Any]:
    rows = np.zeros(len(scan.points), _POINT)
    rows["x"], rows["y"], rows["z"] = scan.points[:, 0], scan.points[:, 1], scan.points[:, 2]
    rows["label"], rows["hit"], rows["scan"] = scan.labels, scan.hit, number
    rows["pixel"] = -1 if scan.pixels is None else scan.pixels
    return rows


def _info(percept: Percept, parts: dict[str, bool], commands: Any) -> dict[str, Any]:
    action = percept.action
    return {
        "stamp": percept.stamp,
        "step": percept.step,
        "parts": [name for name, there in parts.items() if there],
        "odom_T_base": percept.odom_T_base.to_list(),
        "map_T_odom": percept.map_T_odom.to_list(),
        "covariance": None if percept.covariance is None else percept.covariance.reshape(-1).tolist(),
        "labels": list(percept.labels.names),
        "scans": [_scan_info(scan) for scan in percept.scans],
        "embedding": None if percept.embedding is None else percept.embedding.tolist(),
        "action": action.tolist() if isinstance(action, np.ndarray) else action,
        "reward": float(percept.reward),
        "is_first": percept.is_first,
        "event": percept.event,
        "text": percept.text,
        "source": percept.source,
        "embedder": percept.embedder,
        "commands": [{"name": c.name, "arguments": dict(c.arguments)} for c in commands],
    }


def _scan_info(scan: Scan) -> dict[str, Any]:
    image = scan.image
    return {
        "origin": None if scan.origin is None else scan.origin.tolist(),
        "max_range": scan.max_range,
        "has_pixels": scan.pixels is not None,
        "intrinsics": None if image is None else vars(image.intrinsics),
        "base_T_camera": None if image is None else image.base_T_camera.to_list(),
    }


@dataclass
class PerceptReader:
    """Puts the messages of percepts together.

    Attributes:
        lost: percepts given up because a part did not come.
    """

    lost: int = 0
    _infos: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    _parts: dict[str, dict[int, Any]] = field(default_factory=dict)
    _embeddings: list[Any] = field(default_factory=list)
    _depths: dict[int, dict[int, Any]] = field(default_factory=dict)

    def push(self, topic: str, message: Any, now: int) -> None:
        """Takes a message in at a time [ns]."""
        if topic == INFO.topic:
            self._infos.append((messages.read_json(message, topic), now))
        elif topic == EMBEDDINGS.topic:
            self._embeddings.append(message)
        elif topic == DEPTH.topic:
            stamp, number = messages.stamp_ns(message.header), int(message.header.frame_id)
            self._depths.setdefault(stamp, {})[number] = message
        else:
            self._parts.setdefault(topic, {})[messages.stamp_ns(message.header)] = message

    def take(self, now: int, patience: int) -> Iterator[tuple[Percept, list[dict[str, Any]]]]:
        """Yields complete percepts in order, with their commands; gives up those that wait too long [ns]."""
        while self._infos:
            info, arrival = self._infos[0]
            missing = [p for p in info["parts"] if not self._has(p, info["stamp"])]
            depths = sum(scan["intrinsics"] is not None for scan in info["scans"])
            if len(self._depths.get(info["stamp"], ())) < depths:
                missing.append("depth")
            if missing and now - arrival <= patience and len(self._infos) < 50:
                return
            self._infos.pop(0)
            if missing:
                self.lost += 1
            else:
                yield self._build(info), info["commands"]
            self._forget(info["stamp"])

    def _has(self, part: str, stamp: int) -> bool:
        if part == "embeddings":
            return bool(self._embeddings)
        return stamp in self._parts.get(f"percept/{part}", {})

    def _forget(self, stamp: int) -> None:
        for found in (*self._parts.values(), self._depths):
            for old in [s for s in found if s <= stamp]:
                del found[old]

    def _build(self, info: dict[str, Any]) -> Percept:
        stamp, parts = info["stamp"], info["parts"]
        embeddings = messages.read_multi_array(self._embeddings.pop(0)) if "embeddings" in parts else None
        detections: tuple[Detection, ...] = ()
        snapshot = None
        if "detections" in parts:
            found = self._parts[DETECTIONS.topic][stamp]
            detections = messages.read_detections(found, embeddings)
        if "snapshot" in parts:
            snapshot = images.decode_color(self._parts[SNAPSHOT.topic][stamp], SNAPSHOT.topic)
        covariance, embedding, action = info["covariance"], info["embedding"], info["action"]
        scans = self._scans(info) if "points" in parts else ()
        return Percept(
            stamp=stamp,
            step=info["step"],
            odom_T_base=Pose.from_list(info["odom_T_base"]),
            map_T_odom=Pose.from_list(info["map_T_odom"]),
            covariance=None if covariance is None else np.array(covariance, np.float64).reshape(6, 6),
            labels=LabelMap(tuple(info["labels"])),
            scans=scans,
            detections=detections,
            snapshot=snapshot,
            embedding=None if embedding is None else np.array(embedding, np.float32),
            action=np.array(action, np.float64) if isinstance(action, list) else action,
            reward=float(info["reward"]),
            is_first=bool(info["is_first"]),
            event=info["event"],
            text=info["text"],
            source=info["source"],
            embedder=info.get("embedder", ""),
        )

    def _scans(self, info: dict[str, Any]) -> tuple[Scan, ...]:
        rows = read_cloud(self._parts[POINTS.topic][info["stamp"]])
        if rows.dtype != _POINT:
            raise LogError(f"{POINTS.topic} has other fields than a percept's points")
        depths = self._depths.get(info["stamp"], {})
        return tuple(
            _scan(rows[rows["scan"] == number], about, depths.get(number))
            for number, about in enumerate(info["scans"])
        )


def _scan(rows: NDArray[Any], about: dict[str, Any], depth: Any) -> Scan:
    points = np.stack([rows["x"], rows["y"], rows["z"]], axis=-1)  # (N, 3)
    image = None
    if about["intrinsics"] is not None:
        camera = dict(about["intrinsics"])
        camera["coefficients"] = tuple(camera["coefficients"])
        data = images.decode_depth(depth, DEPTH.topic)
        image = Image(data, Intrinsics(**camera), Pose.from_list(about["base_T_camera"]))
    return Scan(
        points=np.ascontiguousarray(points, np.float32),
        hit=rows["hit"].astype(bool),
        labels=rows["label"].astype(np.int32),
        origin=None if about["origin"] is None else np.array(about["origin"], np.float64),
        image=image,
        pixels=rows["pixel"].astype(np.int64) if about["has_pixels"] else None,
        max_range=float(about["max_range"]),
    )
