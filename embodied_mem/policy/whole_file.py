"""Files that are whole or not there, even where the process is killed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, suffix: str) -> Iterator[Path]:
    """Gives a file beside `path` to write to, and puts it in `path`'s place when that is done.

    Args:
        path: what is to be there in the end; it gets `suffix` where it has none.
        suffix: of the file that is written, with its dot.
    """
    target = path if path.suffix else path.with_suffix(suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}{suffix}")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
