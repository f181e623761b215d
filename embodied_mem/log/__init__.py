"""Logs: MCAP with standard ROS 2 messages, written, read and replayed.

Names are imported from their modules, so that nobody loads what is not used:
`writer.EpisodeWriter`, `world.LoggedWorld`, `replay.replay`, `describe.describe_log`,
`reader.LogReader`; `topics` is the table of everything we write.
"""
