"""Look at a log or a memory in Rerun."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from embodied_mem.errors import InputError
from embodied_mem.verbs.progress import replaying


def view(file: Path, save: Path | None = None, web: bool = False, port: int = 9090) -> int:
    """Look at a log or a memory: cameras, voxels, objects, rooms, places, path, rewards, by time.

    A log is replayed into a memory, which is shown as it grows. Without options a window opens.

    Examples:
        embodied-mem view runs/demo/episode.mcap           # a window; the memory grows as the log is replayed
        embodied-mem view home.emem --web                  # in a browser, on this machine alone
        embodied-mem view my_bag/ --save my_bag.rrd        # a file for `rerun my_bag.rrd`

    Args:
        file: a log (MCAP, rosbag2 folder, .db3) or an .emem file.
        save: write an .rrd file for Rerun instead of opening a window.
        web: show it in a browser on this machine; nothing is fetched from outside.
        port: of the page, with --web.
    """
    if not file.exists():
        raise InputError(f"no such file: {file}")
    if save is not None:
        print(f"{save}: {write_rrd(file, save)}; open it with `rerun {save}`")
        return 0
    has_display = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if not web and not has_display:
        raise InputError("there is no display to open a window on; use --web, or --save FILE.rrd")
    with tempfile.TemporaryDirectory(prefix="embodied-mem-view-") as folder:
        recording = Path(folder) / f"{file.stem}.rrd"
        print(write_rrd(file, recording))
        from embodied_mem.viz.web_view import open_page, open_window

        if web:
            open_page(recording, port)
        return open_window(recording)


def write_rrd(file: Path, out: Path) -> str:
    """Writes what there is to see in a log or a memory as a Rerun recording.

    Args:
        file: a log or an .emem file.
        out: the .rrd file to write; it is replaced.

    Returns:
        what was written, in words.

    Raises:
        EmbodiedMemError: the file cannot be read, or `out` cannot be written.
    """
    from embodied_mem.memory import Memory
    from embodied_mem.viz.rerun_view import RerunView, file_stream, log_memory

    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: name a file in a folder that exists")
    stream = file_stream(file.stem, out)
    if file.suffix == ".emem":
        with Memory.open(file, read_only=True) as memory:
            log_memory(stream, memory)
            said = f"a memory of {len(memory.episodes)} entries"
    else:
        from embodied_mem.log.replay import replay

        views: list[RerunView] = []

        def watch(memory: Memory) -> RerunView:
            views.append(RerunView(memory, stream))
            return views[0]

        with replaying(file) as on_step:
            result = replay(file, watch=watch, on_step=on_step)
        views[0].finish()
        said = f"{result.frames} steps"
    stream.disconnect()
    return said
