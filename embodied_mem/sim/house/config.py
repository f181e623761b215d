"""How houses are laid out and where things are kept: the distributions they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field

from embodied_mem.errors import ConfigError
from embodied_mem.sim.house.catalog import CATEGORIES, FURNITURE_LABELS

ROOM_TYPES = ("living room", "kitchen", "bedroom", "bathroom", "office", "dining room", "corridor")
MOST_ROOMS = 12
ROOM_ORDER = (
    *("living room", "bedroom", "kitchen", "bathroom", "bedroom", "office"),
    *("dining room", "bedroom", "bathroom", "office", "bedroom", "living room"),
)


@dataclass(frozen=True)
class FurnitureRule:
    """Furniture of one kind of room."""

    room: str
    """Type of the room."""
    label: str
    """Category."""
    probability: float = 1.0
    """Of each of `most` pieces to be there, independently."""
    most: int = 1
    """How many there can be."""
    where: str = "wall"
    """"wall": its back to a wall; "center": in the middle; "floor": anywhere; otherwise the label of
    furniture beside which it stands, facing it."""

    def __post_init__(self) -> None:
        _check_rule(self.room, self.label, self.probability, self.most)


@dataclass(frozen=True)
class ObjectRule:
    """Where things of one kind are kept."""

    room: str
    """Type of the room."""
    label: str
    """Category."""
    support: str
    """Label of the furniture it lies on, "floor" or "wall"."""
    probability: float = 0.5
    """Of each of `most` things to be there, independently, in a room that has the support."""
    most: int = 1
    """How many there can be."""

    def __post_init__(self) -> None:
        _check_rule(self.room, self.label, self.probability, self.most)
        if self.support not in ("floor", "wall", *FURNITURE_LABELS):
            raise ConfigError(f'"{self.support}" supports nothing; use "floor", "wall" or furniture')


def _check_rule(room: str, label: str, probability: float, most: int) -> None:
    if room not in ROOM_TYPES:
        raise ConfigError(f'no room type "{room}"; there are: {", ".join(ROOM_TYPES)}')
    if label not in CATEGORIES:
        raise ConfigError(f'no category "{label}"; there are: {", ".join(sorted(CATEGORIES))}')
    if not 0.0 <= probability <= 1.0 or most < 1:
        raise ConfigError(f"{label} in a {room}: probability must be in 0..1 and most at least 1")


FURNITURE_RULES = (
    FurnitureRule("living room", "sofa"),
    FurnitureRule("living room", "tv stand", 0.95),
    FurnitureRule("living room", "coffee table", 0.85, where="center"),
    FurnitureRule("living room", "shelf", 0.7, 2),
    FurnitureRule("living room", "lamp", 0.6, where="wall"),
    FurnitureRule("living room", "plant", 0.6, 2, where="wall"),
    FurnitureRule("living room", "cabinet", 0.4),
    FurnitureRule("kitchen", "fridge"),
    FurnitureRule("kitchen", "stove"),
    FurnitureRule("kitchen", "counter", 0.9, 2),
    FurnitureRule("kitchen", "sink", 0.9),
    FurnitureRule("kitchen", "table", 0.35, where="center"),
    FurnitureRule("kitchen", "chair", 0.5, 2, where="table"),
    FurnitureRule("bedroom", "bed"),
    FurnitureRule("bedroom", "wardrobe", 0.9),
    FurnitureRule("bedroom", "nightstand", 0.8, 2),
    FurnitureRule("bedroom", "desk", 0.25),
    FurnitureRule("bedroom", "chair", 0.8, where="desk"),
    FurnitureRule("bedroom", "lamp", 0.35),
    FurnitureRule("bathroom", "toilet"),
    FurnitureRule("bathroom", "sink"),
    FurnitureRule("bathroom", "bathtub", 0.7),
    FurnitureRule("bathroom", "washing machine", 0.45),
    FurnitureRule("bathroom", "basket", 0.5),
    FurnitureRule("office", "desk"),
    FurnitureRule("office", "chair", 0.95, where="desk"),
    FurnitureRule("office", "shelf", 0.8, 2),
    FurnitureRule("office", "cabinet", 0.4),
    FurnitureRule("office", "plant", 0.4),
    FurnitureRule("dining room", "table", where="center"),
    FurnitureRule("dining room", "chair", 0.9, 4, where="table"),
    FurnitureRule("dining room", "cabinet", 0.8),
    FurnitureRule("dining room", "plant", 0.4),
    FurnitureRule("corridor", "shoe rack", 0.6),
    FurnitureRule("corridor", "plant", 0.2),
)
"""Larger things of a room come first: they find their place before it is taken."""

OBJECT_RULES = (
    ObjectRule("living room", "television", "tv stand", 0.95),
    ObjectRule("living room", "book", "shelf", 0.6, 4),
    ObjectRule("living room", "book", "coffee table", 0.4),
    ObjectRule("living room", "cup", "coffee table", 0.4),
    ObjectRule("living room", "vase", "cabinet", 0.5),
    ObjectRule("living room", "vase", "coffee table", 0.3),
    ObjectRule("living room", "pillow", "sofa", 0.6, 2),
    ObjectRule("living room", "picture", "wall", 0.6, 2),
    ObjectRule("living room", "ball", "floor", 0.2),
    ObjectRule("kitchen", "kettle", "counter", 0.8),
    ObjectRule("kitchen", "microwave", "counter", 0.7),
    ObjectRule("kitchen", "bowl", "counter", 0.6, 2),
    ObjectRule("kitchen", "cup", "counter", 0.7, 2),
    ObjectRule("kitchen", "bottle", "counter", 0.6, 2),
    ObjectRule("kitchen", "bottle", "table", 0.4),
    ObjectRule("kitchen", "clock", "wall", 0.5),
    ObjectRule("bedroom", "pillow", "bed", 0.9, 2),
    ObjectRule("bedroom", "teddy bear", "bed", 0.35),
    ObjectRule("bedroom", "book", "nightstand", 0.5),
    ObjectRule("bedroom", "cup", "nightstand", 0.15),
    ObjectRule("bedroom", "laptop", "desk", 0.4),
    ObjectRule("bedroom", "backpack", "floor", 0.3),
    ObjectRule("bedroom", "ball", "floor", 0.15),
    ObjectRule("bedroom", "picture", "wall", 0.4),
    ObjectRule("bathroom", "towel", "washing machine", 0.7),
    ObjectRule("bathroom", "towel", "floor", 0.3),
    ObjectRule("office", "laptop", "desk", 0.9),
    ObjectRule("office", "cup", "desk", 0.4),
    ObjectRule("office", "book", "desk", 0.3),
    ObjectRule("office", "book", "shelf", 0.8, 5),
    ObjectRule("office", "clock", "wall", 0.5),
    ObjectRule("office", "backpack", "floor", 0.3),
    ObjectRule("dining room", "vase", "table", 0.5),
    ObjectRule("dining room", "bowl", "table", 0.5, 2),
    ObjectRule("dining room", "bottle", "cabinet", 0.5),
    ObjectRule("dining room", "picture", "wall", 0.6),
    ObjectRule("corridor", "shoes", "floor", 0.6),
    ObjectRule("corridor", "shoes", "shoe rack", 0.6),
    ObjectRule("corridor", "picture", "wall", 0.5, 2),
    ObjectRule("corridor", "backpack", "floor", 0.2),
)


@dataclass(frozen=True)
class HouseConfig:
    """The distribution that houses are drawn from; a house is a function of this and its seed."""

    rooms: tuple[int, int] = (4, 8)
    """Fewest and most rooms, a corridor not counted."""
    room_area: tuple[float, float] = (10.0, 18.0)
    """Smallest and largest mean area of the rooms [m^2]."""
    smallest_side: float = 2.2
    """No room is narrower than this [m]."""
    room_order: tuple[str, ...] = ROOM_ORDER
    """Types of rooms in the order of need: a house of n rooms has the first n."""
    corridor_from: int = 4
    """Houses of at least this many rooms have a corridor."""
    corridor_width: tuple[float, float] = (1.2, 1.7)
    """Narrowest and widest corridor [m]."""
    door_width: float = 0.9
    """Width of door openings [m]."""
    extra_door: float = 0.2
    """Probability of a second way: a door between neighbours that are connected already."""
    wall_thickness: float = 0.1
    """[m], a multiple of 0.1."""
    height: float = 2.5
    """From floor to ceiling [m]."""
    door_height: float = 2.05
    """[m]"""
    robot_radius: float = 0.18
    """Every room and thing can be reached by a robot of this radius [m]."""
    robot_height: float = 1.0
    """What hangs higher than this does not block the robot [m]."""
    furniture: tuple[FurnitureRule, ...] = FURNITURE_RULES
    """What stands in which room."""
    objects: tuple[ObjectRule, ...] = OBJECT_RULES
    """What is kept where."""

    def __post_init__(self) -> None:
        low, high = self.rooms
        if not 2 <= low <= high <= MOST_ROOMS:
            raise ConfigError(f"house.rooms must hold 2 <= fewest <= most <= {MOST_ROOMS}, got {self.rooms}")
        if len(self.room_order) < high or not set(self.room_order) <= set(ROOM_TYPES):
            raise ConfigError(f"house.room_order must name {high} of the types {', '.join(ROOM_TYPES)}")
        for name in ("room_area", "corridor_width"):
            low_size, high_size = getattr(self, name)
            if not 0 < low_size <= high_size:
                raise ConfigError(f"house.{name} must be (smallest, largest), both positive")
        if self.room_area[0] < 2.0 * self.smallest_side**2 * 0.8:
            raise ConfigError("house.room_area is too small for rooms of house.smallest_side")
        if round(self.wall_thickness / 0.1, 6) % 1 or self.wall_thickness <= 0:
            raise ConfigError(f"house.wall_thickness must be a multiple of 0.1 m, got {self.wall_thickness}")
        widest = min(self.smallest_side, self.corridor_width[0]) - self.wall_thickness
        if not 2 * self.robot_radius + 0.1 < self.door_width < widest:
            raise ConfigError(
                f"house.door_width must lie between the robot's width + 0.1 m and {widest:.2f} m, "
                f"got {self.door_width}"
            )
        if not self.robot_height < self.door_height < self.height:
            raise ConfigError("house must hold robot_height < door_height < height")


@dataclass(frozen=True)
class ChangeConfig:
    """How much of a house changes overnight."""

    moved: int = 3
    """Things that lie elsewhere in the morning."""
    added: int = 1
    """New things."""
    removed: int = 1
    """Things that are gone."""
    to_other_room: float = 0.3
    """Probability that a thing moves to where its kind is kept in any room, not just its own."""

    def __post_init__(self) -> None:
        if min(self.moved, self.added, self.removed) < 0 or not 0.0 <= self.to_other_room <= 1.0:
            raise ConfigError("changes: counts must not be negative and to_other_room must be in 0..1")


@dataclass(frozen=True)
class NoiseConfig:
    """Noise of the robot's sensors; all of it is off by default."""

    depth: float = 0.0
    """Standard deviation of depth at 1 m; it grows with the square of the range [m]."""
    dropout: float = 0.0
    """Probability that a depth pixel gives no reading."""
    odometry: float = 0.0
    """Standard deviation of an odometry step's length and heading, as a fraction of its motion."""
    position: float = 0.0
    """Standard deviation of the error of the robot's x and of its y, as a localiser has it; it varies
    slowly. Only without odometry's [m]."""
    heading: float = 0.0
    """Standard deviation of the error of its heading [deg]."""
    error_steps: float = 50.0
    """After so many steps such an error has become another one: its correlation fell to 1/e."""
    wrong_label: float = 0.0
    """Probability of a thing to have the label of another kind, in one label image."""
    missed: float = 0.0
    """Probability of a thing to have no label, in one label image."""

    def __post_init__(self) -> None:
        if min(self.depth, self.odometry) < 0 or not 0.0 <= self.dropout < 1.0:
            raise ConfigError("noise: depth and odometry must not be negative, dropout must be in [0, 1)")
        if min(self.position, self.heading) < 0 or not self.error_steps > 0:
            raise ConfigError("noise: position and heading must not be negative, error_steps be positive")
        if self.odometry and (self.position or self.heading):
            raise ConfigError("noise: a pose errs like odometry or like a localiser's (position, heading)")
        if min(self.wrong_label, self.missed) < 0 or self.wrong_label + self.missed > 1:
            raise ConfigError("noise: wrong_label and missed must not be negative, nor above 1 together")


