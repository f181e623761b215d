"""Draw a strip of pictures of a logged run."""

from __future__ import annotations

from pathlib import Path


def strip(log: Path, out: Path = Path("strip.png"), frames: int = 5) -> int:
    """Draw moments of a log side by side: what the camera saw, and the memory by then.

    Examples:
        embodied-mem strip runs/house/episode.mcap --out strip.png
        embodied-mem strip my_bag/ --frames 8

    Args:
        log: an MCAP file, a rosbag2 folder, or a .db3.
        out: the PNG file.
        frames: how many moments.
    """
    from embodied_mem.log.replay import replay
    from embodied_mem.viz.film_strip import draw_strip

    print(draw_strip(lambda watch: replay(log, watch=watch).frames, out, frames=frames))
    return 0
