"""Submaps: what was seen at each keyframe, relative to it, so that the map can be put right."""