@dataclass(frozen=True)
class RobotConfig:
    """The robot: its camera and its motions."""

    width: int = 128
    """Columns of its images [px]."""
    image_height: int = 128
    """Rows of its images [px]."""
    hfov: float = 79.0
    """Horizontal field of view [deg]."""
    camera_height: float = 0.9
    """Of the camera above the floor [m]."""
    max_depth: float = 10.0
    """What is farther than this is out of the depth camera's range [m]."""
    forward: float = 0.25
    """Length of a step [m]."""
    turn: float = 30.0
    """Angle of a turn and of a look up or down [deg]."""
    max_speed: float = 1.0
    """Largest velocity ahead under velocity control [m/s]."""
    max_turn_rate: float = 90.0
    """Largest angular velocity under velocity control [deg/s]."""
    max_tilt: float = 60.0
    """The camera looks up or down no further than this [deg]."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """Noise of its sensors."""

    def __post_init__(self) -> None:
        if self.width < 2 or self.image_height < 2:
            raise ConfigError(f"robot: images must have 2x2 pixels, got {self.width}x{self.image_height}")
        if not 1.0 <= self.hfov <= 150.0:
            raise ConfigError(f"robot.hfov must be in 1..150 degrees, got {self.hfov}")
        for name in ("camera_height", "max_depth", "forward", "turn", "max_speed", "max_turn_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"robot.{name} must be positive, got {getattr(self, name)}")
        if not 0.0 <= self.max_tilt < 90.0:
            raise ConfigError(f"robot.max_tilt must be in [0, 90) degrees, got {self.max_tilt}")
