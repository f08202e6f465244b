"""The plain view: a line per finished trial, for log files; and the summary that ends every view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from mpibo.report import words
from mpibo.report.progress import SHOWN, Progress
from mpibo.trial import State, Trial

BURST = 5  # lines before they are rationed
TELLING = 0.02  # share of the workers' time that is worth a word


class Ration:
    """At most ``BURST`` lines at once, and one more every so many seconds."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = 0.0

    def take(self, now: float, every: float) -> bool:
        """Whether a line may be written now, when there may be one ``every`` so many seconds."""
        self._left = min(BURST, self._left + max(0.0, now - self._at) / every)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Plain:
    """Lines of text. A fast run gets one every few seconds, which stands for all trials since the last.

    Args:
        out: Where they go.
        folder: The run folder, named where to look after a failure.
    """

    def __init__(self, out: TextIO, folder: str) -> None:
        self.out, self.folder = out, folder
        self._lines, self._failures = Ration(), Ration()
        self._ended = 0
        self._choice: tuple[str, str] | None = None

    def start(self, progress: Progress) -> None:
        """Say that the run goes on, if it is not its first start."""
        self._ended = progress.ended_before
        if self._ended:
            self._say(f"going on after {self._ended} trials")
        elif progress.ledger.added:
            self._say(f"starting from {progress.ledger.added} results of {progress.warm or 'elsewhere'}")

    def show(self, progress: Progress, now: float) -> None:
        """Tell what is new."""
        if progress.choice and progress.choice != self._choice:
            self._choice = progress.choice
            self._say(words.line(words.choice(*progress.choice), 160))
        new = progress.ended - self._ended
        self._ended = progress.ended
        every = min(10.0, 2.0 + now / 1000)
        for later, trial in reversed(list(enumerate(reversed(list(progress.recent)[-new:] if new else [])))):
            bad = trial.state in (State.FAILED, State.LOST)
            if bad and self._failures.take(now, 10 * every):
                told = words.line(words.failure(trial), 160)
                self._say(f"{told}  (mpibo log {self.folder} {trial.id})")
            elif (new <= BURST or not later) and self._lines.take(now, every):
                self._say(self._line(progress, trial, later, now))

    def warn(self, text: str) -> None:
        """A warning, on a line of its own."""
        self._say(f"warning: {text}")

    def close(self, progress: Progress, now: float, files: Sequence[str]) -> None:
        """The last lines, and the summary."""
        self.show(progress, now)
        self.out.write("\n".join(summary(progress, now, self.folder, files)) + "\n")
        self.out.flush()

    def _say(self, text: str) -> None:
        self.out.write(f"  {text}\n")
        self.out.flush()

    def _line(self, progress: Progress, trial: Trial, later: int, now: float) -> str:
        total = str(progress.total) if progress.total else ""
        finished = max(0, progress.finished - later)
        count = f"{finished:>{len(total)}}/{total}" if total else str(finished)
        aims = progress.ledger.aims
        parts = [f"{count}  {words.result(trial, aims)}{words.budget(trial)}"]
        if trial.state is State.DONE and not aims.keep(trial.metrics):
            parts[0] += " (breaks a limit)"
        best = progress.best
        if aims.several:
            front = [each.id for each in progress.ledger.front]
            parts[0] += f" ({'new in the ' * (trial.id in front)}front of {len(front)})"
        elif best and best.id == trial.id:
            parts[0] += f" (new best #{best.id})"
        elif best:
            parts[0] += f" (best {words.number(best.value)} #{best.id})"
        parts.append(f"{len(progress.ledger.running)} running")
        parts += [f"{count} {word}" for word, count in troubles(progress)]
        parts += [words.rate(progress.rate(now)), f"busy {words.share(progress.busy(now))}"]
        left = progress.left(now)
        return "  ".join(parts + ([f"{words.time(left)} left"] if left else []))


def done(progress: Progress) -> int:
    """Trials of this run that are done."""
    return progress.count(State.DONE) - progress.ledger.added


def troubles(progress: Progress) -> list[tuple[str, int]]:
    """The counts that are named only where they are not zero: results that were told, and what went wrong."""
    added = [("added", progress.ledger.added)] if progress.ledger.added else []
    states = {"stopped": State.STOPPED, "failed": State.FAILED, "lost": State.LOST, "abandoned": State.ABANDONED}
    return added + [(word, progress.count(state)) for word, state in states.items() if progress.count(state)]


def summary(progress: Progress, now: float, folder: str, files: Sequence[str]) -> list[str]:
    """The last words on a run: why it ended, the best value and config, the counts, where its files are.

    Args:
        progress: The run at its end.
        now: Seconds since its last start.
        folder: The run folder as the person named it.
        files: The names of what lies in it.
    """
    why = progress.closed.get("why") if progress.closed else "the manager is gone; start again with the same --out"
    lines = ["", f"Ended    {why}, after {words.time(progress.elapsed(now))}"]
    best, aims, front = progress.best, progress.ledger.aims, progress.ledger.front
    if aims.several and front:
        lines.append(f"Front    {len(front)} trial{'s' * (len(front) > 1)} that no other beats in every goal")
        lines += [f"           trial {trial.id}   {words.result(trial, aims)}" for trial in front[:SHOWN]]
        lines += [f"           and {len(front) - SHOWN} more"] * (len(front) > SHOWN)
    elif best:
        lines.append(f"Best     {words.number(best.value)}   trial {best.id}{words.budget(best)}")
        width = max(map(len, best.config), default=0)
        for name, value in best.config.items():
            told = repr(value) if isinstance(value, float) else words.value(value)
            lines.append(f"           {name:{width}}  {told}")
        anywhere = progress.ledger.best_anywhere
        if anywhere and anywhere.value != best.value:
            told = f"{words.number(anywhere.value)}   trial {anywhere.id}{words.budget(anywhere)}"
            lines.append(f"         at any budget {told}")
    else:
        why = "keeps the limits" if progress.count(State.DONE) else "has a value"
        lines.append(f"{'Front' if aims.several else 'Best ':9}none: no trial {why}")
    counts = [("done", done(progress)), *troubles(progress)]
    if progress.ledger.running:
        counts.append(("running when it ended", len(progress.ledger.running)))
    lines.append("Trials   " + ", ".join(f"{count} {word}" for word, count in counts))
    rate = progress.overall_rate(now)
    if rate is not None:
        busy = words.share(progress.busy(now))
        many = f"{progress.workers} workers" if progress.workers > 1 else "1 worker"
        lines.append(f"Speed    {words.rate(rate)}, {many} busy {busy} of the time")
        waited = progress.straggling()
        if waited is not None and waited >= TELLING:
            lines.append(f"         {words.share(waited)} of their time went to waiting for the last trials")
    lines += [f"Retired  {line['why']}" for line in progress.retired]
    if progress.failure:
        lines.append(f"Failed   {words.line(words.failure(progress.failure), 160)}")
        if sum(progress.reasons.values()) > 1:
            reasons = ", ".join(f"{count} {reason}" for reason, count in progress.reasons.items())
            lines.append(f"         in all: {reasons}")
        lines.append(f"         its output: mpibo log {folder} {progress.failure.id}")
    lines.append(f"Folder   {folder}")
    if files:
        lines.append("         " + "  ".join(files))
    return lines
