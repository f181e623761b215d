"""Checkpoints to deploy: a folder of safetensors weights, config.json and a model card. No pickle."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from stable_baselines3.common.utils import safe_mean

from embodied_mem import __version__
from embodied_mem.configs import from_mapping, to_mapping
from embodied_mem.errors import ConfigError
from embodied_mem.policy.agent import MemoAgent, Normalization
from embodied_mem.policy.config import LearningRate, PolicyConfig, PPOConfig
from embodied_mem.policy.memo_policy import MemoPolicy
from embodied_mem.policy.spaces import space_from_json, space_to_json

if TYPE_CHECKING:
    from embodied_mem.policy.ppo import MemoPPO

FORMAT = 2
"""Version of the folder's layout, and of what its weights mean: 1 had another order of the rotary pairs."""

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"

CORE_NAMES = {
    "memo": "Memo",
    "none": "memoryless",
    "gru": "GRU",
    "window": "sliding-window transformer",
    "full_context": "full-context transformer",
    "hcam": "HCAM",
}
"""What the model card calls a core."""

CARD_TEXT = """---
library_name: embodied-mem
license: apache-2.0
tags: [reinforcement-learning, memory, stable-baselines3]
---

# {title}

A {core} policy trained by MemoPPO (embodied-mem {version}) for {steps} steps in `{env}`.

| | |
|---|---|
| parameters | {parameters} |
| segment length, summary tokens, bank | {segment_length}, {summary_tokens}, {bank} |
| width, layers, heads | {width}, {layers}, {heads} |
| mean return of the last training episodes | {mean_return} |
| success rate of the last training episodes | {success} |
| training seed | {seed} |

Use it:

```python
from embodied_mem.policy import load_policy

agent = load_policy("{folder}")
action, state = agent.act(obs, state)  # state is None at a trial's start
```

Evaluate it: `embodied-mem eval {folder}`

Files: `model.safetensors` (weights), `config.json` (network, spaces, training). No pickle.
"""


def export_model(model: MemoPPO, path: Path, *, env_id: str, env_kwargs: Mapping[str, Any]) -> Path:
    """Writes a checkpoint folder; it is whole or, where the process is killed, as it was before.

    Raises:
        ConfigError: `path` is something else than a checkpoint or an empty folder.
    """
    if path.exists() and not (path / CONFIG).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"{path} exists and is no checkpoint: give another folder to export to")
    normalization = _normalization_of(model)
    weights = {f"policy.{k}": v.detach().cpu().contiguous() for k, v in model.policy.state_dict().items()}
    for key, n in normalization.items():
        weights[f"normalization.{key}.mean"] = torch.as_tensor(n.mean)
        weights[f"normalization.{key}.var"] = torch.as_tensor(n.var)
    facts = _facts(model, env_id, env_kwargs, normalization)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    part.mkdir()
    try:
        save_file(weights, part / WEIGHTS)
        (part / WEIGHTS).chmod(0o644)  # safetensors makes it private
        (part / CONFIG).write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n")
        (part / CARD).write_text(_card(facts, path))
        for name in (WEIGHTS, CONFIG, CARD):
            with (part / name).open("rb") as file:
                os.fsync(file.fileno())
        old = path.with_name(f".{path.name}.{uuid.uuid4().hex}.old")
        if path.exists():
            path.rename(old)
        part.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def _normalization_of(model: MemoPPO) -> dict[str, Normalization]:
    wrapper = model.get_vec_normalize_env()
    if wrapper is None or not wrapper.norm_obs:
        return {}
    moments = wrapper.obs_rms if isinstance(wrapper.obs_rms, dict) else {"observation": wrapper.obs_rms}
    return {
        key: Normalization(rms.mean, rms.var, float(wrapper.clip_obs), float(wrapper.epsilon))
        for key, rms in moments.items()
    }


def _facts(
    model: MemoPPO, env_id: str, env_kwargs: Mapping[str, Any], normalization: Mapping[str, Normalization]
) -> dict[str, Any]:
    episodes, successes = model.ep_info_buffer or (), model.ep_success_buffer or ()
    return {
        "format": FORMAT,
        "version": __version__,
        "policy": to_mapping(model.policy_config),
        "observation_space": space_to_json(model.observation_space),
        "action_space": space_to_json(model.action_space),
        "normalization": {k: {"clip": n.clip, "epsilon": n.epsilon} for k, n in normalization.items()},
        "env_id": env_id,
        "env_kwargs": dict(env_kwargs),
        "parameters": sum(p.numel() for p in model.policy.parameters()),
        "training": {
            "steps": model.num_timesteps,
            "seed": model.seed,
            "environments": model.n_envs,
            **ppo_settings(model),
            "mean_return": round(float(safe_mean([e["r"] for e in episodes])), 6) if episodes else None,
            "success": round(float(safe_mean(successes)), 6) if successes else None,
        },
    }


