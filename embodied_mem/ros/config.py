"""Settings of the nodes; ROS parameters are made from them."""

from __future__ import annotations

from dataclasses import dataclass, field

from embodied_mem.errors import ConfigError
from embodied_mem.log.inputs import CAMERA_ROLES, CameraInputs, Inputs
from embodied_mem.log.replay import RGBD_MEMORY
from embodied_mem.memory import MemoryConfig
from embodied_mem.perception import PerceptionConfig
from embodied_mem.ros.parameters import limited


@dataclass(frozen=True)
class SensorConfig:
    """Where a robot's images, ranges and poses come from.

    A topic's type follows from its name: what ends in /compressed or /compressedDepth is a
    CompressedImage.
    """

    depth: str = "/camera/depth/image_rect_raw"
    """Depth images: raw, /compressed (PNG) or /compressedDepth; empty where a LiDAR or scanner has to do."""
    depth_info: str = "/camera/depth/camera_info"
    """CameraInfo of the depth images."""
    color: str = "/camera/color/image_raw"
    """Colour images, raw or /compressed; empty for none."""
    color_info: str = "/camera/color/camera_info"
    """CameraInfo of the colour images."""
    semantic: str = ""
    """Label images (16UC1 or 32SC1); empty for none."""
    semantic_info: str = ""
    """CameraInfo of the label images."""
    boxes: str = ""
    """Boxes that a detector found in the colour images (vision_msgs Detection2DArray); empty for none."""
    points: tuple[str, ...] = ()
    """PointCloud2 of LiDARs."""
    scans: tuple[str, ...] = ()
    """LaserScan of laser scanners."""
    depths: tuple[str, ...] = ()
    """Depth images of further cameras."""
    depth_infos: tuple[str, ...] = ()
    """CameraInfo of each of them."""
    colors: tuple[str, ...] = ()
    """Colour images of each of them; none at all, or one for each."""
    color_infos: tuple[str, ...] = ()
    """CameraInfo of each of those."""
    odom: str = "/odom"
    """Odometry: its covariance, where there is no map frame; empty for none."""
    map_frame: str = "map"
    """The frame that localisation corrects; that of odometry where there is no localisation."""
    odom_frame: str = "odom"
    """The frame that odometry drifts in."""
    base_frame: str = "base_link"
    """The robot's body."""
    patience: float = limited(1.0, 0.0, 60.0, live=True)
    """How long a frame waits for TF and for its colour image [s]."""
    max_waiting: int = limited(30, 1, 1000, live=True)
    """Frames that may wait for TF; the oldest go."""
    reliable: bool = False
    """Ask for images again that were lost: for a simulator, not for a robot's camera over Wi-Fi."""
    body_mask: str = ""
    """An image as large as the depth images; depth is ignored where it is not black: the robot itself.
    A box around it, perception.body, serves all sensors."""

    def __post_init__(self) -> None:
        if not ((self.depth and self.depth_info) or self.points or self.scans):
            raise ConfigError(
                "sensors.depth and sensors.depth_info must name the depth camera's topics; without one, "
                "sensors.points or sensors.scans a LiDAR's or a laser scanner's"
            )
        count = len(self.depths)
        if len(self.depth_infos) != count or {len(self.colors), len(self.color_infos)} - {0, count}:
            raise ConfigError(
                f"sensors.depths names {count}: give as many depth_infos, not {len(self.depth_infos)}, "
                f"and as many colors and color_infos or none, not {len(self.colors)}, {len(self.color_infos)}"
            )
        if len(self.colors) != len(self.color_infos):
            raise ConfigError("sensors.colors and sensors.color_infos must be as many")

    @property
    def inputs(self) -> Inputs:
        """The topics by what they are for."""
        first = {role: getattr(self, role) for role in CAMERA_ROLES}
        colors = zip(self.colors, self.color_infos) if self.colors else [("", "")] * len(self.depths)
        others = tuple(
            CameraInputs(depth=depth, depth_info=info, color=color, color_info=color_info)
            for depth, info, (color, color_info) in zip(self.depths, self.depth_infos, colors)
        )
        return Inputs(**first, odom=self.odom, others=others, ranges=(*self.points, *self.scans))


@dataclass(frozen=True)
class PerceptionNodeConfig:
    """The perception node."""

    sensors: SensorConfig = field(default_factory=SensorConfig)
    """Topics and frames."""
    perception: PerceptionConfig = field(default_factory=PerceptionConfig)
    """How observations become percepts."""


@dataclass(frozen=True)
class MapConfig:
    """What the memory shows of itself."""

    period: float = limited(1.0, 0.05, 60.0, live=True)
    """Maps are published at most this often [s], when they have changed and somebody subscribes."""
    min_existence: float = limited(0.3, 0.0, 1.0, live=True)
    """Objects that exist with less probability are not shown."""


@dataclass(frozen=True)
class MemoryNodeConfig:
    """The memory node."""

    file: str = ""
    """The .emem file, made where it is missing; in RAM alone where it is empty."""
    same_map: bool = False
    """The map frame is that of the file: its localiser has kept its map. Otherwise a memory that was opened
    again is read-only until somebody says where the robot is, on /initialpose."""
    map_frame: str = "map"
    """Name of the map frame."""
    patience: float = limited(1.0, 0.0, 60.0, live=True)
    """How long a percept waits for its parts [s]."""
    maps: MapConfig = field(default_factory=MapConfig)
    """What is shown."""
    memory: MemoryConfig = RGBD_MEMORY
    """Settings of a new memory; a file that exists keeps its own, but for what is read of it."""


