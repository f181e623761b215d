"""Train a policy from a config file."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from embodied_mem.arguments import parse
from embodied_mem.configs import load_config, save_config
from embodied_mem.errors import ConfigError
from embodied_mem.policy.config import ImitationConfig, PolicyConfig, PPOConfig
from embodied_mem.verbs.interrupt import Interrupted, stopping
from embodied_mem.verbs.progress import progress

RESUME, CONFIG = "resume.zip", "config.yaml"
"""File of a run's folder from which a training goes on."""

CURRICULA = ("area_trials", "strict_after")
"""Attributes of environments whose task gets harder with the steps they had."""

USAGE = """usage: embodied-mem train CONFIG.yaml [--out DIR] [--seed 3] [--policy none] ...

CONFIG.yaml is a file like those in sim_configs/; every key of it is an option too:
`embodied-mem train sim_configs/proof_of_memory.yaml --help` lists them with their values.

Examples:
    embodied-mem train sim_configs/proof_of_memory.yaml                    # two minutes; runs/proof_of_memory
    embodied-mem train sim_configs/proof_of_memory.yaml --policy none --out runs/none    # without memory
    embodied-mem compare runs/proof_of_memory runs/none                    # the two side by side
    embodied-mem train sim_configs/passive_tmaze.yaml --resume             # goes on after Ctrl-C"""


