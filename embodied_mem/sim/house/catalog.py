"""What a house is furnished with: categories, their sizes, colours, shapes and surfaces."""

from __future__ import annotations

from dataclasses import dataclass

from embodied_mem.types import LabelMap

Part = tuple[str, float, float, float, float, float, float, float]
"""Shape ("box", "prism" or "ball"), its bounds x0, y0, z0, x1, y1, z1 and its brightness.

Bounds are fractions of the thing's size: x along its width, y from its back to its front, z up.
"""


@dataclass(frozen=True)
class Category:
    """One kind of thing.

    Attributes:
        label: its name.
        size: usual width, depth and height [m].
        color: usual 8-bit RGB.
        shape: key of `SHAPES`.
        surfaces: heights on which things can stand, as fractions of its height.
        spread: sizes vary by up to this fraction.
    """

    label: str
    size: tuple[float, float, float]
    color: tuple[int, int, int]
    shape: str = "box"
    surfaces: tuple[float, ...] = ()
    spread: float = 0.1


def _legs(width: float, depth: float, top: float) -> tuple[Part, ...]:
    return tuple(
        ("box", x, y, 0.0, x + width, y + depth, top, 0.7)
        for x in (0.0, 1.0 - width)
        for y in (0.0, 1.0 - depth)
    )


