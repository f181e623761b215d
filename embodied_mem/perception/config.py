"""Settings of perception."""

from __future__ import annotations

from dataclasses import dataclass, field

from embodied_mem.errors import ConfigError


@dataclass(frozen=True)
class DepthConfig:
    """Which depth readings are believed, and how many of them are used."""

    min_range: float = 0.1
    """Nearer readings are ignored [m along the ray]."""
    max_range: float = 5.0
    """Farther readings only clear the space up to here [m along the ray]."""
    stride: int = 1
    """Every n-th pixel of every n-th row is used."""
    max_pixels: int = 100_000
    """The stride grows until no image gives more points than this."""
    edge_jump: float = 0.05
    """Readings between a near and a far surface, this fraction of their depth away from both, are
    ignored: they float in the air at the edges of things. 0 keeps them."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_range < self.max_range:
            raise ConfigError(
                "depth.min_range and depth.max_range must hold 0 <= min_range < max_range, "
                f"got {self.min_range} and {self.max_range}"
            )
        for name in ("stride", "max_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"depth.{name} must be at least 1, got {getattr(self, name)}")
        if not self.edge_jump >= 0.0:
            raise ConfigError(f"depth.edge_jump must not be negative, got {self.edge_jump}")


@dataclass(frozen=True)
class SnapshotConfig:
    """The colour images that memory may keep a moment by."""

    every: int = 1
    """Offer the image of every n-th step; 0 offers none."""
    max_width: int = 320
    """Wider images are reduced by a whole factor to at most this width [px]."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ConfigError(f"snapshot.every must not be negative, got {self.every}")
        if self.max_width < 1:
            raise ConfigError(f"snapshot.max_width must be at least 1, got {self.max_width}")


@dataclass(frozen=True)
class DetectorConfig:
    """Which things in label images become objects."""

    labels: tuple[str, ...] = ()
    """Names of the labels that are objects; without any, none are looked for."""
    min_pixels: int = 12
    """Things with fewer pixels are ignored."""
    max_range: float = 4.5
    """Things farther than this are ignored [m]."""
    depth_jump: float = 0.04
    """Neighbouring pixels whose depths differ by more than this fraction are two things."""
    max_hidden: float = 0.15
    """Things are ignored if nearer things cover more than this fraction of their outline."""
    whole: bool = True
    """Things that the image's border cuts are ignored too."""
    position_sigma: float = 0.03
    """Standard deviation of the position of a small thing nearby [m]."""
    score: float = 0.9
    """Confidence of what is found."""

    def __post_init__(self) -> None:
        if self.min_pixels < 1:
            raise ConfigError(f"detector.min_pixels must be at least 1, got {self.min_pixels}")
        for name in ("max_range", "depth_jump", "position_sigma"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"detector.{name} must be positive, got {getattr(self, name)}")
        if not 0.0 <= self.max_hidden <= 1.0:
            raise ConfigError(f"detector.max_hidden must be in [0, 1], got {self.max_hidden}")
        if not 0.0 < self.score <= 1.0:
            raise ConfigError(f"detector.score must be in (0, 1], got {self.score}")


@dataclass(frozen=True)
class MarkerConfig:
    """Printed ArUco or AprilTag markers in colour images."""

    dictionary: str = ""
    """OpenCV's name of the dictionary, such as DICT_4X4_50 or DICT_APRILTAG_36h11; without one, no
    markers are looked for."""
    size: float = 0.15
    """Edge of a marker's black square [m]."""
    max_range: float = 5.0
    """Markers farther than this are ignored [m]."""
    score: float = 0.95
    """Confidence of what is found."""

    def __post_init__(self) -> None:
        for name in ("size", "max_range"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"markers.{name} must be positive, got {getattr(self, name)}")
        if not 0.0 < self.score <= 1.0:
            raise ConfigError(f"markers.score must be in (0, 1], got {self.score}")


