"""The first rank of a group: it makes the ranks one worker to the manager.

The first rank (its ``Group``) talks to the manager and tells the other ranks (each a ``Member``, following.py) which
trial to run.
Each has a ``Worker`` of its own. With process isolation their children form a ``torch.distributed`` group, by a file in
the run folder; when one of them fails all are killed and a new group is formed, with a new file. In the ranks
themselves (isolation none) nothing can be interrupted: the objective gets a communicator, and has to bring all of its
ranks to an end.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mpibo.engine.group import has_failed, in_step, state_of, telling
from mpibo.engine.messages import Message
from mpibo.engine.working.following import Make
from mpibo.outcome import ERROR_BYTES
from mpibo.trial import State

if TYPE_CHECKING:
    from mpibo.engine.working.worker import Worker

MEMBER_LEASE = 60.0  # seconds of silence after which a member's rank is taken for dead
AWAY = 30.0  # seconds without a look that do not count as silence
SETTLE = 2.0  # seconds that the others get, when one has failed, to tell why
PATIENCE = 30.0  # seconds that the others get when the first rank has its value


class Group:
    """The side of a group's first rank: to the manager it is one worker.

    Args:
        number: The worker's number.
        size: Ranks of the group.
        setup: Of the run, with this rank's share of its node.
        send: Sends to the manager.
        tell: Sends to a member, 1 to ``size`` - 1.
        make: Makes this rank's worker from a setup and a way to send.
        alone: Whether this rank has a GPU of its own.
        beside: The member in rank 0's process, if there is one: it is silent when the manager is, and dies with it.
        now: Seconds, monotonic.
    """

    def __init__(
        self, number: int, size: int, setup: Mapping[str, Any], send: Callable[[Message], None],
        tell: Callable[[int, Message], None], make: Make, alone: bool, beside: int | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.done = False
        self.bereaved = False  # a member's rank is dead
        self._number = number
        self._size = size
        self._setup = setup
        self._send = send
        self._tell = tell
        self._make = make
        self._now = now
        self._alone = {0: alone}
        self._beside = beside
        self._heard = dict.fromkeys(range(1, size), now())
        self._looked = now()
        self._form = 0  # how often the group was formed
        self._stale = False  # to be formed anew before the next trial
        self._file: str | None = None
        self._worker: Worker | None = None
        self._ready: dict[int, Message] | None = {}  # until the manager was told
        self._run: Message | None = None
        self._outcomes: dict[int, Message] = {}
        self._deadline = math.inf  # of those that have not told yet
        self._silent: set[int] | None = None  # those that were asked whether they are there, and have not answered
        self._ending = False
        self._own_stands = False  # what our worker keeps is what the manager was told

    def start(self) -> None:
        """Nothing, until every member has said that it is here."""

    def handle(self, message: Message) -> None:
        """Take a message of the manager in."""
        match message["kind"]:
            case "run":
                if self._stale:
                    self._form_anew()
                self._run, self._outcomes, self._deadline, self._silent = message, {}, math.inf, None
                self._own_stands = False
                self._tell_all(message)
                if self._worker:
                    self._worker.handle(message)
            case "cancel" if self._run and self._run["id"] == message["id"]:
                self._ending = message.get("why") == "end"
                if 0 in self._outcomes:
                    self._deadline = self._now()
                elif self._worker:
                    self._worker.handle(message)
            case "quit":
                self.close()

    def hear(self, member: int, message: Message) -> None:
        """Take a message of a member in."""
        if member not in self._heard:
            return  # it was told to quit
        self._heard[member] = self._now()
        if self._silent:
            self._silent.discard(member)
        if message["kind"] == "beat":
            self._tell(member, {"kind": "beat"})
        elif message["kind"] == "here":
            self._alone[member] = message["alone"]
            if len(self._alone) == self._size and not self.done:
                self._form_anew()
        elif message["kind"] == "broken" or message.get("form") == self._form:
            self._take(member, message)

    def step(self) -> None:
        """Do whatever is due."""
        if self._worker:
            self._worker.step()
        if self._run and self._is_due():
            self._conclude()
        if self._setup["isolation"] != "none" and not self.done:
            self._judge_leases()

    @property
    def descriptors(self) -> list[int]:
        """What to wait on."""
        return self._worker.descriptors if self._worker else []

    @property
    def busy(self) -> bool:
        """Whether a trial is being evaluated."""
        return self._run is not None

    def wake(self) -> float:
        """The time at which ``step`` must be called at the latest."""
        if self._run and self._is_due():
            return -math.inf
        watched = [heard for _, heard in self._watched()] if self._setup["isolation"] != "none" else ()
        deadline = self._deadline if self._now() < self._deadline else math.inf
        return min(
            min(watched, default=math.inf) + MEMBER_LEASE,
            deadline,
            self._worker.wake() if self._worker else math.inf,
        )

    def close(self) -> None:
        """End the group; serve no more."""
        self._dissolve()
        self.done = True

    def abandon(self) -> None:
        """The manager is gone: what it may not know is kept; end the group."""
        if self._worker and self._own_stands and not self._run:
            self._worker.abandon()
        self.close()

    # --- the group's life -------------------------------------------------------------------------------------------

    def _form_anew(self) -> None:
        """All children are killed and new ones form a group; what the old ones say does not count any more."""
        self._form += 1
        self._stale = False
        self._forget_file()
        group: dict[str, Any] | None = None
        if self._setup["isolation"] != "none":
            self._file = os.path.join(
                self._setup["folder"], f".group-{self._number}-{self._form}-{os.getpid()}-{time.time_ns()}"
            )
            group = {"file": self._file, "size": self._size, "gpus": all(self._alone.values())}
        for member in self._heard:
            self._tell(member, {"kind": "form", "form": self._form, "group": group and {**group, "rank": member}})
        if self._worker:
            self._worker.close()
        form = self._form
        setup = {**self._setup, "group": group and {**group, "rank": 0}}
        self._worker = self._make(setup, lambda said: self._take(0, said) if form == self._form else None)
        self._worker.start()

    def _take(self, member: int, message: Message) -> None:
        """What a rank's worker, ours included, says."""
        kind = message["kind"]
        if kind == "ready" and self._ready is not None:
            self._ready[member] = message
            if len(self._ready) == self._size:
                self._send(self._ready[0])
                self._ready = None
        elif kind == "broken":
            line = f"{'' if member == 0 else f'rank {member} of the group: '}{message['line']}"
            self._run = None
            self._send({"kind": "broken", "line": line, "error": message["error"]})
            self._tell_all({"kind": "quit"})
            self._heard.clear()
        elif kind == "finished" and self._run and message["id"] == self._run["id"]:
            self._outcomes[member] = message
            patience = PATIENCE if state_of(message) is State.DONE else SETTLE
            if member == 0 or has_failed(message):
                self._deadline = min(self._deadline, self._now() + patience)
                self._ask()
        elif member == 0 and kind in ("report", "note", "beat", "loading", "began"):
            self._send(message)

    def _ask(self) -> None:
        """Those that have not told: whether their ranks live; a broken connection may come of a rank's death."""
        if self._silent is None:
            self._silent = self._heard.keys() - self._outcomes.keys()
            for member in list(self._silent):
                self._tell(member, {"kind": "ask"})

    def _is_due(self) -> bool:
        """Whether all have told, or had the time to; of a failure only who lives can be told to be innocent."""
        told = self._outcomes
        if len(told) == self._size:
            return True
        if self._now() < self._deadline:
            return False
        if self._setup["isolation"] == "none" or (0 in told and state_of(told[0]) in (State.DONE, State.STOPPED)):
            return True
        return not self._silent

    def _conclude(self) -> None:
        """All have told, or had the time to: the first rank's outcome, unless a member tells of something worse."""
        assert self._run
        number, self._run, self._deadline = self._run["id"], None, math.inf
        told = self._outcomes
        chosen = telling(told)
        outcome = dict(told[chosen]["outcome"])
        if chosen:
            where = f"rank {chosen} of the {self._size} of worker {self._number}"
            outcome["error"] = f"{where}: {outcome.get('error')}"[:ERROR_BYTES]
        self._own_stands = chosen == 0
        self._send({"kind": "finished", "id": number, "outcome": outcome})
        isolation = self._setup["isolation"]
        if isolation == "fresh" or (isolation == "process" and not (len(told) == self._size and in_step(told))):
            self._stale = True
            if not self._ending:
                self._form_anew()

    def _judge_leases(self) -> None:
        now = self._now()
        away, self._looked = now - self._looked, now
        if away > AWAY:
            self._heard = {member: heard + away for member, heard in self._heard.items()}
        for member, heard in self._watched():
            if now - heard > MEMBER_LEASE:
                self._run = None
                self.bereaved = True
                why = f"rank {member} of the {self._size} of worker {self._number} was silent for {MEMBER_LEASE:g} s"
                self._send({"kind": "gone", "why": why, "member": member})
                self.close()
                return

    def _watched(self) -> list[tuple[int, float]]:
        """The members that have a lease, and when they were heard."""
        return [each for each in self._heard.items() if each[0] != self._beside]

    def _dissolve(self) -> None:
        self._tell_all({"kind": "quit"})
        if self._worker:
            self._worker.close()
        self._forget_file()

    def _tell_all(self, message: Message) -> None:
        for member in self._heard:
            self._tell(member, message)

    def _forget_file(self) -> None:
        if self._file:
            with contextlib.suppress(OSError):
                os.unlink(self._file)
        self._file = None
