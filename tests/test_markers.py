"""Printed markers and detection networks become objects."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.perception import (
    DetectorConfig,
    EmbedderConfig,
    ImageModel,
    MarkerConfig,
    OnnxConfig,
    OnnxDetector,
    Perception,
    PerceptionConfig,
    SnapshotConfig,
)
from embodied_mem.perception.markers import MarkerDetector
from embodied_mem.types import CameraFrame, Image, Intrinsics, LabelMap, Observation

K = Intrinsics(640, 480, 500.0, 500.0, 319.5, 239.5)
MOUNT = Pose(np.array([0.0, 0.0, 1.0]), np.array([-0.5, 0.5, -0.5, 0.5]))
SIZE = 0.2


def picture(numbers: dict[int, tuple[float, float, float]], kind: str) -> np.ndarray:
    """Renders markers that face the camera at (right, down, ahead) [m]."""
    image = np.full((480, 640, 3), 200, np.uint8)
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, kind))
    for number, (x, y, z) in numbers.items():
        side = round(SIZE * 500 / z)
        marker = cv2.aruco.generateImageMarker(dictionary, number, side)
        u, v = round(x / z * 500 + 319.5 - side / 2), round(y / z * 500 + 239.5 - side / 2)
        image[v : v + side, u : u + side] = marker[..., None]
    return image


def frame(image: np.ndarray) -> CameraFrame:
    depth = np.full((480, 640), 3.0, np.float32)
    return CameraFrame("head", depth=Image(depth, K, MOUNT), color=Image(image, K, MOUNT))


@pytest.mark.parametrize("kind", ["DICT_4X4_50", "DICT_APRILTAG_36h11"])
def test_markers_are_found_where_they_are(kind: str):
    config = PerceptionConfig(markers=MarkerConfig(kind, SIZE))
    image = picture({7: (0.5, -0.2, 2.0), 3: (-0.6, 0.1, 3.0)}, kind)
    percept = Perception(config)(Observation(0, 0, Pose(), cameras=(frame(image),)))
    names = [percept.labels.name(d.label) for d in percept.detections]
    assert names == ["marker 3", "marker 7"]
    assert np.allclose(percept.detections[0].position, [3.0, 0.6, 0.9], atol=0.1)
    assert np.allclose(percept.detections[1].position, [2.0, -0.5, 1.2], atol=0.04)
    for thing in percept.detections:
        # Seen from the front a square's tilt is hardly told: it may look up to a few centimetres thick.
        assert np.allclose(np.sort(thing.extent)[1:], SIZE, atol=0.03) and thing.extent.min() < 0.75 * SIZE
        assert (np.linalg.eigvalsh(thing.covariance) > 0).all()


def test_without_markers_or_colour_nothing_is_found():
    detector = MarkerDetector(MarkerConfig("DICT_4X4_50"))
    assert detector(frame(np.zeros((480, 640, 3), np.uint8)), LabelMap())[0] == ()
    assert detector(CameraFrame("head"), LabelMap()) == ((), LabelMap())


def test_wrong_settings_say_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match="no marker dictionary"):
        MarkerDetector(MarkerConfig("DICT_NONE"))
    with pytest.raises(ConfigError, match="no such file"):
        OnnxDetector(OnnxConfig("no.onnx", ("cup",)))
    with pytest.raises(ConfigError, match=r"onnx\.classes"):
        OnnxConfig("a.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(ConfigError, match="cannot read"):
        OnnxDetector(OnnxConfig(str(tmp_path / "bad.onnx"), ("cup",)))


def field(number: int, value: int | bytes) -> bytes:
    """Encodes a protobuf field: a number, or bytes."""

    def varint(n: int) -> bytes:
        return bytes([n]) if n < 128 else bytes([n % 128 + 128]) + varint(n // 128)

    if isinstance(value, int):
        return varint(number * 8) + varint(value)
    return varint(number * 8 + 2) + varint(len(value)) + value


def tensor(name: bytes, array: np.ndarray) -> bytes:
    dims = b"".join(field(1, n) for n in array.shape)
    return dims + field(2, 1) + field(8, name) + field(9, array.astype("<f4").tobytes())


def node(kind: bytes, inputs: list[bytes], output: bytes, attributes: bytes = b"") -> bytes:
    return b"".join(field(1, i) for i in inputs) + field(2, output) + field(4, kind) + attributes


def model(nodes: list[bytes], tensors: list[bytes], size: int, output: tuple[int, ...]) -> bytes:
    """Makes an ONNX file from "image" (1, 3, size, size) to "output"."""

    def value(name: bytes, shape: tuple[int, ...]) -> bytes:
        dims = b"".join(field(1, field(1, n)) for n in shape)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    graph = b"".join(field(1, n) for n in nodes) + field(2, b"net")
    graph += b"".join(field(5, t) for t in tensors)
    graph += field(11, value(b"image", (1, 3, size, size))) + field(12, value(b"output", output))
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


def network(boxes: np.ndarray) -> bytes:
    """Makes an ONNX file: whatever the picture shows, it gives these boxes."""
    none = node(b"GlobalAveragePool", [b"image"], b"mean")  # (1, 3, 1, 1)
    zero = node(b"Conv", [b"mean", b"weights"], b"zero")  # (1, 1, 1, 1)
    add = node(b"Add", [b"boxes", b"zero"], b"output")
    tensors = [tensor(b"weights", np.zeros((1, 3, 1, 1), np.float32)), tensor(b"boxes", boxes[None])]
    return model([none, zero, add], tensors, 640, (1, *boxes.shape))


def test_boxes_of_a_network_are_lifted_by_depth(tmp_path):
    # Two boxes of one cup, of which the surer one is kept, and one below the threshold.
    boxes = np.zeros((1, 6, 3), np.float32)
    boxes[0, :, 0] = (320, 240, 60, 80, 0.1, 0.9)
    boxes[0, :, 1] = (322, 240, 60, 80, 0.1, 0.8)
    boxes[0, :, 2] = (100, 100, 40, 40, 0.2, 0.1)
    (tmp_path / "net.onnx").write_bytes(network(boxes))
    view = frame(np.full((480, 640, 3), 128, np.uint8))
    view.depth.data[200:280, 290:350] = 1.5
    config = PerceptionConfig(onnx=OnnxConfig(str(tmp_path / "net.onnx"), ("dog", "cup")))
    percept = Perception(config)(Observation(0, 0, Pose(), cameras=(view,)))
    (cup,) = percept.detections
    assert percept.labels.name(cup.label) == "cup" and np.isclose(cup.score, 0.9)
    assert np.allclose(cup.position, [1.5, 0.0, 1.0], atol=0.02)
    assert np.allclose(np.sort(cup.extent), [0.0, 0.18, 0.24], atol=0.02)
    assert cup.embedding is not None and np.isclose(np.linalg.norm(cup.embedding), 1.0)


def test_markers_in_a_real_kitchen_become_objects_in_their_places(data_dir):
    """Printed markers rendered into recorded frames, by the frames' own poses."""
    from embodied_mem.memory import Memory

    folder = data_dir / "rgbd_kitchen"
    k = np.loadtxt(folder / "camera-intrinsics.txt")
    camera = Intrinsics(640, 480, k[0, 0], k[1, 1], k[0, 2], k[1, 2])
    frames = sorted(folder.glob("*.color.jpg"))[:12]
    first = Pose.from_matrix(np.loadtxt(str(frames[0]).replace("color.jpg", "pose.txt")))
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * SIZE / 2
    places = {5: np.array([-0.3, 0.0, 1.5]), 9: np.array([0.35, -0.1, 1.8])}
    perceive = Perception(PerceptionConfig(markers=MarkerConfig("DICT_4X4_50", SIZE)))
    memory = Memory()
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    for step, path in enumerate(frames):
        pose = Pose.from_matrix(np.loadtxt(str(path).replace("color.jpg", "pose.txt")))
        image = cv2.imread(str(path))[..., ::-1].copy()
        for number, place in places.items():
            corners = pose.inverse().transform(first.transform(square + place))
            pixels = corners[:, :2] / corners[:, 2:] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
            marker = cv2.aruco.generateImageMarker(dictionary, number, 200)
            marker = cv2.copyMakeBorder(marker, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=255)
            inner = np.array([[40, 40], [239, 40], [239, 239], [40, 239]], np.float32)
            warp = cv2.getPerspectiveTransform(inner, pixels.astype(np.float32))
            there = cv2.warpPerspective(np.full_like(marker, 255), warp, (640, 480)) > 128
            image[there] = cv2.warpPerspective(marker, warp, (640, 480), flags=cv2.INTER_AREA)[there][:, None]
        view = CameraFrame("head", color=Image(image, camera, Pose()))
        memory.write(perceive(Observation(step * 10**9, step, pose, cameras=(view,))))
    things = {thing.name: thing for thing in memory.scene.objects()}
    assert sorted(things) == ["marker 5", "marker 9"]
    for number, place in places.items():
        assert np.allclose(things[f"marker {number}"].position, first.transform(place), atol=0.02)


