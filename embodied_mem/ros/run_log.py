"""The log of a robot's run: written as long as it can be, and no reason to stop for the robot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from embodied_mem.configs import to_mapping
from embodied_mem.errors import LogError
from embodied_mem.log.writer import EpisodeWriter
from embodied_mem.loop import Moment
from embodied_mem.memory import Memory
from embodied_mem.perception import PerceptionConfig
from embodied_mem.ros.diagnostics import Health
from embodied_mem.types import Command


class RunLog:
    """Writes a run's ledger; where that fails it says so, and the run goes on without.

    Args:
        path: the MCAP file.
        memory: the memory of the run; its commands are written too.
        perception: settings, for the replay.
        health: where to complain.

    Raises:
        LogError: the file cannot be made.
    """

    def __init__(self, path: str, memory: Memory, perception: PerceptionConfig, health: Health) -> None:
        settings = {"memory": to_mapping(memory.config), "perception": to_mapping(perception)}
        self._writer: EpisodeWriter | None = EpisodeWriter(path, config=settings)
        self._path, self._health = path, health
        self.failure = ""
        memory.on_command.append(self.command)

    def __call__(self, moment: Moment) -> None:
        """Writes a step."""
        if self._writer is not None:
            self._try(self._writer, moment)

    def command(self, command: Command) -> None:
        """Writes a command to the memory."""
        if self._writer is not None:
            self._try(self._writer.command, command)

    def close(self, digest: str) -> None:
        """Ends the log with the memory's digest."""
        if self._writer is not None:
            self._try(self._writer.close, digest)

    def watch(self) -> None:
        """Complains, again and again, of a log that could not be written on."""
        if self.failure:
            self._health.error("log", self.failure)

    def _try(self, write: Callable[[Any], None], value: Any) -> None:
        try:
            write(value)
        except (OSError, LogError) as error:
            self._writer = None
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            self.failure = f"the log {self._path} ends here: {reason}; what it holds can be replayed"
            self.watch()
