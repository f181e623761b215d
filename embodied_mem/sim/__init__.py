"""Worlds to learn in: one environment or adapter per file, one registration table.

Importing this package registers the environments with gymnasium.
"""

from __future__ import annotations

from embodied_mem.sim.registration import ENVIRONMENTS, make, register

register()

__all__ = ["ENVIRONMENTS", "make", "register"]
