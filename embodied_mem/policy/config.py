"""Settings of the policy network and of its training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from embodied_mem.configs import from_mapping, unknown_key
from embodied_mem.errors import ConfigError

POLICIES = ("memo", "none", "gru", "window", "full_context", "hcam")
"""Names of the cores."""

MOST_PLACES = 256
"""The most places of a bank: their order is one integer with visits and time."""


BANK_NAMES = ["accumulate", "fifo", "rewrite", "place"]
"""Summary banks that can be named; `register_bank` adds to them."""


@dataclass(frozen=True)
class PolicyConfig:
    """The network: encoders, transformer core, summaries, heads."""

    policy: Literal["memo", "none", "gru", "window", "full_context", "hcam"] = "memo"
    """Core: "memo" carries summaries from segment to segment; "none" is the same network, each step alone.
    Baselines: "gru" is recurrent; "window" attends to the last `window` steps and "full_context" to the
    whole trial, with a sink; "hcam" recalls the `recall` most relevant segments in full."""
    width: int = 64
    """Width d of a token."""
    layers: int = 2
    """Transformer layers."""
    heads: int = 4
    """Attention heads; must divide `width` into even parts."""
    mlp_ratio: int = 4
    """Width of the feed-forward layers, in units of `width`."""
    segment_length: int = 32
    """Steps L per segment; at its end the segment is summarised and its raw steps are forgotten."""
    summary_tokens: int = 4
    """Learned summary queries S per segment."""
    bank: str = "accumulate"
    """What becomes of summaries: "accumulate" keeps them all (Memo), "fifo" those of the last `slots`
    segments, "rewrite" revises one set through a gate, "place" one per place, for `slots` places;
    or one that `register_bank` was told."""
    slots: int = 16
    """Segments ("fifo") or places ("place") whose summaries a bounded bank keeps."""
    window: int = 64
    """Steps that the "window" core attends to, the present one among them."""
    recall: int = 4
    """Segments that the "hcam" core recalls at each step."""
    jitter: Literal["stored", "memo", "none"] = "stored"
    """Segment lengths: "stored" draws L*U[0.8, 1.2] per segment at rollout and replays them in training;
    "memo" draws one length per training pass and rolls out with L (as published, an ablation); "none"
    always uses L."""
    rope_base: float = 1000.0
    """Base of the rotary position embeddings."""
    reader_heads: int = 4
    """Attention heads with which a step reads memory tokens (`mem_*` observations)."""
    labels: int = 64
    """Size of the table of label embeddings for memory tokens; label ids beyond it read as unknown."""

    def __post_init__(self) -> None:
        for name in (
            "width",
            "layers",
            "heads",
            "mlp_ratio",
            "segment_length",
            "summary_tokens",
            "slots",
            "window",
            "recall",
            "reader_heads",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % (2 * self.heads):
            raise ConfigError(f"width {self.width} must be a multiple of 2 * heads = {2 * self.heads}")
        if self.width % self.reader_heads:
            raise ConfigError(f"width {self.width} must be a multiple of reader_heads = {self.reader_heads}")
        if self.rope_base <= 1.0:
            raise ConfigError(f"rope_base must be greater than 1, got {self.rope_base}")
        if self.bank == "place" and self.slots > MOST_PLACES:
            raise ConfigError(f"slots must be at most {MOST_PLACES} for the place bank, got {self.slots}")
        _check_choice("policy", self.policy, POLICIES)
        _check_choice("bank", self.bank, tuple(BANK_NAMES))
        _check_choice("jitter", self.jitter, ("stored", "memo", "none"))

    @property
    def longest_segment(self) -> int:
        """The most steps a segment can have."""
        return self.segment_range[1]

    @property
    def segment_range(self) -> tuple[int, int]:
        """Shortest and longest jittered segment: L*0.8 and L*1.2, rounded, at least 1."""
        return max(1, round(0.8 * self.segment_length)), max(1, round(1.2 * self.segment_length))


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation over whole sequences."""

    n_steps: int = 128
    """Steps per environment and rollout."""
    n_epochs: int = 4
    """Passes over the rollout in the full update."""
    minibatches: int = 4
    """Minibatches per epoch: each holds the whole sequences of some of the environments."""
    partial_updates: int = 0
    """Updates within a rollout, each on its new steps only, before the full update (Memo, ReLIC: 15)."""
    learning_rate: float = 1e-3
    """Peak learning rate of Adam."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls over the training."""
    warmup: float = 0.0
    """Fraction of the training over which the learning rate rises to its peak."""
    schedule_steps: int = 0
    """Steps over which the learning rate falls, where a training is to stop before; 0: the training's own."""
    gamma: float = 0.99
    """Discount."""
    inner_returns: bool = True
    """Returns cross the ends of inner episodes (`inner_start` observations): what is learned of a trial
    in one inner episode is worth what it earns in the next. False: each inner episode counts for itself."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    clip_range: float = 0.2
    """Clipping range of the policy ratio."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Largest norm of the gradient."""
    target_kl: float | None = None
    """Stop a full update's epochs once the approximate KL divergence exceeds 1.5 times this."""
    normalize_advantage: bool = True
    """Normalise advantages per minibatch."""
    anchor_coef: float = 0.0
    """After an imitation: weight of the divergence from the imitated policy; it falls to 0."""
    critic_steps: int = 0
    """Steps at the beginning in which only the values are learned."""

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.schedule_steps < 0:
            raise ConfigError(f"schedule_steps must not be negative, got {self.schedule_steps}")
        if not 0 <= self.partial_updates < self.n_steps:
            raise ConfigError(f"partial_updates must be in [0, n_steps), got {self.partial_updates}")
        for name in ("gamma", "gae_lambda", "warmup"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("learning_rate", "clip_range", "max_grad_norm"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        _check_choice("schedule", self.schedule, ("constant", "linear", "cosine"))


@dataclass(frozen=True)
class ImitationConfig:
    """Learning from a teacher before learning from rewards."""

    demonstrations: int = 0
    """Episodes of the first collection; no imitation where this and `sketched` are 0."""
    teacher: str = ""
    """Checkpoint folder of a policy that teaches, in a task with discrete actions, another one that may have
    another memory; where it is left out, the task's own teacher does. "{seed}" in it is the run's seed."""
    sketched: int = 0
    """Episodes that come before them in a sketch of the task, which is faster (`sim.pointing.sketch`)."""
    collected: str = ""
    """Folder of the first collection, so that trainings of any seed learn from the same; the run's own where
    it is left out. What is missing there is collected. "{seed}" in it is the run's seed."""
    rounds: int = 0
    """Further collections in which the policy acts and the teacher prefers (DAgger, Ross et al. 2011)."""
    round_demonstrations: int = 0
    """Episodes of each of these."""
    round_sketched: int = 0
    """Episodes of each of these in the sketch."""
    houses: int = 600
    """Houses of the training split in which it is counted which things keep company, before all else."""
    epochs: int = 20
    """Passes over all demonstrations after every collection."""
    lane_steps: int = 128
    """Decisions in a lane of a minibatch."""
    lanes: int = 8
    """Lanes in a minibatch: its gradient flows through whole lanes."""
    imitation_rate: float = 1e-3
    """Peak learning rate of Adam; it falls to 0 along a cosine."""
    value_coef: float = 1e-3
    """Weight of the value loss: returns of tens must not drown what is imitated."""
    learn: Literal["where", "way"] = "where"
    """What is imitated: "where" the goal is behind which candidate, so that the policy weighs it against the
    way; "way" the shortest way by each candidate and on, which asks of it to know what nobody can see."""
    hidden: float = 0.15
    """Probability with which an episode hides each kind of memory token, and the pictures of the map."""

    def __post_init__(self) -> None:
        for name in ("epochs", "lane_steps", "lanes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"imitation.{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "demonstrations",
            "sketched",
            "rounds",
            "round_demonstrations",
            "round_sketched",
            "houses",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"imitation.{name} must not be negative, got {getattr(self, name)}")
        if self.teacher and self.sketched + self.round_sketched:
            raise ConfigError("a teacher's checkpoint knows its own task and no sketch: leave sketched at 0")
        _check_choice("imitation.learn", self.learn, ("where", "way"))
        if not 0.0 <= self.hidden < 1.0:
            raise ConfigError(f"imitation.hidden must be in [0, 1), got {self.hidden}")

    @property
    def is_wanted(self) -> bool:
        """True where there is anything to imitate."""
        return self.demonstrations + self.sketched > 0


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f'{name} must be one of {", ".join(choices)}; got "{value}"')


@dataclass(frozen=True)
class LearningRate:
    """A learning-rate schedule: linear warm-up, then constant, linear or cosine.

    Attributes:
        peak: the highest rate.
        schedule: "constant", "linear" (to 0) or "cosine" (to 2.5 % of the peak).
        warmup: fraction of the training over which it rises.
    """

    peak: float
    schedule: str = "constant"
    warmup: float = 0.0

    def __call__(self, progress_remaining: float) -> float:
        """Returns the rate where `progress_remaining` goes from 1 to 0."""
        done = 1.0 - progress_remaining
        if done < self.warmup:
            return self.peak * done / self.warmup
        if self.schedule == "linear":
            return self.peak * progress_remaining
        if self.schedule == "cosine":
            fallen = (done - self.warmup) / max(1e-9, 1.0 - self.warmup)
            return self.peak * (0.025 + 0.975 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, fallen))))
        return self.peak


def split_settings(settings: Mapping[str, Any]) -> tuple[PolicyConfig, PPOConfig, Any]:
    """Sorts settings into the network's and the optimisation's; the third is the learning rate."""
    settings = dict(settings)
    rate = settings.get("learning_rate")
    if callable(rate):
        del settings["learning_rate"]
    policy_names = [f.name for f in fields(PolicyConfig)]
    network = {key: value for key, value in settings.items() if key in policy_names}
    names = policy_names + [f.name for f in fields(PPOConfig)]
    for key in settings:
        if key not in names:
            raise unknown_key(key, names, "setting")
    policy = from_mapping(PolicyConfig, network)
    ppo = from_mapping(PPOConfig, {key: value for key, value in settings.items() if key not in network})
    return policy, ppo, rate if callable(rate) else LearningRate(ppo.learning_rate, ppo.schedule, ppo.warmup)
