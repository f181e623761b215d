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
from embodied_mem.ros.clouds import cloud, read_cloud
from embodied_mem.ros.declaration import EVENT, Endpoint
from embodied_mem.types import Detection, LabelMap, Percept, Scan

INFO = Endpoint("percept/info", topics.STRING, EVENT, "poses, labels, goal, what belongs to it; JSON")
POINTS = Endpoint("percept/points", "sensor_msgs/msg/PointCloud2", EVENT, "range evidence, base frame")
DETECTIONS = Endpoint("percept/detections", topics.DETECTIONS_3D, EVENT, "objects, base frame")
EMBEDDINGS = Endpoint("percept/embeddings", topics.FLOAT32_ARRAY, EVENT, "(detections, D) embeddings")
SNAPSHOT = Endpoint("percept/snapshot", topics.IMAGE, EVENT, "the moment as an image, rgb8")
ENDPOINTS = (INFO, POINTS, DETECTIONS, EMBEDDINGS, SNAPSHOT)

_POINT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("label", "<i4"),
        ("scan", "<u2"),
        ("hit", "u1"),
        ("pad", "u1"),
    ]
)


def to_messages(percept: Percept, commands: Any = ()) -> Iterator[tuple[Endpoint, Any]]:
    """Yields a percept's messages, `INFO` last; `commands` for the memory go before it is written."""
    parts = {"points": bool(percept.scans), "snapshot": percept.snapshot is not None}
    if percept.scans:
        rows = np.concatenate([_rows(i, scan) for i, scan in enumerate(percept.scans)])
        yield POINTS, cloud(rows, percept.stamp, topics.BASE_FRAME)
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
        "origins": [None if s.origin is None else s.origin.tolist() for s in percept.scans],
        "embedding": None if percept.embedding is None else percept.embedding.tolist(),
        "action": action.tolist() if isinstance(action, np.ndarray) else action,
        "reward": float(percept.reward),
        "is_first": percept.is_first,
        "event": percept.event,
        "text": percept.text,
        "source": percept.source,
        "commands": [{"name": c.name, "arguments": dict(c.arguments)} for c in commands],
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

    def push(self, topic: str, message: Any, now: int) -> None:
        """Takes a message in at a time [ns]."""
        if topic == INFO.topic:
            self._infos.append((messages.read_json(message, topic), now))
        elif topic == EMBEDDINGS.topic:
            self._embeddings.append(message)
        else:
            self._parts.setdefault(topic, {})[messages.stamp_ns(message.header)] = message

    def take(self, now: int, patience: int) -> Iterator[tuple[Percept, list[dict[str, Any]]]]:
        """Yields complete percepts in order, with their commands; gives up those that wait too long [ns]."""
        while self._infos:
            info, arrival = self._infos[0]
            missing = [p for p in info["parts"] if not self._has(p, info["stamp"])]
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
        for found in self._parts.values():
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
        scans = _scans(self._parts[POINTS.topic][stamp], info["origins"]) if "points" in parts else ()
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
        )


def _scans(message: Any, origins: list[Any]) -> tuple[Scan, ...]:
    rows = read_cloud(message)
    if rows.dtype != _POINT:
        raise LogError(f"{POINTS.topic} has other fields than a percept's points")
    found = []
    for number, origin in enumerate(origins):
        mine = rows[rows["scan"] == number] if len(origins) > 1 else rows
        points = np.stack([mine["x"], mine["y"], mine["z"]], axis=-1)  # (N, 3)
        found.append(
            Scan(
                points=np.ascontiguousarray(points, np.float32),
                hit=mine["hit"].astype(bool),
                labels=mine["label"].astype(np.int32),
                origin=None if origin is None else np.array(origin, np.float64),
            )
        )
    return tuple(found)