def test_a_network_says_what_things_and_views_look_like(tmp_path):
    # The tiniest image encoder: the mean colour, against the network's own mean.
    mean = node(b"GlobalAveragePool", [b"image"], b"mean")
    flat = node(b"Flatten", [b"mean"], b"output")
    (tmp_path / "clip.onnx").write_bytes(model([mean, flat], [], 32, (1, 3)))
    config = EmbedderConfig(str(tmp_path / "clip.onnx"), input_size=32)
    image = np.full((480, 640, 3), (220, 20, 20), np.uint8)
    image[200:280, 290:350] = (20, 20, 220)
    view = frame(image)
    label = np.zeros((480, 640), np.int32)
    label[200:280, 290:350] = 1
    view.depth.data[200:280, 290:350] = 1.5
    view = dataclasses.replace(view, semantic=Image(label, K, MOUNT))
    perceive = Perception(
        PerceptionConfig(
            snapshot=SnapshotConfig(every=1), detector=DetectorConfig(labels=("cup",)), embedder=config
        )
    )
    percept = perceive(Observation(0, 0, Pose(), labels=LabelMap(("unknown", "cup")), cameras=(view,)))
    (cup,) = percept.detections
    assert cup.embedding.shape == (3,) and cup.embedding.argmax() == 2, "the thing is blue"
    assert percept.embedding.argmax() == 0 and np.isclose(np.linalg.norm(percept.embedding), 1.0), (
        "a red view"
    )
    assert np.allclose(ImageModel(config).image(image), percept.embedding, atol=0.02)
    with pytest.raises(ConfigError, match="no such file"):
        ImageModel(EmbedderConfig("no.onnx"))
    with pytest.raises(ConfigError, match="deviation"):
        EmbedderConfig(deviation=(0.0, 1.0, 1.0))
