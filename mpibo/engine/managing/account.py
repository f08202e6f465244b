"""A run's account: its journal and what follows from the lines, written before anything has an effect."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mpibo.engine import messages
from mpibo.engine.managing.shelf import Shelf
from mpibo.engine.messages import Message
from mpibo.goals import Aims
from mpibo.store.journal import Journal
from mpibo.trial import Config, Event, Ledger, State, Trial, config_of, end_event

log = logging.getLogger("mpibo")

BLOCKED = 1.0  # seconds between two tries to write a journal whose disk is full or gone
RECENT = 4096  # started configs remembered against a second start


class Blocked(Exception):
    """The run can't go on: the journal can't be written, and a signal came, or another manager took the run.

    Args:
        told: One line.
        taken: Whether the run folder is another manager's.
    """

    def __init__(self, told: str, taken: bool = False) -> None:
        super().__init__(told)
        self.taken = taken


@dataclass
class Earlier:
    """What the earlier starts of a run left.

    Attributes:
        ledger: What follows from their lines.
        shelf: Their checkpoints.
        durations: Seconds of the trials that were DONE. asks: Requests made. model: The one that was chosen last.
        started: The configs that were started last.
    """

    ledger: Ledger
    shelf: Shelf
    durations: list[float] = field(default_factory=list)
    asks: int = 0
    model: str | None = None
    started: deque[Config] = field(default_factory=lambda: deque(maxlen=RECENT))


def take_in(events: Iterable[Event], aims: Aims, schedule: bool = False) -> Earlier:
    """Go through the lines of the earlier starts, once."""
    ledger = Ledger(*aims)
    earlier = Earlier(ledger, Shelf(ledger, schedule))
    for event in events:
        kind = event["kind"]
        changed = ledger.apply(event)
        earlier.shelf.apply(event)
        if kind == "end":
            for trial in changed:
                if trial.state is State.DONE and trial.duration is not None:
                    earlier.durations.append(trial.duration)
        elif kind in ("start", "add"):
            earlier.started.append(event["config"])
        elif kind == "ask":
            earlier.asks = event["ask"] + 1
        elif kind == "choice":
            earlier.model = event["model"]
    return earlier


class Account:
    """The journal and the ledger, kept together.

    Args:
        journal: The run's journal.
        earlier: What the earlier starts left.
        interrupted: Gives the name of the signal that ends the run, once one has come.
        keep: Called while nothing can be written (it refreshes the lock); returns a reason to end, or None.
        wait: Sleeps so many seconds.
    """

    def __init__(
        self, journal: Journal, earlier: Earlier, interrupted: Callable[[], str | None], keep: Callable[[], str | None],
        wait: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self.journal = journal
        self.ledger = earlier.ledger
        self.shelf = earlier.shelf
        self._interrupted = interrupted
        self._keep = keep
        self._wait = wait
        self._promoted: dict[int, None] = {}  # the latest that others went on from
        self._recent = dict.fromkeys(map(_key, earlier.started))

    @property
    def elapsed(self) -> float:
        """Seconds that the run was up, over all starts."""
        return self.ledger.elapsed + self.journal.since_last()

    def commit(self, *events: Event) -> list[Trial]:
        """Write events; then, and only then, they have an effect. Gives the trials that they made or changed.

        Raises:
            Blocked: They can't be written, and a signal has come or the lock is lost.
        """
        stamped = [self.journal.append(event) for event in events]
        try:
            self.journal.write()
        except OSError as error:
            self._write_in_the_end(error)
        return [trial for event in stamped for trial in self._apply(event)]

    def _apply(self, event: Event) -> Sequence[Trial]:
        if event["kind"] == "start" or event["kind"] == "add":
            self._remember(event["config"])
            if event.get("parent") is not None and event.get("retry_of") is None:
                self._promoted[event["parent"]] = None
                if len(self._promoted) > RECENT:
                    del self._promoted[next(iter(self._promoted))]
        changed = self.ledger.apply(event)
        self.shelf.apply(event)
        return changed

    def may_go_on(self, parent: int) -> bool:
        """Whether a trial was not promoted yet, nor turned out as a worker's fault meanwhile."""
        return parent not in self._promoted and parent not in self.ledger.lost

    def sweep(self) -> None:
        """Remove checkpoints that are of no more use, once the lines that say so can't be lost."""
        self.shelf.sweep(self.journal.path.parent, self.journal.synced)

    def _write_in_the_end(self, error: OSError) -> None:
        """The disk is full or gone: nothing goes on until what happened is written."""
        log.warning("can't write %s: %s; the run waits until it can", self.journal.path, error.strerror)
        while True:
            if self._interrupted() is not None:
                raise Blocked(f"{self.journal.path} could not be written: {error.strerror}")
            self._wait(BLOCKED)
            if (reason := self._keep()) is not None:
                raise Blocked(reason, taken=True)
            try:
                self.journal.write()
            except OSError as again:
                error = again
            else:
                log.warning("%s can be written again; the run goes on", self.journal.path)
                return

    def open(self, opening: Event, prior: Sequence[Event], orphans: Mapping[int, Message]) -> None:
        """Begin a start: what still ran when the last one ended is lost, unless its worker kept the outcome.

        Args:
            opening: The ``open`` line's fields.
            prior: ``add`` events without ids, of another run.
            orphans: ``finished`` messages that workers kept when their manager was gone, by trial.
        """
        self.journal.events = []
        self.journal.restart()
        self.shelf.tidy(self.journal.path.parent)
        rows = [event | {"id": number} for number, event in enumerate(prior, start=self.ledger.next_id)]
        self.commit({"kind": "open", **opening}, *rows)
        running = self.ledger.running
        found = {}
        for number in running.keys() & orphans.keys():
            if config_of(orphans[number].get("config", {})) == running[number].config:
                found[number] = messages.outcome(orphans[number])
            else:
                log.warning("an outcome in %s is of another trial %d than ours", self.journal.path.parent, number)
        ends = [end_event(number, outcome) for number, outcome in found.items() if outcome.state is not State.LOST]
        if ends:
            log.info("%d results of workers that had lost their manager are taken in", len(ends))
        self.commit(*ends)
        self.commit(*[{"kind": "lost", "id": each, "why": "the run ended", "death": False} for each in running])

    def is_new(self, config: Config) -> bool:
        """Whether a config has not been started of late: an answer could not know what was started after its ask."""
        return _key(config) not in self._recent

    def _remember(self, config: Config) -> None:
        self._recent[_key(config)] = None
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]


def _key(config: Config) -> Hashable:
    """What tells one config from another; 1 is not True, though they are equal."""
    types = tuple(map(type, config.values()))
    return tuple(config.items()), repr(config) if tuple in types else types
