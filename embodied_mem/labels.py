"""Names of labels: small ints in voxels, detections and queries, words for people."""

from __future__ import annotations

import colorsys
import json
import re
import zlib
from dataclasses import dataclass

from embodied_mem.errors import InputError

_COLOR_WORDS = {
    "red": (214, 52, 52),
    "green": (46, 160, 67),
    "blue": (44, 105, 214),
    "purple": (140, 70, 190),
    "yellow": (222, 184, 20),
    "grey": (128, 128, 128),
}


@dataclass(frozen=True)
class LabelMap:
    """Names of the labels, by id; id 0 is always "unknown".

    Attributes:
        names: one name per id, lower case, unique, for example "green key".
    """

    names: tuple[str, ...] = ("unknown",)

    def __post_init__(self) -> None:
        if not self.names or self.names[0] != "unknown":
            raise InputError('a LabelMap must start with "unknown" (id 0)')
        if len(set(self.names)) != len(self.names):
            raise InputError("a LabelMap must not name a label twice")

    def __len__(self) -> int:
        return len(self.names)

    def name(self, label: int) -> str:
        """Returns the name of a label id; ids outside the map are "unknown"."""
        return self.names[label] if 0 <= label < len(self.names) else "unknown"

    def id(self, name: str) -> int:
        """Returns the id of an exact name, or raises `InputError` with the names there are."""
        if name not in self.names:
            raise InputError(f'no label "{name}"; there are: {", ".join(self.names[1:])}')
        return self.names.index(name)

    def matching(self, words: str) -> tuple[int, ...]:
        """Returns the ids whose name holds every word of `words`: "key" matches "green key"."""
        wanted = set(re.findall(r"\w+", words.lower()))
        return tuple(
            i for i, name in enumerate(self.names) if i and wanted and wanted <= set(re.findall(r"\w+", name))
        )

    def color(self, label: int) -> tuple[int, int, int]:
        """Returns a stable 8-bit RGB colour for a label: its colour word, else a hash of its name."""
        name = self.name(label)
        for word, rgb in _COLOR_WORDS.items():
            if word in name.split():
                return rgb
        hue = (zlib.crc32(name.encode()) % 360) / 360.0
        r, g, b = colorsys.hsv_to_rgb(hue, 0.65, 0.85)
        return int(255 * r), int(255 * g), int(255 * b)

    def to_json(self) -> str:
        """Returns the map as JSON text."""
        return json.dumps(list(self.names))

    @classmethod
    def from_json(cls, text: str) -> LabelMap:
        """Reads what `to_json` wrote."""
        return cls(tuple(json.loads(text)))