@dataclass(frozen=True)
class OnnxConfig:
    """A detection network in ONNX format."""

    model: str = ""
    """The .onnx file; without one, no network is run."""
    classes: tuple[str, ...] = ()
    """Names of its classes, in its order."""
    input_size: int = 640
    """Edge of its square input [px]."""
    score: float = 0.4
    """Boxes with a lower score are ignored."""
    overlap: float = 0.5
    """Of two boxes of a class that share more than this of their union, the surer one is kept."""
    max_range: float = 4.5
    """Things farther than this are ignored [m]."""

    def __post_init__(self) -> None:
        if self.model and not self.classes:
            raise ConfigError("onnx.classes must name the network's classes")
        if self.input_size < 32:
            raise ConfigError(f"onnx.input_size must be at least 32, got {self.input_size}")
        for name in ("score", "overlap"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ConfigError(f"onnx.{name} must be in (0, 1], got {getattr(self, name)}")


@dataclass(frozen=True)
class EmbedderConfig:
    """A network that says what things and views look like, such as CLIP's image encoder, in ONNX format."""

    model: str = ""
    """The .onnx file; without one, things are told apart by their colours, and views by nothing."""
    input_size: int = 224
    """Edge of its square input [px]."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Of red, green and blue in [0, 1], as the network was trained; CLIP's."""
    deviation: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """Likewise."""

    def __post_init__(self) -> None:
        if self.input_size < 1:
            raise ConfigError(f"embedder.input_size must be positive, got {self.input_size}")
        if not all(0.0 <= m <= 1.0 for m in self.mean) or not all(d > 0.0 for d in self.deviation):
            raise ConfigError("embedder.mean must be in [0, 1] and embedder.deviation positive")


@dataclass(frozen=True)
class BoxConfig:
    """Boxes that a detector outside found in images."""

    score: float = 0.4
    """Boxes with a lower score are ignored."""
    max_range: float = 4.5
    """Things farther than this are ignored [m]."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0 or not self.max_range > 0.0:
            raise ConfigError(f"boxes.score must be in [0, 1] and boxes.max_range positive, got {self}")


@dataclass(frozen=True)
class CloudConfig:
    """LiDARs and laser scanners."""

    min_range: float = 0.2
    """Nearer points are left out [m]."""
    max_range: float = 20.0
    """Farther points are misses: free up to here [m]."""
    max_points: int = 60000
    """Of more points than this every n-th is used."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_range < self.max_range:
            raise ConfigError(f"cloud.min_range must lie in [0, {self.max_range}), got {self.min_range}")
        if self.max_points < 1:
            raise ConfigError(f"cloud.max_points must be at least 1, got {self.max_points}")


@dataclass(frozen=True)
class BodyConfig:
    """The robot's own body, which its sensors may see: a box in the base frame."""

    low: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Its lowest corner [m]."""
    high: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Its highest corner [m]; no box where both are the same."""

    def __post_init__(self) -> None:
        if not all(low <= high for low, high in zip(self.low, self.high)):
            raise ConfigError(f"body.low must be below body.high, got {self.low} and {self.high}")


@dataclass(frozen=True)
class PerceptionConfig:
    """How observations become percepts."""

    depth: DepthConfig = field(default_factory=DepthConfig)
    """Depth images."""
    snapshot: SnapshotConfig = field(default_factory=SnapshotConfig)
    """Colour images to remember moments by."""
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    """Objects in label images."""
    markers: MarkerConfig = field(default_factory=MarkerConfig)
    """Printed markers."""
    onnx: OnnxConfig = field(default_factory=OnnxConfig)
    """A detection network."""
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)
    """A network that says what things and views look like."""
    cloud: CloudConfig = field(default_factory=CloudConfig)
    """LiDARs and laser scanners."""
    body: BodyConfig = field(default_factory=BodyConfig)
    """The robot's own body."""
    boxes: BoxConfig = field(default_factory=BoxConfig)
    """Boxes that a detector outside found."""
