"""The manager's account of checkpoints on disk: what a trial may go on from, and which files are of no more use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpibo.engine.keeping import FOLDER, place
from mpibo.store.atomic import list_names
from mpibo.trial import Event, Ledger, State, Trial

MOST = 16  # checkpoints that a trial is told of
BATCH = 64  # files that one sweep removes
KEEPING = (State.DONE.value, State.STOPPED.value)  # what may be promoted
NOTHING = (
    "promotions train from the start, for the objective saves nothing; with trial.resume(...) and "
    "trial.report(value, step) they go on where the smaller budget ended (docs/checkpoints.md)"
)


class Shelf:
    """One checkpoint a trial, its newest. Memory is for trials that run, are LOST, or have one, and for nothing else.

    A trial may go on from what its earlier attempts left (``retry_of``), else from its parent, and so on upwards. A
    file is removed only when the line that made it useless is known to be on the disk.

    Without a schedule what a trial left is of no more use when it has ended, but LOST ones are asked again, and an
    incumbent keeps its own. With a schedule a DONE or STOPPED trial keeps it until ``drop`` names it.

    Args:
        ledger: Of the same events; it has taken an event in before ``apply`` gets it.
        schedule: Whether the run has one.
    """

    def __init__(self, ledger: Ledger, schedule: bool = False) -> None:
        self._ledger = ledger
        self._schedule = schedule
        self._files: dict[int, dict[str, Any]] = {}  # the newest checkpoint of each trial
        self._attempts: dict[int, tuple[int, ...]] = {}  # earlier attempts that left one, latest first;
        self._elders: dict[int, tuple[int, ...]] = {}  # parents that left one, nearest first
        self._useless: set[int] = set()  # have one that none but an incumbent, or who reads it now, needs
        self._due: deque[tuple[int, int, int]] = deque()  # line that made a file useless, its trial and step
        self._line = 0
        self._saving = False  # whether any trial of the run has saved
        self._from_nothing = False  # whether one was promoted before any had

    @property
    def files(self) -> set[str]:
        """Those of use, by their place in the run folder."""
        return {place(trial, each["step"]) for trial, each in self._files.items()}

    @property
    def kept(self) -> dict[int, dict[str, Any]]:
        """The checkpoint of use that each trial has: ``step sha256 bytes``."""
        return dict(self._files)

    def candidates(self, trial: int) -> list[dict[str, Any]]:
        """What a running trial may go on from, best first: ``id step sha256`` of each."""
        ids = (*self._attempts.get(trial, ()), *self._elders.get(trial, ()))
        found = [{"id": each} | self._files[each] for each in ids if each in self._files]
        return [{name: each[name] for name in ("id", "step", "sha256")} for each in found[:MOST]]

    def notes(self, starts: Sequence[Trial]) -> list[Event]:
        """``note`` lines for those trials about to begin that are promotions and have nothing to go on from.

        Of an objective that saves nothing it is said once a run. Retries are not spoken of: what was lost may not have
        come to save anything.
        """
        notes: list[Event] = []
        for trial in starts:
            if trial.parent is None or trial.retry_of is not None or any(self._line_of(trial.parent)):
                continue
            if self._saving:
                text = f"its parent, trial {trial.parent}, left no checkpoint: starts from nothing"
            elif self._from_nothing or notes:
                continue
            else:
                text = NOTHING
            notes.append({"kind": "note", "id": trial.id, "text": text})
        return notes

    def apply(self, event: Event) -> None:
        """Take one event in."""
        self._line = event.get("n", self._line)
        match event["kind"]:
            case "start":
                self._begin(event["id"], event.get("retry_of"), event.get("parent"))
            case "report" if "checkpoint" in event:
                self._put(event["id"], event["checkpoint"])
            case "end" | "abandon":
                self._end(event["id"], self._schedule and event.get("state") in KEEPING)
                self._collect()
            case "drop":
                self.drop(event["ids"])

    def drop(self, trials: Iterable[int]) -> None:
        """The checkpoints of these trials are of no more use; an incumbent keeps its own as long as it is one."""
        for trial in trials:
            if trial in self._files:
                self._useless.add(trial)
            elif not self._goes_on(trial):
                self._forget(trial)
        self._collect()

    def sweep(self, folder: Path, synced: int) -> None:
        """Remove files that are due by a line up to ``synced``, some at a time."""
        for _ in range(min(BATCH, len(self._due))):
            if self._due[0][0] > synced:
                return
            _, trial, step = self._due.popleft()
            if trial in self._files and self._files[trial]["step"] == step:
                continue  # saved once more
            path = folder / place(trial, step)
            with suppress(OSError):
                path.unlink()
            with suppress(OSError):  # it holds a newer one
                path.parent.rmdir()

    def tidy(self, folder: Path) -> None:
        """While nobody saves: remove what is due, and what no line names since its child died before its report."""
        known = self.files
        root = folder / FOLDER
        for name in list_names(root):
            for file in list_names(root / name):
                if f"{FOLDER}/{name}/{file}" not in known:
                    with suppress(OSError):
                        os.unlink(root / name / file)
            with suppress(OSError):
                os.rmdir(root / name)
        self._due.clear()

    def _begin(self, trial: int, retry_of: int | None, parent: int | None) -> None:
        attempts, elders = self._line_of(retry_of)
        if retry_of is None or not (attempts or elders):
            before, above = self._line_of(parent)
            attempts, elders = (), (*before, *above)
        if parent is not None and not self._saving:
            self._from_nothing = True
        if attempts:
            self._attempts[trial] = attempts
        if elders:
            self._elders[trial] = elders
        if retry_of is not None:
            self._forget(retry_of)

    def _line_of(self, trial: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A trial with its earlier attempts, and its elders: of each those that left a checkpoint."""
        if trial is None:
            return (), ()
        attempts = (trial, *self._attempts.get(trial, ()))
        elders = self._elders.get(trial, ())
        return tuple(filter(self._files.get, attempts)), tuple(filter(self._files.get, elders))

    def _put(self, trial: int, checkpoint: dict[str, Any]) -> None:
        """A trial has saved: its older file, and those of its earlier attempts, have been replaced by it."""
        self._saving = True
        if trial not in self._ledger.running:  # given up meanwhile
            self._due.append((self._line, trial, checkpoint["step"]))
            return
        if (older := self._files.get(trial)) is not None and older["step"] != checkpoint["step"]:
            self._due.append((self._line, trial, older["step"]))
        self._files[trial] = checkpoint
        self.drop(self._attempts.pop(trial, ()))

    def _end(self, trial: int, keeps: bool) -> None:
        attempts = self._attempts.pop(trial, ())
        if not keeps:
            self._useless.update(each for each in (trial, *attempts) if each in self._files)
            self._elders.pop(trial, None)
        elif attempts:  # it saved nothing after them: as good as its own
            self._elders[trial] = (*attempts, *self._elders.get(trial, ()))

    def _collect(self) -> None:
        """What is of no use, neither to an incumbent nor to who may be reading it, is due."""
        if not self._useless or self._useless <= (needed := {trial.id for trial in self._ledger.front}):
            return
        for before in (self._attempts, self._elders):
            for trial, ids in before.items():
                if self._goes_on(trial) and trial not in self._files:
                    needed.update(ids)
        for trial in sorted(self._useless - needed):
            self._useless.discard(trial)
            self._due.append((self._line, trial, self._files.pop(trial)["step"]))
            self._forget(trial)

    def _goes_on(self, trial: int) -> bool:
        """Whether a trial runs, or will be asked again."""
        return trial in self._ledger.running or trial in self._ledger.lost

    def _forget(self, trial: int) -> None:
        """Nobody will ask any more from whom this trial had what."""
        self._attempts.pop(trial, None)
        self._elders.pop(trial, None)
