"""Write one HTML page about a run."""

from __future__ import annotations

from pathlib import Path

from embodied_mem.errors import EmbodiedMemError, InputError


def report(run: Path, out: Path | None = None) -> int:
    """Write one self-contained HTML page: map, rooms, timeline, changes, answers, curves, settings.

    Examples:
        embodied-mem report runs/demo                      # runs/demo/report.html
        embodied-mem report home.emem --out home.html

    Args:
        run: the folder of a run, or an .emem file.
        out: the file to write; report.html in the folder where it is left out.
    """
    from embodied_mem.viz.report import write_report

    out = out or (run if run.is_dir() else run.parent) / "report.html"
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file with --out")
    try:
        sections = write_report(run, out)
    except OSError as error:
        raise EmbodiedMemError(f"cannot write {out}: {error.strerror or error}") from None
    print(f"{out}: {', '.join(sections)}")
    return 0
