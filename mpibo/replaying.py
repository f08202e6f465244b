"""Replay: every proposal and choice of a journal is made again, from its lines alone, and held against them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Set
from typing import TYPE_CHECKING, Any

from mpibo.engine.proposer import cpu, versions
from mpibo.engine.sandbox import one_line
from mpibo.grammar import Difference, Grammar
from mpibo.store.journal import VERSION, event_of
from mpibo.trial import Event, Proposal, State, config_of

if TYPE_CHECKING:
    from mpibo.search import Search
    from mpibo.strategies import Strategy

COMPARED = ("budget", "origin", "parent", "bracket", "rung")  # of a start and its proposal, besides the config


class Replay:
    """Take a journal's lines in one by one; tells of each how it differs from what the replay made.

    After a difference the journal's word is what the later proposals are made from, as the run did.

    Args:
        method: In place of the methods that the journal knows by name only, or by a file that may be elsewhere.
        search: A fresh search for lines that no engine wrote: it is used as it is, and only proposals and choices are
            compared.
        seen: The ``stop`` lines' numbers of lines that the stopping rule had seen (``seen_by`` finds them).

    Attributes:
        starts, asks, choices, proposals: Number of starts of the run, and of what was made again and compared.
        elsewhere: What was another version, or machine, where proposals were made: ``numpy 2.1.0, here 2.2.0``.
        over: Whether a line can't be taken in, so that the rest can't be replayed.
        failed: Why the strategy could not answer the last ask; None if it could.
    """

    def __init__(
        self, method: str | Strategy | None = None, search: Search | None = None, seen: Set[int] = frozenset()
    ) -> None:
        self.starts = self.asks = self.choices = self.proposals = 0
        self.elsewhere: dict[str, None] = {}
        self.over = False
        self.failed: str | None = None
        self.unused = method is not None  # ``method`` was not wanted
        self._method = method
        self._search = search
        self._grammar = None if search else Grammar()
        self._here: dict[str, Any] = {}
        self._waiting: dict[tuple[int, int], Proposal] = {}  # proposals that may be started
        self._ask = -1
        self._model: str | None = None  # as the choice lines have it
        self._choice: tuple[str, str] | None = None  # the replay's, for the last ask
        self._seen = seen
        self._stopped: dict[int, list[int]] = {}  # trials to end, by the number of lines that say so
        self._named: set[int] = set()  # those that were told
        self._over: list[int] = []  # trials whose checkpoints the last answer said to be useless
        self._due = False  # whether a choice line must come before the last answer is used

    def take(self, event: Event) -> list[Difference]:
        """How the next line differs.

        Raises:
            ValueError: An ``open`` line from which no search can be made here: bad input.
        """
        if self.over:
            return []
        line = event.get("n", 0)
        differences: list[Difference] = []
        try:
            for expected, found in self._differ(event, line):
                differences.append(Difference(line, expected, found))
        except BadInput:
            raise
        except Exception as error:  # an edited line may make anything of ours or of a strategy's raise
            self.over = True
            wanted = f"a {event.get('kind')} line that can be replayed"
            differences.append(Difference(line, wanted, f"what can't be: {one_line(error)}"))
        return differences

    def _differ(self, event: Event, line: int) -> Iterator[tuple[str, str]]:
        if self._grammar:
            yield from self._grammar.take(event)
        match event["kind"]:
            case "open":
                self._open(event)
            case "proposer":
                self._compare_platform(event)
                self._forget()
            case "ask":
                yield from self._compare_ask(event)
                if line in self._seen and self._search and self._search.stops:
                    self._stopped[line] = self._search.stop()
                return
            case "choice":
                yield from self._compare_choice(event)
            case "stop":
                yield from self._compare_stop(event)
            case "drop":
                yield from self._compare_drop(event)
            case "start" if "ask" in event:
                yield from self._compare_start(event)
        if self._search is None or (event["kind"] in ("start", "add") and event["id"] != self._search.table.n):
            self.over = True  # no open line, or a gap: the grammar has told it
            return
        if event["kind"] in ("end", "lost", "abandon", "report") and event["id"] not in range(self._search.table.n):
            return
        self._search.apply(event)
        if line in self._seen and self._search.stops:
            self._stopped[line] = self._search.stop()

    # --- starts of the run and of its proposer ----------------------------------------------------------------------

    def _open(self, event: Event) -> None:
        """Each start has settings of its own; the table goes on."""
        self.starts += 1
        self._forget()
        if self._grammar is None:
            return
        try:
            search = self._searching(event["settings"], event["space"], event.get("version", VERSION))
        except (ValueError, TypeError, ImportError, SyntaxError) as error:
            raise BadInput(f"line {event['n']}: {one_line(error)}") from error
        if self._search:
            search.table = self._search.table
        self._search = search

    def _searching(self, settings: dict[str, Any], space: dict[str, Any], version: int) -> Search:
        from mpibo.schedules import SCHEDULES
        from mpibo.search import Search
        from mpibo.space import Space
        from mpibo.strategies import METHODS

        if version > VERSION:
            raise ValueError(f"the journal has format {version}; this mpibo knows {VERSION}")
        method: str | Strategy = settings.get("method", "auto")
        name, in_file, _ = str(method).partition(".py:")
        if in_file or name.partition(":")[0] not in METHODS:
            if self._method is None and not in_file:
                raise ValueError(
                    f"the run's method was an object, of which the journal has only the name, {method}; "
                    f"say where it is with --method file.py:{method}"
                )
            self.unused = False
            method = method if self._method is None else self._method
        schedule = settings.get("schedule")
        if schedule is not None and schedule.partition(":")[0] not in SCHEDULES:
            raise ValueError(f"the run's schedule was an object, of which the journal has only the name, {schedule}")
        return Search(
            Space.from_json(space), method, seed=settings.get("seed", 0), workers=settings.get("workers", 1),
            maximize=settings.get("maximize", False), goals=settings.get("goals", ()),
            limits=settings.get("limits", ()), noise=settings.get("noise", False),
            max_trials=settings.get("max_trials"), start=[config_of(each) for each in settings.get("start", ())],
            schedule=schedule, budget=settings.get("budget", 1),
        )  # fmt: skip

    def _forget(self) -> None:
        """What was handed out does not survive the proposer's end, nor does its failure matter then."""
        self._waiting.clear()
        self._over = []
        self._due = False
        self.failed = None

    def _compare_platform(self, event: Event) -> None:
        there = event.get("versions", {}) | ({"cpu": event["cpu"]} if event.get("cpu") else {})
        self._here = self._here or versions() | {"cpu": cpu()}
        for name in there:
            if there[name] != self._here.get(name):
                self.elsewhere[f"{name} {there[name]}, here {self._here.get(name, 'none')}"] = None

    # --- requests, choices, proposals -------------------------------------------------------------------------------

    def _compare_ask(self, event: Event) -> Iterator[tuple[str, str]]:
        if self._search is None:
            self.over = True
            return
        yield from self._missing_choice(f"ask {event['ask']}")
        yield from self._goes_on(f"ask {event['ask']}")
        if self.over:
            return
        if self._over:
            yield f"a drop line for {_ids(self._over)} first", f"ask {event['ask']}"
        pairs = [(ask, place) for ask, place in event["keep"]]
        for ask, place in pairs:
            if (ask, place) not in self._waiting:
                yield "proposals that wait to be kept", f"place {place} of ask {ask}, which does not wait"
        kept = {pair: self._waiting[pair] for pair in pairs if pair in self._waiting}
        self.asks += 1
        self._ask = event["ask"]
        self._choice = None
        try:
            answer = self._search.answer(event | {"keep": [list(pair) for pair in kept]})
        except Exception as error:  # it may have been so in the run: what follows tells
            self.failed = one_line(error)
            return
        self._waiting = kept | {(self._ask, place): proposal for place, proposal in enumerate(answer)}
        self._over = self._search.collect()
        self._choice = self._search.choice
        self._due = self._choice is not None and self._choice[0] != self._model

    def _compare_choice(self, event: Event) -> Iterator[tuple[str, str]]:
        self.choices += 1
        told = event["model"], event["why"]
        if event["ask"] == self._ask and (told != self._choice or not self._due):
            made = "no choice" if self._choice is None else f"choice {_words(self._choice)}"
            made += "" if self._due or self._choice is None else ", as before: no choice line"
            yield f"{made} for ask {self._ask}", f"{_words(told)}"
        self._model = event["model"]
        self._due = False

    def _compare_stop(self, event: Event) -> Iterator[tuple[str, str]]:
        """Of the trials that the rule named then, those that still run and were not told."""
        assert self._search is not None
        running = self._search.table.mask(State.RUNNING)
        made = [n for n in self._stopped.pop(event["seen"], []) if running[n] and n not in self._named]
        if made != event["ids"]:
            yield f"the trials to be stopped after line {event['seen']} to be {_ids(made)}", _ids(event["ids"])
        self._named.update(event["ids"])

    def _compare_drop(self, event: Event) -> Iterator[tuple[str, str]]:
        if event["ids"] != self._over or event["ask"] != self._ask:
            yield f"the checkpoints of {_ids(self._over)} to be dropped after ask {self._ask}", _ids(event["ids"])
        self._over = []

    def _missing_choice(self, found: str) -> Iterator[tuple[str, str]]:
        if self._due and self._choice:
            yield f"a choice line first, {_words(self._choice)} for ask {self._ask}", found
            self._model = self._choice[0]
        self._due = False

    def _compare_start(self, event: Event) -> Iterator[tuple[str, str]]:
        self.proposals += 1
        ask, place, told = event["ask"], event["place"], f"trial {event['id']}"
        if ask == self._ask:
            yield from self._missing_choice(f"{told} starts from it")
            yield from self._goes_on(f"{told} of ask {ask}")
        proposal = self._waiting.pop((ask, place), None)
        if proposal is None:
            yield "a proposal that waits", f"{told} from place {place} of ask {ask}, where none waits"
            return
        made, said = _text(proposal.config), _text(event["config"])
        if made != said:
            yield f"{told} (ask {ask}, place {place}) to be {made}", said
        for name in COMPARED:
            if getattr(proposal, name) != event.get(name):
                yield f"{name} {getattr(proposal, name)} for {told}", f"{event.get(name)}"

    def _goes_on(self, found: str) -> Iterator[tuple[str, str]]:
        """The strategy failed here at the last ask; in the run it can't have."""
        if self.failed is not None:
            self.over = True
            yield f"no answer to ask {self._ask}, at which the strategy fails here ({self.failed})", found


