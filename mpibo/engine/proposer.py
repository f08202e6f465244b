"""The proposer: rank 0's child with the strategy and its model. It reads the journal itself and answers requests.

The manager's side (``Proposer``) is a handle on that child; the child's side (``main``) runs ``Search``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpibo.engine.children import Child, settle_in
from mpibo.engine.environment import THREADS, child_environment
from mpibo.engine.sandbox import Pipe, one_line, parse, told
from mpibo.store.follower import Follower
from mpibo.store.journal import dumps
from mpibo.trial import Event, Proposal, config_of

LATE = 10.0  # seconds that written lines may take to be seen here
GONE = 600.0  # seconds that the journal's disk may be away
LOOK = 0.05  # seconds between two looks


class Proposer:
    """The manager's handle on the proposer child.

    Args:
        setup: ``space method seed workers maximize goals limits noise max_trials start schedule budget`` of the
            search; objects in place of the method and the schedule go as ``pickles``.
        cores: Where to bind it; None: where we are.
    """

    due: float | None = None

    def __init__(self, setup: Mapping[str, Any], cores: Sequence[int] | None = None) -> None:
        self._setup = setup
        self._cores = cores
        self._launch()

    def _launch(self) -> None:
        threads = dict.fromkeys(THREADS, "1")  # one and two BLAS threads differ in their last bits
        self._child = Child("mpibo.engine.proposer", environment=child_environment() | threads, cores=self._cores)
        self._child.send(self._setup)

    @property
    def descriptors(self) -> list[int]:
        """Readable when ``poll`` has something."""
        return [] if self._child.ended else [self._child.fileno()]

    def ask(self, event: Event, journal: Path, until: int) -> None:
        """Send a request whose line ends at byte ``until`` of the journal."""
        self._child.send({"kind": "ask", "ask": event["ask"], "journal": str(journal), "until": until})

    def judge(self, journal: Path, until: int) -> None:
        """Ask which running trials are to end, as the journal has it up to byte ``until``."""
        self._child.send({"kind": "judge", "journal": str(journal), "until": until})

    def read(self, journal: Path, until: int) -> None:
        """Let the child take in what the journal has, before there is a request."""
        self._child.send({"kind": "read", "journal": str(journal), "until": until})

    def poll(self) -> list[dict[str, Any]]:
        """What the child said: ``ready prepared answer stop refused error``; ``gone`` when it died."""
        gone = self._child.gone
        said = [_read(message) for message in self._child.receive()]
        if gone and not any(message["kind"] in ("refused", "error") for message in said):
            code = self._child.kill()
            return [*said, {"kind": "gone", "code": code}]
        return said

    def restart(self) -> None:
        """Start another child; its caches are cold."""
        self._child.kill()
        self._launch()

    def close(self) -> None:
        """End the child."""
        self._child.kill()


class Inline:
    """A proposer in this very process, whose answers take the time that they are said to: for simulations.

    What it says is packed and read as a child's words are.

    Args:
        search: The search, or anything with its ``apply`` and ``answer``.
        now: Seconds, virtual or not.
        cost: Seconds that an answer takes, from its ``ask`` event.
        judging: Seconds that it takes to say which trials are to end.
    """

    def __init__(
        self, search: Any, now: Callable[[], float], cost: Callable[[Event], float] = lambda event: 0.0,
        judging: Callable[[], float] = lambda: 0.0,
    ) -> None:  # fmt: skip
        self._search = search
        self._now = now
        self._cost = cost
        self._judging = judging
        self._said: list[tuple[float, bytes]] = []
        self._follower: Follower | None = None
        self.restart()

    descriptors: tuple[int, ...] = ()

    @property
    def due(self) -> float | None:
        """When the next answer is to be heard."""
        return min((time for time, _ in self._said), default=None)

    def ask(self, event: Event, journal: Path, until: int) -> None:
        """Answer, to be heard when its cost has passed."""
        self._follower = self._follower or Follower(journal)
        said = dumps(_spelled(answer_of(self._search, self._follower, event["ask"], until)))
        self._said.append((self._now() + self._cost(event), said))

    def judge(self, journal: Path, until: int) -> None:
        """Say which trials are to end, to be heard when that has taken its time."""
        self._follower = self._follower or Follower(journal)
        _request_in(self._search, self._follower, -1, until)
        said = dumps({"kind": "stop", "ids": self._search.stop()})
        self._said.append((self._now() + self._judging(), said))

    def poll(self) -> list[dict[str, Any]]:
        """What is due."""
        due = [said for time, said in self._said if time <= self._now()]
        self._said = [(time, said) for time, said in self._said if time > self._now()]
        return [_read(json.loads(said)) for said in due]

    def restart(self) -> None:
        """Say that we are here."""
        said = {"kind": "ready", "pid": os.getpid(), "versions": {}, "cpu": "", "threads": 1}
        said |= {"stops": True} if getattr(self._search, "stops", False) else {}
        self._said = [(self._now(), dumps(said)), (self._now(), dumps({"kind": "prepared"}))]


def answer_of(search: Any, follower: Follower, number: int, until: int) -> dict[str, Any]:
    """Read the journal up to byte ``until`` and answer its request ``number``.

    A network file system may show the last bytes late, and fail for a while: both are waited for.

    Raises:
        LookupError: The journal has no such request there.
        OSError: It could not be read for so long.
    """
    began = time.monotonic()
    while (asked := _request_in(search, follower, number, until)) is None:
        if time.monotonic() > began + LATE:
            raise LookupError(f"the journal has no request {number} before byte {until}")
        time.sleep(LOOK)
    answer = {"kind": "answer", "ask": number, "proposals": search.answer(asked)}
    if (collect := getattr(search, "collect", None)) is not None and (over := collect()):
        answer["drop"] = over
    chosen = getattr(search, "choice", None)
    return answer | {"choice": {"model": chosen[0], "why": chosen[1]}} if chosen else answer


def _request_in(search: Any, follower: Follower, number: int, until: int) -> Event | None:
    """Take in what is new in the journal; gives the request, if it is there."""
    asked: Event | None = None
    for event in _patiently(follower, until):
        if event["kind"] != "ask":
            search.apply(event)
        elif event["ask"] == number:
            asked = event
    return asked


def _patiently(follower: Follower, until: int) -> Iterator[Event]:
    """The follower's new events, however long (up to ``GONE``) its disk is away."""
    failing: float | None = None
    while True:
        try:
            for event in follower.events(until):
                failing = None
                yield event
            return
        except OSError:
            failing = failing or time.monotonic()
            if time.monotonic() > failing + GONE:
                raise
        time.sleep(LOOK)


