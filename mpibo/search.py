"""A search without an engine: a table and a strategy. Ask it for trials, tell it what came of them.

The proposer runs the same code from the journal's lines (``apply``, ``answer``), so a journal replays (replaying.py).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mpibo.budgets import scheduled
from mpibo.front import front_of
from mpibo.goals import NO_BEST, Goal, Limit, aims_of
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

if TYPE_CHECKING:
    from mpibo.recommend import Recommended
    from mpibo.schedules import Schedule

DIRECTIONS = 4  # weightings of the goals that a large answer is split over


class Search:
    """Ask-and-tell search over a space.

    Args:
        space: A ``Space``, or what makes one (a dict, a ``ConfigurationSpace``).
        method: Name with options (``"ambs:kappa=1.96"``) or a strategy object.
        seed: The same seed, asks and results give the same trials.
        workers: Evaluations at once; informs the strategy only.
        maximize: Whether larger values are better.
        goals: Metrics of the told dict in place of a value, ``"min error, max recall"`` or a list.
        limits: Metrics of the told dict that must keep a bound, ``"megabytes <= 20"`` or a list.
        noise: Values are noisy: strategies may repeat a config, and ``best`` goes by a model's expectation.
        max_trials: How many evaluations there will be; informs the strategy only.
        start: Configs to try first; missing names are sampled.
        warm_start: Another run's folder or journal, or a CSV file of results. In the same space its results are
            added; in one that only overlaps its best configs are tried after those of ``start``.
        schedule: How much of the budget a config gets, a name with options (``"asha:eta=3"``) or an object; None: all,
            or with a range of budgets ``asha``.
        budget: The budget of every trial, a whole number; with a schedule the smallest and the largest, ``(1, 27)``.

    Attributes:
        choice: The model that made the last answer and why, where the strategy chooses (``auto``), else None.

    Raises:
        ValueError: A space, method, start config or warm start that can't be.
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any],
        method: str | Strategy = DEFAULT,
        *,
        seed: int = 0,
        workers: int = 1,
        maximize: bool = False,
        goals: str | Sequence[str | Goal] = (),
        limits: str | Sequence[str | Limit] = (),
        noise: bool = False,
        max_trials: int | None = None,
        start: Sequence[Config] = (),
        warm_start: str | os.PathLike[str] | None = None,
        schedule: str | Schedule | None = None,
        budget: int | tuple[int, int] | str = 1,
    ) -> None:
        self.space = space if isinstance(space, Space) else Space(space)
        self.seed = seed
        self.workers = workers
        self.aims = aims_of(maximize, goals, limits)
        self.noise = noise
        schedule, low, self.budget = scheduled(schedule, budget)
        if schedule is not None and self.aims.several:
            raise ValueError("a schedule compares trials by one value: not with several goals")
        self.table = Trials(self.space, *self.aims)
        self.table.workers, self.table.total, self.table.noise = workers, max_trials, noise
        self._method = method
        self._strategy: Strategy | None = None
        self._schedule: Schedule | None = None
        self._lowest = low
        self._scheduled = schedule
        if schedule is not None:
            self._schedule = self._made(schedule)
            self.table.steps, self.table.told = self._schedule.steps, {}
        self._ledger = Ledger(*self.aims)
        self._judged: tuple[int, Recommended | None] = (-1, None)  # rows that had ended, and what came of them
        self._trials: dict[int, Trial] = {}
        self._asks = 0
        self.choice: tuple[str, str] | None = None
        if warm_start is not None:
            from mpibo.warm import prior  # reads files; a search by itself does not

            known = prior(warm_start, self.space, self.aims, seed=seed, budget=self.budget)
            start = [*start, *known.start]
            for event in known.results:
                self._take(event | {"id": self.table.n})
        complete = [self.space.complete(dict(config), _rng(seed, 0, i)) for i, config in enumerate(start)]
        self._start = list(zip(complete, map(key, self.space.encode(complete)), strict=True))
        make(method)  # a wrong name, option or object is told now

    # --- for people -------------------------------------------------------------------------------------------------

    @property
    def best(self) -> Trial | None:
        """The incumbent: the best DONE trial within the limits at the highest budget that has one.

        With ``noise`` it is the one of which a model of all results expects most (see ``expected``).

        Raises:
            ValueError: There are several goals.
        """
        if self.aims.several:
            raise ValueError(NO_BEST)
        if not self.noise:
            return self._ledger.best
        judged = self._recommended()
        return None if judged is None else self._trials[judged.row]

    @property
    def expected(self) -> float | None:
        """The value to expect of the best config: a model's with ``noise``, else its own."""
        if self.noise and not self.aims.several:
            judged = self._recommended()
            return None if judged is None else judged.expected
        return None if self.best is None else self.best.value

    @property
    def front(self) -> list[Trial]:
        """With several goals the trials that no other beats in all of them, by the first goal; else the best alone."""
        if self.aims.several:
            return front_of(self.trials, self.aims)
        return [] if self.best is None else [self.best]

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
        """Say what came of a trial: a number, a dict with ``value`` (or the goals) and metrics, or an error.

        Returns:
            The trial in its final state: FAILED if an error was told, or a number is missing, NaN or infinite.

        Raises:
            ValueError: The trial is unknown or has ended.
        """
        number = self._running(trial)
        if error is not None:
            outcome = Outcome(State.FAILED, reason="exception", error=str(error))
        else:
            steps, values = self.table.curves(number)
            last = float(-values[-1] if self.aims.maximize else values[-1]) if len(steps) else None
            outcome = outcome_of(value, reported=last, aims=self.aims)
            if self.stops and value is None and last is not None and number in self.stop():
                outcome = replace(outcome, state=State.STOPPED)
        return self._take(end_event(number, outcome))

    def report(self, trial: Trial | int, value: float, step: int, **metrics: Any) -> bool:
        """Say how a trial goes; False when the schedule, or the strategy, wants it to end: tell it without a value."""
        number = self._running(trial)
        told = as_number(value)
        if told is None:
            raise ValueError(f"expected a number to report, got {type(value).__name__}: {value!r}")
        event = {"kind": "report", "id": number, "step": step, "value": plain(told), "metrics": plain(metrics)}
        self.apply(event)
        return not self.stops or number not in self.stop()

    def add(self, config: Config, value: Any) -> Trial:
        """Tell a result that was found elsewhere. It does not count as asked for."""
        outcome = outcome_of(value, aims=self.aims)
        if outcome.state is not State.DONE:
            raise ValueError(f"the value of an added config: {outcome.error}")
        checked = self.space.check(dict(config))
        told: Event = {"kind": "add", "id": self.table.n, "config": checked, "budget": self.budget}
        if outcome.value is not None:
            told["value"] = outcome.value
        return self._take(told | {"metrics": dict(outcome.metrics)})

    def _running(self, trial: Trial | int) -> int:
        number = trial.id if isinstance(trial, Trial) else trial
        if number not in self._trials:
            raise ValueError(f"trial {number} is unknown; the last one asked for is {self.table.n - 1}")
        if self._trials[number].state is not State.RUNNING:
            raise ValueError(f"trial {number} has ended already: it is {self._trials[number].state}")
        return number

    def _take(self, event: Event) -> Trial:
        self.apply(event)
        (trial,) = self._ledger.apply(event)
        self._trials[trial.id] = trial
        return trial

    # --- for the proposer and the replay ----------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one line of the journal in. A ``proposer`` line means cold caches: a fresh strategy."""
        if event["kind"] == "proposer":
            self._forget()
        self.table.apply(event)

    def _forget(self) -> None:
        self._strategy = None
        if self._scheduled is not None:
            self._schedule = self._made(self._scheduled)

    def _made(self, schedule: str | Schedule) -> Schedule:
        from mpibo.schedules import make as make_schedule

        return make_schedule(copy.deepcopy(schedule), self._lowest, self.budget)

    @property
    def stops(self) -> bool:
        """Whether ``stop`` can name a trial."""
        return self._schedule.stops if self._schedule is not None else hasattr(self._method, "stop")

    def stop(self) -> list[int]:
        """Ids of running trials that are to end, as the schedule says, or a strategy object of the user's own."""
        if self._schedule is not None:
            return self._schedule.stop(self.table)
        self._strategy = self._strategy or make(copy.deepcopy(self._method))
        return [int(number) for number in self._strategy.stop(self.table)]  # type: ignore[attr-defined]

    def collect(self) -> list[int]:
        """Ids of trials with checkpoints that are of no more use, until a ``drop`` line names them.

        Of use are those of trials that run, were lost or may go on, those that such a trial goes on from, and the
        incumbent's.
        """
        table = self.table
        if not table.saved or self._schedule is None:
            return []
        lost = np.flatnonzero(table.mask(State.LOST))
        comes = table.mask(State.RUNNING)
        comes[lost[~np.isin(lost, table.retry_of)]] = True
        used = comes | self._schedule.live(table) | np.isin(table.root, table.root[comes])
        used[[each.parent for each in table.kept if each.parent is not None]] = True
        if table.incumbent is not None:
            used[table.incumbent] = True
        return [number for number in sorted(table.saved) if not used[number]]

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
        self.choice = None
        if self._schedule is None:
            proposals = [replace(each, budget=self.budget) for each in self._new(self.table, n)]
        else:
            proposals = self._schedule.propose(self.table, n, _rng(self.seed, 3, event["ask"]), self._new)
        answer = [
            replace(each, ask=event["ask"], place=place, root=None if each.parent is None else self._root(each.parent))
            for place, each in enumerate(proposals[:n])
        ]
        self.table.offer(answer)
        return answer

    def _root(self, row: int) -> int:
        return int(self.table.root[row])

    def _new(self, table: Trials, n: int) -> list[Proposal]:
        """At most ``n`` new configs: those to start with first, then the strategy's, which sees ``table``."""
        taken = table.taken
        first = [Proposal(config, origin="start") for config, x in self._start if x not in taken][:n]
        if len(first) == n:
            return first
        proposals = first + self._proposed(table, n - len(first), [proposal.config for proposal in first])
        assert self._strategy is not None
        self.choice = _choice(self._strategy)
        return proposals

    def _proposed(self, table: Trials, n: int, given: list[Config]) -> list[Proposal]:
        """The strategy's part of an answer, without the configs ``given`` already, of which it does not know.

        With several goals it is made in up to four parts, each under random weights of its own; a later part sees those
        before it as waiting.
        """
        assert self._strategy is not None
        rng, dice = _rng(self.seed, 1, table.asked), _rng(self.seed, 2, table.asked)
        parts = min(n, DIRECTIONS) if self.aims.several else 1
        kept = table.waiting
        proposals: list[Proposal] = []
        for part in range(parts):
            if self.aims.several:
                table.weigh(dice.dirichlet(np.ones(len(self.aims.goals))))
            more = self._strategy.propose(table, (n + part) // parts, rng)
            more = more if _ours(self._strategy) else [self._checked(each) for each in more]
            proposals += [each for each in more if each.origin == "repeat" or each.config not in given]
            if part < parts - 1:
                given = given + [each.config for each in more]
                table.waiting = np.concatenate([kept, self.space.encode([each.config for each in proposals])])
        table.waiting = kept
        return proposals

    def _recommended(self) -> Recommended | None:
        if self._judged[0] != self._ledger.ended:
            from mpibo.recommend import recommend

            self._judged = self._ledger.ended, recommend(self.table)
        return self._judged[1]

    def _checked(self, proposal: Proposal) -> Proposal:
        try:
            return replace(proposal, config=self.space.check(dict(proposal.config)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"the strategy {self._method!r} proposed a config outside the space: {error}") from error


def _rng(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(numbers)


def _choice(strategy: Strategy) -> tuple[str, str] | None:
    """The model chosen and why, where a strategy says so as ``auto`` does."""
    match getattr(strategy, "choice", None):
        case (str() as model, str() as why):
            return model, why
    return None


def _ours(strategy: Strategy) -> bool:
    return type(strategy).__module__.startswith("mpibo.")
