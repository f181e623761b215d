"""What a training leaves behind while it runs: its curve, and a file from which it goes on."""

from __future__ import annotations

import csv
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import safe_mean

from embodied_mem.verbs.evaluate import COUNTS
from embodied_mem.verbs.interrupt import Wish
from embodied_mem.verbs.training_curve import read_curve

EPISODES = 100
"""Episodes over which the curve's means go."""

SAVE_EVERY = 10
"""Rollouts between two saves."""


class TrainingRecord(BaseCallback):
    """Appends a line to `curve.csv` per rollout, and saves the model every so many rollouts.

    Args:
        folder: of the run.
        resume: name of the file to go on from.
        processes: that train together; steps are counted over all of them.
        begun: steps that are done; lines of the curve beyond them are trained again.
        on_step: told the number of steps done, over all processes.
        wish: looked at between rollouts; where it is asked for, the training is saved and stops.
    """

    def __init__(
        self,
        folder: Path,
        resume: str,
        *,
        begun: int,
        processes: int = 1,
        on_step: Callable[[int], None] = lambda steps: None,
        wish: Wish | None = None,
    ) -> None:
        super().__init__()
        self._tell, self._wish = on_step, wish or Wish()
        self.path, self.resume = folder / "curve.csv", folder / resume
        self.processes = processes
        self.seconds = 0.0
        """Spent in this training, over all its parts."""
        self._saved = 0
        self._recent: dict[str, deque[float]] = {}
        lines = [line for line in self.curve() if line["step"] <= begun] if self.path.exists() else []
        self.path.unlink(missing_ok=True)
        for line in lines:
            self._append(line)
            self.seconds = line["seconds"]

    def curve(self) -> list[dict[str, float]]:
        """Returns the lines so far: step, seconds, and the means of return, success and counts."""
        return read_curve(self.path)

    def _on_training_start(self) -> None:
        self._begun = time.perf_counter() - self.seconds

    def _on_step(self) -> bool:
        self._tell(self.num_timesteps * self.processes)
        for info, done in zip(self.locals["infos"], self.locals["dones"]):
            if done:
                for name in COUNTS:
                    if name in info:
                        self._recent.setdefault(name, deque(maxlen=EPISODES)).append(info[name])
        return True

    def _on_rollout_end(self) -> None:
        """Writes a line; saving waits for the update, so that both speak of the same steps."""
        assert self.model.ep_info_buffer is not None and self.model.ep_success_buffer is not None
        self.seconds = time.perf_counter() - self._begun
        line = {
            "step": self.num_timesteps * self.processes,
            "seconds": round(self.seconds, 2),
            "return": _mean([e["r"] for e in self.model.ep_info_buffer]),
            "success": _mean(self.model.ep_success_buffer),
            **{name: _mean(self._recent.get(name, ())) for name in COUNTS},
        }
        self._append(line)
        self._saved += 1

    def _append(self, line: Mapping[str, float | str]) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, ["step", "seconds", "return", "success", *COUNTS])
            if new:
                writer.writeheader()
            writer.writerow(line)

    def _on_rollout_start(self) -> None:
        if self._wish.is_asked:
            self.model.save(self.resume)
            raise KeyboardInterrupt
        if self._saved and self._saved % SAVE_EVERY == 0:
            self.model.save(self.resume)

    def _on_training_end(self) -> None:
        self.seconds = time.perf_counter() - self._begun
        self.model.save(self.resume)


def _mean(values: object) -> float | str:
    values = list(values)  # type: ignore[call-overload]
    return round(float(safe_mean(values)), 5) if values else ""
