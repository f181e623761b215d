"""sensor_msgs/PointCloud2 to and from structured arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import LogError
from embodied_mem.log import messages

_DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""dtype by sensor_msgs/PointField.datatype."""
_NUMBERS = {name: number for number, name in _DATATYPES.items()}


def cloud(rows: NDArray[Any], stamp: int, frame: str) -> Any:
    """Makes an unordered sensor_msgs/PointCloud2 of a structured array (N,); every field is a scalar."""
    assert rows.dtype.fields is not None
    fields = [
        messages.make(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=int(offset),
            datatype=_NUMBERS[kind.str.lstrip("<|>=")],
            count=1,
        )
        for name, (kind, offset, *_) in rows.dtype.fields.items()
    ]
    data = np.ascontiguousarray(rows)
    return messages.make(
        "sensor_msgs/msg/PointCloud2",
        header=messages.header(stamp, frame),
        height=1,
        width=len(rows),
        fields=fields,
        is_bigendian=False,
        point_step=rows.dtype.itemsize,
        row_step=data.nbytes,
        data=data.view(np.uint8).reshape(-1),
        is_dense=True,
    )


def read_cloud(message: Any) -> NDArray[Any]:
    """Reads a sensor_msgs/PointCloud2, padded rows and any byte order included, as a structured array.

    Raises:
        LogError: it holds less than it says.
    """
    order = ">" if message.is_bigendian else "<"
    names, formats, offsets = [], [], []
    for item in message.fields:
        kind = _DATATYPES.get(int(item.datatype))
        if kind is None:
            raise LogError(f'field "{item.name}" of a PointCloud2 has the unknown datatype {item.datatype}')
        shape = f"({item.count},)" if item.count > 1 else ""
        names.append(item.name)
        formats.append(f"{shape}{order}{kind}")
        offsets.append(int(item.offset))
    size, step = int(message.point_step), int(message.row_step)
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})
    data = np.asarray(message.data, np.uint8)
    height, width = int(message.height), int(message.width)
    if step < width * size or data.size < height * step:
        raise LogError(f"a PointCloud2 says {width}x{height} points but holds {data.size} bytes")
    rows = np.ascontiguousarray(data[: height * step].reshape(height, step)[:, : width * size])
    return rows.view(dtype).reshape(-1)
