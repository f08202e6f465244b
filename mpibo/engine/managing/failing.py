"""When the first trials all fail alike, something is wrong with the objective, not with the configs."""

from __future__ import annotations

import re

from mpibo.trial import State, Trial


class Failing:
    """Watch a run's first trials.

    Args:
        patience: So many failures alike, and nothing else, mean that the run is to end.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._seen: list[tuple[str | None, str]] | None = []  # reason and last line of each; None: not all alike

    def relieve(self) -> None:
        """Watch no more: a trial of an earlier start has ended."""
        self._seen = None

    def told_by(self, trial: Trial) -> str | None:
        """A trial has ended; the line to end the run with, if it is the last straw."""
        if self._seen is None:
            return None
        without_place = re.sub(r"\(worker \d+ on [^)]*\)", "", trial.error or "").strip().splitlines()
        self._seen.append((trial.reason, without_place[-1] if without_place else ""))
        if trial.state is not State.FAILED or len(set(self._seen)) > 1:
            self._seen = None
        elif len(self._seen) >= self._patience:
            return f"the first {len(self._seen)} trials all failed alike: {self._seen[0][1] or trial.reason}"
        return None
