"""ArUco and AprilTag markers as objects: every marker is told apart by its number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.perception.camera import check_image
from embodied_mem.perception.config import MarkerConfig
from embodied_mem.types import CameraFrame, Detection, LabelMap


def marker_label(number: int) -> str:
    """Returns the name of the label of a marker, for example "marker 7"."""
    return f"marker {number}"


class MarkerDetector:
    """Finds square fiducial markers in colour images, by OpenCV's ArUco module, which knows AprilTags too.

    The pose comes from the marker's known size alone, so no depth is needed.

    Args:
        config: which markers, how large.

    Raises:
        ConfigError: OpenCV has no such dictionary, or was built without ArUco.
    """

    def __init__(self, config: MarkerConfig) -> None:
        import cv2

        self.config = config
        aruco: Any = getattr(cv2, "aruco", None)
        if aruco is None:
            raise ConfigError("this OpenCV has no ArUco module; install opencv-python 4.9 or later")
        number = getattr(aruco, config.dictionary, None)
        if number is None or not config.dictionary.startswith("DICT_"):
            raise ConfigError(
                f'OpenCV knows no marker dictionary "{config.dictionary}"; there are for example '
                "DICT_4X4_50 and DICT_APRILTAG_36h11"
            )
        settings = aruco.DetectorParameters()
        settings.cornerRefinementMethod = aruco.CORNER_REFINE_SUBPIX
        self._detector = aruco.ArucoDetector(aruco.getPredefinedDictionary(number), settings)

    def labels(self, labels: LabelMap, numbers: list[int]) -> LabelMap:
        """Returns labels that name these markers too; ids keep their names."""
        new = [marker_label(n) for n in numbers if marker_label(n) not in labels.names]
        return LabelMap((*labels.names, *dict.fromkeys(new)))

    def __call__(self, camera: CameraFrame, labels: LabelMap) -> tuple[tuple[Detection, ...], LabelMap]:
        """Returns the markers that one camera sees, in the base frame by number, and labels that name them.

        Args:
            camera: needs a colour image; without one there is nothing to find.
            labels: names of the label ids.

        Raises:
            InputError: the image's size contradicts its calibration.
        """
        import cv2

        color = camera.color
        if color is None:
            return (), labels
        check_image(color, f"{camera.name}: colour")
        corners, ids, _ = self._detector.detectMarkers(cv2.cvtColor(color.data, cv2.COLOR_RGB2GRAY))
        if ids is None or len(ids) == 0:
            return (), labels
        order = np.argsort(ids.reshape(-1), kind="stable").tolist()
        numbers = [int(ids.reshape(-1)[i]) for i in order]
        labels = self.labels(labels, numbers)
        found = []
        for i, number in zip(order, numbers):
            thing = self._detection(
                np.asarray(corners[i]).reshape(4, 2), labels.id(marker_label(number)), color
            )
            if thing is not None:
                found.append(thing)
        return tuple(found), labels

    def _detection(self, corners: NDArray[np.float32], label: int, color: Any) -> Detection | None:
        import cv2

        k, half = color.intrinsics, self.config.size / 2
        matrix = np.array([[k.fx, 0.0, k.cx], [0.0, k.fy, k.cy], [0.0, 0.0, 1.0]])
        coefficients = np.array(k.coefficients if k.is_distorted else [0.0] * 4, np.float64)
        square = np.array([[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]])
        good, turn, shift = cv2.solvePnP(
            square, corners.astype(np.float64), matrix, coefficients, flags=cv2.SOLVEPNP_IPPE_SQUARE
        )
        position = np.asarray(shift, np.float64).reshape(3)
        if not good or not np.isfinite(position).all() or not 0.0 < position[2] <= self.config.max_range:
            return None
        mount: Pose = color.base_T_camera
        rotation = np.asarray(cv2.Rodrigues(turn)[0], np.float64)
        axes = mount.rotate(rotation.T)  # (3, 3) rows: the marker's x, y and normal in the base frame
        extent = np.abs(axes[:2]).sum(axis=0) * self.config.size
        # One pixel of error in the marker's width is this much depth.
        width = float(np.sqrt(((corners[0] - corners[1]) ** 2).sum()))
        along = 0.5 * position[2] / max(width, 1.0)
        ray = mount.rotate(position / np.sqrt((position * position).sum()))
        across = 0.5 * position[2] / k.fx
        covariance = np.eye(3) * across**2 + np.outer(ray, ray) * (along**2 - across**2)
        return Detection(label, mount.transform(position), extent, covariance, self.config.score)
