"""The player: a bag's messages at their own pace, under their own names, as a robot would send them."""

from __future__ import annotations

import threading
import time

from embodied_mem.errors import ConfigError
from embodied_mem.log import messages, topics
from embodied_mem.log.inputs import is_static
from embodied_mem.log.reader import LogReader
from embodied_mem.ros.config import PlayerConfig
from embodied_mem.ros.dds_host import CLOCK
from embodied_mem.ros.declaration import LATCHED, STATIC, STREAM, Declaration, Endpoint, Qos
from embodied_mem.ros.node import Node
from embodied_mem.types import NS_PER_S

REST = 2 * NS_PER_S
"""How far [ns] a clock goes on after a bag's last message."""
SETTLE_S = 0.3
"""How long [s] a listener of the images may take to find the other topics."""


class PlayerNode(Node):
    """Plays a bag: what camera, TF and odometry sent when it was recorded."""

    config: PlayerConfig

    def declare(self) -> Declaration:
        """Returns the node's table: whatever the bag holds, reliably.

        Raises:
            ConfigError: no bag is named.
            LogError: it cannot be read.
        """
        if not self.config.bag:
            raise ConfigError("the player needs a bag: bag:=PATH")
        with LogReader(self.config.bag) as reader:
            rows = tuple(
                Endpoint(name, info.type, _qos(name, info.type), "as recorded")
                for name, info in sorted(reader.topics.items())
                if info.count and info.serialization == "cdr" and messages.knows(info.type)
            )
            self._skipped = sorted(set(reader.topics) - {row.topic for row in rows})
        clock = (CLOCK,) if self.config.clock else ()
        return Declaration(
            "player", "a bag's messages at their own pace", self.config, publications=(*rows, *clock)
        )

    def opened(self) -> None:
        """Says what is left out."""
        for name in self._skipped:
            self.host.log("warning", f"{name} is not played: its type is not known here")

    def began(self) -> None:
        """Starts to play, from the beginning."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="play", daemon=True)
        self._thread.start()

    def paused(self) -> None:
        """Stops playing."""
        self._stop.set()
        self._thread.join()

    def _play(self) -> None:
        with LogReader(self.config.bag) as reader:
            self._wait_for_listeners(reader.start)
        names = {e.topic for e in self.declaration.publications} - {CLOCK.topic}
        while not self._stop.is_set():
            with LogReader(self.config.bag) as reader:
                last = reader.start
                start, first = time.monotonic(), reader.start
                for raw in reader.messages(names):
                    due = start + (raw.log_time - first) / (NS_PER_S * self.config.rate)
                    if self._stop.wait(max(0.0, due - time.monotonic())):
                        return
                    self._tell_time(raw.log_time)
                    self.host.publish(raw.topic, raw.data)
                    last = raw.log_time
                    self.health.count("played")
            self._tell_time(last + REST)  # nobody waits for more
            if not self.config.loop:
                self.host.log("info", f"played {self.health.counted('played')} messages")
                self._stop.wait(1.0)  # what is on its way arrives before the writers go
                self.finished.set()
                return

    def _tell_time(self, stamp: int) -> None:
        if self.config.clock:
            self.publish(CLOCK.topic, messages.make(CLOCK.type, clock=messages.time(stamp)))

    def _wait_for_listeners(self, start: int) -> None:
        """Waits until somebody listens: the first messages of a graph that is still forming are lost.

        The clock [ns] is told meanwhile: whoever takes the time from it can do nothing without.
        """
        images = [e.topic for e in self.declaration.publications if e.type in _AWAITED] or [
            e.topic for e in self.declaration.publications
        ]
        end = time.monotonic() + self.config.wait
        while time.monotonic() < end and not self._stop.wait(0.02):
            self._tell_time(start)
            if any(self.host.listeners(name) for name in images):
                end = min(end, time.monotonic() + SETTLE_S)  # the other topics of the same listener


_AWAITED = (topics.IMAGE, topics.COMPRESSED_IMAGE)


def _qos(name: str, kind: str) -> Qos:
    if is_static(name):
        return STATIC
    return LATCHED if kind == topics.LABEL_INFO else STREAM
