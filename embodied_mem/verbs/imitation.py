"""The first stage of a training that has a teacher: collect demonstrations, and imitate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodied_mem.errors import ConfigError

if TYPE_CHECKING:
    from embodied_mem.policy import MemoPPO
    from embodied_mem.policy.config import ImitationConfig

DEMONSTRATIONS = "demonstrations"
IMITATED = "imitated.zip"
HISTORY = "imitation.json"
SEED = 10_000_000
"""First seed of the demonstrations' episodes, far from those of training and evaluation."""


@dataclass(frozen=True)
class Imitation:
    """What an imitation needs.

    Attributes:
        model: its policy is trained.
        config: how.
        make: makes the task.
        out: folder of the run; what is there already is gone on with.
        seed: of the run.
        say: is told of progress, a line at a time.
    """

    model: MemoPPO
    config: ImitationConfig
    make: Callable[[], Any]
    out: Path
    seed: int
    say: Callable[[str], None]

    def run(self) -> list[dict[str, float]]:
        """Collects, imitates, and lets the policy act in further rounds; returns the history of epochs.

        A run that was cut off keeps its demonstrations, and the weights after every round.
        """
        history = self.history()
        done = max((int(row["round"]) for row in history), default=-1) + 1
        if done:
            self.model.policy.load_state_dict(self.imitated().state_dict())
        for number in range(done, self.config.rounds + 1):
            self._collect(number)
            history += self._imitate(number)
            self.model.save(self.out / IMITATED)
            (self.out / HISTORY).write_text(json.dumps(history, indent=1))
        return history

    def imitated(self) -> Any:
        """Returns the policy as the last round left it."""
        return type(self.model).load(self.out / IMITATED, device=self.model.device).policy

    def history(self) -> list[dict[str, float]]:
        """Returns the epochs of the rounds that are done."""
        path = self.out / HISTORY
        if not path.exists() or not (self.out / IMITATED).exists():
            return []
        found: list[dict[str, float]] = json.loads(path.read_text())
        return found

    def _folder(self, number: int) -> Path:
        return self.out / DEMONSTRATIONS / f"round_{number}"

    def _collect(self, number: int) -> None:
        from embodied_mem.sim.pointing.collection import (
            Choose,
            ChoosePolicy,
            choose_heuristic,
            choose_teacher,
            collect,
        )

        c = self.config
        first = SEED + 1_000_000 * self.seed
        if number == 0:
            seeds = range(first, first + c.demonstrations)
            choosers: dict[str, Choose] = {"heuristic": choose_heuristic, "teacher": choose_teacher}
        else:
            first += c.demonstrations + (number - 1) * c.round_demonstrations
            seeds = range(first, first + c.round_demonstrations)
            choosers = {"policy": ChoosePolicy(self.model.policy)}
        count = 0

        def tell(seed: int, demonstration: Any) -> None:
            nonlocal count
            count += 1
            self.say(f"round {number}: {count} episodes, the last of {len(demonstration)} decisions")

        collect(self.make, self._folder(number), seeds, choosers, tell)

    def _imitate(self, number: int) -> list[dict[str, float]]:
        from embodied_mem.policy.demonstrations import Demonstration
        from embodied_mem.policy.imitation import Imitator

        files = [path for n in range(number + 1) for path in sorted(self._folder(n).glob("*.npz"))]
        if not files:
            raise ConfigError("demonstrations is 0: there is nothing to imitate")
        episodes = [Demonstration.load(path) for path in files]
        imitator = Imitator(self.model.policy, self.config, self.model.gamma, self.seed + number)
        rows = []
        for epoch in range(self.config.epochs):
            told = imitator.train(episodes, epoch)
            rows.append({"round": number, "epoch": epoch, **told})
            self.say(f"round {number}, epoch {epoch}: " + ", ".join(f"{k} {v:.3f}" for k, v in told.items()))
        return rows