@dataclass(frozen=True)
class MotionConfig:
    """How actions become velocities."""

    max_speed: float = limited(0.4, 0.01, 5.0, live=True)
    """Highest speed ahead [m/s]."""
    max_turn: float = limited(1.0, 0.01, 10.0, live=True)
    """Highest turn rate [rad/s]."""
    acceleration: float = limited(0.6, 0.01, 20.0, live=True)
    """Highest change of speed [m/s^2]."""
    turn_acceleration: float = limited(2.5, 0.01, 50.0, live=True)
    """Highest change of turn rate [rad/s^2]."""
    step: float = limited(0.25, 0.01, 5.0)
    """Length of the action "forward" [m]."""
    turn: float = limited(30.0, 1.0, 180.0)
    """Angle of the actions "left" and "right" [degrees]."""
    position_tolerance: float = limited(0.02, 0.001, 1.0)
    """A step is done this close to its end [m]."""
    angle_tolerance: float = limited(0.03, 0.001, 1.0)
    """A turn is done this close to its end [rad]."""
    stuck: float = limited(1.5, 0.1, 60.0, live=True)
    """An action is given up when odometry has not come closer to its end for this long [s]."""


@dataclass(frozen=True)
class ControlConfig:
    """Policy and velocities."""

    policy: str = "goal"
    """goal: to the goal if the memory knows it, otherwise explore; explore; or a checkpoint folder."""
    motion: MotionConfig = field(default_factory=MotionConfig)
    """Actions and velocities."""
    stale: float = limited(0.5, 0.05, 10.0, live=True)
    """The robot stops when odometry or observations are older than this [s]."""
    lockstep: bool = False
    """One command after every observation instead of one per odometry message: for a waiting simulator."""
    goal_poses: bool = False
    """Publish where to drive to, for Nav2 or another controller, instead of velocities."""
    stamped: bool = True
    """Publish TwistStamped on cmd_vel; False: Twist."""
    odom_frame: str = "odom"
    """Frame of odometry."""
    base_frame: str = "base_link"
    """Frame of cmd_vel."""


@dataclass(frozen=True)
class PolicyNodeConfig:
    """The policy node."""

    control: ControlConfig = field(default_factory=ControlConfig)
    """Policy and velocities."""
    sensors: SensorConfig = field(default_factory=SensorConfig)
    """Odometry and frames; the images too where the policy looks at them."""


@dataclass(frozen=True)
class RecorderConfig:
    """The recorder node: what the perception node is given, as an MCAP file."""

    file: str = "run.mcap"
    """The MCAP file; one that exists is replaced."""
    flush: float = limited(1.0, 0.05, 60.0)
    """What has come is on its way to the disk after this long [s]: so much a power cut may cost."""
    sensors: SensorConfig = field(default_factory=SensorConfig)
    """Topics and frames."""


@dataclass(frozen=True)
class RobotConfig:
    """Perception, memory and policy in one process."""

    sensors: SensorConfig = field(default_factory=SensorConfig)
    """Topics and frames."""
    perception: PerceptionConfig = field(default_factory=PerceptionConfig)
    """How observations become percepts."""
    file: str = ""
    """The .emem file, made where it is missing; in RAM alone where it is empty."""
    same_map: bool = False
    """The map frame is that of the file: its localiser has kept its map. Otherwise a memory that was opened
    again is read-only until somebody says where the robot is, on /initialpose."""
    record: str = ""
    """An MCAP file with everything that was seen and the ledger, for `embodied-mem replay --verify`."""
    drive: bool = False
    """Let the policy drive the robot."""
    maps: MapConfig = field(default_factory=MapConfig)
    """What is shown."""
    control: ControlConfig = field(default_factory=ControlConfig)
    """Policy and velocities."""
    memory: MemoryConfig = RGBD_MEMORY
    """Settings of a new memory; a file that exists keeps its own, but for what is read of it."""


@dataclass(frozen=True)
class PlayerConfig:
    """The player: a bag's messages, as a robot would send them."""

    bag: str = ""
    """An MCAP file, a rosbag2 folder or a .db3."""
    rate: float = limited(1.0, 0.01, 100.0)
    """How many times faster than recorded."""
    loop: bool = False
    """Start again at the end; the clock jumps back."""
    clock: bool = False
    """Publish /clock."""
    wait: float = limited(2.0, 0.0, 600.0)
    """How long to wait for somebody who listens, at most [s]."""


@dataclass(frozen=True)
class SimConfig:
    """The simulator as a robot."""

    env: str = "EmbodiedMem/House-ObjectNav-v0"
    """A registered navigation task."""
    seed: int = 0
    """Of the house, the start and the goals."""
    steps: int = 0
    """The world ends after this many frames; 0: never."""
    speed: float = limited(1.0, 0.01, 1000.0)
    """How many times faster than real time, at most."""
    lockstep: bool = False
    """Wait for the command of every frame: the same run every time."""
    give_up: float = limited(30.0, 1.0, 3600.0)
    """In lockstep the robot stands still for a step when a command has been waited for this long [s]; the
    first one is waited for without end."""
    timeout: float = limited(0.5, 0.01, 60.0)
    """The robot stops when no command has come for this long, in simulated time [s]."""
