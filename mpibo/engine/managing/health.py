"""Sick workers and hosts: after three failures in a row the last config is tried once elsewhere, and that decides.

A space may have regions where every trial fails. So three in a row count only where they say something: where half of
the trials fail elsewhere, a row of seven does.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

from mpibo.trial import State, Trial

ROW = 3  # failures in a row, at least,
CHANCE = 0.01  # and so many that a healthy worker has them with at most this probability
RECENT = 64  # trials that tell how many fail anyway


@dataclass(frozen=True)
class Suspect:
    """A worker or a whole host under suspicion.

    Attributes:
        worker: Its number; None for a host. host: Its name.
        ids: The failures in a row, oldest first.
        trial: The one that is tried elsewhere.
    """

    worker: int | None
    host: str
    ids: tuple[int, ...]
    trial: Trial

    def __str__(self) -> str:
        return f"host {self.host}" if self.worker is None else f"worker {self.worker} on {self.host}"

    def covers(self, worker: int, host: str) -> bool:
        """Whether this is about that worker."""
        return self.host == host if self.worker is None else self.worker == worker


class Health:
    """Watch how trials end on each worker and host. A worker that was never watched is healthy."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int | None, str], list[tuple[int, int]]] = {}  # (trial, worker) of failures in a row
        self._recent: deque[tuple[str, int, bool]] = deque(maxlen=RECENT)  # host, worker, failed
        self._accused: dict[tuple[int | None, str], Suspect] = {}  # a decision about them is out
        self._deciding: dict[int, Suspect] = {}  # by the id of the trial that decides

    def ended(self, trial: Trial) -> Suspect | None:
        """A trial has ended; gives whom to suspect now: its last config is to be tried elsewhere."""
        if trial.worker is None or trial.state not in (State.DONE, State.STOPPED, State.FAILED):
            return None
        worker, host = trial.worker, trial.host or ""
        failed = trial.state is State.FAILED
        self._recent.append((host, worker, failed))
        keys: list[tuple[int | None, str]] = [(None, host), (worker, host)]
        if not failed:
            for key in keys:
                self._rows.pop(key, None)
            return None
        if trial.reason == "lost":
            return None
        suspect = None
        for key in keys:
            row = self._rows.setdefault(key, [])
            row.append((trial.id, worker))
            needed = self._needed(*key)
            whole = key[0] is not None or len({each for _, each in row}) > 1
            if suspect is None and len(row) >= needed and whole and not self.suspects(worker, host):
                suspect = self._accused[key] = Suspect(key[0], host, tuple(number for number, _ in row), trial)
            del row[:-RECENT]
        return suspect

    def tried(self, suspect: Suspect, number: int) -> None:
        """The trial ``number`` evaluates the suspect's last config elsewhere."""
        self._deciding[number] = suspect

    def cleared(self, suspect: Suspect) -> None:
        """There is nowhere else to try, or it failed there, too: the row begins anew."""
        key = suspect.worker, suspect.host
        self._rows.pop(key, None)
        self._accused.pop(key, None)

    def verdict(self, trial: Trial) -> tuple[Suspect, bool] | None:
        """A trial has ended; if it decides about a suspect: whom, with all failures, and whether it is sick."""
        suspect = self._deciding.pop(trial.id, None)
        if suspect is None:
            return None
        row = self._rows.get((suspect.worker, suspect.host), [])
        later = tuple(number for number, _ in row if number not in suspect.ids)
        self.cleared(suspect)
        return replace(suspect, ids=suspect.ids + later), trial.state in (State.DONE, State.STOPPED)

    @property
    def deciding(self) -> bool:
        """Whether a decision about anybody is out."""
        return bool(self._accused)

    def suspects(self, worker: int, host: str) -> bool:
        """Whether a decision about this worker is out; meanwhile it gets nothing to do."""
        return any(each.covers(worker, host) for each in self._accused.values())

    def _needed(self, worker: int | None, host: str) -> int:
        """How many failures in a row say something, by how many trials fail elsewhere."""
        own = (host, worker)
        others = [failed for at, number, failed in self._recent if (at, None if worker is None else number) != own]
        share = (sum(others) + 0.5) / (len(others) + 1.0) if others else 0.0
        if share <= CHANCE ** (1 / ROW):
            return ROW
        return math.ceil(math.log(CHANCE) / math.log(min(share, 0.95)))
