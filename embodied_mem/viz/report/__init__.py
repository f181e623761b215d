"""One self-contained HTML page about a run: everything in the file, nothing loaded from elsewhere."""

from embodied_mem.viz.report.report import write_report

__all__ = ["write_report"]
