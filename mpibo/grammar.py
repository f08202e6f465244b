"""What may follow what in a journal: each line is held against the lines before it; nothing is proposed again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mpibo.goals import aims_in
from mpibo.trial import Event, Proposal, State, trial_of

ENDS = (State.DONE.value, State.STOPPED.value, State.FAILED.value)  # what an ``end`` line may say
SAME = ("config", "budget", "parent", "bracket", "rung", "seed")  # of a retry and the trial that it retries


@dataclass(frozen=True, slots=True)
class Difference:
    """A line that is not what it must be.

    Attributes:
        line: Its number. expected: What it must be. found: What it is.
    """

    line: int
    expected: str
    found: str

    def __str__(self) -> str:
        return f"line {self.line}: expected {self.expected}, the journal says {self.found}"


class Grammar:
    """Take a journal's lines in one by one, and tell of each what the lines before it do not allow.

    Memory grows with the trials that FAILED or were LOST or given up, and with nothing else.

    Attributes:
        number: Of the last line.
        settings: Those of the latest start.
        asks: Number of requests so far.
        next_id: Id of the next row.
    """

    def __init__(self) -> None:
        self.number = 0
        self.settings: Mapping[str, Any] = {}
        self.asks = 0
        self.next_id = 0
        self._first: Event | None = None  # the first ``open`` line
        self._t = 0.0
        self._configs = 0  # what counts towards max_trials
        self._prior = 0  # ``add`` lines of a warm start that are still to come
        self._proposer = False  # whether one is there
        self._closed = False
        self._started = 0  # id of the first row of this start
        self._running: dict[int, Event] = {}
        self._roots: dict[int, int] = {}  # with which row a promotion's or a retry's training began
        self._busy: dict[int, int] = {}  # trial by worker
        self._again: dict[int, Event] = {}  # LOST and FAILED trials that no other has tried again
        self._failed: set[int] = set()  # also those that a ``retire`` line made LOST
        self._abandoned: set[int] = set()

    def take(self, event: Event) -> Iterator[tuple[str, str]]:
        """What is wrong with the next line: what was expected, and what it is. To be read to its end.

        Raises:
            KeyError, TypeError, ValueError: It lacks what a line of its kind has.
        """
        self.number += 1
        yield from self._wrong(event, self.number)

    def _wrong(self, event: Event, line: int) -> Iterator[tuple[str, str]]:
        kind = event["kind"]
        if event["n"] != line:
            yield f"line number {line}", f"number {event['n']}"
        if kind != "open":
            if self._first is None:
                yield "an open line first", f"{kind}"
            if self._closed:
                yield "an open line after the close line", f"{kind}"
            if event["t"] < self._t:
                yield f"a time of {self._t} s or later", f"{event['t']} s: an earlier line, or a line moved"
            if self._prior and kind != "add":
                yield f"{self._prior} more results of the warm start", f"{kind}"
                self._prior = 0
        self._t = event["t"]
        check: Callable[[Event], Iterator[tuple[str, str]]] | None = getattr(self, f"_take_{kind}", None)
        if check is None:
            yield "a kind of line that is known", f"{kind}"
        else:
            yield from check(event)

    # --- starts of the run and of its proposer ----------------------------------------------------------------------

    def _take_open(self, event: Event) -> Iterator[tuple[str, str]]:
        self.settings = event["settings"]
        if self._first is None:
            self._first = event
            self._prior = event["warm"]["results"] if "warm" in event else 0
        else:
            first = self._first["settings"]
            if event["space"] != self._first["space"]:
                yield "the space of the first start", "another space"
            if self.settings.get("seed", 0) != first.get("seed", 0):
                yield f"the seed of the first start, {first.get('seed', 0)}", f"{self.settings.get('seed', 0)}"
            if aims_in(self.settings) != aims_in(first):
                yield f"the aims of the first start, to {aims_in(first)}", f"to {aims_in(self.settings)}"
            self._prior = 0
        self._proposer = self._closed = False
        self._started = self.next_id
        self._busy.clear()

    def _take_proposer(self, event: Event) -> Iterator[tuple[str, str]]:
        self._proposer = True
        yield from ()

    def _take_close(self, event: Event) -> Iterator[tuple[str, str]]:
        if self._running:
            yield f"how trial {min(self._running)} ended, before the run is closed", "close"
        self._closed = True

    # --- requests ---------------------------------------------------------------------------------------------------

    def _take_ask(self, event: Event) -> Iterator[tuple[str, str]]:
        if not self._proposer:
            yield "a proposer line before the first ask of a start", f"ask {event['ask']}"
        if event["ask"] != self.asks:
            yield f"ask {self.asks}", f"ask {event['ask']}"
        if not isinstance(event["count"], int) or event["count"] < 1:
            yield "an ask for at least 1 proposal", f"{event['count']}"
        left = [number for number in self._running if number < self._started]
        if left:
            yield f"a lost line of trial {left[0]}, which ran when the start before this one ended", "ask"
        self.asks = event["ask"] + 1

    def _take_choice(self, event: Event) -> Iterator[tuple[str, str]]:
        if event["ask"] != self.asks - 1:
            yield f"a choice for the last ask, {self.asks - 1}", f"one for ask {event['ask']}"

    def _take_stop(self, event: Event) -> Iterator[tuple[str, str]]:
        yield from self._known("stop", event["ids"])

    # --- trials -----------------------------------------------------------------------------------------------------

    def _take_start(self, event: Event) -> Iterator[tuple[str, str]]:
        number = event["id"]
        told = f"trial {number}"
        yield from self._new_row(event)
        if (earlier := event.get("retry_of")) is not None:
            yield from self._retry(event, told, earlier)
        else:
            if "ask" not in event or "place" not in event:
                yield "a proposal of an ask, or a retry", f"{told} without either"
            parent = event.get("parent")
            if parent is not None:
                yield from self._known(f"{told} with the parent", [parent])
                self._roots[number] = self._roots.get(parent, int(parent))
            proposal = Proposal(event["config"], parent=parent, root=self._roots.get(number))
            seed = trial_of(proposal, number, self.settings.get("seed", 0)).seed
            if event["seed"] != seed:
                yield f"seed {seed} for {told}", f"{event['seed']}"
            most = self.settings.get("max_trials")
            if parent is None and most is not None and self._configs >= most:
                yield f"no config after the {most} of max_trials", f"{told} starts"
            self._configs += parent is None
        worker = event.get("worker")
        if worker is not None:
            if self._busy.get(worker) in self._running:
                yield f"how trial {self._busy[worker]} ended, which worker {worker} has", f"it starts {told}"
            self._busy[worker] = number
        self._running[number] = event

    def _retry(self, event: Event, told: str, earlier: int) -> Iterator[tuple[str, str]]:
        self._roots[event["id"]] = self._roots.get(earlier, earlier)
        before = self._again.pop(earlier, None)
        if before is None:
            yield "a retry of a LOST or FAILED trial that was not retried yet", f"{told} retries trial {earlier}"
            return
        if "ask" in event:
            yield "a retry without an ask", f"ask {event['ask']}"
        for name in SAME:
            if event.get(name) != before.get(name):
                yield f"{told} with the {name} of trial {earlier}, {before.get(name)}", f"{event.get(name)}"

    def _take_add(self, event: Event) -> Iterator[tuple[str, str]]:
        yield from self._new_row(event)
        self._prior = max(0, self._prior - 1)

    def _take_report(self, event: Event) -> Iterator[tuple[str, str]]:
        if event["id"] not in self._abandoned:  # its worker may not have heard of it yet
            yield from self._runs(event)
        if (saved := event.get("checkpoint")) is not None:
            if saved["step"] != event["step"]:
                yield f"a checkpoint of the reported step, {event['step']}", f"one of step {saved['step']}"
            if not re.fullmatch("[0-9a-f]{64}", saved["sha256"]):
                yield "the SHA-256 of a checkpoint", f"{saved['sha256']}"
            if not isinstance(saved["bytes"], int) or saved["bytes"] < 1:
                yield "the size of a checkpoint", f"{saved['bytes']} bytes"

    def _take_note(self, event: Event) -> Iterator[tuple[str, str]]:
        if event["id"] not in self._abandoned:
            yield from self._runs(event)

    def _take_drop(self, event: Event) -> Iterator[tuple[str, str]]:
        yield from self._known("drop", event["ids"])

    def _take_end(self, event: Event) -> Iterator[tuple[str, str]]:
        if event["state"] not in ENDS:
            yield f"a trial that ends {', '.join(ENDS)}", f"{event['state']}"
        yield from self._settle(event, event["state"])

    def _take_lost(self, event: Event) -> Iterator[tuple[str, str]]:
        yield from self._settle(event, State.LOST.value)

    def _take_abandon(self, event: Event) -> Iterator[tuple[str, str]]:
        yield from self._settle(event, State.ABANDONED.value)

    def _take_retire(self, event: Event) -> Iterator[tuple[str, str]]:
        for number in event["ids"]:
            if number not in self._failed:
                yield "failures of a worker that is retired", f"trial {number}, which is not FAILED"

    def _settle(self, event: Event, state: str) -> Iterator[tuple[str, str]]:
        yield from self._runs(event)
        start = self._running.pop(event["id"], None)
        if start is None:
            return
        if state in (State.FAILED.value, State.LOST.value):
            self._again[event["id"]] = start
        if state == State.FAILED.value:
            self._failed.add(event["id"])
        if state == State.ABANDONED.value:
            self._abandoned.add(event["id"])

    def _runs(self, event: Event) -> Iterator[tuple[str, str]]:
        if event["id"] not in self._running:
            known = "which has ended" if event["id"] in range(self.next_id) else "which was never started"
            yield f"{event['kind']} of a trial that runs", f"{event['kind']} of trial {event['id']}, {known}"

    def _new_row(self, event: Event) -> Iterator[tuple[str, str]]:
        if event["id"] != self.next_id:
            yield f"trial {self.next_id} next", f"trial {event['id']}"
        self.next_id = event["id"] + 1

    def _known(self, told: str, ids: list[int]) -> Iterator[tuple[str, str]]:
        for number in ids:
            if number not in range(self.next_id):
                yield f"{told} of a trial that was started", f"trial {number}"
