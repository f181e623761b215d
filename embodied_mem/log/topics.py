"""The one table of topics that we write: name, type, encoding, frame."""

from __future__ import annotations

from dataclasses import dataclass

MAP_FRAME = "map"
ODOM_FRAME = "odom"
BASE_FRAME = "base_link"

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
ODOMETRY = "nav_msgs/msg/Odometry"
POSE_WITH_COVARIANCE = "geometry_msgs/msg/PoseWithCovarianceStamped"
STRING = "std_msgs/msg/String"
INT64 = "std_msgs/msg/Int64"
FLOAT64 = "std_msgs/msg/Float64"
FLOAT32_ARRAY = "std_msgs/msg/Float32MultiArray"
FLOAT64_ARRAY = "std_msgs/msg/Float64MultiArray"
LABEL_INFO = "vision_msgs/msg/LabelInfo"
DETECTIONS_2D = "vision_msgs/msg/Detection2DArray"
DETECTIONS_3D = "vision_msgs/msg/Detection3DArray"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
LASER_SCAN = "sensor_msgs/msg/LaserScan"


@dataclass(frozen=True)
class Topic:
    """One row of the table.

    Attributes:
        name: topic name; `{camera}` stands for the camera's name.
        type: ROS 2 message type.
        encoding: of an image, or what a std_msgs payload holds.
        frame: frame_id of the header; `{camera}` as in `name`.
        latched: True where late joiners must still get the last message (transient local).
    """

    name: str
    type: str
    encoding: str = ""
    frame: str = ""
    latched: bool = False

    def of(self, camera: str) -> Topic:
        """Returns this row for one camera."""
        name, frame = self.name.format(camera=camera), self.frame.format(camera=camera)
        return Topic(name, self.type, self.encoding, frame, self.latched)


TF = Topic("/tf", TF_MESSAGE, frame="map -> odom, odom -> base_link")
TF_STATIC = Topic("/tf_static", TF_MESSAGE, frame="base_link -> camera optical frames", latched=True)
ODOM = Topic("/odom", ODOMETRY, frame=ODOM_FRAME)
POSE = Topic("/pose", POSE_WITH_COVARIANCE, frame=MAP_FRAME)

COLOR = Topic("/{camera}/color/image_raw", IMAGE, "rgb8", "{camera}_color_optical_frame")
COLOR_INFO = Topic("/{camera}/color/camera_info", CAMERA_INFO, "", "{camera}_color_optical_frame")
DEPTH = Topic("/{camera}/depth/image_rect_raw", IMAGE, "32FC1 [m]", "{camera}_depth_optical_frame")
DEPTH_INFO = Topic("/{camera}/depth/camera_info", CAMERA_INFO, "", "{camera}_depth_optical_frame")
SEMANTIC = Topic("/{camera}/semantic/image_raw", IMAGE, "16UC1 or 32SC1", "{camera}_semantic_optical_frame")
SEMANTIC_INFO = Topic("/{camera}/semantic/camera_info", CAMERA_INFO, "", "{camera}_semantic_optical_frame")

BOXES = Topic("/{camera}/detections", DETECTIONS_2D, "objects in the colour image", "{camera}")
CLOUD = Topic("/{camera}/points", POINT_CLOUD, "x, y, z [m], hit", "{camera}")

GRID_VIEW = Topic("/grid/view", IMAGE, "8UC3: object type, colour, state", BASE_FRAME)
GRID_INFO = Topic("/grid/info", STRING, "JSON: cell_size [m], carrying [type, colour] or null")

LABELS = Topic("/labels", LABEL_INFO, latched=True)
DETECTIONS = Topic("/detections", DETECTIONS_3D, frame=BASE_FRAME)
DETECTION_EMBEDDINGS = Topic("/detections/embeddings", FLOAT32_ARRAY, "(detections, D)")
GOAL = Topic("/goal", STRING, "JSON: text, label id, position [m] in the map or null")
ACTION = Topic("/action", INT64, "the discrete action that led here")
ACTION_VECTOR = Topic("/action/vector", FLOAT64_ARRAY, "the continuous action that led here")
REWARD = Topic("/reward", FLOAT64)
EPISODE = Topic("/episode", STRING, "JSON: is_first, terminated, truncated")

STEP = Topic("/memory/step", STRING, "JSON: the ledger of what was consumed together")
COMMAND = Topic("/memory/command", STRING, "JSON: a call that changed the memory")
CONFIG = Topic("/memory/config", STRING, "JSON: the memory's settings", latched=True)
DIGEST = Topic("/memory/digest", STRING, "JSON: digest of the memory at the end", latched=True)
GROUND_TRUTH = Topic("/ground_truth", STRING, "JSON: what the simulator knows; only evaluators read it")

CAMERA_TOPICS = {
    "color": (COLOR, COLOR_INFO),
    "depth": (DEPTH, DEPTH_INFO),
    "semantic": (SEMANTIC, SEMANTIC_INFO),
}
"""Image and CameraInfo of each kind of image, by the name of its field in `CameraFrame`."""

TOPICS = (
    TF, TF_STATIC, ODOM, POSE,
    COLOR, COLOR_INFO, DEPTH, DEPTH_INFO, SEMANTIC, SEMANTIC_INFO, BOXES, CLOUD,
    GRID_VIEW, GRID_INFO,
    LABELS, DETECTIONS, DETECTION_EMBEDDINGS, GOAL, ACTION, ACTION_VECTOR, REWARD, EPISODE,
    STEP, COMMAND, CONFIG, DIGEST, GROUND_TRUTH,
)  # fmt: skip
"""Every topic that `EpisodeWriter` writes."""