@dataclass(frozen=True)
class TrainConfig:
    """One training run; `sim_configs/*.yaml` are these, and every field is an option of `train`."""

    env: str = "EmbodiedMem/ProofOfMemory-v0"
    """A registered gymnasium environment."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment; with another --env the config's are left out."""
    eval_env_kwargs: Annotated[dict[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Arguments that differ where the policy is evaluated: a curriculum ends there. No option: the file has
    them, and the options that are called the same are those of the training."""
    algorithm: Literal["memo_ppo", "ppo", "recurrent_ppo"] = "memo_ppo"
    """What learns: "memo_ppo" is the project's own; "ppo" of stable-baselines3 and "recurrent_ppo" of
    sb3-contrib are outside checks, with networks of their own (of `width`), on the same observations as one
    vector (`sim.flat_observation`)."""
    n_envs: int = 16
    """Environments stepped side by side."""
    total_steps: int = 100_000
    """Environment steps to train for; after an imitation there may be none."""
    seed: int = 0
    """Of the weights, the environments and the sampling."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch's threads; networks as small as these lose more by waiting for each other than they gain."""
    eval_episodes: int = 200
    """Fresh episodes to evaluate on at the end."""
    start: str = ""
    """Checkpoint folder of the same network, trained in an easier task that looks the same: this training
    starts with its weights. "{seed}" in it is the run's seed, "{method}" what a sweep calls the method."""
    policy: Annotated[PolicyConfig, tyro.conf.OmitArgPrefixes] = field(default_factory=PolicyConfig)
    """The network."""
    ppo: Annotated[PPOConfig, tyro.conf.OmitArgPrefixes] = field(default_factory=PPOConfig)
    """The optimisation."""
    imitation: Annotated[ImitationConfig, tyro.conf.OmitArgPrefixes] = field(default_factory=ImitationConfig)
    """What is learned from a teacher before; for tasks that have one (House-Pointing, -Parcels)."""

    def __post_init__(self) -> None:
        for name in ("n_envs", "total_steps", "threads", "eval_episodes"):
            least = 0 if name == "total_steps" and self.imitation.is_wanted else 1
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.is_peer and self.imitation.is_wanted:
            raise ConfigError(
                f"{self.algorithm} cannot imitate; leave that out with --sketched 0 --demonstrations 0"
            )
        if self.is_peer and self.start:
            raise ConfigError(
                f"{self.algorithm} cannot start with weights of the project's own; leave out start"
            )

    @property
    def is_peer(self) -> bool:
        """True where somebody else's algorithm learns."""
        return self.algorithm != "memo_ppo"


@dataclass(frozen=True)
class Outputs:
    """Where a run leaves its files."""

    out: Path | None = None
    """Folder for config.yaml, the checkpoint and result.json; runs/NAME where it is left out."""
    json: bool = False
    """Print the result as JSON."""
    resume: bool = False
    """Go on with the training that was cut off in the folder."""


def train(arguments: list[str]) -> int:
    """Runs `embodied-mem train CONFIG.yaml [overrides]`; returns the exit code."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError("missing: CONFIG.yaml, first of all; `embodied-mem train --help` tells more")
    path = _config_path(arguments[0])
    prog = f"embodied-mem train {path}"
    loaded = load_config(TrainConfig, path)

    def run(
        config: Annotated[TrainConfig, tyro.conf.OmitArgPrefixes] = loaded,
        outputs: Annotated[Outputs, tyro.conf.OmitArgPrefixes] = Outputs(),
    ) -> int:
        """Train a policy, evaluate it, and export it."""
        if config.env != loaded.env and config.env_kwargs == loaded.env_kwargs:
            config = replace(
                config, env_kwargs={}, eval_env_kwargs={}
            )  # those were for the config's own environment
        result = run_training(
            config,
            outputs.out or Path("runs") / path.stem,
            progress_bar=not outputs.json,
            resume=outputs.resume,
            command=shlex.join(["embodied-mem", "train", *arguments]),
        )
        if not result:  # not the first of several processes
            return 0
        if outputs.json:
            print(json.dumps(result, indent=2))
        else:
            from embodied_mem.verbs.evaluate import in_words

            print(in_words(result["evaluation"]))
            print(f"checkpoint {result['checkpoint']}")
        return 0

    return parse(run, prog, arguments[1:], positional=False)()


def _config_path(text: str) -> Path:
    """Returns the path of a config: a file, or the name of one that comes with the package."""
    path = Path(text)
    if path.exists() or path.suffix not in ("", ".yaml"):
        return path
    from embodied_mem.verbs.demo import find_config

    try:
        return find_config(f"{path.stem}.yaml")
    except ConfigError:
        return path


def make_model(config: TrainConfig) -> Any:
    """Builds the vectorised environment and the untrained `MemoPPO`, or whatever else is to learn.

    Raises:
        ConfigError: no such environment.
    """
    if config.is_peer:
        from embodied_mem.verbs.peers import make_peer

        return make_peer(config)
    import gymnasium
    import torch

    import embodied_mem.sim  # noqa: F401
    from embodied_mem.policy import MemoPPO
    from embodied_mem.policy.parallel import share_of, start_processes
    from embodied_mem.policy.vector import TaskVecEnv

    rank, processes = start_processes()
    count = share_of(config.n_envs, processes)
    seed = config.seed + rank * count  # environments have the seeds that one process would give them
    try:
        venv = TaskVecEnv(
            lambda: gymnasium.make(config.env, disable_env_checker=True, **config.env_kwargs),
            count,
            seed,
        )
    except gymnasium.error.Error as error:
        raise ConfigError(f"cannot make {config.env}: {' '.join(str(error).split())}") from None
    except TypeError as error:
        raise ConfigError(f"env_kwargs of {config.env}: {error}") from None
    torch.set_num_threads(config.threads)
    settings = asdict(config.policy) | asdict(config.ppo)
    settings["schedule_steps"] //= processes  # each process counts its own
    return MemoPPO("MemoPolicy", venv, **settings, seed=seed, device=config.device)


def run_training(
    config: TrainConfig,
    out: Path,
    *,
    progress_bar: bool = False,
    callback: Any = None,
    resume: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Trains, exports to `out/checkpoint`, evaluates, and writes `out/result.json`.

    Args:
        config: what to train.
        out: folder of the run.
        progress_bar: show one.
        callback: of stable-baselines3.
        resume: go on with the training that was cut off in `out`, where there is one.
        command: what the user typed, to be told how a training that Ctrl-C stopped goes on.

    Under `torchrun` every process steps its share of the environments, and the first one writes.

    Returns:
        JSON-ready facts, none but in the first process: checkpoint, steps, seconds, parameters,
        evaluation, and the curve: per rollout the step and the means over recent episodes.

    Raises:
        ConfigError: what is in `out` was trained with another config, or has imitated and is not to be gone
            on with; or `start` does not fit.
        Interrupted: Ctrl-C was pressed; the training is saved and can be resumed.
    """
    from stable_baselines3.common.logger import configure

    from embodied_mem.policy.parallel import end_processes, start_processes

    model = make_model(config)
    rank, processes = start_processes()
    total = config.total_steps // processes
    if rank:  # the first process keeps the books
        model.learn(total, callback=callback)
        end_processes()
        return {}
    _check_folder(config, out, resume)
    if resume and (out / RESUME).exists():
        model = type(model).load(out / RESUME, env=model.get_env(), device=config.device)
        envs = model.get_env()
        if any(map(envs.has_attr, CURRICULA)):  # one that rises goes on where it was
            envs.set_options({"steps_before": model.num_timesteps // model.n_envs})
    elif config.start:
        from embodied_mem.policy.start import start_from

        start_from(model, _start_of(config))
    out.mkdir(parents=True, exist_ok=True)
    save_config(config, out / CONFIG)
    imitated = imitate(model, config, out)
    model.set_logger(configure(str(out), ["csv"]))
    record = _learn(model, total, out, processes, callback, command, shown=progress_bar)
    end_processes()
    checkpoint, evaluation = _evaluated(model, config, out)
    result = {
        "checkpoint": str(checkpoint),
        "steps": model.num_timesteps * processes,
        "seconds": record.seconds + sum(row.get("seconds", 0.0) for row in imitated),
        "parameters": sum(p.numel() for p in model.policy.parameters()),
        "evaluation": evaluation,
        "curve": record.curve() if total else [],
        **({"imitation": imitated} if imitated else {}),
    }
    (out / "result.json").write_text(json.dumps(result, indent=2))
    return result


def _check_folder(config: TrainConfig, out: Path, resume: bool) -> None:
    """Refuses a folder with something that this training would go on with, and must not, or would lose."""
    from embodied_mem.verbs.imitation import DEMONSTRATIONS, IMITATED

    imitates, path = config.imitation.is_wanted, out / CONFIG
    learned = imitates and (out / IMITATED).exists()
    shown = imitates and (out / DEMONSTRATIONS).exists()
    goes_on = learned or (resume and (out / RESUME).exists())
    if not (goes_on or shown):  # then another program may have written its config there, as the demo does
        return
    before = load_config(TrainConfig, path) if path.exists() else config
    if before != config and goes_on:
        raise ConfigError(f"{out} holds a training with another config: give another folder")
    if learned and not resume:
        raise ConfigError(f"{out} holds a policy that has imitated: give --resume, or another folder")
    if shown and _shown(before) != _shown(config):
        raise ConfigError(f"{out} holds demonstrations of another task, seed or teacher: give another folder")


def _shown(config: TrainConfig) -> tuple[Any, ...]:
    """Returns what of a config the demonstrations of a folder depend on."""
    return config.env, config.env_kwargs, config.seed, config.imitation.teacher


def _start_of(config: TrainConfig) -> Path:
    """Returns the checkpoint whose weights a training starts with.

    Raises:
        ConfigError: it depends on what a sweep calls the method, and this is no sweep.
    """
    start = config.start.replace("{seed}", str(config.seed))
    if "{method}" in start:
        raise ConfigError(
            f'only `embodied-mem sweep` knows the "{{method}}" of start {start}: run that, or name a '
            "checkpoint folder with --start"
        )
    return Path(start)


def _evaluated(model: Any, config: TrainConfig, out: Path) -> tuple[Path, dict[str, Any]]:
    """Exports what was trained, where it can be, and evaluates it; returns its path and the evaluation."""
    from embodied_mem.verbs.evaluate import evaluate_checkpoint
    from embodied_mem.verbs.peers import evaluate_peer

    if config.is_peer:  # its own file, which `resume` saved too
        model.get_env().close()
        return out / RESUME, evaluate_peer(model, config)
    checkpoint = out / "checkpoint"
    model.export(checkpoint, env_id=config.env, env_kwargs={**config.env_kwargs, **config.eval_env_kwargs})
    model.get_env().close()
    return checkpoint, evaluate_checkpoint(checkpoint, episodes=config.eval_episodes)


def _learn(
    model: Any, total: int, out: Path, processes: int, callback: Any, command: str, *, shown: bool
) -> Any:
    """Trains up to `total` steps of this process, and returns the training's record.

    Raises:
        Interrupted: Ctrl-C was pressed; what was trained is saved.
    """
    from stable_baselines3.common.callbacks import CallbackList

    from embodied_mem.verbs.training_record import TrainingRecord

    with (
        progress("training", total * processes, shown=shown) as on_step,
        stopping("stopping after this rollout; Ctrl-C again stops at once") as wish,
    ):
        record = TrainingRecord(
            out,
            RESUME,
            begun=model.num_timesteps * processes,
            processes=processes,
            on_step=on_step,
            wish=wish,
        )
        callbacks = CallbackList([record] if callback is None else [record, callback])
        try:
            model.learn(total - model.num_timesteps, callback=callbacks, reset_num_timesteps=False)
        except KeyboardInterrupt:
            raise Interrupted(_how_to_go_on(out, command)) from None
    return record


def _how_to_go_on(out: Path, command: str) -> str:
    """Returns what is kept of a training that was stopped, and what goes on with it."""
    if not (out / RESUME).exists():
        return "nothing is saved yet; the same command starts again"
    again = command if command.endswith("--resume") else f"{command} --resume"
    how = f"go on with `{again}`" if command else "the same command goes on with it"
    return f"what was trained is in {out / RESUME}; {how}"


def imitate(model: Any, config: TrainConfig, out: Path) -> list[dict[str, float]]:
    """Runs what imitation the config asks for; returns its history, of a training that is past it too."""
    if not config.imitation.is_wanted:
        return []
    import gymnasium

    from embodied_mem.verbs.imitation import Imitation

    shown = {key: value for key, value in config.env_kwargs.items() if key != "without"}

    def make() -> Any:
        return gymnasium.make(config.env, disable_env_checker=True, **shown)

    hidden = tuple(config.env_kwargs.get("without", ()))
    stage = Imitation(model, config.imitation, make, out, config.seed, print, hidden)
    found = stage.history() if model.num_timesteps else stage.run()
    if config.ppo.anchor_coef:
        model.hold(stage.imitated())
    return found
