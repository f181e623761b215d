"""Check a memory file, and repair what can be rebuilt."""

from __future__ import annotations

import json as json_format
from pathlib import Path


def check(file: Path, repair: bool = False, json: bool = False) -> int:
    """Check a memory file: checksums, formats, references.

    Examples:
        embodied-mem check home.emem
        cp home.emem copy.emem && embodied-mem check copy.emem --repair

    Args:
        file: an .emem file.
        repair: remove damaged rows that the memory can go on without: blocks of the map, images,
            encounters, entries. Copy the file first.
        json: print JSON.
    """
    from embodied_mem.memory.store.check import check_file

    report = check_file(file, repair=repair)
    if json:
        facts = {"rows": report.rows, "problems": report.problems, "repaired": report.repaired}
        print(json_format.dumps({**facts, "clean": report.is_clean}, indent=2))
    else:
        print("rows: " + ", ".join(f"{count} {name}" for name, count in report.rows.items()))
        print("\n".join(report.problems + report.repaired) or "clean")
        if not report.is_clean:
            print(f"`embodied-mem check {file} --repair` removes what the memory can go on without")
    return 0 if report.is_clean else 1
