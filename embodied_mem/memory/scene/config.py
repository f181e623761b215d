"""Settings of the scene graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embodied_mem.errors import ConfigError


@dataclass(frozen=True)
class SceneConfig:
    """Objects, places, rooms: how they are told apart and when they are believed."""

    gate: float = 0.5
    """A detection belongs to a known object of its label at most this far away [m]."""
    gate_sigma: float = 0.0
    """And at most this many standard deviations away; 0 where covariances tell nothing."""
    pose_sigma: float = 0.0
    """Standard deviation of the robot's position [m], which all detections of a frame share."""
    label_noise: float = 0.0
    """Fraction of detections with a wrong label, below 0.5; 0: another label is another object."""
    embeddings: bool = True
    """Whether what things look like counts in telling them apart."""
    least_likeness: float = 0.0
    """What looks less like an object (cosine of the embeddings) is another, wherever it is."""
    assignment: str = "optimal"
    """"optimal": least total cost; "greedy": one detection after another takes the nearest object."""
    prior: float = 0.5
    """Probability that the first detection in a new place is of something, before it counts itself."""
    detection_rate: float = 0.9
    """How often an object in view is detected, in (0, 1); near 1 one look without it is enough."""
    false_rate: float = 0.05
    """How often something that is not there is detected all the same, in (0, detection_rate)."""
    notice_rate: float = 0.0
    """How often an object in full view is detected, where a surface is at its place: it may be the object,
    or what it stood before. In [0, 1); 0: such a surface tells nothing."""
    persistence: float = 0.0
    """Things stay where they are for about so long [s]: what was not looked at for a while is believed less,
    and hardly anything moves while the robot looks on; 0: they stay until they are seen to be gone."""
    viewpoint: float = 0.0
    """Looks at an object's empty place from sensors nearer to each other than this are hardly more than one
    look [m]; 0: every look counts."""
    negative_evidence: bool = True
    """Whether an object whose place is seen without it loses existence."""
    moves: bool = True
    """Whether an object that is gone and one that appeared can be the same, which has moved."""
    least_move: float = 0.25
    """What lies this close to where it was has not moved [m]."""
    move_likeness: float = 0.97
    """So alike (cosine of the embeddings) an object looks after it has moved."""
    least_count: int = 1
    """What was seen fewer times may be nothing: no change is reported of it."""
    merging: bool = True
    """Whether objects that prove to be one are merged."""
    dynamic: tuple[str, ...] = ("person", "human", "dog", "cat", "pet")
    """Words of labels of what moves by itself: it never becomes an object or part of the map."""
    position_floor: float = 0.02
    """Standard deviation below which a fused position is never believed [m]."""
    blind_radius: float = 0.6
    """Objects this close to the base, seen from above, are never missed: the body hides them [m]."""
    boundary: tuple[str, ...] = ("door",)
    """Words of labels that separate rooms, open or closed."""
    place_spacing: float = 2.0
    """Every reachable point of free space has a place within this walking distance [m]."""
    place_clearance: float = 0.15
    """Free space closer than this to anything else gets no place of its own [m]."""
    furniture: float = 0.0
    """Known things at least this long [m] keep the robot's body off their boxes, though the map show no voxel
    of them: rays that graze a surface wear it away; 0: what the voxels show is all."""
    driven: bool = False
    """Whether the floor is free where the robot's base has been, though the map leave too little room there,
    but not where it shows something nearer than the body can come, since poses err; for a base that stands on
    the floor, not for a camera in a hand."""
    passage_width: float = 1.0
    """Free space narrower than this separates rooms, as the grid map shows it, or the walls [m]."""
    wall_low: float = 0.0
    """With `wall_high`: what stands between these heights above the floor are walls, which most furniture is
    too low to be, and rooms lie between walls; `passage_width` is that of a gap in them [m]."""
    wall_high: float = 0.0
    """0: rooms are told apart by the grid map alone [m]."""
    room_area: float = 2.0
    """Smaller pieces of free space are not a room of their own [m^2]."""
    room_every: int = 1
    """Rooms are looked at anew on every n-th write, and only where the map has changed."""
    tiles_per_update: int = 256
    """Squares of 32 x 32 cells that are brought up to date on one write; what is more waits, newest first."""
    room_reach: float = 1.5
    """What stands on no room's floor belongs to the nearest room at most this far away [m]."""
    align_sigma: float = 0.0
    """Standard deviation of the slowly varying error of the poses that come in [m]: each frame is laid onto
    the surfaces that are known, before anything is compared; 0: poses are taken as they are."""
    align_yaw: float = 0.0175
    """That of the heading [rad]."""
    align_frames: float = 50.0
    """After so many writes an error has become another one: its correlation fell to 1/e."""
    align_hold: float = 0.3
    """So much of an error is left in, in [0, 1]: the map stays in the frame that the poses come in."""
    diagonal: bool = True
    """Whether the agent can move diagonally from cell to cell; False for grid worlds."""
    trajectory_spacing: float = 0.1
    """The trajectory keeps a position when the agent has moved this far from the last one [m]."""

    def __post_init__(self) -> None:
        if not 0.0 < self.false_rate < self.detection_rate < 1.0:
            raise ConfigError(
                "scene.false_rate and scene.detection_rate must hold 0 < false_rate < detection_rate < 1, "
                f"got {self.false_rate} and {self.detection_rate}"
            )
        for name in ("gate", "position_floor", "place_spacing", "align_yaw", "align_frames"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"scene.{name} must be positive, got {getattr(self, name)}")
        for name in (
            "gate_sigma",
            "pose_sigma",
            "persistence",
            "viewpoint",
            "blind_radius",
            "place_clearance",
            "furniture",
            "passage_width",
            "wall_low",
            "align_sigma",
            "room_area",
            "room_reach",
            "trajectory_spacing",
        ):
            if not getattr(self, name) >= 0.0:
                raise ConfigError(f"scene.{name} must not be negative, got {getattr(self, name)}")
        for name in ("room_every", "tiles_per_update", "least_count"):
            if getattr(self, name) < 1:
                raise ConfigError(f"scene.{name} must be at least 1, got {getattr(self, name)}")
        if self.use_walls and not self.wall_high > self.wall_low:
            raise ConfigError(
                f"scene.wall_high must exceed wall_low or be 0, got {self.wall_high} and {self.wall_low}"
            )
        if self.assignment not in ("optimal", "greedy"):
            raise ConfigError(f'scene.assignment must be "optimal" or "greedy", got "{self.assignment}"')
        if not 0.0 <= self.label_noise < 0.5:
            raise ConfigError(f"scene.label_noise must be in [0, 0.5), got {self.label_noise}")
        if not 0.0 <= self.notice_rate < 1.0:
            raise ConfigError(f"scene.notice_rate must be in [0, 1), got {self.notice_rate}")
        if not 0.0 < self.prior < 1.0:
            raise ConfigError(f"scene.prior must be in (0, 1), got {self.prior}")
        for name in ("move_likeness", "least_likeness", "align_hold"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"scene.{name} must be in [0, 1], got {getattr(self, name)}")

    @property
    def label_cost(self) -> float:
        """What a wrong label costs an assignment, as a squared distance; negative where it cannot be."""
        return -2.0 * math.log(self.label_noise) if self.label_noise > 0.0 else -1.0

    @property
    def moment(self) -> float:
        """In less than this time [s] hardly anything moves; 0: nothing is known about that."""
        return 0.01 * self.persistence

    @property
    def stands(self) -> bool:
        """Whether more is known of the floor than the grid map shows."""
        return self.furniture > 0.0 or self.driven

    @property
    def use_walls(self) -> bool:
        """Whether rooms are told apart by what is as high as walls."""
        return self.wall_high > 0.0

    @property
    def aligns(self) -> bool:
        """Whether frames are laid onto the surfaces that are known."""
        return self.align_sigma > 0.0

    @property
    def strays(self) -> bool:
        """Whether what is seen a little elsewhere several times in a row has moved."""
        return self.moves and self.gate_sigma > 0.0

    @property
    def use_looks(self) -> bool:
        """Whether embeddings count in the assignment."""
        return self.embeddings and self.gate_sigma > 0.0

    @property
    def greedy(self) -> bool:
        """Whether the assignment is greedy."""
        return self.assignment == "greedy"

    @property
    def most_cost(self) -> float:
        """Dearer pairs are no pairs."""
        return self.gate_sigma**2 + max(self.label_cost, 0.0)
