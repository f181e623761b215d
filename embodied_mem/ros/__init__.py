"""ROS 2: nodes that convert messages, call the core, and convert back; two hosts that run them."""