class BadInput(ValueError):
    """What can't be replayed for a reason that is not the journal's."""


def replay(events: Iterable[Event], search: Search | None = None, method: str | Strategy | None = None) -> list[str]:
    """Make every proposal of a journal again and compare.

    Args:
        events: All events of the run.
        search: For lines that no engine wrote; see ``Replay``, as for ``method``.

    Returns:
        A line for everything that differs; empty when the run replays bit for bit.
    """
    events = list(events)
    again = Replay(method, search, {event["seen"] for event in events if event["kind"] == "stop"})
    return [str(difference) for event in events for difference in again.take(event)]


def seen_by(lines: Iterable[bytes]) -> set[int]:
    """What ``Replay`` must know beforehand of a journal's lines: after which of them a stopping rule was asked."""
    stops = (event_of(line) for line in lines if b'"stop"' in line)
    return {event["seen"] for event in stops if event is not None and event["kind"] == "stop"}


def _ids(numbers: list[int]) -> str:
    return f"trial{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers)) or 'none'}"


def _words(choice: tuple[str, str]) -> str:
    return f"{choice[0]} ({choice[1]})"


def _text(config: dict[str, Any]) -> str:
    """A config to the last bit of its floats, as a journal has it."""
    return json.dumps(config, sort_keys=True)
