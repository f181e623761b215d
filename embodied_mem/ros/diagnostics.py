"""How a node is: counts, rates and complaints, as diagnostic_msgs/DiagnosticArray."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any

import numpy as np

from embodied_mem.log import messages
from embodied_mem.ros.declaration import EVENT, Endpoint

DIAGNOSTICS = Endpoint("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", EVENT, "how the node is")
OK, WARN, ERROR = 0, 1, 2
REMEMBER_S = 5.0
"""How long [s] a complaint stays after it was last heard."""


class Health:
    """Collects what diagnostics tell of a node; thread-safe.

    Args:
        name: of the node.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}
        self._counts: Counter[str] = Counter()
        self._complaints: dict[str, tuple[int, str, float]] = {}
        self._news: list[str] = []
        self._before: dict[str, Any] = {}
        self._times: dict[str, deque[float]] = {}

    def count(self, what: str, number: int = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            self._counts[what] += number

    def counted(self, what: str) -> int:
        """Returns a counter."""
        return self._counts[what]

    def set(self, what: str, value: Any) -> None:
        """Sets a value."""
        with self._lock:
            self._values[what] = value

    def remembered(self, what: str, value: Any) -> Any:
        """Returns the value of the last call; at first the value itself, or an empty list for a list."""
        with self._lock:
            before = self._before.get(what, type(value)() if isinstance(value, list) else value)
            self._before[what] = value
            return before

    def timed(self, what: str, seconds: float) -> None:
        """Adds a duration [s], of which median and p99 are told."""
        with self._lock:
            self._times.setdefault(what, deque(maxlen=1000)).append(seconds)

    def times(self, what: str) -> list[float]:
        """Returns the newest durations [s]."""
        with self._lock:
            return list(self._times.get(what, ()))

    def warn(self, key: str, text: str) -> bool:
        """Complains; True where this is new."""
        return self._complain(WARN, key, text)

    def error(self, key: str, text: str) -> bool:
        """Complains of what keeps the node from its work; True where this is new."""
        return self._complain(ERROR, key, text)

    def _complain(self, level: int, key: str, text: str) -> bool:
        with self._lock:
            known = self._complaints.get(key)
            self._complaints[key] = (level, text, time.monotonic())
            is_new = known is None or time.monotonic() - known[2] > REMEMBER_S
            if is_new and level == WARN:
                self._news.append(text)
            return is_new

    def clear(self, key: str) -> None:
        """Takes a complaint back."""
        with self._lock:
            self._complaints.pop(key, None)

    def news(self) -> list[str]:
        """Returns warnings that nobody has been told yet."""
        with self._lock:
            news, self._news = self._news, []
            return news

    def message(self, stamp: int) -> Any:
        """Returns the diagnostic_msgs/DiagnosticArray at a time [ns]."""
        with self._lock:
            limit = time.monotonic() - REMEMBER_S
            current = {k: v for k, v in self._complaints.items() if v[2] >= limit}
            level = max((c[0] for c in current.values()), default=OK)
            texts = [c[1] for c in sorted(current.values(), key=lambda c: -c[0])]
            values = dict(sorted(self._values.items())) | dict(sorted(self._counts.items()))
            for what, times in self._times.items():
                values[f"{what}_median_ms"] = round(1e3 * float(np.median(times)), 2)
                values[f"{what}_p99_ms"] = round(1e3 * float(np.quantile(times, 0.99)), 2)
        pairs = [
            messages.make("diagnostic_msgs/msg/KeyValue", key=k, value=str(v)) for k, v in values.items()
        ]
        status = messages.make(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=level,
            name=f"embodied_mem: {self.name}",
            message="; ".join(texts) or "OK",
            hardware_id="",
            values=pairs,
        )
        return messages.make(DIAGNOSTICS.type, header=messages.header(stamp, ""), status=[status])
