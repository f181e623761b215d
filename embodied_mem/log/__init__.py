"""Logs: MCAP with standard ROS 2 messages, written, read and replayed."""
