"""Write a file whole or not at all: to a temporary file, synced, renamed."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path


def write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Put ``data`` (text as UTF-8) at ``path``: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: The folder is not there or not writable, the disk is full; the old file is still as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in ``folder`` survive a power cut, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(path: str | os.PathLike[str]) -> None:
    """Remove what killed writers of ``path`` left behind. Only for the one process that writes it."""
    path = Path(path)
    for name in list_names(path.parent):
        if name.startswith(f".{path.name}.") and name.endswith(".tmp"):
            with suppress(OSError):
                os.unlink(path.parent / name)


def list_names(folder: Path) -> list[str]:
    """The names in a folder, none when it can't be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
