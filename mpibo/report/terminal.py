"""Where the output of a run ends up: on a terminal of which size, or in a file or a pipe.

Under MPICH no rank has a terminal, under Open MPI every rank has one of its own; what counts is the launcher's. So we
look at the standard output of the nearest ancestor that is a launcher, else at the process's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

LAUNCHERS = frozenset({"mpirun", "mpiexec", "mpiexec.hydra", "prterun", "orterun"})
PROC = Path("/proc")
_TERMINAL = re.compile(r"/dev/(pts/\d+|tty\w*|console)$")


def wants_live(progress: str, pid: int, *, proc: Path = PROC, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a run gets the live view.

    Args:
        progress: ``auto``, or the answer itself: ``live``, ``plain``, ``none``.
        pid: The process whose standard output the view is to use: rank 0.
        proc: The process file system.
        environ: Says whether the terminal can draw (``TERM``).
    """
    if progress != "auto":
        return progress == "live"
    return environ.get("TERM", "dumb") not in ("dumb", "unknown", "") and screen(pid, proc) is not None


def screen(pid: int, proc: Path = PROC) -> Path | None:
    """The link to the terminal that shows the output of ``pid``; None when it goes elsewhere (or under ``srun``)."""
    if not (proc / str(pid)).exists():
        return None
    output = proc / str(launcher(pid, proc) or pid) / "fd" / "1"
    try:
        return output if _TERMINAL.match(os.readlink(output)) else None
    except OSError:
        return None


def launcher(pid: int, proc: Path = PROC) -> int | None:
    """The nearest ancestor of ``pid`` that is an MPI launcher."""
    seen: set[int] = set()
    parent = _parent(pid, proc)[1]
    while parent > 1 and parent not in seen:
        seen.add(parent)
        name, above = _parent(parent, proc)
        if name in LAUNCHERS:
            return parent
        parent = above
    return None


def _parent(pid: int, proc: Path) -> tuple[str, int]:
    """A process's name and its parent's id; 0 when it is gone."""
    try:
        before, _, after = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")
        return before.partition("(")[2], int(after.split()[1])
    except (OSError, ValueError, IndexError):
        return "", 0


def size(pid: int, proc: Path = PROC) -> tuple[int, int] | None:
    """Columns and lines of the terminal that shows the output of ``pid``, as they are now; None without one."""
    link = screen(pid, proc)
    try:
        if link is None:
            return None
        terminal = os.open(link, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        columns, lines = os.get_terminal_size(terminal)
        return (columns, lines) if columns and lines else None
    except OSError:
        return None
    finally:
        os.close(terminal)
