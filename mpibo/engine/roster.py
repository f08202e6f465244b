"""The workers as the manager knows them: who is idle, who is busy with what, who is gone, broken or retired."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from mpibo.engine.health import Suspect

START = 600.0  # seconds in which every worker must have said that it is there
PATIENCE = 10.0  # leases after which a silent worker is no longer hoped for


class Roster:
    """Who works on what.

    Args:
        workers: Number of workers.
        now: Seconds.

    Attributes:
        idle: Workers that have nothing to do, the longest idle first.
        busy: Trial by worker. began: When a running trial was handed out, by trial.
        hosts: By worker, once it has said that it is there.
        gone: Taken for dead.
        broken: Workers that can't load the objective: the line and the details.
        retired: Sick ones.
    """

    def __init__(self, workers: int, now: float) -> None:
        self.workers = workers
        self._since = now
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
        self.breaks: dict[int, int] = {}  # loads that failed in a row, of workers that had evaluated before
        self.proved: set[int] = set()  # workers that have evaluated
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

    def missing(self, workers: Iterable[int], now: float) -> list[int]:
        """Workers that should have said by now that they are there."""
        if len(self.hosts) >= self.workers or now - self._since <= START:
            return []
        return [w for w in workers if w not in self.hosts and w not in self.gone and w not in self.broken]

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

    def forgive(self, seconds: float) -> None:
        """So long nobody listened: it does not count."""
        for worker in self._heard:
            self._heard[worker] += seconds

    def silent(self, now: float, lease: float) -> Iterator[int]:
        """Workers that were silent for longer than a lease. An idle one must have spoken while it was idle before."""
        for worker, heard in list(self._heard.items()):
            if now - heard <= lease:
                continue
            judged = worker in self.busy or worker in self._beaten
            if judged and worker not in self.gone and worker not in self.broken:
                yield worker
