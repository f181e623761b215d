"""The camera of an image from its CameraInfo, checked against the image."""

from __future__ import annotations

from typing import Any

from embodied_mem.errors import LogError
from embodied_mem.types import Intrinsics


def read_intrinsics(info: Any, size: tuple[int, int], topic: str, info_topic: str) -> Intrinsics:
    """Reads a sensor_msgs/CameraInfo, with region of interest and binning folded in.

    Args:
        info: the message.
        size: (width, height) [px] of the image.
        topic: of the image, for the error.
        info_topic: of the CameraInfo, for the error.

    Raises:
        LogError: the image is not of the size that its CameraInfo says.
    """
    from embodied_mem.perception.camera import intrinsics_from_camera_info

    intrinsics = intrinsics_from_camera_info(
        width=int(info.width),
        height=int(info.height),
        k=info.k,
        d=info.d,
        model=str(info.distortion_model),
        r=info.r,
        p=info.p,
        roi=(int(info.roi.x_offset), int(info.roi.y_offset), int(info.roi.width), int(info.roi.height)),
        binning=(int(info.binning_x), int(info.binning_y)),
    )
    if (intrinsics.width, intrinsics.height) != size:
        raise LogError(
            f"{topic} holds images of {size[0]}x{size[1]}, but {info_topic} describes a camera of "
            f"{intrinsics.width}x{intrinsics.height}; choose the right one with --remap"
        )
    return intrinsics
