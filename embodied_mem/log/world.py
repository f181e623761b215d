"""A log as the loop's `World`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from embodied_mem.errors import LogError
from embodied_mem.log.bag import BagSource
from embodied_mem.log.camera import read_mask
from embodied_mem.log.ledger import LedgerSource
from embodied_mem.log.reader import LogReader
from embodied_mem.types import Command, LabelMap, Observation

_MALFORMED = (LookupError, TypeError, ValueError, AttributeError)
"""What a ledger raises whose JSON lacks what ours has."""


class LoggedWorld:
    """Gives the observations of a log, one after another; it cannot be acted upon.

    Our own logs follow their ledger: the observations are those of the run, bit for bit. A
    foreign bag is ordered by stamp.

    Args:
        path: an MCAP file, a rosbag2 folder, or a .db3.
        remap: role -> topic for a foreign bag, where its inputs are not found by themselves.
        mask: an image that is not black where the first camera of a foreign bag sees the robot itself.

    Attributes:
        has_ledger: True for our own logs.
        labels: names of labels, as far as the log has been read.
        warnings: what could not be read or was left out, one line each; grows while reading.
        digest: the digest that the log records, or None.
        memory_config: the memory's settings that the log records, or None.
        perception_config: perception's settings that the log records, or None.

    Raises:
        LogError: it is not a log, or lacks what a map needs.
        ConfigError: the mask cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        remap: Mapping[str, str] | None = None,
        mask: str | Path | None = None,
    ) -> None:
        self._reader = LogReader(path)
        self.memory_config: dict[str, Any] | None = None
        self.perception_config: dict[str, Any] | None = None
        self.digest: str | None = None
        self.has_ledger = LedgerSource.recognises(self._reader)
        self._ledger: LedgerSource | None = None
        try:
            if self.has_ledger:
                self._observations = self._follow(remap)
            else:
                hidden = None if mask is None else read_mask(Path(mask))
                self._observations = BagSource(self._reader, dict(remap or {}), hidden).observations()
        except BaseException:
            self._reader.close()
            raise

    def _follow(self, remap: Mapping[str, str] | None) -> Iterator[Observation]:
        try:
            return self._open_ledger(remap)
        except _MALFORMED as error:
            raise LogError(f"{self._reader.path}: its ledger cannot be followed ({error!r})") from None

    def _open_ledger(self, remap: Mapping[str, str] | None) -> Iterator[Observation]:
        self._ledger = LedgerSource(self._reader)
        self.digest = self._ledger.digest
        config = self._ledger.config
        if config is not None and "memory" in config:
            self.memory_config, self.perception_config = config["memory"], config.get("perception")
        else:
            self.memory_config = config
        if remap:
            self.warnings.append("--remap is ignored: this log's ledger says what was consumed")
        return self._ledger.observations()

    def __enter__(self) -> LoggedWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the log."""
        self._reader.close()

    @property
    def warnings(self) -> list[str]:
        """What could not be read or was left out."""
        return self._reader.warnings

    @property
    def labels(self) -> LabelMap:
        """Names of the labels."""
        return LabelMap() if self._ledger is None else self._ledger.labels

    @property
    def ledger_step(self) -> dict[str, Any] | None:
        """What the ledger says about the newest observation: inputs, verdict, reason."""
        return None if self._ledger is None else self._ledger.step

    @property
    def trailing_commands(self) -> tuple[Command, ...]:
        """Commands after the last step; complete once `observe` has returned None."""
        return () if self._ledger is None else tuple(self._ledger.trailing)

    def observe(self) -> Observation | None:
        """Returns the next observation, or None at the end of the log."""
        try:
            return next(self._observations, None)
        except _MALFORMED as error:
            if self.has_ledger:
                raise LogError(f"{self._reader.path}: its ledger cannot be followed ({error!r})") from None
            raise

    def act(self, action: Any) -> None:
        """Does nothing: what happened has happened."""
