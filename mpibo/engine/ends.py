"""When a run ends: its limits, the deadline of its allocation, and how long its trials are given when it does."""

from __future__ import annotations

from dataclasses import dataclass

from mpibo.goals import Aims

LEASE = 60.0  # seconds of silence after which a worker is taken for dead
RESERVE = 10.0  # seconds before the deadline in which the run is closed, at most,
GRACE = 20.0  # after those in which running trials may end in order, at most;
PART = 0.05  # of a short allocation each of them is this part
# Seconds that running trials are given after a signal. A launcher that was told to end kills its ranks soon.
GRACES = {"SIGUSR1": GRACE, "SIGTERM": 3.0, "SIGINT": 0.0}
CLOSING = 20.0  # seconds that closing a run may take, of those that a notice in the run folder tells of
NOTICE = 3600.0  # seconds before the allocation's end from which on SIGUSR1 is the scheduler's notice of it
CODES = {"SIGINT": 130}  # of a run that a signal ends; else
REQUEUE = 75

TAKEN = "taken"  # why a run ended whose folder another manager has taken: it is no longer ours to write in


@dataclass(frozen=True)
class Limits:
    """When a run ends, and what it does on the way.

    Attributes:
        max_trials: Configs over all starts. walltime: seconds over all starts. target: a value good enough.
        deadline: Seconds from this start until its allocation ends; None where that is not known.
        aims: What is good.
        attempts: Deaths of its worker that a config may cost. lease: seconds.
        multiple: A trial may take so many times the median duration; None: the workers hold their own limit, or none.
        abandon: Whether a straggler at the end of the run may be given up.
        rungs: Whether there is a schedule: trials save the end of their budget, and keep it until it is dropped.
    """

    max_trials: int | None = None
    walltime: float | None = None
    target: float | None = None
    aims: Aims = Aims()
    seed: int = 0
    attempts: int = 3
    lease: float = LEASE
    deadline: float | None = None
    multiple: float | None = None
    abandon: bool = True
    rungs: bool = False


@dataclass(frozen=True)
class Ended:
    """Why the run ended, its exit code, and what to tell at 3 a.m. where it went wrong."""

    why: str
    exit_code: int
    line: str = ""
    details: str = ""


@dataclass(frozen=True)
class Deadline:
    """The end of an allocation, in seconds of the transport's clock.

    Attributes:
        last_end: When the last trial must have ended, so that the run can be closed.
        grace: Seconds before it at which trials that still run are told to end.
    """

    last_end: float
    grace: float

    @classmethod
    def after(cls, seconds: float, now: float) -> Deadline:
        """The deadline that is ``seconds`` from ``now``."""
        return cls(now + seconds - min(RESERVE, PART * seconds), min(GRACE, PART * seconds))

    def allows(self, now: float, typical: float | None) -> bool:
        """Whether a trial of a typical duration that starts now can end in time."""
        return now + (typical or 0.0) <= self.last_end - self.grace

    def notice(self, now: float) -> float | None:
        """Seconds that a notice which comes now leaves running trials; None where it is not of the allocation's end."""
        left = self.last_end - now
        return max(0.0, left) if left <= NOTICE else None

    def is_near(self, now: float) -> bool:
        """Whether trials that run must be told to end."""
        return now >= self.last_end - self.grace


def grace_after(signal: str, noticed: float | None, deadline: Deadline | None, now: float) -> float:
    """Seconds that running trials are given after a signal that comes now.

    Args:
        noticed: Seconds until the machine is gone, where a notice tells; None: it does not.
        deadline: The end of the allocation, where it is known.
    """
    if signal == "SIGUSR1":
        left = deadline.notice(now) if deadline else None
        known = ([] if noticed is None else [max(0.0, noticed - CLOSING)]) + ([] if left is None else [left])
        if known:
            return min(known)
    return GRACES.get(signal, 0.0)
