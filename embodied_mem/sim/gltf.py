"""Triangle meshes as GLB files (glTF 2.0): one mesh, unlit, coloured by a palette or by its vertices.

The general writers round vertex colours to 8 bits, which loses dark colours, since glTF's vertex colours are
linear; and an id that is written as a colour must come back as it was.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT, _UINT32 = 5126, 5125
_VERTICES, _INDICES = 34962, 34963
_NEAREST, _CLAMP = 9728, 33071


@dataclass
class _Buffer:
    """The binary part of a file and the JSON that describes it."""

    data: bytearray = field(default_factory=bytearray)
    views: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)

    def add_bytes(self, content: bytes, target: int | None = None) -> int:
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        if target is not None:
            view["target"] = target
        self.data += content + b"\0" * (-len(content) % 4)
        self.views.append(view)
        return len(self.views) - 1

    def add_array(self, array: NDArray[Any], kind: str, target: int) -> int:
        row = array.reshape(len(array), -1)
        self.accessors.append(
            {
                "bufferView": self.add_bytes(array.tobytes(), target),
                "componentType": _UINT32 if array.dtype == np.uint32 else _FLOAT,
                "count": len(array),
                "type": kind,
                "min": row.min(axis=0).tolist(),
                "max": row.max(axis=0).tolist(),
            }
        )
        return len(self.accessors) - 1


def write_glb(
    path: Path,
    vertices: NDArray[np.float32],
    triangles: NDArray[np.uint32],
    *,
    colors: NDArray[np.float32] | None = None,
    uv: NDArray[np.float32] | None = None,
    palette: bytes | None = None,
) -> None:
    """Writes a mesh.

    Args:
        path: file to write.
        vertices: (V, 3) float32 [m], y up.
        triangles: (T, 3) uint32, counter-clockwise seen from outside.
        colors: (V, 3) float32, linear; see `linear_from_srgb`.
        uv: (V, 2) float32, where each vertex takes its colour from the palette.
        palette: PNG file.
    """
    buffer = _Buffer()
    attributes = {"POSITION": buffer.add_array(vertices.astype(np.float32), "VEC3", _VERTICES)}
    if colors is not None:
        attributes["COLOR_0"] = buffer.add_array(colors.astype(np.float32), "VEC3", _VERTICES)
    if uv is not None:
        attributes["TEXCOORD_0"] = buffer.add_array(uv.astype(np.float32), "VEC2", _VERTICES)
    indices = buffer.add_array(triangles.astype(np.uint32).reshape(-1), "SCALAR", _INDICES)
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    textures: dict[str, Any] = {}
    if palette is not None:
        surface["baseColorTexture"] = {"index": 0}
        filters = {"magFilter": _NEAREST, "minFilter": _NEAREST, "wrapS": _CLAMP, "wrapT": _CLAMP}
        textures = {
            "images": [{"bufferView": buffer.add_bytes(palette), "mimeType": "image/png"}],
            "samplers": [filters],
            "textures": [{"source": 0, "sampler": 0}],
        }
    unlit = "KHR_materials_unlit"
    primitive = {"attributes": attributes, "indices": indices, "material": 0, "mode": 4}
    document = {
        "asset": {"version": "2.0", "generator": "embodied-mem"},
        "extensionsUsed": [unlit],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": path.stem}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": surface, "extensions": {unlit: {}}}],
        **textures,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(buffer.data), b"BIN\0") + bytes(buffer.data)
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def linear_from_srgb(srgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns 8-bit sRGB values as linear ones in 0..1 that round back to them (IEC 61966-2-1)."""
    c = np.asarray(srgb, dtype=np.float64) / 255.0
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)
