"""Asking the proposer: one request out at a time, each a line of the journal; a child that died is replaced."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from mpibo.engine.ends import Ended
from mpibo.engine.managing.account import Account
from mpibo.engine.managing.supply import Supply
from mpibo.trial import Event, Proposal

log = logging.getLogger("mpibo")

HUNG = 900.0  # seconds without an answer after which a proposer is replaced
STARTS = 3  # of a proposer in a row without an answer between
JUDGED = 0.05  # seconds between two questions which trials are to end
FRUITLESS = 10  # answers in a row of nothing but started configs, after which the strategy has nothing left


class Asker(Protocol):
    """What the manager needs of the proposer.

    ``poll`` has something when one of ``descriptors`` is readable, or, in virtual time, when ``due`` has come.
    """

    @property
    def descriptors(self) -> Sequence[int]: ...

    @property
    def due(self) -> float | None: ...

    def ask(self, event: Event, journal: Path, until: int) -> None: ...

    def judge(self, journal: Path, until: int) -> None: ...

    def poll(self) -> list[dict[str, Any]]: ...

    def restart(self) -> None: ...


class Asking:
    """The proposals that wait, and the proposer that makes more.

    Args:
        proposer: The strategy's child.
        account: The run's journal and ledger.
        workers: Evaluations at once.
        asks: Requests made by earlier starts. model: The model that was chosen last.

    Attributes:
        supply: What waits, and the plan for more.
        ended: Why the run can't go on: bad input, or a strategy that fails; None as long as it can.
        stopped: Trials that are to end and were not told yet.
    """

    def __init__(self, proposer: Asker, account: Account, workers: int, asks: int, model: str | None) -> None:
        self.proposer = proposer
        self.supply = Supply(workers)
        self.ended: Ended | None = None
        self._account = account
        self._asks = asks
        self._model = model
        self._ready = False
        self._fruitless = 0
        self._starts = 0
        self._stops = False  # whether the strategy can name trials that are to end
        self._news = False  # reports that it has not seen
        self._judged = -math.inf  # when it was asked last
        self._requests = 0
        self._seen: int | None = None  # lines that it was shown, while the question is out
        self._named: set[int] = set()  # trials that are to end
        self.stopped: deque[int] = deque()

    @property
    def exhausted(self) -> bool:
        """Whether the strategy has nothing to propose as things stand."""
        return self._ready and self.supply.exhausted

    def ask(self, idle: int, left: int, now: float) -> None:
        """Make a request if one is due.

        Args:
            idle: Workers that have nothing to do.
            left: Configs that may still be started.
            now: Seconds.
        """
        if self.supply.asked is not None and now - self.supply.asked > HUNG:
            log.warning("the proposer has not answered for %.0f s", HUNG)
            self._replace(-9)
        request = self.supply.wanted(idle, left) if self._ready else None
        if request is None:
            return
        typical = self.supply.typical
        event = {
            "kind": "ask", "ask": self._asks, "count": request.count, "fit": request.fit,
            "typical": None if typical is None else round(typical, 6), "affordable": self.supply.afford(),
            "keep": [[proposal.ask, proposal.place] for proposal in request.keep],
        }  # fmt: skip
        self._asks += 1
        self._account.commit(event)
        self.supply.out(request, now)
        self.proposer.ask(event, self._account.journal.path, self._account.journal.size)

    def reported(self) -> None:
        """There are reports: a stopping rule may have an opinion on them."""
        self._news = self._stops

    def judge(self, now: float) -> None:
        """Ask which trials are to end, if there is news."""
        if not (self._news and self._ready and self._seen is None and now >= self._judged + JUDGED):
            return
        self._news, self._judged, self._seen = False, now, self._account.journal.number
        self.proposer.judge(self._account.journal.path, self._account.journal.size)

    def next(self) -> Proposal | None:
        """The next waiting proposal that was not started meanwhile."""
        while self.supply.waiting:
            proposal = self.supply.waiting.popleft()
            if self._is_new(proposal):
                return proposal
        return None

    def listen(self, now: float) -> None:
        """Take in what the proposer said."""
        for message in self.proposer.poll():
            match message["kind"]:
                case "ready":
                    fields = {name: message[name] for name in ("pid", "versions", "cpu", "threads")}
                    self._account.commit({"kind": "proposer", **fields})
                    self._ready = True
                    self._stops = message.get("stops", False)
                case "prepared":
                    self.supply.prepared = True
                case "answer":
                    self._answered(message, now)
                case "stop":
                    self._told_to_stop(message["ids"])
                case "refused":
                    self.ended = Ended("error", 2, message["line"], message["error"])
                case "error":
                    self.ended = Ended("error", 1, f"the strategy failed: {message['line']}", message["error"])
                case "gone":
                    self._replace(message["code"])

    def _answered(self, message: dict[str, Any], now: float) -> None:
        self._starts = 0
        choice = message.get("choice")
        if choice and choice["model"] != self._model:
            self._model = choice["model"]
            line = {"kind": "choice", "ask": message["ask"], "model": choice["model"], "why": choice["why"]}
            self._account.commit(line)
        if message.get("drop"):
            self._account.commit({"kind": "drop", "ask": message["ask"], "ids": message["drop"]})
        fresh = [proposal for proposal in message["proposals"] if self._is_new(proposal)]
        self._fruitless = self._fruitless + 1 if message["proposals"] and not fresh else 0
        again = 0 < self._fruitless < FRUITLESS
        self.supply.answered(fresh, now, again, choice and choice["model"])

    def _is_new(self, proposal: Proposal) -> bool:
        if proposal.parent is not None:
            return self._account.may_go_on(proposal.parent)
        return proposal.origin == "repeat" or self._account.is_new(proposal.config)

    def _told_to_stop(self, ids: Sequence[int]) -> None:
        running = self._account.ledger.running
        self._named.intersection_update(running)
        new = [number for number in ids if number not in self._named and number in running]
        if new:
            line = {"kind": "stop", "request": self._requests, "seen": self._seen, "ids": new}
            self._requests += 1
            self._named.update(new)
            self._account.commit(line)
            self.stopped.extend(new)
        self._seen = None

    def _replace(self, code: int) -> None:
        self._starts += 1
        self._ready = False
        self._seen = None
        self._news = self._stops
        self.supply.dropped()
        if self._starts >= STARTS:
            line = f"the proposer died {self._starts} times in a row, last with exit code {code}"
            self.ended = Ended("error", 1, line)
            return
        log.warning("the proposer died with exit code %s; another one starts", code)
        self.proposer.restart()
