"""IDL types for `cyclonedds` from rosbags' definitions; their values are CDR bytes as they travel.

Cyclone checks what is written against the type, so the type must be the real one; but its own
serializer in Python is too slow for images, so that of `embodied_mem.log.messages` takes its place.
"""

from __future__ import annotations

import functools
import types as python_types
from typing import Any

from cyclonedds.idl import IdlStruct, types

from embodied_mem.log import messages

_BASE = {
    "bool": bool,
    "octet": types.byte,
    "byte": types.byte,
    "char": types.uint8,
    "float32": types.float32,
    "float64": types.float64,
    "string": str,
    **{
        f"{sign}int{bits}": getattr(types, f"{sign}int{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
"""IDL type by ROS type."""


class _Raw:
    """The values: bytes instead of fields."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self, *_: Any, **__: Any) -> bytes:
        return self.data

    @classmethod
    def deserialize(cls, data: bytes, *_: Any, **__: Any) -> Any:
        return cls(data)


def raw_type(ros_type: str) -> Any:
    """Returns the IDL type of a ROS 2 message type whose values are CDR bytes."""
    return _make(ros_type, _Raw.__dict__)


@functools.cache
def _nested(ros_type: str) -> Any:
    return _make(ros_type, {})


def _make(ros_type: str, methods: Any) -> Any:
    package, _, name = ros_type.split("/")
    fields = {field: _field(kind) for field, kind in messages.fields(ros_type)}

    def fill(namespace: dict[str, Any]) -> None:
        namespace["__annotations__"].update(fields)
        namespace["__module__"] = __name__
        for method in ("__init__", "serialize", "deserialize"):
            if method in methods:
                namespace[method] = methods[method]

    return python_types.new_class(name, (IdlStruct,), {"typename": f"{package}.msg.dds_.{name}_"}, fill)


def _field(kind: Any) -> Any:
    """Returns the IDL type of a field as rosbags describes it: (node type, details)."""
    node, detail = int(kind[0]), kind[1]
    if node == 1:
        return _BASE[detail[0]]
    if node == 2:
        return _nested(detail)
    inner = _field(detail[0])
    made: Any = types.array if node == 3 else types.sequence
    return made[inner, detail[1]] if node == 3 else made[inner]
