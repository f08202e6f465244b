"""What rank 0 does on the side: it refreshes the run's lock and writes status.json."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from mpibo.engine.manager import Ended, Manager
from mpibo.store.atomic import write
from mpibo.store.lock import REFRESH, Lock
from mpibo.trial import Ledger, State


class Keeper:
    """Every 30 s: refresh the lock, write status.json; a lock that was taken ends the run."""

    def __init__(self, lock: Lock, folder: Path) -> None:
        self.manager: Manager | None = None
        self._lock = lock
        self._folder = folder
        self._next = time.monotonic() + REFRESH

    def __call__(self) -> str | None:
        """A reason to end, or None."""
        if time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + REFRESH
        if not self._lock.refresh():
            return f"another manager has taken {self._folder}/run.lock; this one ends"
        self.write(None)
        return None

    def write(self, ended: Ended | None) -> None:
        """Write status.json."""
        assert self.manager
        text = json.dumps(status(self.manager.ledger, ended), indent=2)
        write(self._folder / "status.json", text + "\n")


def status(ledger: Ledger, ended: Ended | None) -> dict[str, Any]:
    """What ``status.json`` says of a run."""
    best = ledger.best
    counts = {state.value: ledger.counts[state] for state in State}
    front = {"front": len(ledger.front)} if ledger.aims.several else {}
    return {
        "state": "ended" if ended else "running",
        "why_ended": ended.why if ended else None,
        "exit_code": ended.exit_code if ended else None,
        "best": None if best is None else {"id": best.id, "value": best.value, "config": best.config},
        **front,
        "counts": counts | {"configs": ledger.configs, "added": ledger.added},
    }