SHAPES: dict[str, tuple[Part, ...]] = {
    "box": (("box", 0, 0, 0, 1, 1, 1, 1.0),),
    "prism": (("prism", 0, 0, 0, 1, 1, 1, 1.0),),
    "ball": (("ball", 0, 0, 0, 1, 1, 1, 1.0),),
    "table": (("box", 0, 0, 0.93, 1, 1, 1, 1.0), *_legs(0.06, 0.09, 0.93)),
    "desk": (
        ("box", 0, 0, 0.94, 1, 1, 1, 1.0),
        ("box", 0, 0.05, 0, 0.04, 0.95, 0.94, 0.8),
        ("box", 0.7, 0.05, 0, 1, 0.95, 0.94, 0.85),
    ),
    "chair": (
        ("box", 0, 0, 0.46, 1, 1, 0.54, 1.0),
        ("box", 0, 0, 0.54, 1, 0.12, 1, 0.9),
        *_legs(0.1, 0.1, 0.46),
    ),
    "bed": (
        ("box", 0, 0, 0, 1, 1, 0.35, 0.55),
        ("box", 0.02, 0.03, 0.35, 0.98, 0.99, 0.55, 1.0),
        ("box", 0, 0, 0.35, 1, 0.03, 1, 0.55),
    ),
    "sofa": (
        ("box", 0, 0, 0, 1, 1, 0.5, 1.0),
        ("box", 0, 0, 0.5, 1, 0.28, 1, 0.9),
        ("box", 0, 0.28, 0.5, 0.12, 1, 0.72, 0.85),
        ("box", 0.88, 0.28, 0.5, 1, 1, 0.72, 0.85),
    ),
    "shelf": (
        ("box", 0, 0, 0, 0.05, 1, 1, 0.8),
        ("box", 0.95, 0, 0, 1, 1, 1, 0.8),
        ("box", 0.05, 0, 0, 0.95, 0.08, 1, 0.6),
        *(("box", 0.05, 0.08, z, 0.95, 1, z + 0.03, 1.0) for z in (0.0, 0.24, 0.48, 0.72, 0.97)),
    ),
    "cabinet": (
        ("box", 0, 0, 0, 1, 0.97, 1, 1.0),
        ("box", 0.44, 0.97, 0.55, 0.47, 1, 0.75, 0.4),
        ("box", 0.53, 0.97, 0.55, 0.56, 1, 0.75, 0.4),
    ),
    "counter": (("box", 0, 0, 0, 1, 0.95, 0.95, 1.0), ("box", 0, 0, 0.95, 1, 1, 1, 0.6)),
    "fridge": (
        ("box", 0, 0, 0, 1, 0.95, 1, 1.0),
        ("box", 0.85, 0.95, 0.1, 0.9, 1, 0.5, 0.5),
        ("box", 0.85, 0.95, 0.65, 0.9, 1, 0.95, 0.5),
    ),
    "stove": (
        ("box", 0, 0, 0, 1, 0.95, 0.97, 1.0),
        ("box", 0.1, 0.95, 0.2, 0.9, 1, 0.7, 0.25),
        *(("prism", x, y, 0.97, x + 0.32, y + 0.32, 1, 0.2) for x in (0.1, 0.58) for y in (0.08, 0.55)),
    ),
    "washer": (("box", 0, 0, 0, 1, 0.95, 1, 1.0), ("box", 0.2, 0.95, 0.25, 0.8, 1, 0.75, 0.35)),
    "sink": (
        ("box", 0.3, 0, 0, 0.7, 0.5, 0.8, 0.85),
        ("box", 0, 0, 0.8, 1, 1, 0.92, 1.0),
        ("box", 0.46, 0.05, 0.92, 0.54, 0.4, 1, 0.5),
    ),
    "toilet": (
        ("prism", 0.1, 0.25, 0, 0.9, 1, 0.55, 1.0),
        ("box", 0, 0, 0.3, 1, 0.28, 1, 0.92),
    ),
    "bathtub": (
        ("box", 0, 0, 0, 1, 1, 0.3, 1.0),
        ("box", 0, 0, 0.3, 1, 0.1, 1, 0.95),
        ("box", 0, 0.9, 0.3, 1, 1, 1, 0.95),
        ("box", 0, 0.1, 0.3, 0.06, 0.9, 1, 0.95),
        ("box", 0.94, 0.1, 0.3, 1, 0.9, 1, 0.95),
    ),
    "lamp": (
        ("prism", 0.15, 0.15, 0, 0.85, 0.85, 0.03, 0.4),
        ("prism", 0.45, 0.45, 0.03, 0.55, 0.55, 0.75, 0.4),
        ("prism", 0, 0, 0.75, 1, 1, 1, 1.0),
    ),
    "plant": (("prism", 0.2, 0.2, 0, 0.8, 0.8, 0.35, 0.45), ("ball", 0, 0, 0.3, 1, 1, 1, 1.0)),
    "screen": (
        ("box", 0.35, 0.1, 0, 0.65, 0.9, 0.04, 0.7),
        ("box", 0.45, 0.4, 0.04, 0.55, 0.6, 0.15, 0.7),
        ("box", 0, 0.35, 0.12, 1, 0.65, 1, 1.0),
    ),
    "laptop": (("box", 0, 0.15, 0, 1, 1, 0.1, 0.8), ("box", 0, 0, 0.1, 1, 0.15, 1, 1.0)),
    "bottle": (("prism", 0, 0, 0, 1, 1, 0.65, 1.0), ("prism", 0.3, 0.3, 0.65, 0.7, 0.7, 1, 0.8)),
    "vase": (("prism", 0.1, 0.1, 0, 0.9, 0.9, 0.6, 1.0), ("prism", 0.3, 0.3, 0.6, 0.7, 0.7, 1, 0.85)),
    "kettle": (("prism", 0, 0.1, 0, 0.8, 0.9, 0.8, 1.0), ("box", 0.7, 0.4, 0.3, 1, 0.6, 0.9, 0.4)),
    "microwave": (("box", 0, 0, 0, 1, 0.96, 1, 1.0), ("box", 0.06, 0.96, 0.12, 0.72, 1, 0.88, 0.3)),
    "teddy": (
        ("ball", 0.1, 0.1, 0, 0.9, 0.9, 0.6, 1.0),
        ("ball", 0.2, 0.2, 0.5, 0.8, 0.8, 1, 1.1),
    ),
    "backpack": (("box", 0, 0, 0, 1, 0.65, 1, 1.0), ("box", 0.15, 0.65, 0.05, 0.85, 1, 0.55, 0.8)),
    "shoes": (("box", 0, 0, 0, 0.42, 1, 1, 1.0), ("box", 0.58, 0, 0, 1, 1, 1, 1.0)),
    "picture": (("box", 0, 0, 0, 1, 0.6, 1, 0.4), ("box", 0.1, 0.6, 0.1, 0.9, 1, 0.9, 1.0)),
}

