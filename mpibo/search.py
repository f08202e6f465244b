"""A search without an engine: a table and a strategy. Ask it for trials, tell it what came of them.

The proposer runs the same code from the journal's lines (``apply``, ``answer``), so a journal replays (``replay``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mpibo.outcome import as_number, outcome_of, plain
from mpibo.space import Space
from mpibo.strategies import DEFAULT, METHODS, Strategy, make
from mpibo.table import Trials, key
from mpibo.trial import (
    Config,
    Event,
    Ledger,
    Outcome,
    Proposal,
    State,
    Trial,
    end_event,
    start_event,
    trial_of,
)


class Search:
    """Ask-and-tell search over a space.

    Args:
        space: A ``Space``, or what makes one (a dict, a ``ConfigurationSpace``).
        method: Name with options (``"ambs:kappa=1.96"``) or a strategy object.
        seed: The same seed, asks and results give the same trials.
        workers: Evaluations at once; informs the strategy only.
        maximize: Whether larger values are better.
        start: Configs to try first; missing names are sampled.
        budget: The budget of every trial.

    Raises:
        ValueError: A space, method or start config that can't be.
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any],
        method: str | Strategy = DEFAULT,
        *,
        seed: int = 0,
        workers: int = 1,
        maximize: bool = False,
        start: Sequence[Config] = (),
        budget: int = 1,
    ) -> None:
        self.space = space if isinstance(space, Space) else Space(space)
        self.seed = seed
        self.workers = workers
        self.maximize = maximize
        self.budget = budget
        self.table = Trials(self.space, maximize)
        self._method = method
        self._strategy: Strategy | None = None
        self._ledger = Ledger(maximize)
        self._trials: dict[int, Trial] = {}
        self._asks = 0
        complete = [self.space.complete(dict(config), _rng(seed, 0, i)) for i, config in enumerate(start)]
        self._start = list(zip(complete, map(key, self.space.encode(complete)), strict=True))
        make(method)  # a wrong name, option or object is told now

    # --- for people -------------------------------------------------------------------------------------------------

    @property
    def best(self) -> Trial | None:
        """The incumbent: the best DONE trial at the highest budget that has one."""
        return self._ledger.best

    @property
    def trials(self) -> list[Trial]:
        """All trials so far, in the order of their ids."""
        return list(self._trials.values())

    def ask(self, n: int = 1) -> list[Trial]:
        """At most ``n`` new trials to evaluate; fewer when results must be told first or the space is exhausted."""
        if n < 1:
            raise ValueError(f"ask for at least 1 trial, got {n}")
        event: Event = {"kind": "ask", "ask": self._asks, "count": n, "fit": True, "keep": []}
        proposals = self.answer(event)
        trials = []
        for proposal in proposals:
            trial = trial_of(proposal, self.table.n, self.seed)
            self._take(start_event(trial))
            trials.append(self._trials[trial.id])
        return trials

    def tell(self, trial: Trial | int, value: Any = None, *, error: str | None = None) -> Trial:
        """Say what came of a trial: a number, a dict with ``value`` and metrics, or an error.

        Returns:
            The trial in its final state: FAILED if an error was told, or the value is none, NaN or infinite.

        Raises:
            ValueError: The trial is unknown or has ended.
        """
        number = self._running(trial)
        if error is not None:
            outcome = Outcome(State.FAILED, reason="exception", error=str(error))
        else:
            steps, values = self.table.curves(number)
            last = float(-values[-1] if self.maximize else values[-1]) if len(steps) else None
            outcome = outcome_of(value, reported=last)
        return self._take(end_event(number, outcome))

    def report(self, trial: Trial | int, value: float, step: int, **metrics: Any) -> bool:
        """Say how a trial goes; False when it is to end (no schedule ends one yet)."""
        number = self._running(trial)
        told = as_number(value)
        if told is None:
            raise ValueError(f"expected a number to report, got {type(value).__name__}: {value!r}")
        event = {"kind": "report", "id": number, "step": step, "value": plain(told), "metrics": plain(metrics)}
        self.apply(event)
        return True

    def add(self, config: Config, value: Any) -> Trial:
        """Tell a result that was found elsewhere. It does not count as asked for."""
        number = as_number(value)
        if number is None or not np.isfinite(number):
            raise ValueError(f"expected a finite number as the value of an added config, got {value!r}")
        checked = self.space.check(dict(config))
        return self._take(
            {"kind": "add", "id": self.table.n, "config": checked, "value": number, "budget": self.budget}
        )

    def _running(self, trial: Trial | int) -> int:
        number = trial.id if isinstance(trial, Trial) else trial
        if number not in self._trials:
            raise ValueError(f"trial {number} is unknown; the last one asked for is {self.table.n - 1}")
        if self._trials[number].state is not State.RUNNING:
            raise ValueError(f"trial {number} has ended already: it is {self._trials[number].state}")
        return number

    def _take(self, event: Event) -> Trial:
        self.apply(event)
        trial = self._ledger.apply(event)
        assert trial is not None
        self._trials[trial.id] = trial
        return trial

    # --- for the proposer and the replay ----------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one line of the journal in. A ``proposer`` line means cold caches: a fresh strategy."""
        if event["kind"] == "proposer":
            self._strategy = None
        self.table.apply(event)

    def prepare(self) -> None:
        """Load what a built-in strategy's models need, without any effect on what is proposed."""
        if isinstance(self._method, str) and self._method.partition(":")[0] in METHODS:
            strategy = make(self._method)
            if hasattr(strategy, "prepare"):
                strategy.prepare()

    def answer(self, event: Event) -> list[Proposal]:
        """Answer an ``ask`` event: at most ``count`` proposals, numbered by ask and place.

        Raises:
            ValueError: A strategy of the user's own gave a config that is not in the space.
        """
        self.apply(event)
        self._asks = event["ask"] + 1
        if self._strategy is None:
            self._strategy = make(copy.deepcopy(self._method))  # what an object kept is a cache, too
        n = event["count"]
        taken = self.table.taken
        first = [Proposal(config, origin="start") for config, x in self._start if x not in taken][:n]
        proposals = first
        if len(first) < n:
            rng = _rng(self.seed, 1, event["ask"])
            more = self._strategy.propose(self.table, n - len(first), rng)
            more = more if _ours(self._strategy) else [self._checked(each) for each in more]
            given = [proposal.config for proposal in first]  # of these the strategy does not know
            proposals = first + [each for each in more if each.config not in given]
        answer = [
            replace(proposal, ask=event["ask"], place=place, budget=self.budget)
            for place, proposal in enumerate(proposals[:n])
        ]
        self.table.offer(answer)
        return answer

    def _checked(self, proposal: Proposal) -> Proposal:
        try:
            return replace(proposal, config=self.space.check(dict(proposal.config)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"the strategy {self._method!r} proposed a config outside the space: {error}") from error


def replay(events: Iterable[Event], search: Search) -> list[str]:
    """Make every proposal of a journal again and compare it with what was started.

    Args:
        events: All events of the run.
        search: A fresh search with the run's space, method, seed, sign, start configs and budget.

    Returns:
        A line for every started trial that differs; empty when the run replays bit for bit.
    """
    answers: dict[tuple[int, int], Proposal] = {}
    differences: list[str] = []
    for event in events:
        if event["kind"] == "ask":
            answers.update({(p.ask, p.place): p for p in search.answer(event)})  # type: ignore[misc]
            continue
        if event["kind"] == "start" and "ask" in event:
            proposal = answers.get((event["ask"], event["place"]))
            if proposal is None or proposal.config != event["config"]:
                made = "nothing" if proposal is None else proposal.config
                differences.append(f"line {event.get('n')}: trial {event['id']} was {event['config']}, replayed {made}")
        search.apply(event)
    return differences


def _rng(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(numbers)


def _ours(strategy: Strategy) -> bool:
    return type(strategy).__module__.startswith("mpibo.")