def proposal_of(told: Mapping[str, Any]) -> Proposal:
    """A proposal as it was before it went through JSON."""
    config = told["config"]
    return Proposal(**{**told, "config": config_of(config)} if list in map(type, config.values()) else told)


def versions() -> dict[str, Any]:
    """What the last bits of a proposal depend on."""
    from importlib.metadata import version

    names = ("mpibo", "numpy", "scipy", "scikit-learn")
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except Exception:  # not installed as a package: run from a source tree
            continue
    return {"python": platform.python_version(), "machine": platform.machine(), **found}


def cpu() -> str:
    """The processor's model, on which the last bits of linear algebra depend; the machine's kind where none is told."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    """Serve requests until the manager closes the pipe."""
    arguments = parse()
    settle_in(arguments.parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # a scheduler's signal reaches us too; the manager decides
    pipe = Pipe(arguments.answers)
    import mpibo.search  # noqa: F401  (loaded while rank 0 looks at the objective)

    setup = pipe.receive()
    if setup is None:
        return
    try:
        search = _search(setup)
    except Exception as error:
        pipe.send({"kind": "refused", "line": one_line(error), "error": told(error)})
        return
    ready = {"kind": "ready", "pid": os.getpid(), "versions": versions(), "cpu": cpu(), "threads": 1}
    pipe.send(ready | ({"stops": True} if search.stops else {}))
    follower: Follower | None = None
    while (message := pipe.receive()) is not None:
        if follower is None:
            follower = Follower(message["journal"])
            _prepare_beside(search, pipe)
        try:
            if message["kind"] == "read":
                _request_in(search, follower, -1, message["until"])
                continue
            if message["kind"] == "judge":
                _request_in(search, follower, -1, message["until"])
                pipe.send({"kind": "stop", "ids": search.stop()})
                continue
            answer = answer_of(search, follower, message["ask"], message["until"])
        except Exception as error:  # a strategy of the user's own may do anything
            pipe.send({"kind": "error", "line": one_line(error), "error": told(error)})
            return
        pipe.send(_spelled(answer))


def _search(setup: Mapping[str, Any]) -> Any:
    from mpibo.search import Search
    from mpibo.space import Space

    sys.path[:0] = [path for path in setup.get("path", []) if path not in sys.path]
    wraps: dict[str, Any] = {"method": setup["method"], "schedule": setup.get("schedule")}
    for name, data in setup.get("pickles", {}).items():
        import pickle

        wraps[name] = pickle.loads(base64.b64decode(data))
    return Search(
        Space.from_json(setup["space"]), **wraps, seed=setup["seed"], workers=setup["workers"],
        maximize=setup["maximize"], goals=setup["goals"], limits=setup["limits"], noise=setup["noise"],
        max_trials=setup["max_trials"], start=[config_of(each) for each in setup["start"]], budget=setup["budget"],
    )  # fmt: skip


def _prepare_beside(search: Any, pipe: Pipe) -> None:
    """Load the model's libraries in a thread, so that the first evaluations do not wait for them."""

    def prepare() -> None:
        with contextlib.suppress(Exception):  # whatever it is, the first fit will say it
            search.prepare()
        pipe.send({"kind": "prepared"})

    threading.Thread(target=prepare, name="prepare", daemon=True).start()


def _spelled(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as JSON can say it."""
    return answer | {"proposals": [_plain(each) for each in answer["proposals"]]}


def _read(message: dict[str, Any]) -> dict[str, Any]:
    """A message of the child; an answer's proposals as they were."""
    if message["kind"] == "answer":
        message["proposals"] = [proposal_of(each) for each in message["proposals"]]
    return message


def _plain(proposal: Proposal) -> dict[str, Any]:
    names = ("config", "budget", "parent", "origin", "bracket", "rung", "ask", "place", "root")
    values = ((name, getattr(proposal, name)) for name in names)
    return {name: value for name, value in values if value is not None}


if __name__ == "__main__":
    main()
