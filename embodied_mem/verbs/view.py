"""Look at a log, a memory or a trained policy in Rerun, recorded or live."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from embodied_mem.errors import InputError
from embodied_mem.verbs.progress import progress, replaying

LOOK_EVERY = 1.0
"""Between two looks at a memory that is being written [s]."""


@dataclass(frozen=True)
class Shown:
    """How something is to be shown.

    Attributes:
        ask: questions whose answers are shown in the map.
        colors: what colours the voxels.
        seed, steps: of the episode that a policy plays.
    """

    ask: tuple[str, ...] = ()
    colors: Literal["label", "height"] = "label"
    seed: int = 0
    steps: int = 200


def view(
    file: Path,
    save: Path | None = None,
    web: bool = False,
    live: bool = False,
    ask: tuple[str, ...] = (),
    colors: Literal["label", "height"] = "label",
    seed: int = 0,
    steps: int = 200,
    port: int = 9090,
) -> int:
    """Look at a log, a memory or a policy: cameras, voxels, objects, rooms, places, path, recalls, rewards.

    A log is replayed into a memory, which is shown as it grows; a slider goes through time. A policy with
    memory plays an episode of its environment, and shows at which of its memory tokens it looks.

    Examples:
        embodied-mem view runs/demo/episode.mcap           # a window; the memory as the log is replayed
        embodied-mem view home.emem --web                  # in a browser, on this machine alone
        embodied-mem view home.emem --ask "where is the mug" --colors height
        embodied-mem view home.emem --live --web           # follows a robot, or `record`, that is writing it
        embodied-mem view runs/playground --steps 100      # a policy, and its attention over memory tokens
        embodied-mem view my_bag/ --save my_bag.rrd        # a file for `rerun my_bag.rrd`

    Args:
        file: a log (MCAP, rosbag2 folder, .db3), an .emem file, or the folder of a checkpoint.
        save: write an .rrd file for Rerun instead of opening a window.
        web: show it in a browser on this machine; nothing is fetched from outside.
        live: show it while it happens; an .emem file is followed while another program writes it.
        ask: of a memory: questions, whose answers are shown where they are.
        colors: of voxels: by label (by height where there is none), or by height alone.
        seed: of the episode that a policy plays.
        steps: how many of them, at most.
        port: of the page, with --web.
    """
    if not file.exists():
        raise InputError(f"no such file: {file}")
    if ask and file.suffix != ".emem":
        raise InputError(
            "--ask is for memories; make one of a log with `embodied-mem replay LOG --out FOLDER`"
        )
    how = Shown(ask, colors, seed, steps)
    if save is not None:
        if live:
            raise InputError("--live shows it at once, --save writes it for later; choose one")
        print(f"{save}: {write_rrd(file, save, how)}; open it with `rerun {save}`")
        return 0
    has_display = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if not web and not has_display:
        raise InputError("there is no display to open a window on; use --web, or --save FILE.rrd")
    if live:
        from embodied_mem.viz.web_view import live_stream

        with live_stream(file.stem, port, web=web) as stream:
            show_live(file, stream, how)
            _wait_for_ctrl_c(web)
        return 0
    with tempfile.TemporaryDirectory(prefix="embodied-mem-view-") as folder:
        recording = Path(folder) / f"{file.stem}.rrd"
        print(write_rrd(file, recording, how))
        from embodied_mem.viz.web_view import open_page, open_window

        if web:
            open_page(recording, port)
        return open_window(recording)


def write_rrd(file: Path, out: Path, how: Shown = Shown()) -> str:
    """Writes what there is to see in a log, a memory or a policy as a Rerun recording.

    Args:
        file: a log, an .emem file, or the folder of a checkpoint.
        out: the .rrd file to write; it is replaced.
        how: what of it.

    Returns:
        what was written, in words.

    Raises:
        EmbodiedMemError: the file cannot be read, or `out` cannot be written.
    """
    from embodied_mem.viz.rerun_view import file_stream

    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: name a file in a folder that exists")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".view-") as folder:
        fresh = Path(folder) / out.name
        stream = file_stream(file.stem, fresh)
        said = _show(file, stream, how)
        stream.disconnect()
        fresh.replace(out)
    return said


def _show(file: Path, stream: Any, how: Shown) -> str:
    """Shows a file, whatever it is; returns what was shown, in words."""
    from embodied_mem.log.replay import replay
    from embodied_mem.memory import Memory
    from embodied_mem.viz.rerun_view import RerunView, log_memory

    if file.suffix == ".emem":
        with Memory.open(file, read_only=True) as memory:
            log_memory(stream, memory, how.colors)
            for question in how.ask:
                print(memory.ask(question).sentence)
            stream.flush()
            return f"a memory of {len(memory.episodes)} entries"
    if (file / "model.safetensors").exists():
        return show_policy(file, stream, how)
    views: list[RerunView] = []

    def watch(memory: Memory) -> RerunView:
        views.append(RerunView(memory, stream, by=how.colors))
        return views[0]

    with replaying(file) as on_step:
        result = replay(file, watch=watch, on_step=on_step)
    views[0].finish()
    return f"{result.frames} steps"


def show_policy(checkpoint: Path, stream: Any, how: Shown) -> str:
    """Lets a policy play an episode of its environment, and shows it with its attention.

    Raises:
        InputError: the policy has no memory tokens to look at, or its environment no memory.
    """
    import gymnasium

    import embodied_mem.sim  # noqa: F401
    from embodied_mem.policy.checkpoint import load_policy
    from embodied_mem.policy.watch import watch_attention
    from embodied_mem.sim.memory_wrapper import MemoryWrapper
    from embodied_mem.viz.rerun_view import RerunView

    agent = load_policy(checkpoint)
    attention = watch_attention(agent.network)
    env: Any = gymnasium.make(agent.env_id, disable_env_checker=True, **agent.env_kwargs)
    inner = env
    while isinstance(inner, gymnasium.Wrapper) and not isinstance(inner, MemoryWrapper):
        inner = inner.env
    if attention is None or not isinstance(inner, MemoryWrapper):
        raise InputError(
            f"the policy {checkpoint} reads no memory tokens, so there is nothing to show; "
            "train it in an environment such as EmbodiedMem/PlaygroundMemory-v0"
        )
    obs, _ = env.reset(seed=how.seed)
    shown = RerunView(inner.memory, stream, by=how.colors, attention=lambda: attention[-1])
    state, done, count = None, False, 0
    with progress("playing", how.steps) as on_step:
        while not done and count < how.steps:
            action, state = agent.act(obs, state)
            assert inner.moment is not None
            shown(inner.moment)
            obs, _, terminated, truncated, _ = env.step(action)
            done, count = terminated or truncated, count + 1
            on_step(count)
    shown.finish()
    env.close()
    return f"{count} steps of {agent.env_id}"


def show_live(
    file: Path, stream: Any, how: Shown = Shown(), goes_on: Callable[[], bool] = lambda: True
) -> None:
    """Shows a file as it happens: a memory is followed, a log replayed, a policy plays.

    Args:
        file: as for `view`.
        stream: into a viewer.
        how: what of it.
        goes_on: of a memory: asked before every look whether there is to be another one.
    """
    if file.suffix != ".emem":
        print(_show(file, stream, how))
        return
    from embodied_mem.mcp_server.source import MemorySource
    from embodied_mem.viz.rerun_view import follow

    source, last, seen = MemorySource(file), -1, None
    try:
        while goes_on():
            start = time.monotonic()
            memory = source.memory
            if memory is not seen:
                last, seen = follow(stream, memory, last, how.colors), memory
                for question in how.ask:
                    memory.ask(question)
            time.sleep(max(LOOK_EVERY, time.monotonic() - start))
    finally:
        source.close()


def _wait_for_ctrl_c(web: bool) -> None:
    """Keeps the page served; a window lives by itself."""
    while web:
        time.sleep(3600)