FURNITURE = (
    Category("bed", (1.4, 2.0, 0.9), (120, 140, 200), "bed", (0.55,)),
    Category("sofa", (1.8, 0.85, 0.85), (170, 80, 70), "sofa", (0.5,)),
    Category("chair", (0.45, 0.45, 0.9), (150, 100, 50), "chair"),
    Category("table", (1.4, 0.8, 0.75), (165, 115, 65), "table", (1.0,)),
    Category("coffee table", (0.9, 0.5, 0.45), (130, 85, 50), "table", (1.0,)),
    Category("desk", (1.3, 0.65, 0.75), (190, 160, 110), "desk", (1.0,)),
    Category("shelf", (0.9, 0.35, 1.8), (150, 120, 85), "shelf", (0.27, 0.51, 0.75)),
    Category("wardrobe", (1.2, 0.6, 2.0), (140, 105, 70), "cabinet"),
    Category("cabinet", (0.9, 0.45, 0.95), (175, 150, 120), "cabinet", (1.0,)),
    Category("nightstand", (0.45, 0.4, 0.5), (145, 110, 80), "cabinet", (1.0,)),
    Category("tv stand", (1.3, 0.4, 0.5), (80, 70, 65), "cabinet", (1.0,)),
    Category("counter", (1.5, 0.6, 0.9), (205, 200, 190), "counter", (1.0,)),
    Category("fridge", (0.65, 0.65, 1.75), (225, 228, 232), "fridge"),
    Category("stove", (0.6, 0.6, 0.88), (195, 195, 200), "stove"),
    Category("sink", (0.55, 0.45, 0.95), (235, 238, 242), "sink"),
    Category("toilet", (0.4, 0.65, 0.8), (242, 242, 246), "toilet"),
    Category("bathtub", (1.6, 0.75, 0.55), (230, 240, 245), "bathtub"),
    Category("washing machine", (0.6, 0.6, 0.85), (215, 220, 226), "washer", (1.0,)),
    Category("lamp", (0.35, 0.35, 1.5), (240, 215, 130), "lamp"),
    Category("plant", (0.45, 0.45, 1.0), (60, 140, 65), "plant"),
    Category("shoe rack", (0.8, 0.3, 0.5), (120, 90, 65), "cabinet", (1.0,)),
    Category("basket", (0.4, 0.4, 0.45), (195, 165, 110), "prism"),
)
"""Things that stand on the floor and block the way."""

OBJECTS = (
    Category("television", (0.95, 0.18, 0.6), (35, 35, 42), "screen"),
    Category("laptop", (0.34, 0.26, 0.24), (95, 100, 112), "laptop"),
    Category("book", (0.17, 0.23, 0.06), (60, 95, 165), "box", spread=0.3),
    Category("cup", (0.09, 0.09, 0.11), (225, 120, 60), "prism"),
    Category("bowl", (0.2, 0.2, 0.09), (90, 165, 175), "prism"),
    Category("bottle", (0.09, 0.09, 0.3), (50, 135, 100), "bottle"),
    Category("vase", (0.16, 0.16, 0.3), (175, 90, 165), "vase"),
    Category("kettle", (0.22, 0.18, 0.24), (185, 60, 60), "kettle"),
    Category("microwave", (0.48, 0.34, 0.28), (150, 155, 160), "microwave"),
    Category("pillow", (0.55, 0.35, 0.14), (235, 225, 200), "box"),
    Category("teddy bear", (0.28, 0.26, 0.38), (155, 105, 60), "teddy"),
    Category("towel", (0.4, 0.25, 0.1), (115, 190, 215), "box", spread=0.2),
    Category("ball", (0.22, 0.22, 0.22), (220, 70, 140), "ball"),
    Category("backpack", (0.32, 0.22, 0.45), (70, 110, 70), "backpack"),
    Category("shoes", (0.26, 0.28, 0.11), (110, 60, 45), "shoes"),
    Category("picture", (0.7, 0.05, 0.5), (205, 175, 75), "picture", spread=0.3),
    Category("clock", (0.3, 0.05, 0.3), (225, 225, 215), "picture"),
)
"""Things that people put on furniture, on the floor or on a wall, and elsewhere the next day."""

CATEGORIES = {category.label: category for category in (*FURNITURE, *OBJECTS)}
FURNITURE_LABELS = tuple(category.label for category in FURNITURE)
OBJECT_LABELS = tuple(category.label for category in OBJECTS)
STRUCTURE = ("floor", "wall", "ceiling")

HOUSE_LABELS = LabelMap(("unknown", *STRUCTURE, *FURNITURE_LABELS, *OBJECT_LABELS))
"""The labels of the semantic images of every house."""
