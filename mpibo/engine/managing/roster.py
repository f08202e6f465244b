"""The workers as the manager knows them: who is idle, who is busy with what, who is gone, broken or retired."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from mpibo.engine.managing.health import Suspect
from mpibo.trial import Trial

START = 600.0  # seconds in which every worker must have said that it is there
BREAKS = 3  # loads in a row that may fail where the worker had evaluated before,
REST = 5.0  # seconds after the first of them, twice as many after the second
PATIENCE = 10.0  # leases after which a silent worker is no longer hoped for


class Roster:
    """Who works on what.

    Args:
        workers: Their numbers.
        now: Seconds.

    Attributes:
        idle: Workers that have nothing to do, the longest idle first.
        busy: Trial by worker. began: When a running trial was handed out, by trial.
        hosts: By worker, once it has said that it is there.
        gone: Taken for dead.
        broken: Workers that can't load the objective: the line and the details.
        retired: Sick ones.
    """

    def __init__(self, workers: Sequence[int], now: float) -> None:
        self.workers = len(workers)
        self._numbers = workers
        self._since = self._looked = now
        self.idle: deque[int] = deque()
        self.busy: dict[int, int] = {}
        self.began: dict[int, float] = {}
        self.hosts: dict[int, str] = {}
        self.gone: set[int] = set()
        self.broken: dict[int, tuple[str, str]] = {}
        self.retired: set[int] = set()
        self._waiting: set[int] = set()  # the idle ones
        self._owing: dict[int, int] = {}  # they left with a trial: they may be at it still
        self.dead: set[int] = set()  # gone for sure
        self._breaks: dict[int, int] = {}  # loads that failed in a row
        self._proved: set[int] = set()  # workers that have evaluated
        self._resting: list[tuple[float, int]] = []  # workers that could not load the objective just now, until when
        self._heard: dict[int, float] = {}
        self._beaten: set[int] = set()  # workers that say that they are there while they are idle

    def host(self, worker: int) -> str:
        """Where a worker is; empty before it has said so."""
        return self.hosts.get(worker, "")

    def name(self, worker: int) -> str:
        """A worker in words."""
        return f"worker {worker} on {self.hosts.get(worker, '?')}"

    def serves(self, worker: int) -> bool:
        """Whether it may be given work."""
        return worker not in self.broken and worker not in self.retired and worker not in self.gone

    @property
    def serving(self) -> int:
        """How many of those that are there may be given work."""
        return sum(map(self.serves, self.hosts))

    def is_lost(self, now: float, lease: float) -> bool:
        """Whether nobody is left: all are broken, retired, dead, or silent for so long that no stall explains it."""
        if not (self.gone or self.broken or self.retired):
            return False
        silent = {w for w in self.gone if now - self._heard.get(w, self._since) > PATIENCE * lease}
        return len(self.dead | self.retired | set(self.broken) | silent) >= self.workers

    def heard(self, worker: int, now: float, beat: bool = False) -> None:
        """It has sent a message."""
        self._heard[worker] = now
        if beat:
            self._beaten.add(worker)

    def free(self, worker: int) -> None:
        """It has nothing to do any more."""
        if worker not in self.dead:
            self.gone.discard(worker)
        self._owing.pop(worker, None)
        self.busy.pop(worker, None)
        if worker not in self._waiting and self.serves(worker):
            self._waiting.add(worker)
            self.idle.append(worker)

    def ready(self, rests: Callable[[int, str], bool] | None) -> int:
        """How many idle workers do not rest."""
        if rests is None:
            return len(self.idle)
        return sum(not rests(worker, self.host(worker)) for worker in self.idle)

    def take(self, rests: Callable[[int, str], bool] | None) -> int | None:
        """The next idle worker that does not rest, or None. It is idle no more."""
        for _ in range(len(self.idle)):
            worker = self.idle.popleft()
            if rests is None or not rests(worker, self.host(worker)):
                self._waiting.discard(worker)
                return worker
            self.idle.append(worker)
        return None

    def give_back(self, worker: int) -> None:
        """There was nothing for it: it is the next one again."""
        self._waiting.add(worker)
        self.idle.appendleft(worker)

    def busy_with(self, worker: int, trial: int, now: float) -> None:
        """It evaluates a trial from now on."""
        self.busy[worker] = trial
        self.began[trial] = now

    def ended(self, trial: Trial) -> None:
        """Its trial has ended: it can evaluate."""
        self.began.pop(trial.id, None)
        self._proved.add(trial.worker or 0)
        self._breaks.pop(trial.worker or 0, None)

    def cannot_load(self, worker: int, line: str, error: str, now: float) -> bool:
        """It can't load the objective; whether it may try again a little later, or gets nothing more.

        One that has evaluated before may: a file system can be away for a while.
        """
        self._breaks[worker] = self._breaks.get(worker, 0) + 1
        if worker in self._proved and self._breaks[worker] < BREAKS:
            self._resting.append((now + REST * self._breaks[worker], worker))
            return True
        self.broken[worker] = line, error
        return False

    def wake(self, now: float) -> None:
        """Workers that have rested may try again."""
        for until, worker in [each for each in self._resting if each[0] <= now]:
            self._resting.remove((until, worker))
            self.free(worker)

    def leave(self, worker: int) -> int | None:
        """It gets nothing more; gives the trial that it had."""
        if worker in self._waiting:
            self._waiting.discard(worker)
            self.idle.remove(worker)
        if worker in self.busy:
            self._owing[worker] = self.busy[worker]
        return self.busy.pop(worker, None)

    def owes(self, worker: int) -> int | None:
        """The trial that a worker had when it was taken for dead, if it has not been heard of since."""
        return self._owing.get(worker) if worker in self.gone else None

    def is_back(self, worker: int) -> bool:
        """Whether a worker that was taken for dead is there, with nothing to do."""
        return worker in self.gone and worker not in self.dead and worker not in self._owing

    def retire(self, suspect: Suspect) -> None:
        """These workers are sick."""
        for worker, host in self.hosts.items():
            if suspect.covers(worker, host):
                self.retired.add(worker)
                if worker in self._waiting:
                    self.leave(worker)

    def elsewhere(self, rests: Callable[[int, str], bool]) -> bool:
        """Whether there is a worker besides those that rest."""
        return any(self.serves(worker) and not rests(worker, host) for worker, host in self.hosts.items())

    def overdue(self, now: float, lease: float, away: float) -> list[tuple[int, str]]:
        """Workers to take for dead, and why: silent for a lease, or never there.

        Args:
            now: Seconds. The inbox is empty.
            lease: Seconds.
            away: If nobody has looked for longer than this many seconds, those do not count as silence.
        """
        passed, self._looked = now - self._looked, now
        if passed > away:
            for worker in self._heard:
                self._heard[worker] += passed
            return []
        silent = [(worker, f"silent for {lease:g} s") for worker in self._silent(now, lease)]
        if len(self.hosts) >= self.workers or now - self._since <= START:
            return silent
        missing = [w for w in self._numbers if w not in self.hosts and w not in self.gone and w not in self.broken]
        return silent + [(worker, f"it has not come up within {START:g} s") for worker in missing]

    def _silent(self, now: float, lease: float) -> Iterator[int]:
        """Workers that were silent for longer than a lease. An idle one must have spoken while it was idle before."""
        for worker, heard in list(self._heard.items()):
            if now - heard <= lease:
                continue
            judged = worker in self.busy or worker in self._beaten
            if judged and worker not in self.gone and worker not in self.broken:
                yield worker