def ppo_settings(model: MemoPPO) -> dict[str, Any]:
    """Returns the settings of the optimisation, JSON-ready."""
    rate = model.learning_rate
    plain = None if callable(rate) else rate
    names = [f.name for f in fields(PPOConfig) if f.name not in ("learning_rate", "schedule", "warmup")]
    return {name: getattr(model, name) for name in names} | {
        "learning_rate": rate.peak if isinstance(rate, LearningRate) else plain,
        "schedule": rate.schedule if isinstance(rate, LearningRate) else "custom",
        "warmup": rate.warmup if isinstance(rate, LearningRate) else 0.0,
    }


def _card(facts: Mapping[str, Any], path: Path) -> str:
    policy, training = facts["policy"], facts["training"]
    words = {
        key: policy[key] for key in ("segment_length", "summary_tokens", "bank", "width", "layers", "heads")
    }
    return CARD_TEXT.format(
        title=f"{CORE_NAMES[policy['policy']]}: {facts['env_id'] or path.name}",
        core=CORE_NAMES[policy["policy"]],
        version=facts["version"],
        steps=training["steps"],
        env=facts["env_id"] or "an environment that was not named",
        parameters=facts["parameters"],
        mean_return="unknown" if training["mean_return"] is None else training["mean_return"],
        success="unknown" if training["success"] is None else training["success"],
        seed=training["seed"],
        folder=f"path/to/{path.name}",
        **words,
    )


def describe_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what `config.json` says, JSON-ready.

    Raises:
        ConfigError: not a checkpoint, damaged, or written by a newer or an older version.
    """
    config = Path(path) / CONFIG
    try:
        facts = json.loads(config.read_text())
    except OSError:
        raise ConfigError(
            f"{path} is no checkpoint: it has no {CONFIG}; give a folder that export wrote"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{config} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("format"), int):
        raise ConfigError(f"{config} is not the configuration of a checkpoint")
    if facts["format"] > FORMAT:
        raise ConfigError(
            f"{path} has format {facts['format']}, newer than {FORMAT}: update embodied-mem to read it"
        )
    if facts["format"] < FORMAT:
        raise ConfigError(
            f"{path} has format {facts['format']}; this version computes something else from such weights: "
            "train and export again"
        )
    missing = {"policy", "observation_space", "action_space"} - set(facts)
    if missing:
        raise ConfigError(f"{config} lacks {', '.join(sorted(missing))}")
    return facts


def load_policy(path: str | os.PathLike[str], device: str = "cpu") -> MemoAgent:
    """Loads a checkpoint folder as an agent.

    Args:
        path: a folder that `MemoPPO.export` wrote.
        device: torch device.

    Raises:
        ConfigError: not a checkpoint, damaged, of another architecture, or from a newer version.
    """
    facts = describe_checkpoint(path)
    try:
        config = from_mapping(PolicyConfig, facts["policy"])
    except ConfigError as error:
        raise ConfigError(f"{path} is of an architecture this version does not know: {error}") from None
    network = MemoPolicy(
        space_from_json(facts["observation_space"]),
        space_from_json(facts["action_space"]),
        lambda _: 0.0,
        config,
    ).to(device)
    weights = _load_weights(Path(path) / WEIGHTS, device)
    own = {k.removeprefix("policy."): v for k, v in weights.items() if k.startswith("policy.")}
    wanted = network.state_dict()
    wrong = sorted(
        k
        for k in own.keys() | wanted.keys()
        if k not in own or k not in wanted or own[k].shape != wanted[k].shape
    )
    if wrong:
        raise ConfigError(
            f"{path} is of another architecture: {len(wrong)} weights do not fit {CONFIG}, first {wrong[0]}"
        )
    network.load_state_dict(own)
    network.set_training_mode(False)
    normalization = {}
    for key, values in facts.get("normalization", {}).items():
        moments = [
            weights[f"normalization.{key}.{m}"].cpu().numpy().astype(np.float64) for m in ("mean", "var")
        ]
        normalization[key] = Normalization(moments[0], moments[1], values["clip"], values["epsilon"])
    return MemoAgent(network, facts.get("env_id", ""), facts.get("env_kwargs", {}), normalization)


def _load_weights(path: Path, device: str) -> dict[str, torch.Tensor]:
    try:
        return load_file(path, device=device)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"cannot read the weights {path}: {' '.join(str(error).split())}") from None
