"""Data-parallel training under `torchrun`: every process has its environments, gradients are averaged."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from embodied_mem.errors import ConfigError


def start_processes() -> tuple[int, int]:
    """Joins the processes that `torchrun` started; returns this one's rank and their number: 0, 1 alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), dist.get_world_size()) if _together() else (0, 1)


def end_processes() -> None:
    """Parts from the other processes once all have come here: one that left early would abort the others."""
    if _together():
        dist.barrier()
        dist.destroy_process_group()


def share_of(environments: int, processes: int) -> int:
    """Returns how many environments each process steps.

    Raises:
        ConfigError: they cannot be shared evenly, and gradients would not be those of one process.
    """
    if environments % processes:
        raise ConfigError(f"n_envs must be a multiple of the {processes} processes, got {environments}")
    return environments // processes


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def same_weights(module: nn.Module) -> None:
    """Gives every process the weights of the first."""
    if _together():
        for part in module.state_dict().values():
            dist.broadcast(part.contiguous() if part.is_complex() else part, 0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces gradients by their mean over the processes, in one message."""
    if not _together():
        return
    held = [p for p in parameters if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in held])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for parameter, mean in zip(held, flat.split([p.numel() for p in held])):
        parameter.grad = mean.view_as(parameter).clone()


def mean_over_processes(value: float) -> float:
    """Returns the mean of a number over the processes."""
    if not _together():
        return value
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


def normalized(x: Tensor) -> Tensor:
    """Returns x (V,) with mean 0 and deviation 1 over the minibatches of all processes together."""
    if not _together():
        return (x - x.mean()) / (x.std() + 1e-8)
    sums = torch.stack([torch.tensor(float(len(x)), device=x.device), x.sum(), x.square().sum()]).double()
    dist.all_reduce(sums)
    count, total, squares = sums.tolist()
    mean = total / count
    deviation = max(0.0, (squares - count * mean * mean) / (count - 1)) ** 0.5
    return (x - mean) / (deviation + 1e-8)
