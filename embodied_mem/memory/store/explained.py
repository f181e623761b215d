"""What SQLite, zstd and the system say about a memory file, in one clear line."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import zstandard

from embodied_mem.errors import StoreError


def plain(error: Exception) -> str:
    """Returns an error's text as one short line: SQLite quotes damaged text as it is."""
    return " ".join(ascii(str(error))[1:-1].replace("\\n", " ").split())[:120]


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what SQLite, zstd and the system say into one clear line."""
    try:
        yield
    except zstandard.ZstdError:
        raise StoreError(
            f"{path} is damaged: a block cannot be decompressed; restore it from a copy"
        ) from None
    except ValueError as error:  # text that is not UTF-8, in the schema or in a key
        raise StoreError(f"{path} is damaged: {plain(error)}; restore it from a copy") from None
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror}") from None
    except sqlite3.Error as error:
        text = plain(error)
        if "not a database" in text:
            raise StoreError(f"{path} is not a memory file") from None
        if "full" in text:
            raise StoreError(
                f"cannot write {path}: the disk is full; free some space and open it again, "
                "all that was acknowledged is in it"
            ) from None
        if "locked" in text or "busy" in text:
            raise StoreError(f"{path} is in use by another program; close that one and try again") from None
        if "readonly" in text or "unable to open" in text:
            raise StoreError(f"cannot open {path} ({text}); check its permissions") from None
        if isinstance(error, sqlite3.OperationalError) and "I/O" in text:
            raise StoreError(f"cannot use {path}: {text}; check the disk") from None
        raise StoreError(f"{path} is damaged: {text}; restore it from a copy") from None
