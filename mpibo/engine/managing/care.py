"""Suspected workers: their last configs are tried on others, and those that are sick get nothing more."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from mpibo.engine.managing.health import Health, Suspect
from mpibo.engine.managing.roster import Roster
from mpibo.trial import Event, Trial, retrial_of

log = logging.getLogger("mpibo")


class Care:
    """What is done about workers on which trials fail.

    Args:
        roster: The workers.
        write: Writes a line of the journal.
    """

    def __init__(self, roster: Roster, write: Callable[[Event], object]) -> None:
        self._roster = roster
        self._write = write
        self._health = Health()
        self._suspects: deque[Suspect] = deque()  # whose last config is to be tried elsewhere

    @property
    def waits(self) -> bool:
        """Whether a config waits to be tried elsewhere."""
        return bool(self._suspects)

    @property
    def rests(self) -> Callable[[int, str], bool] | None:
        """Whether a worker gets nothing until it is decided about; None where that is true of none."""
        return self._health.suspects if self._health.deciding else None

    def starts(self, number: int) -> list[Trial]:
        """The last configs of suspects, on idle workers that are not theirs, as trials from ``number`` on."""
        starts: list[Trial] = []
        for suspect in list(self._suspects):
            if not self._possible(suspect):
                self._suspects.remove(suspect)
                continue
            worker = self._roster.take(partial(self._says_nothing, suspect))
            if worker is not None:
                self._suspects.remove(suspect)
                trial = retrial_of(suspect.trial, number + len(starts), worker, self._roster.host(worker))
                self._health.tried(suspect, trial.id)
                starts.append(trial)
        return starts

    def ended(self, trial: Trial) -> None:
        """A trial has ended: it decides about a suspect, or is a reason to suspect somebody."""
        if (decided := self._health.verdict(trial)) is not None:
            accused, sick = decided
            if sick:
                self._retire(accused, trial)
        elif (suspect := self._health.ended(trial)) is not None and self._possible(suspect):
            self._suspects.append(suspect)

    def lost(self, trial: Trial) -> None:
        """A trial was lost: it decides nothing."""
        self._health.verdict(trial)

    def _says_nothing(self, suspect: Suspect, worker: int, host: str) -> bool:
        """Whether a worker can say nothing about a suspect: it is the suspect, or one itself."""
        return suspect.covers(worker, host) or self._health.suspects(worker, host)

    def _possible(self, suspect: Suspect) -> bool:
        """Whether there is a worker that a suspect's config can be tried on; without one it is cleared."""
        if self._roster.elsewhere(partial(self._says_nothing, suspect)):
            return True
        self._health.cleared(suspect)
        return False

    def _retire(self, suspect: Suspect, proof: Trial) -> None:
        why = f"{suspect}: its last {len(suspect.ids)} trials failed, but trial {suspect.trial.id} succeeded on "
        why += f"{self._roster.name(proof.worker or 0)} as trial {proof.id}"
        log.warning("retired: %s", why)
        line = {"kind": "retire", "worker": suspect.worker, "host": suspect.host, "ids": list(suspect.ids), "why": why}
        self._write(line)
        self._roster.retire(suspect)
