"""Perception: what turns an `Observation` into a `Percept` in the base frame."""
