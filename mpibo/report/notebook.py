"""The view in a notebook: one line that is kept up to date while the cell runs."""

from __future__ import annotations

import sys
import threading
import time
from importlib import import_module
from pathlib import Path

from mpibo.report import words
from mpibo.report.plain import troubles
from mpibo.report.progress import Progress
from mpibo.store.follower import Follower

EVERY = 0.5  # seconds


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return "ipykernel" in sys.modules and shell is not None and shell() is not None


class NotebookLine:
    """Follow a run's journal in a thread and display one line of it; a call ends it.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._follower = Follower(folder)
        self._progress = Progress()
        self._began = time.monotonic()
        self._handle = import_module("IPython.display").display(
            {"text/plain": f"{folder.name}: starting"}, raw=True, display_id=True
        )
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="notebook", daemon=True)
        self._thread.start()

    def __call__(self) -> None:
        """Show the last state and end."""
        self._over.set()
        self._thread.join()
        self._show()

    def _keep(self) -> None:
        while not self._over.wait(EVERY):
            self._show()

    def _show(self) -> None:
        for event in self._follower.read():
            self._progress.feed(event)
            if event["kind"] == "open":
                self._began = time.monotonic()
        self._handle.update({"text/plain": line(self._progress, time.monotonic() - self._began)}, raw=True)


def line(progress: Progress, now: float) -> str:
    """A run in one line: how far, the best value, how fast.

    Args:
        progress: The run.
        now: Seconds since its last start.
    """
    count = f"{progress.finished}/{progress.total}" if progress.total else f"{progress.finished}"
    parts = [
        count,
        f"{len(progress.ledger.running)} running",
        *(f"{number} {word}" for word, number in troubles(progress)),
    ]
    if progress.best:
        parts.append(
            f"best {words.number(progress.best.value)} (trial {progress.best.id}{words.budget(progress.best)})"
        )
    elif progress.ledger.front:
        parts.append(f"front of {len(progress.ledger.front)}")
    if progress.choice:
        parts.append(words.line(words.choice(*progress.choice), 60))
    parts += [words.rate(progress.rate(now)), f"busy {words.share(progress.busy(now))}"]
    left = progress.left(now)
    if progress.closed:
        parts.append(f"ended: {progress.closed['why']}")
    elif left:
        parts.append(f"{words.time(left)} left")
    return "  ".join(parts)
