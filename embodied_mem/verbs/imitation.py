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
SKETCHES = 500_000
"""Episodes of the task have seeds so much later than those of the sketch."""


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
        else:
            self._keep_company()
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

    def _folders(self, number: int) -> tuple[Path, Path]:
        """Returns where a round's demonstrations are: those of the sketch, and those of the task."""
        folder = self.out / DEMONSTRATIONS
        return folder / f"sketch_{number}", folder / f"round_{number}"

    def _collect(self, number: int) -> None:
        from embodied_mem.sim.pointing.collection import Choose, ChoosePolicy, choose_heuristic, collect
        from embodied_mem.sim.pointing.sketch import make_sketch

        c = self.config
        choosers: dict[str, Choose] = {"heuristic": choose_heuristic}
        if number:
            choosers = {"policy": ChoosePolicy(self.model.policy)}
        first = SEED + 1_000_000 * self.seed
        wanted = (
            (make_sketch, c.sketched, c.round_sketched),
            (self.make, c.demonstrations, c.round_demonstrations),
        )
        for (make, begin, each), folder, where in zip(wanted, self._folders(number), ("sketch", "task")):
            start = first if number == 0 else first + begin + (number - 1) * each
            count = 0

            def tell(seed: int, demonstration: Any, where: str = where) -> None:
                nonlocal count
                count += 1
                if count % 10 == 0:
                    size = len(demonstration)
                    self.say(f"round {number}, {where}: {count} episodes, the last of {size} decisions")

            collect(make, folder, range(start, start + (each if number else begin)), choosers, tell)
            first += SKETCHES

    def _keep_company(self) -> None:
        """Counts which things keep company in houses of the training split, for a pointer that can use it."""
        from embodied_mem.sim.house.catalog import HOUSE_LABELS
        from embodied_mem.sim.house.company import company
        from embodied_mem.sim.house.house import SPLITS, make_house

        things = getattr(self.model.policy.action_net, "things", None)
        if things is not None and self.config.houses:
            self.say(f"counting in {self.config.houses} houses which things keep company")
            seeds = SPLITS["train"][-self.config.houses :]
            things.start_from(company((make_house(seed) for seed in seeds), HOUSE_LABELS))

    def _imitate(self, number: int) -> list[dict[str, float]]:
        from embodied_mem.policy.demonstrations import Demonstration
        from embodied_mem.policy.imitation import Imitator

        folders = [folder for n in range(number + 1) for folder in self._folders(n)]
        files = [path for folder in folders for path in sorted(folder.glob("*.npz"))]
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
