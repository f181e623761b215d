"""Decoding of image messages: raw, JPEG, PNG, compressedDepth (PNG and RVL).

All functions take a deserialised sensor_msgs/Image or CompressedImage and the topic's name,
which the errors mention.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import LogError
from embodied_mem.log.messages import DamagedMessageError

MILLIMETRE = np.float32(1000.0)
NO_READING = 65535
"""16-bit depth that cameras give, beside 0, where they measured nothing."""

_LAYOUTS: dict[str, tuple[type, int]] = {
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "8UC1": (np.uint8, 1),
    "8UC3": (np.uint8, 3),
    "8UC4": (np.uint8, 4),
    "16UC1": (np.uint16, 1),
    "16SC1": (np.int16, 1),
    "32SC1": (np.int32, 1),
    "32FC1": (np.float32, 1),
    "yuv422": (np.uint8, 2),
    "uyvy": (np.uint8, 2),
    "yuv422_yuy2": (np.uint8, 2),
    "yuyv": (np.uint8, 2),
    "bayer_rggb8": (np.uint8, 1),
    "bayer_bggr8": (np.uint8, 1),
    "bayer_gbrg8": (np.uint8, 1),
    "bayer_grbg8": (np.uint8, 1),
}
"""dtype and number of channels by encoding (sensor_msgs/image_encodings.hpp)."""

_CHANNEL_ORDER = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0)}
_CHANNEL_ORDER |= {"8UC3": (2, 1, 0), "8UC4": (2, 1, 0)}  # OpenCV's order, as cv_bridge has it
_CV_CONVERSIONS = {
    "yuv422": "COLOR_YUV2RGB_UYVY",
    "uyvy": "COLOR_YUV2RGB_UYVY",
    "yuv422_yuy2": "COLOR_YUV2RGB_YUY2",
    "yuyv": "COLOR_YUV2RGB_YUY2",
    # OpenCV names a Bayer pattern by its second row's second and third pixel.
    "bayer_rggb8": "COLOR_BayerBG2RGB",
    "bayer_bggr8": "COLOR_BayerRG2RGB",
    "bayer_gbrg8": "COLOR_BayerGR2RGB",
    "bayer_grbg8": "COLOR_BayerGB2RGB",
}

COLOR_ENCODINGS = frozenset((*_CHANNEL_ORDER, *_CV_CONVERSIONS, "mono8", "8UC1"))
DEPTH_ENCODINGS = frozenset(("16UC1", "mono16", "32FC1"))
SEMANTIC_ENCODINGS = frozenset(("32SC1", "16UC1", "16SC1", "mono16", "mono8", "8UC1"))


def is_compressed(message: Any) -> bool:
    """True for a sensor_msgs/CompressedImage."""
    return hasattr(message, "format")


def encoding_of(message: Any) -> str:
    """Returns the encoding of an image's pixels; of a compressed one, as far as its format tells.

    compressedDepth gives "16UC1" or "32FC1"; a PNG or JPEG gives what its publisher says it
    compressed, or "" where it says nothing.
    """
    if not is_compressed(message):
        return str(message.encoding)
    head = str(message.format).split(";")[0].strip()
    if "compressedDepth" in message.format and head not in DEPTH_ENCODINGS:
        return "16UC1"
    return head if head in _LAYOUTS else ""


def decode_color(message: Any, topic: str) -> NDArray[np.uint8]:
    """Decodes a colour or grey image to (H, W, 3) uint8 RGB.

    Raises:
        LogError: it is no colour image, or smaller than it says.
        DamagedMessageError: it cannot be decoded.
    """
    if is_compressed(message):
        # The orientation in EXIF is ignored: CameraInfo describes the sensor's own pixels.
        import cv2

        bgr = _decode_file(bytes(message.data), topic, "IMREAD_COLOR", "IMREAD_IGNORE_ORIENTATION")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    encoding = str(message.encoding)
    if encoding not in COLOR_ENCODINGS:
        raise LogError(f'{topic} has encoding "{encoding}", which is no colour; choose another with --remap')
    pixels = raw_pixels(message, topic)  # (H, W) or (H, W, C)
    if encoding in _CHANNEL_ORDER:
        return np.ascontiguousarray(pixels[..., list(_CHANNEL_ORDER[encoding])])
    if encoding in _CV_CONVERSIONS:
        import cv2

        return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), getattr(cv2, _CV_CONVERSIONS[encoding])))
    return np.repeat(pixels[..., None], 3, axis=-1)


def decode_depth(message: Any, topic: str) -> NDArray[np.float32]:
    """Decodes a depth image to (H, W) float32 planar depth [m] (REP-117, REP-118).

    16-bit depth is in millimetres; its 0 and 65535 become 0, no reading.

    Raises:
        LogError: it is no depth image, or smaller than it says.
        DamagedMessageError: it cannot be decoded.
    """
    if is_compressed(message):
        return _decode_compressed_depth(message, topic)
    encoding = str(message.encoding)
    if encoding not in DEPTH_ENCODINGS:
        raise LogError(f'{topic} has encoding "{encoding}", which is no depth; choose another with --remap')
    pixels = raw_pixels(message, topic)
    if encoding == "32FC1":
        return np.ascontiguousarray(pixels)
    return _metres(pixels)


def decode_semantic(message: Any, topic: str) -> NDArray[np.int32]:
    """Decodes a label image to (H, W) int32.

    Raises:
        LogError: it is no label image, or smaller than it says.
        DamagedMessageError: it cannot be decoded.
    """
    pixels: NDArray[Any]
    if is_compressed(message):
        pixels = _decode_file(bytes(message.data), topic, "IMREAD_UNCHANGED")
    else:
        encoding = str(message.encoding)
        if encoding not in SEMANTIC_ENCODINGS:
            raise LogError(f'{topic} has encoding "{encoding}", which holds no labels; use 16UC1 or 32SC1')
        pixels = raw_pixels(message, topic)
    if pixels.ndim != 2:
        raise LogError(f"{topic} holds a picture of labels, not labels; use 16UC1 or 32SC1")
    return pixels.astype(np.int32)


DECODERS: dict[str, Callable[[Any, str], NDArray[Any]]] = {
    "color": decode_color,
    "depth": decode_depth,
    "semantic": decode_semantic,
}
"""The decoder of each kind of image, by the name of its field in `CameraFrame`."""


def raw_pixels(message: Any, topic: str) -> NDArray[Any]:
    """Returns the pixels of a sensor_msgs/Image, (H, W) or (H, W, C), in the machine's byte order.

    Rows may be padded (`step`) and of either endianness.

    Raises:
        LogError: unknown encoding, or fewer bytes than the image's size needs.
    """
    encoding = str(message.encoding)
    if encoding not in _LAYOUTS:
        raise LogError(f'{topic} has the encoding "{encoding}", which is not supported')
    kind, channels = _LAYOUTS[encoding]
    dtype = np.dtype(kind)
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * channels * dtype.itemsize
    data = np.asarray(message.data, dtype=np.uint8)
    if step < row or data.size < height * step - (step - row):
        raise LogError(
            f"{topic} says {width}x{height} {encoding} but holds {data.size} bytes in rows of {step}"
        )
    if data.size < height * step:  # the last row may lack its padding
        data = np.pad(data, (0, height * step - data.size))
    rows = np.ascontiguousarray(data[: height * step].reshape(height, step)[:, :row])
    pixels = rows.view(dtype.newbyteorder(">" if message.is_bigendian else "<"))
    pixels = pixels.astype(dtype, copy=False)
    return pixels if channels == 1 else pixels.reshape(height, width, channels)


def _metres(pixels: NDArray[Any]) -> NDArray[np.float32]:
    depth = pixels.astype(np.float32) / MILLIMETRE
    depth[pixels == NO_READING] = 0.0
    return depth


def _decode_file(data: bytes, topic: str, *flags: str) -> NDArray[Any]:
    import cv2

    flag = 0
    for name in flags:
        flag |= getattr(cv2, name)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    if pixels is None:
        raise DamagedMessageError(f"{topic} holds a compressed image that cannot be decoded")
    return np.asarray(pixels)


def _decode_compressed_depth(message: Any, topic: str) -> NDArray[np.float32]:
    """Decodes what compressed_depth_image_transport wrote, or a plain 16-bit PNG.

    compressedDepth is a header of 12 bytes (int32 format, two float32 quantisation parameters),
    then a PNG, or RVL data. Float depth is quantised as inverse depth: z = a / (value - b).
    """
    data = bytes(message.data)
    if "compressedDepth" not in message.format:
        pixels = _decode_file(data, topic, "IMREAD_UNCHANGED")
        if pixels.dtype != np.uint16 or pixels.ndim != 2:
            raise LogError(f'{topic} has format "{message.format}", which is no depth')
        return _metres(pixels)
    if len(data) <= 12:
        raise DamagedMessageError(f"{topic} holds a compressed image that cannot be decoded")
    _, a, b = struct.unpack_from("<iff", data)
    if "rvl" in str(message.format).lower():
        pixels = decode_rvl(data[12:], topic)
    else:
        pixels = _decode_file(data[12:], topic, "IMREAD_UNCHANGED")
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise LogError(f'{topic} has format "{message.format}" but does not hold 16-bit depth')
    if encoding_of(message) == "32FC1":
        with np.errstate(divide="ignore"):
            depth = np.float32(a) / (pixels.astype(np.float32) - np.float32(b))
        depth[pixels == 0] = np.nan
        return depth
    return _metres(pixels)


def decode_rvl(data: bytes, topic: str) -> NDArray[np.uint16]:
    """Decodes RVL depth (Wilson 2017, "Fast lossless depth image compression").

    The data is a stream of 4-bit nibbles in little-endian 32-bit words, most significant nibble
    first. A number is a run of nibbles of three bits each, lowest first, whose fourth bit says
    that more follow. Numbers alternate: how many zeros, how many values, then the values as
    zigzag differences.

    Args:
        data: int32 width, int32 height, then the stream.
        topic: for errors.

    Returns:
        (H, W) uint16.

    Raises:
        DamagedMessageError: the stream ends early.
    """
    damaged = DamagedMessageError(f"{topic} holds a compressed image that cannot be decoded")
    if len(data) < 8:
        raise damaged
    width, height = struct.unpack_from("<ii", data)
    if width <= 0 or height <= 0 or width * height > 1 << 26:
        raise damaged
    words = np.frombuffer(data[8 : 8 + (len(data) - 8) // 4 * 4], "<u4")
    shifts = np.arange(28, -4, -4, dtype=np.uint32)
    nibbles = ((words[:, None] >> shifts) & 15).astype(np.int64).reshape(-1)
    numbers = _join_nibbles(nibbles)
    pixels = np.zeros(width * height, np.int64)
    position, i, previous = 0, 0, 0
    while position < pixels.size:
        if i + 1 >= numbers.size:
            raise damaged
        zeros, count = int(numbers[i]), int(numbers[i + 1])
        position += zeros
        deltas = numbers[i + 2 : i + 2 + count]
        if deltas.size < count or position + count > pixels.size:
            raise damaged
        values = previous + np.cumsum((deltas >> 1) ^ -(deltas & 1))
        pixels[position : position + count] = values
        previous = int(values[-1]) if count else previous
        position, i = position + count, i + 2 + count
    return pixels.astype(np.uint16).reshape(height, width)


def _join_nibbles(nibbles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Joins runs of nibbles whose fourth bit says "more follow" to one number each."""
    ends = np.flatnonzero(nibbles < 8)
    nibbles = nibbles[: ends[-1] + 1] if ends.size else nibbles[:0]
    starts = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
    within = np.arange(nibbles.size) - np.repeat(starts, ends - starts + 1)
    parts = (nibbles & 7) << np.minimum(3 * within, 60)
    return np.add.reduceat(parts, starts) if ends.size else parts
