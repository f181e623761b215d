"""Image messages decode to what their encodings say."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from embodied_mem.errors import LogError
from embodied_mem.log.images import decode_color, decode_depth, decode_semantic
from embodied_mem.log.messages import DamagedMessageError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)


def raw(data: np.ndarray[Any, Any], encoding: str, *, big: bool = False, padding: int = 0) -> Any:
    rows = data.astype(data.dtype.newbyteorder(">" if big else "<")).reshape(len(data), -1)
    rows = np.ascontiguousarray(rows).view(np.uint8).reshape(len(data), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return SimpleNamespace(
        height=data.shape[0],
        width=data.shape[1],
        encoding=encoding,
        is_bigendian=int(big),
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def compressed(data: bytes, format: str) -> Any:
    return SimpleNamespace(format=format, data=np.frombuffer(data, np.uint8))


def file(kind: str, pixels: np.ndarray[Any, Any]) -> bytes:
    ok, data = cv2.imencode(kind, pixels)
    assert ok
    return bytes(data)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, RGB[..., :1]])),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., :1]])),
    ],
)
def test_colour_encodings_give_rgb(encoding: str, pixels: np.ndarray[Any, Any], padding: int) -> None:
    decoded = decode_color(raw(pixels, encoding, padding=padding), "/c")
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, RGB)


def test_grey_becomes_three_equal_channels() -> None:
    decoded = decode_color(raw(RGB[..., 0], "mono8"), "/c")
    np.testing.assert_array_equal(decoded, np.repeat(RGB[..., :1], 3, axis=-1))


def test_yuv_and_bayer_give_the_colour_that_was_there() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200
    y, u, v = cv2.cvtColor(red, cv2.COLOR_RGB2YUV)[0, 0]
    for encoding, pair in (("yuv422", [u, y, v, y]), ("yuv422_yuy2", [y, u, y, v])):
        pixels = np.tile(np.array(pair, np.uint8).reshape(2, 2), (4, 2, 1))
        mean = decode_color(raw(pixels, encoding), "/c").mean((0, 1))
        assert mean[0] > 180 and mean[1] < 60 and mean[2] < 60
    for encoding, (i, j) in (("bayer_rggb8", (0, 0)), ("bayer_bggr8", (1, 1))):
        mosaic = np.zeros((8, 8), np.uint8)
        mosaic[i::2, j::2] = 200
        middle = decode_color(raw(mosaic, encoding), "/c")[3:5, 3:5].mean((0, 1))
        assert middle[0] > 100 and middle[1] < 60 and middle[2] < 60
    for encoding, (i, j) in (("bayer_gbrg8", (1, 0)), ("bayer_grbg8", (0, 1))):
        mosaic = np.zeros((8, 8), np.uint8)
        mosaic[i::2, j::2] = 200
        middle = decode_color(raw(mosaic, encoding), "/c")[3:5, 3:5].mean((0, 1))
        assert middle[0] > 100 and middle[1] < 60 and middle[2] < 60


def test_compressed_colour_is_rgb() -> None:
    np.testing.assert_array_equal(decode_color(compressed(file(".png", RGB[..., ::-1]), "png"), "/c"), RGB)
    flat = np.full((16, 16, 3), (200, 60, 30), np.uint8)
    jpeg = decode_color(compressed(file(".jpg", flat[..., ::-1]), "rgb8; jpeg compressed bgr8"), "/c")
    np.testing.assert_allclose(jpeg, flat, atol=4)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
def test_depth_in_millimetres_and_metres(big: bool, padding: int) -> None:
    millimetres = RNG.integers(1, 65535, (5, 7)).astype(np.uint16)
    millimetres[0, :2] = [0, 65535]
    metres = decode_depth(raw(millimetres, "16UC1", big=big, padding=padding), "/d")
    assert metres.dtype == np.float32
    expected = (millimetres.astype(np.float64) / 1000).astype(np.float32)
    expected[0, 1] = 0  # no reading
    np.testing.assert_array_equal(metres, expected)
    values = RNG.uniform(0, 9, (5, 7)).astype(np.float32)
    values[0, :3] = [np.nan, np.inf, -np.inf]
    decoded = decode_depth(raw(values, "32FC1", big=big, padding=padding), "/d")
    assert decoded.tobytes() == values.tobytes()


@pytest.mark.parametrize("big", [False, True])
def test_labels_keep_their_sign(big: bool) -> None:
    labels = RNG.integers(-1, 100_000, (5, 7)).astype(np.int32)
    np.testing.assert_array_equal(decode_semantic(raw(labels, "32SC1", big=big), "/s"), labels)
    short = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
    decoded = decode_semantic(raw(short, "16UC1", big=big), "/s")
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, short)
    np.testing.assert_array_equal(decode_semantic(compressed(file(".png", short), "png"), "/s"), short)


def test_compressed_depth_png() -> None:
    millimetres = RNG.integers(1, 9000, (5, 7)).astype(np.uint16)
    png = file(".png", millimetres)
    header = struct.pack("<iff", 0, 0.0, 0.0)
    expected = millimetres.astype(np.float32) / np.float32(1000)
    for message in (
        compressed(header + png, "16UC1; compressedDepth png"),
        compressed(header + png, "16UC1; compressedDepth"),
        compressed(png, "png"),
    ):
        np.testing.assert_array_equal(decode_depth(message, "/d"), expected)


def test_compressed_float_depth_is_dequantised() -> None:
    # compressed_depth_image_transport: value = a / depth + b, 0 for no reading.
    depth = RNG.uniform(0.5, 8.0, (5, 7))
    a, b = 100.0 * 101.0, 1.0 - 101.0
    values = np.round(a / depth + b).astype(np.int64)
    values[0, 0] = 0
    png = file(".png", values.astype(np.uint16))
    decoded = decode_depth(compressed(struct.pack("<iff", 0, a, b) + png, "32FC1; compressedDepth png"), "/d")
    assert np.isnan(decoded[0, 0])
    np.testing.assert_allclose(decoded.ravel()[1:], depth.ravel()[1:], rtol=0.01)


def encode_rvl(pixels: np.ndarray[Any, Any]) -> bytes:
    """The encoder of Wilson (2017), as its listing has it: one nibble at a time."""
    nibbles: list[int] = []

    def number(value: int) -> None:
        while True:
            nibble, value = value & 7, value >> 3
            nibbles.append(nibble | (8 if value else 0))
            if not value:
                return

    flat, i, previous = pixels.ravel().tolist(), 0, 0
    while i < len(flat):
        start = i
        while i < len(flat) and flat[i] == 0:
            i += 1
        number(i - start)
        start = i
        while i < len(flat) and flat[i] != 0:
            i += 1
        number(i - start)
        for value in flat[start:i]:
            delta = value - previous
            number((delta << 1) ^ (delta >> 31))
            previous = value
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{n:x}" for n in nibbles[k : k + 8]), 16) for k in range(0, len(nibbles), 8)]
    return struct.pack("<ii", pixels.shape[1], pixels.shape[0]) + struct.pack(f"<{len(words)}I", *words)


def test_compressed_depth_rvl() -> None:
    millimetres = RNG.integers(0, 65535, (40, 56)).astype(np.uint16)
    millimetres[RNG.uniform(size=millimetres.shape) < 0.4] = 0
    millimetres[-3:] = 0
    header = struct.pack("<iff", 0, 0.0, 0.0)
    message = compressed(header + encode_rvl(millimetres), "16UC1; compressedDepth rvl")
    np.testing.assert_array_equal(
        decode_depth(message, "/d"), millimetres.astype(np.float32) / np.float32(1000)
    )
    for cut in (13, 30, len(message.data) // 2):
        with pytest.raises(DamagedMessageError, match="/d"):
            decode_depth(compressed(bytes(message.data)[:cut], message.format), "/d")


def test_damage_is_told_apart_from_what_is_not_supported() -> None:
    with pytest.raises(DamagedMessageError, match="/c"):
        decode_color(compressed(b"no image", "jpeg"), "/c")
    with pytest.raises(DamagedMessageError, match="/d"):
        decode_depth(compressed(b"", "16UC1; compressedDepth png"), "/d")
    for decode, message in (
        (decode_color, raw(RGB[..., 0].astype(np.uint16), "16UC1")),
        (decode_depth, raw(RGB, "rgb8")),
        (decode_semantic, raw(RGB, "rgb8")),
        (decode_color, raw(RGB[..., 0], "unheard_of")),
    ):
        with pytest.raises(LogError) as caught:
            decode(message, "/topic")
        assert not isinstance(caught.value, DamagedMessageError) and "\n" not in str(caught.value)


def test_an_image_with_fewer_bytes_than_its_size_needs_is_one_line() -> None:
    message = raw(RGB, "rgb8")
    message.data = message.data[:-10]
    with pytest.raises(LogError, match=r"/c says 7x5 rgb8 but holds 95 bytes"):
        decode_color(message, "/c")
    message = raw(RGB, "rgb8", padding=4)
    message.data = message.data[:-4]  # the last row may lack its padding
    np.testing.assert_array_equal(decode_color(message, "/c"), RGB)
