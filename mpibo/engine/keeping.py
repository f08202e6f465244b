"""A trial's checkpoints, in the child that trains: when one is saved, and from which one it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpibo.store import checkpoint
from mpibo.store.checkpoint import Saved, Unusable

FOLDER = "checkpoints"
TOLD = 1000  # characters of a note


def place(trial: int, step: int) -> str:
    """Where in the run folder the checkpoint of a trial's step lies."""
    return f"{FOLDER}/{trial}/{step}.ckpt"


class Keeping:
    """Save and find the checkpoints of one trial.

    Args:
        folder: The run folder.
        trial: The trial's id.
        found: What it may go on from, best first: each with ``id step sha256``.
        rung: Whether the run has a schedule: then the end of the budget is saved.
        every: Seconds after which a report saves; None: no report does for that reason.
        writes: Whether this rank is the one of its group that saves.
        note: Is told, in one line, of a checkpoint that can't be used or written.
        now: Seconds, monotonic.
    """

    def __init__(
        self, folder: str, trial: int, found: Sequence[Mapping[str, Any]] = (), *, rung: bool = False,
        every: float | None = None, writes: bool = True, note: Callable[[str], None] = print,
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._trial = trial
        self._found = found
        self._rung = rung
        self._every = every
        self._writes = writes
        self._note = note
        self._now = now
        self._last = now()  # when it was saved last, or began
        self._told = False  # that none can be written

    def restore(self, parts: Mapping[str, Any]) -> Saved | None:
        """Load the best checkpoint that can be used into the parts; None: the training starts from nothing."""
        saved, ending, bad = None, "starts from nothing", []
        for each in self._found:
            where = place(each["id"], each["step"])
            try:
                saved = checkpoint.load(Path(self._folder, where), each["sha256"])
                saved.restore(parts)
            except Unusable as error:
                saved = None
                bad.append(f"checkpoint {where} {error}")
            else:
                ending = f"goes on from trial {each['id']}'s step {each['step']}"
                break
        for told in bad:
            self._note(f"{told[:TOLD]}: {ending}")
        return saved

    def due(self, step: int, budget: int, why: str | None) -> bool:
        """Whether this report saves.

        Args:
            step: Steps that are done. budget: of the trial.
            why: Why the trial is to end now; None when it is not.
        """
        if not self._writes:
            return False
        if why is not None:
            return why == "end"  # it will be asked again; of any other end nothing will go on
        if self._rung and step >= budget:
            return True
        return self._every is not None and self._now() >= self._last + self._every

    def save(
        self, step: int, parts: Mapping[str, Any], state: Mapping[str, Any], value: float | None
    ) -> dict[str, Any] | None:  # fmt: skip
        """Save; gives what a report says of it. A disk that is full costs the checkpoint, not the training.

        Raises:
            TypeError: A part or the state holds what can't be kept.
        """
        where = place(self._trial, step)
        try:
            return checkpoint.save(Path(self._folder, where), step, parts, state, value)
        except OSError as error:
            if not self._told:
                self._note(f"checkpoint {where} can't be written ({error.strerror or error}): the training goes on")
            self._told = True
            return None
        finally:
            self._last = self._now()
