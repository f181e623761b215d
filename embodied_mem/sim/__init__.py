"""Worlds to learn in: one environment or adapter per file, one registration table."""
