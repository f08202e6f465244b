"""What rank 0 does on the side: it refreshes the run's lock and writes status.json."""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpibo.engine.ends import Ended
from mpibo.engine.managing.manager import Manager
from mpibo.engine.mirroring.mirrored import Mirrored
from mpibo.store.atomic import sweep, write
from mpibo.store.journal import Journal
from mpibo.store.lock import REFRESH, Lock
from mpibo.trial import Ledger, State

log = logging.getLogger("mpibo")


class Keeper:
    """Every 30 s: refresh the lock, write status.json; a lock that was taken ends the run.

    While the journal's disk is in trouble it looks at the lock at each call: who took it works in our folder by now.

    Args:
        lock: The run's lock, acquired.
        folder: The run folder.
        journal: The run's journal; trouble with its sync is put right here even if no line is to be written.
        mirror: The run's mirror in S3, which is told at each call what is on the disk; one that was taken ends the run.
    """

    def __init__(
        self, lock: Lock, folder: Path, journal: Journal | None = None, mirror: Mirrored | None = None
    ) -> None:  # fmt: skip
        self._mirror = mirror
        self.manager: Manager | None = None
        self._lock = lock
        self._folder = folder
        self._journal = journal
        self._next = time.monotonic() + REFRESH
        self._failed = False
        self._ending = False  # the status says that the run is about to end: who told it may kill it before it has
        sweep(folder / "status.json")

    def __call__(self) -> str | None:
        """A reason to end, or None."""
        if self._mirror and self._journal and (taken := self._mirror.poll(self._journal.synced)) is not None:
            return taken
        trouble = self._journal is not None and self._journal.trouble is not None
        ending = self.manager.closing if self.manager and not self._ending else None
        due = time.monotonic() >= self._next or ending is not None
        if not due and not trouble:
            return None
        if not self._lock.refresh():
            return f"another manager has taken {self._folder}/run.lock; this one ends"
        if due:
            self._next = time.monotonic() + REFRESH
            if self._journal is not None:
                with suppress(OSError):  # whoever has a line to write waits for it, and says so
                    self._journal.write()
            self._ending = self._ending or ending is not None
            self._try_to_write()
        return None

    def write(self, ended: Ended | None) -> None:
        """Write status.json.

        Raises:
            OSError: It can't be written; the old one is as it was.
        """
        assert self.manager
        text = json.dumps(status(self.manager.ledger, ended, self.manager.closing), indent=2)
        write(self._folder / "status.json", text + "\n")

    def _try_to_write(self) -> None:
        """The run goes on without a status; it is told once."""
        try:
            self.write(None)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.warning("can't write %s/status.json: %s (the journal has it all)", self._folder, error.strerror)
            self._failed = True


def status(ledger: Ledger, ended: Ended | None, closing: Ended | None = None) -> dict[str, Any]:
    """What ``status.json`` says of a run that goes on, is about to end (``closing``), or has ended."""
    state = "ended" if ended else "ending" if closing else "running"
    ended = ended or closing
    best = ledger.best
    counts = {state.value: ledger.counts[state] for state in State}
    front = {"front": len(ledger.front)} if ledger.aims.several else {}
    return {
        "state": state,
        "why_ended": ended.why if ended else None,
        "exit_code": ended.exit_code if ended else None,
        "best": None if best is None else {name: getattr(best, name) for name in ("id", "value", "budget", "config")},
        **front,
        "counts": counts | {"configs": ledger.configs, "added": ledger.added},
    }
