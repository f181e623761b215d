"""A node: callbacks that only enqueue, and one worker that does everything else in order."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from embodied_mem.errors import EmbodiedMemError, LogError
from embodied_mem.log import messages
from embodied_mem.ros.declaration import Declaration, Endpoint
from embodied_mem.ros.diagnostics import DIAGNOSTICS, Health
from embodied_mem.ros.host import Host

BACKLOG = 8
"""Messages of an unreliable topic that may wait for the worker; older ones go."""
TICK_S = 0.02
"""How often [s] the worker looks after its timers."""
REPORT_S = 1.0
"""How often [s] diagnostics are published."""


class Duties:
    """What a node may do beside being declared; nothing unless it says so.

    Attributes:
        urgent: topics that `at_once` takes, before everything that waits for the worker.
    """

    urgent: frozenset[str] = frozenset()

    def opened(self) -> None:
        """Gets ready; the host is known."""

    def began(self) -> None:
        """Starts what the node does of its own accord; it is active now."""

    def paused(self) -> None:
        """Ends what `began` started; nothing is lost, and the node may become active again."""

    def adjusted(self, config: Any) -> None:
        """Takes other settings; only those differ that may change while the node runs."""

    def handle(self, topic: str, data: bytes, arrival: int) -> None:
        """Takes a message, in the order of arrival [ns]."""

    def at_once(self, topic: str, data: bytes) -> None:
        """Takes a message of an urgent topic, in the host's thread; it must not wait."""

    def tick(self) -> None:
        """Looks after what depends on time; many times a second."""

    def serve(self, service: str) -> str:
        """Carries out a Trigger service; returns what to tell the caller."""
        raise LogError(f'no service "{service}"')

    def closed(self) -> None:
        """Writes what is left."""


