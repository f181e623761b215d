"""Errors a user is meant to read: one line each, saying what to do next."""

from __future__ import annotations


class EmbodiedMemError(Exception):
    """Base of every error this package raises on purpose; its text is one clear line."""


class ConfigError(EmbodiedMemError):
    """A configuration is wrong: an unknown key, a value out of range, a missing file."""


class LogError(EmbodiedMemError):
    """A log cannot be used: not a log, no camera, no TF, sizes that contradict each other."""


class StoreError(EmbodiedMemError):
    """A memory file cannot be used: foreign, damaged, from a newer schema, locked, disk full."""


class InputError(EmbodiedMemError):
    """An array or value handed to the API has the wrong shape, dtype or meaning."""
