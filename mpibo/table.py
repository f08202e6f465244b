"""The trial table: a run's rows as NumPy columns, built from its events by one function, ``Trials.apply``.

=========  ==========  ==========================================================================
``X``      (n, d)      encoded configs, in the unit cube
``y``      (n,)        value to minimise; NaN until a row is DONE or STOPPED, and for FAILED rows; with several
                       goals what ``weigh`` made of them for this ask
``state``  (n,)        codes; ``mask(State.DONE)`` reads them
``order``  (n,)        rank of a row's end, -1 while it runs
=========  ==========  ==========================================================================
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpibo.either import Either
from mpibo.goals import Aims, Goal, Limit
from mpibo.merit import behind, chebyshev
from mpibo.rows import CODE, ORIGINS, STATES, Rows, key
from mpibo.trial import Config, Event, Proposal, State

if TYPE_CHECKING:
    from mpibo.space import Space

__all__ = ["CODE", "ORIGINS", "STATES", "Array", "Trials", "key"]

Array = NDArray[np.float64]

CURVE_POINTS = 100


class Trials:
    """The table. A row's index is its trial's id. Strategies only read it.

    Args:
        space: The search space.
        maximize: Whether larger values are better.
        goals: The goals, if the search has some: with one, its metric is the value.
        limits: The limits.

    Attributes:
        aims: Sign, goals and limits.
        workers: Evaluations at once; None where nobody says.
        total: ``max_trials`` of the run, None without one.
        noise: Whether values are declared noisy: repeats of a config are of use.
        weights: ``(m,)`` weights of the goals in ``y`` now; None with fewer than two goals, and before an ask.
        asked: Number of the ask that is being answered.
        fit: Whether that ask wants a model of the newest results; if not, the last one kept will do.
        affordable: Names of the models that keep ahead of the workers; None where nobody counts.
        typical: Typical duration of an evaluation in seconds, None before the first has ended.
        waiting: ``(w, d)`` encoded proposals of new configs that were handed out but not started.
        kept: All proposals that wait, promotions included.
        steps: Steps whose reports are kept whatever else of a long curve is thinned out: those of a schedule's rungs.
        configs: Rows that count towards ``total``: no promotion, no retry, not added by hand.
        saved: Ids of rows that have a checkpoint.
        told: The configs of rows to the last bit, by id, where they are wanted: of a run with a schedule.
    """

    def __init__(
        self, space: Space, maximize: bool = False, goals: tuple[Goal, ...] = (), limits: tuple[Limit, ...] = ()
    ) -> None:
        self.space = space
        self.aims = Aims(maximize, goals, limits)
        self.workers: int | None = None
        self.total: int | None = None
        self.noise = False
        self.weights: Array | None = None
        self.asked = -1
        self.fit = True
        self.affordable: list[str] | None = None
        self.typical: float | None = None
        self.waiting: Array = np.empty((0, space.dimension))
        self.kept: list[Proposal] = []
        self.steps: Set[int] = frozenset()
        self.configs = 0
        self.saved: set[int] = set()
        self.told: dict[int, Config] | None = None
        self._rows = Rows(space)
        self._curves: dict[int, list[tuple[float, float]]] = {}
        self._marks: dict[int, tuple[array[int], array[float]]] = {}  # rows and values reported at each of ``steps``
        self._offered: dict[tuple[int, int], Proposal] = {}

    @property
    def n(self) -> int:
        """Number of rows."""
        return self._rows.n

    @property
    def X(self) -> Array:
        """``(n, d)`` encoded configs of all rows."""
        return self._rows.X

    @property
    def y(self) -> Array:
        """``(n,)`` values to minimise; NaN where a row has none."""
        return self._rows.y

    @property
    def state(self) -> NDArray[np.int8]:
        """``(n,)`` codes of the states: indices into ``table.STATES``."""
        return self._rows.state

    @property
    def budget(self) -> NDArray[np.int64]:
        """``(n,)`` budgets."""
        return self._rows.budget

    @property
    def order(self) -> NDArray[np.int64]:
        """``(n,)`` ranks of the rows' ends: 0 for the first that ended, -1 while running."""
        return self._rows.order

    @property
    def origin(self) -> NDArray[np.int8]:
        """``(n,)`` origins: indices into ``table.ORIGINS``."""
        return self._rows.origin

    @property
    def parent(self) -> NDArray[np.int64]:
        """``(n,)`` the row that each goes on from with a larger budget, -1 where it began."""
        return self._rows.link("parent")

    @property
    def retry_of(self) -> NDArray[np.int64]:
        """``(n,)`` the lost row that each takes up again, or -1."""
        return self._rows.link("retry_of")

    @property
    def bracket(self) -> NDArray[np.int64]:
        """``(n,)`` numbers of the brackets, -1 without a schedule."""
        return self._rows.link("bracket")

    @property
    def rung(self) -> NDArray[np.int64]:
        """``(n,)`` numbers of the rungs, 0 at the bottom; -1 without a schedule."""
        return self._rows.link("rung")

    @property
    def promoted(self) -> NDArray[np.bool_]:
        """``(n,)`` True where another row, or a proposal that waits, goes on from this one."""
        promoted = self._rows.promoted.copy()
        promoted[[each.parent for each in self.kept if each.parent is not None]] = True
        return promoted

    @property
    def left(self) -> int | None:
        """How many new configs may still be proposed; None without a ``total``."""
        return None if self.total is None else max(0, self.total - self.configs - len(self.waiting))

    @property
    def root(self) -> NDArray[np.int64]:
        """``(n,)`` the row with which the training that each row is part of began: through promotions and retries."""
        return self._rows.root

    def config(self, row: int) -> Config:
        """The config of a row: as it was told where that is known, else decoded, floats to 1e-9."""
        told = None if self.told is None else self.told.get(row)
        return dict(told) if told is not None else self.space.decode(self.X[row : row + 1])[0]

    def view(self, rows: NDArray[np.int64], y: Array, state: NDArray[np.int8], last: NDArray[np.int64]) -> Trials:
        """A table of one row for each of some configs, as a strategy without budgets wants it.

        Args:
            rows: ``(m,)`` the rows that stand for the configs.
            y: ``(m,)`` their values.
            state: ``(m,)`` their states.
            last: ``(m,)`` the rows whose metrics they have.
        """
        shown = copy.copy(self)
        shown.kept = []
        shown._rows = self._rows.view(rows, y, state, last)
        shown._curves, shown._marks = {}, {}
        return shown

    def metric(self, name: str) -> Array:
        """``(n,)`` values of a metric with the person's sign; NaN where a row has none."""
        return self._rows.metric(name)

    def mask(self, state: State) -> NDArray[np.bool_]:
        """``(n,)`` True where a row is in ``state``."""
        return self.state == CODE[state]

    def at_budget(self, budget: int) -> NDArray[np.bool_]:
        """``(n,)`` True where a row was evaluated at ``budget``."""
        return self.budget == budget

    @property
    def done(self) -> NDArray[np.bool_]:
        """``(n,)`` True where a row has a value (DONE, or STOPPED after a report); of several goals, all."""
        return np.asarray(~np.isnan(self.goals[:, 0] if self.aims.several else self.y))

    @property
    def goals(self) -> Array:
        """``(n, m)`` the goals to minimise; NaN where a row does not have them. Without several goals it is ``y``."""
        if not self.aims.several:
            return self.y[:, None]
        told = np.stack([-self.metric(g.name) if g.maximize else self.metric(g.name) for g in self.aims.goals], axis=1)
        told[~self._ended_well | np.isnan(told).any(axis=1)] = np.nan
        return told

    @property
    def excess(self) -> Array:
        """``(n, l)`` by how much each limit is broken, in the metric's units; 0 or less is fine, NaN unknown."""
        told = np.empty((self.n, len(self.aims.limits)))
        for column, limit in enumerate(self.aims.limits):
            metric = self.metric(limit.name)
            told[:, column] = metric - limit.bound if limit.upper else limit.bound - metric
        told[~self._ended_well] = np.nan
        return told

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """``(n,)`` True where every limit is known to be kept; all rows where there are no limits."""
        return np.asarray((self.excess <= 0).all(axis=1))

    @property
    def merit(self) -> Array:
        """``(n,)`` ``y``, but rows that break a limit come behind all that break none (see ``merit.behind``)."""
        return behind(self.y, self.excess) if self.aims.limits else self.y

    @property
    def incumbent(self) -> int | None:
        """The best DONE row within the limits at the highest budget that has one; the earliest of equals.

        With several goals: by ``y``, so for this ask.
        """
        rows = np.flatnonzero(self.mask(State.DONE) & self.done & self.feasible)
        if not len(rows):
            return None
        rows = rows[self.budget[rows] == self.budget[rows].max()]
        return int(rows[np.argmin(self.y[rows])])

    @property
    def pending(self) -> Array:
        """``(r + w, d)`` encoded configs of the rows that run, then of the proposals that wait."""
        return np.concatenate([self.X[self.mask(State.RUNNING)], self.waiting])

    @property
    def taken(self) -> Set[bytes]:
        """Keys (see ``key``) of every row and of every waiting proposal; grows with the table."""
        keys = self._rows.keys
        return Either(keys, {key(x) for x in self.waiting}) if len(self.waiting) else keys

    def observed(self, budget: int | None = None) -> tuple[Array, Array]:
        """What a model is fitted to: rows with a value, and FAILED rows at the worst value seen.

        Args:
            budget: Only rows at this budget; default all.

        Returns:
            ``(m, d)`` points and ``(m,)`` values to minimise, in the order of the rows. Without any value, both empty.
        """
        rows = self.done | self.mask(State.FAILED)
        if budget is not None:
            rows &= self.at_budget(budget)
        y = self.y[rows]
        if not len(y) or np.isnan(y).all():
            return np.empty((0, self.space.dimension)), np.empty(0)
        return self.X[rows], np.where(np.isnan(y), np.nanmax(y), y)

    def weigh(self, weights: Array) -> None:
        """Make ``y`` one value of several goals, for as long as an ask is answered (see ``merit.chebyshev``).

        Args:
            weights: ``(m,)``, not negative, their sum 1.
        """
        self.weights = weights
        self.y[:] = chebyshev(self.goals, weights)

    def curves(self, trial: int) -> tuple[Array, Array]:
        """Reported steps and values (to minimise) of a trial, at most 100 points of each."""
        points = np.array(self._curves.get(trial, []), dtype=float).reshape(-1, 2)
        return points[:, 0], points[:, 1]

    def reported_at(self, step: int) -> tuple[NDArray[np.int64], Array]:
        """What was reported at one of ``steps``, as it came: ``(m,)`` rows and values to minimise."""
        rows, values = self._marks.get(step, ((), ()))
        return np.array(rows, np.int64), np.array(values, float)

    def offer(self, proposals: Sequence[Proposal]) -> None:
        """Remember an answer, so that a later ``ask`` event can name those of it that still wait."""
        for proposal in proposals:
            assert proposal.ask is not None and proposal.place is not None
            self._offered[proposal.ask, proposal.place] = proposal

    def forget_offers(self) -> None:
        """Forget every answer: what was handed out before this start of the proposer."""
        self._offered.clear()
        self.kept = []
        self.waiting = np.empty((0, self.space.dimension))

    def apply(self, event: Event) -> None:
        """Take one event of the journal in. The only way in which the table changes."""
        match event["kind"]:
            case "ask":
                self._ask(event)
            case "start":
                self._add_row(event)
            case "add":
                self._add_row(event | {"origin": "added"})
                self._settle(self.n - 1, State.DONE, event)
            case "end":
                self._settle(event["id"], State(event["state"]), event)
            case "lost":
                self._settle(event["id"], State.LOST, {})
            case "abandon":
                self._settle(event["id"], State.ABANDONED, {})
            case "retire":
                self._rows.lose(event["ids"])
            case "report":
                self._report(event)
            case "drop":
                self.saved.difference_update(event["ids"])
            case "open" | "proposer":
                self.forget_offers()
                if "settings" in event:
                    self._told(event["settings"])

    def _told(self, settings: Mapping[str, Any]) -> None:
        """What a start of the run says of it: ``max_trials`` may have been raised."""
        self.workers = settings.get("workers", self.workers)
        self.total = settings.get("max_trials")
        self.noise = bool(settings.get("noise", False))

    @property
    def _ended_well(self) -> NDArray[np.bool_]:
        return self.mask(State.DONE) | self.mask(State.STOPPED)

    def _ask(self, event: Mapping[str, Any]) -> None:
        self.asked = event["ask"]
        self.fit = event["fit"]
        self.affordable = event.get("affordable")
        self.typical = event.get("typical")
        kept = {(ask, place): self._offered[ask, place] for ask, place in event["keep"]}
        self._offered = kept
        self.kept = list(kept.values())
        self.waiting = self.space.encode([each.config for each in self.kept if each.parent is None])

    def _add_row(self, event: Mapping[str, Any]) -> None:
        if event["id"] != self.n:
            raise ValueError(
                f"the journal's rows are numbered without a gap: expected trial {self.n}, got {event['id']}"
            )
        self._rows.add(event)
        if self.told is not None:
            self.told[event["id"]] = event["config"]
        if event["kind"] == "start" and event.get("retry_of", event.get("parent")) is None:
            self.configs += 1

    def _settle(self, row: int, state: State, event: Mapping[str, Any]) -> None:
        value = event.get("value")
        if value is not None and self.aims.maximize:
            value = -value
        self._rows.settle(row, state, value, event.get("metrics", {}))

    def _report(self, event: Mapping[str, Any]) -> None:
        if event.get("checkpoint"):
            self.saved.add(event["id"])
        if event.get("value") is None:
            return
        curve = self._curves.setdefault(event["id"], [])
        value = -event["value"] if self.aims.maximize else event["value"]
        curve.append((event["step"], value))
        if event["step"] in self.steps:
            rows, values = self._marks.setdefault(event["step"], (array("q"), array("d")))
            rows.append(event["id"])
            values.append(value)
        if len(curve) > 2 * CURVE_POINTS:  # every other point goes, but the first, the last and those of rungs
            curve[:] = [
                point for i, point in enumerate(curve) if i % 2 == 0 or i == len(curve) - 1 or point[0] in self.steps
            ]