class Node(Duties, ABC):
    """The base of all nodes.

    A host calls `start`, `activate`, `receive`, `call`, `adjust`, `deactivate` and `stop`; a node overrides
    `declare` and the duties, which all run in the worker (`opened` and `closed` in the host's thread, while
    there is no worker).

    Args:
        config: its settings.

    Attributes:
        failed: set when the worker has ended by an error.
        finished: set by a node that has nothing left to do.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.declaration: Declaration = self.declare()
        self.health = Health(self.declaration.name)
        self.failed = threading.Event()
        self.finished = threading.Event()
        self.host: Host
        self._types = {e.topic: e.type for e in self.declaration.subscriptions}
        self._types |= {e.topic: e.type for e in self.publications}
        self._lossy = {e.topic for e in self.declaration.subscriptions if not e.qos.reliable}
        self._queue: deque[tuple[str, Any, int]] = deque()
        self._backlog: Counter[str] = Counter()
        self._wake = threading.Condition()
        self._running = False
        self._active = False
        self._worker: threading.Thread | None = None
        self._reported = 0.0

    # ---- what a node is

    @abstractmethod
    def declare(self) -> Declaration:
        """Returns the node's table."""

    @property
    def publications(self) -> tuple[Endpoint, ...]:
        """What it publishes, diagnostics included."""
        return (*self.declaration.publications, DIAGNOSTICS)

    # ---- what a host calls

    def start(self, host: Host) -> None:
        """Opens the node and starts its worker; it serves, but does nothing else before `activate`.

        Raises:
            EmbodiedMemError: something it needs is missing.
        """
        self.host = host
        self.failed.clear()
        self.opened()
        self._running = True
        self._worker = threading.Thread(target=self._work, name=self.declaration.name, daemon=True)
        self._worker.start()

    def activate(self) -> None:
        """Lets the node work.

        Raises:
            EmbodiedMemError: something it needs is missing.
        """
        self._in_worker(self.began)
        self._active = True

    def deactivate(self) -> None:
        """Works off what has been received, and pauses the node."""
        if self._active:
            self._in_worker(self.paused)
            self._active = False

    def adjust(self, config: Any) -> None:
        """Hands the node other settings, of which only live ones differ."""
        self._in_worker(lambda: self.adjusted(config))
        self.config = config

    def receive(self, topic: str, data: bytes) -> None:
        """Enqueues a message, or takes an urgent one; never waits."""
        if topic in self.urgent:
            self._guard(self.at_once, topic, data)
            return
        arrival = self.host.now()
        with self._wake:
            if topic in self._lossy and self._backlog[topic] >= BACKLOG:
                self._drop_oldest(topic)
            self._queue.append((topic, data, arrival))
            self._backlog[topic] += 1
            self._wake.notify()

    def _drop_oldest(self, topic: str) -> None:
        for i, (name, _, _) in enumerate(self._queue):
            if name == topic:
                del self._queue[i]
                self._backlog[topic] -= 1
                self.health.count("dropped")
                return

    def call(self, service: str, timeout: float = 60.0) -> tuple[bool, str]:
        """Carries out a Trigger service in the worker; returns whether it worked, and a message."""
        try:
            return True, self.request(service).result(timeout)
        except EmbodiedMemError as error:
            return False, str(error)
        except TimeoutError:
            return False, f"{service} took longer than {timeout:.0f} s"

    def request(self, service: str) -> Future[str]:
        """Has the worker carry out a Trigger service; returns at once."""
        return self._ask(lambda: self.serve(service))

    def _ask(self, action: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        with self._wake:
            self._queue.append(("", _into(done, action), 0))
            self._wake.notify()
        return done

    def _in_worker(self, action: Callable[[], None]) -> None:
        """Does something between two messages, and waits for it; without a worker, at once."""
        if self._worker is None or not self._worker.is_alive():
            action()
        else:
            self._ask(action).result()

    def fail(self, error: Exception) -> None:
        """Tells of an error that nobody can mend; whoever runs the node ends it."""
        self.host.log("error", f"{self.declaration.name}: {error!r}")
        self.health.error("internal", repr(error))
        self.failed.set()

    def stop(self) -> None:
        """Works off what has been received, and closes the node.

        Raises:
            EmbodiedMemError: what was left could not be written.
        """
        self.deactivate()
        with self._wake:
            self._running = False
            self._wake.notify()
        if self._worker is not None:
            self._worker.join()
            self._worker = None
            self.closed()

    # ---- the worker

    def publish(self, topic: str, message: Any) -> None:
        """Serialises and publishes a message."""
        self.host.publish(topic, messages.serialize(message, self._types[topic]))

    def is_wanted(self, topic: str) -> bool:
        """True where somebody subscribes to a topic of this node."""
        return self.host.listeners(topic) > 0

    def decode(self, topic: str, data: bytes) -> Any:
        """Deserialises a message of a topic.

        Raises:
            DamagedMessageError: it cannot be read.
        """
        return messages.deserialize(data, self._types[topic], topic)

    def _work(self) -> None:
        try:
            while True:
                item = self._next()
                if item is None:
                    return
                self._guard(self._do, *item)
        except Exception as error:
            self.fail(error)
            raise

    def _next(self) -> tuple[str, Any, int] | None:
        with self._wake:
            if not self._queue and self._running:
                self._wake.wait(TICK_S)
            if self._queue:
                item = self._queue.popleft()
                self._backlog[item[0]] -= 1
                return item
            return ("", self._look_after, 0) if self._running else None

    def _do(self, topic: str, data: Any, arrival: int) -> None:
        if topic:
            self.handle(topic, data, arrival)
            self._report()
        else:
            data()

    def _look_after(self) -> None:
        if self._active:
            self.tick()
        self._report()

    def _guard(self, action: Callable[..., None], *arguments: Any) -> None:
        """Lets no error that a user can mend end the worker: it is told once, and in diagnostics."""
        try:
            action(*arguments)
        except EmbodiedMemError as error:
            if self.health.error(type(error).__name__, str(error)):
                self.host.log("error", str(error))

    def _report(self) -> None:
        if time.monotonic() - self._reported < REPORT_S:
            return
        self._reported = time.monotonic()
        self.health.set("backlog", len(self._queue))
        self.observe_health()
        for line in self.health.news():
            self.host.log("warning", line)
        self.publish(DIAGNOSTICS.topic, self.health.message(self.host.now()))

    def observe_health(self) -> None:
        """Brings the values of diagnostics up to date."""


def _into(done: Future[Any], action: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        try:
            done.set_result(action())
        except BaseException as error:
            done.set_exception(error)

    return run
