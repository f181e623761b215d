"""The command line: `embodied-mem VERB ...`, one function per verb, one line per error."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path

from embodied_mem.errors import ConfigError, EmbodiedMemError

VERBS = {
    "demo": ("demo:demo", "train, explore, log, replay and ask, in one go"),
    "train": ("train:train", "train a policy from a config: embodied-mem train sim_configs/NAME.yaml"),
    "sweep": ("sweep:sweep", "train several methods on a task, seed by seed, and tabulate them"),
    "horizon": ("horizon:horizon", "draw what methods achieve beyond the length they were trained on"),
    "eval": ("evaluate:evaluate", "evaluate an agent or a checkpoint on fresh episodes"),
    "compare": ("compare:compare", "put runs side by side: evaluations, trainings, memories"),
    "record": ("record:record", "run an agent in a world; write its log and its memory"),
    "replay": ("replay:replay", "rebuild the memory of a log: MCAP, rosbag2 folder, .db3"),
    "query": ("query:query", "ask a memory: what, where, when"),
    "eval-memory": (
        "eval_memory:eval_memory",
        "ask a recorded episode's memory what is known to be true",
    ),
    "export-house": ("export_house:export_house", "write a procedural house as a scene for habitat-sim"),
    "info": ("info:info", "say what is in a log, a memory or a checkpoint"),
    "ros": ("ros:ros", "run a node of the robot: robot, perception, memory, player, sim"),
    "check": ("check:check", "check a memory file, and repair what can be rebuilt"),
    "view": ("view:view", "look at a log or a memory in Rerun, in a window or a browser"),
    "report": ("report:report", "write one HTML page about a run or a memory"),
    "strip": ("strip:strip", "draw moments of a logged run side by side: camera and memory"),
    "serve": ("serve:serve", "let language-model planners ask a memory (Model Context Protocol)"),
    "export": (
        "export:export",
        "hand a memory or a log to other tools: OctoMap, Nav2, networkx, Minari, ...",
    ),
    "guide": ("guide:guide", "show a guide: train, deploy, replay, ask, extend"),
    "completion": ("completion:completion", "print what completes these words in bash, zsh or fish"),
    "doctor": ("doctor:doctor", "say what is installed, what is missing, and the line that mends it"),
    "bench": ("bench:bench", "measure the loop, the octree, the memory, houses; warm up the kernels"),
}
"""Name, where its function is (in `embodied_mem.verbs`), and what it does."""

EXTRAS = {
    "torch": "rl",
    "stable_baselines3": "rl",
    "safetensors": "rl",
    "gymnasium": "sim",
    "minigrid": "sim",
    "open3d": "sim",
    "rerun": "viz",
    "mcp": "mcp",
    "cyclonedds": "ros",
    "networkx": "graph",
    "spark_dsg": "graph",
    "minari": "data",
    "pyarrow": "data",
    "model2vec": "text",
}


def _help() -> str:
    width = max(map(len, VERBS))
    rows = "\n".join(f"  {name:<{width}}  {line}" for name, (_, line) in VERBS.items())
    return (
        "embodied-mem: the memory stack for robots that learn\n\n"
        f"usage: embodied-mem VERB ...\n\n{rows}\n\n"
        "`embodied-mem VERB --help` tells its options and shows examples; --debug shows the traceback of an\n"
        "error. Exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted by Ctrl-C."
    )


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(), flush=True)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from embodied_mem import __version__

        print(__version__)
        return 0
    name, rest = arguments[0], arguments[1:]
    if str(Path.cwd()) not in sys.path:  # environments of the user's own: my_rooms:Corridor-v0
        sys.path.append(str(Path.cwd()))
    if name not in VERBS:
        near = difflib.get_close_matches(name, VERBS, n=1, cutoff=0.0)[0]
        raise ConfigError(f'no verb "{name}"; did you mean "{near}"? `embodied-mem --help` lists them')
    module, function = VERBS[name][0].split(":")
    verb = getattr(importlib.import_module(f"embodied_mem.verbs.{module}"), function)
    if name == "train":  # its options come from the config file that it names
        return int(verb(rest))
    if name == "ros":
        from embodied_mem.verbs.ros import fold_ros_arguments

        rest = fold_ros_arguments(rest)
    from embodied_mem.arguments import parse

    return int(parse(verb, f"embodied-mem {name}", rest)())


def node() -> None:
    """Runs the node that this executable is called after: `ros2 run embodied_mem robot`."""
    main(["ros", Path(sys.argv[0]).name, "--host", "rclpy", *sys.argv[1:]])


def main(arguments: list[str] | None = None) -> None:
    """Runs one verb and exits: 0 done, 1 a check failed, 2 bad input, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        sys.exit(code)
    except EmbodiedMemError as error:
        if debug:
            raise
        _complain(" ".join(str(error).split()))
        sys.exit(2)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if debug or missing in ("", "embodied_mem"):
            raise
        extra = EXTRAS.get(missing)
        install = f"`pip install 'embodied-mem[{extra}]'`" if extra else f"`pip install {missing}`"
        _complain(f"this needs the package {missing}; install it with {install}")
        sys.exit(2)
    except (FileExistsError, NotADirectoryError) as error:
        if debug:
            raise
        _complain(f"{error.filename} is a file, or lies below one; name a folder")
        sys.exit(2)
    except MemoryError:
        if debug:
            raise
        _complain(f"there is not enough memory for: embodied-mem {' '.join(arguments)}")
        sys.exit(2)
    except KeyboardInterrupt as stop:  # `Interrupted` says how to go on
        _complain(f"interrupted; {stop}" if str(stop) else "interrupted; the same command starts again")
        sys.exit(130)
    except BrokenPipeError:  # `embodied-mem ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # no space, no permission, a network drive that is gone
        if debug or not error.strerror:
            raise
        _complain(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        sys.exit(2)


def _complain(line: str) -> None:
    print(f"embodied-mem: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
