"""Successive halving in brackets: SHA, Hyperband, BOHB. A rung is complete before the best of it go on."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mpibo.schedules import New
from mpibo.schedules.rungs import Rung, brackets, budgets, deepest
from mpibo.schedules.seen import at_one_budget, lifted
from mpibo.strategies.design import Random, axes
from mpibo.table import CODE, Trials
from mpibo.trial import Proposal, State

FINAL = [CODE[state] for state in (State.DONE, State.STOPPED, State.FAILED, State.ABANDONED)]


class Halving:
    """Brackets one after the other, their shapes in turn. Idle workers start the next one.

    Where ``max_trials`` ends the last bracket early, its rungs are complete with the configs that there are.

    Args:
        shapes: The rungs of each shape of bracket.
        eta: One config in ``eta`` goes on.
    """

    stops = False
    steps: Set[int] = frozenset()

    def __init__(self, shapes: list[list[Rung]], eta: int) -> None:
        self.shapes = shapes
        self.eta = eta
        self._over = 0  # brackets from the first on that are complete

    def propose(self, trials: Trials, n: int, rng: np.random.Generator, new: New) -> list[Proposal]:
        """Promotions of the earlier brackets first, then new configs."""
        rooms: list[tuple[int, int]] = []  # brackets that want new configs, and how many
        proposals: list[Proposal] = []
        latest = self._latest(trials)
        for number in range(self._over, latest + 1):
            bracket = Bracket(trials, number, self.shapes[number % len(self.shapes)], self.eta)
            proposals += bracket.promotions(trials)
            if bracket.room:
                rooms.append((number, bracket.room))
            if bracket.over and number == self._over:
                self._over += 1
        proposals = proposals[:n]
        wanted = n - len(proposals)
        if trials.left is not None:
            wanted = min(wanted, trials.left)
        if wanted <= 0:
            return proposals
        for proposal in self._new(trials, wanted, rng, new):
            if not rooms:
                latest += 1
                rooms.append((latest, self.shapes[latest % len(self.shapes)][0].size))
            number, room = rooms[0]
            budget = self.shapes[number % len(self.shapes)][0].budget
            proposals.append(replace(proposal, budget=budget, bracket=number, rung=0))
            rooms[:1] = [(number, room - 1)] if room > 1 else []
        return proposals

    def stop(self, trials: Trials) -> list[int]:
        """None: what does not go on has reached its budget."""
        return []

    def live(self, trials: Trials) -> NDArray[np.bool_]:
        """Rows of rungs that are not complete, and those of complete ones that go on."""
        alive = np.zeros(trials.n, bool)
        for number in range(self._over, self._latest(trials) + 1):
            bracket = Bracket(trials, number, self.shapes[number % len(self.shapes)], self.eta)
            alive[bracket.live] = True
        return alive

    def _latest(self, trials: Trials) -> int:
        waiting = [each.bracket for each in trials.kept if each.bracket is not None]
        return int(max(trials.bracket.max(initial=-1), max(waiting, default=-1)))

    def _new(self, trials: Trials, n: int, rng: np.random.Generator, new: New) -> list[Proposal]:
        return new(lifted(trials), n)


class Bracket:
    """One bracket as the table shows it.

    Attributes:
        room: How many new configs it wants.
        over: Whether its last rung is complete.
        live: Rows that may still go on.
    """

    def __init__(self, trials: Trials, number: int, rungs: list[Rung], eta: int) -> None:
        rows = np.flatnonzero(trials.bracket == number)
        kept = [each for each in trials.kept if each.bracket == number]
        roots = trials.root[rows]
        started = len(np.unique(roots)) + sum(each.parent is None for each in kept)
        count = rungs[0].size
        if trials.left == 0:
            count = min(count, started)
        self.room = max(0, count - started)
        self.over = False
        self.live: list[int] = []
        self._promotions: list[tuple[int, int, Rung]] = []
        merit, promoted, state = trials.merit, trials.promoted, trials.state
        for rung in range(len(rungs)):
            here = rows[trials.rung[rows] == rung]
            last = {int(trials.root[row]): int(row) for row in here}  # of several attempts the last
            entered = np.array(sorted(last.values()), np.int64)
            settled = entered[np.isin(state[entered], FINAL)]
            complete = len(settled) == count and not any(each.rung == rung for each in kept)
            valued = settled[~np.isnan(merit[settled])]
            best = valued[np.argsort(merit[valued], kind="stable")]
            if rung == len(rungs) - 1:
                self.over = complete
                return
            if not complete:
                self.live += [int(row) for row in entered if not promoted[row]]
                return
            full = count == rungs[rung].size
            on = min(len(best), rungs[rung + 1].size if full else max(1, count // eta))
            if on == 0:
                self.over = True
                return
            goes_on = [int(row) for row in best[:on] if not promoted[row]]
            self.live += goes_on
            self._promotions += [(row, rung + 1, rungs[rung + 1]) for row in goes_on]
            count = on

    def promotions(self, trials: Trials) -> list[Proposal]:
        """What goes on now."""
        return [promotion(trials, row, rung, to.budget) for row, rung, to in self._promotions]


def promotion(trials: Trials, row: int, rung: int, budget: int) -> Proposal:
    """The proposal to go on with a row up to a larger budget."""
    bracket = int(trials.bracket[row])
    return Proposal(
        trials.config(row), budget=budget, parent=int(row), origin="promotion",
        bracket=bracket if bracket >= 0 else None, rung=rung,
    )  # fmt: skip


class SuccessiveHalving(Halving):
    """Brackets of ``eta^s`` configs each, of which one is trained fully.

    Args:
        low, high: Smallest and largest budget.
        eta: One config in ``eta`` goes on.

    References:
        Jamieson & Talwalkar 2016, Non-stochastic best arm identification, AISTATS 51:240.
    """

    def __init__(self, low: int, high: int, *, eta: int = 3) -> None:
        s = deepest(low, high, eta)
        steps = enumerate(budgets(low, high, eta))
        super().__init__([[Rung(eta ** (s - rung), budget) for rung, budget in steps]], eta)


class Hyperband(Halving):
    """Hyperband's brackets, the one with the most configs first, again and again.

    Args:
        low, high: Smallest and largest budget.
        eta: One config in ``eta`` goes on.

    References:
        Li et al. 2017, Hyperband, JMLR 18:185.
    """

    def __init__(self, low: int, high: int, *, eta: int = 3) -> None:
        super().__init__(brackets(low, high, eta), eta)


class BOHB(Hyperband):
    """Hyperband whose configs come from the method, which sees the results at one budget: the largest with d + 1.

    Args:
        low, high: Smallest and largest budget.
        eta: One config in ``eta`` goes on.
        random: Share of the configs that are drawn at random.

    References:
        Falkner et al. 2018, BOHB, ICML.
    """

    def __init__(self, low: int, high: int, *, eta: int = 3, random: float = 1 / 3) -> None:
        super().__init__(low, high, eta=eta)
        if not 0 <= random <= 1:
            raise ValueError(f"expected random from 0 to 1, got {random}")
        self.random = random
        self._design = Random()

    def _new(self, trials: Trials, n: int, rng: np.random.Generator, new: New) -> list[Proposal]:
        seen = at_one_budget(trials, axes(trials.space) + 1)
        blind = int((rng.random(n) < self.random).sum())
        first = new(seen, n - blind) if n > blind else []
        if first:
            seen.waiting = np.concatenate([seen.waiting, trials.space.encode([each.config for each in first])])
        return first + (self._design.propose(seen, n - len(first), rng) if n > len(first) else [])
