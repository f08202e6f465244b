"""The contract of a strategy as checks that anyone can run on their own: ``check_strategy(MyStrategy)``.

A strategy is asked as a search would ask it, by several workers, with failures, lost workers, proposals that wait and
asks that want no new model. Nothing here needs a test runner.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from mpibo.space import Choice, Float, Int, Space
from mpibo.strategies import Strategy, make
from mpibo.table import Trials, key
from mpibo.trial import Config, Proposal

Maker = Callable[[], Strategy]


def check_strategy(strategy: str | Strategy | Maker) -> None:
    """Run every check of ``CHECKS`` on a strategy.

    Args:
        strategy: A method's name with options, a class or function that makes one, or an object, which is copied anew
            for each check and must not have been used.

    Raises:
        AssertionError: A part of the contract is broken; the message says which and how.
    """
    for check in CHECKS:
        check(maker_of(strategy))


def maker_of(strategy: str | Strategy | Maker) -> Maker:
    """What makes a fresh strategy at each call."""
    if isinstance(strategy, str):
        return lambda: make(strategy)
    if isinstance(strategy, type) or not isinstance(strategy, Strategy):
        return strategy
    return lambda: copy.deepcopy(strategy)


def mixed_space() -> Space:
    """A space with every kind of parameter, a condition and a forbidden combination."""
    return Space(
        {
            "lr": (1e-5, 1e-1, "log"),
            "layers": (1, 6),
            "batch": Int(16, 256, step=16),
            "dropout": Float(0.0, 0.5, step=0.1),
            "width": Int(8, 512, log=True),
            "optimizer": ["adam", "sgd", None],
            "momentum": Float(0.0, 0.99, when="optimizer == 'sgd'"),
            "size": Choice(["small", "medium", "large"], ordered=True),
            "kernel": [(3, 3), (5, 5), True, 1, 1.0],
            "epochs": 3,
        },
        forbid=["layers > 4 and batch > 128"],
    )


def small_space() -> Space:
    """Twelve combinations, of which seven are different legal configs."""
    return Space(
        {"a": (1, 3), "b": ["x", "y"], "c": Choice([False, True], when="b == 'y'")},
        forbid=["a == 2 and b == 'x' or a == 3 and c"],
    )


class Run:
    """A table and a strategy, asked and told by hand.

    Args:
        maker: Makes the strategy.
        space: What is searched.
        seed: The generator of ask k comes from (seed, k).
    """

    def __init__(self, maker: Maker, space: Space, seed: int = 0) -> None:
        self.strategy = maker()
        self.space = space
        self.trials = Trials(space)
        self.seed = seed
        self.asks = 0
        self.waiting: list[Proposal] = []

    def ask(self, n: int, fit: bool = True) -> list[Proposal]:
        """Ask for ``n`` proposals, keep those that wait, and hold the answer against the contract."""
        keep = [[p.ask, p.place] for p in self.waiting]
        self.trials.apply({"kind": "ask", "ask": self.asks, "count": n, "fit": fit, "keep": keep})
        before = _columns(self.trials)
        answer = self.strategy.propose(self.trials, n, np.random.default_rng([self.seed, self.asks]))
        _require(before == _columns(self.trials), "the strategy changed the table")
        _require(isinstance(answer, list) and len(answer) <= n, f"asked for {n} proposals, it gave {answer!r}")
        for proposal in answer:
            _require(isinstance(proposal, Proposal), f"expected a list of Proposal, got {proposal!r} in it")
            _check_config(self.space, proposal.config)
        self._check_distinct(answer)
        answer = [replace(p, ask=self.asks, place=place) for place, p in enumerate(answer)]
        self.trials.offer(answer)
        self.asks += 1
        self.waiting += answer
        return answer

    def start(self, n: int | None = None) -> list[int]:
        """Start the first ``n`` proposals that wait (all of them); gives the ids of their trials."""
        n = len(self.waiting) if n is None else n
        started, self.waiting = self.waiting[:n], self.waiting[n:]
        ids = []
        for p in started:
            event = {"kind": "start", "id": self.trials.n, "config": p.config, "origin": p.origin}
            ids.append(self.trials.n)
            self.trials.apply(event | {"ask": p.ask, "place": p.place, "budget": p.budget})
        return ids

    def end(self, trial: int, value: float | None) -> None:
        """A trial is DONE with ``value``, or FAILED without one."""
        if value is None:
            self.trials.apply({"kind": "end", "id": trial, "state": "FAILED", "reason": "exception"})
        else:
            self.trials.apply({"kind": "end", "id": trial, "state": "DONE", "value": value})

    def lose(self, trial: int) -> None:
        """A trial's worker is gone."""
        self.trials.apply({"kind": "lost", "id": trial, "why": "worker 3 is gone", "death": True})

    def value(self, trial: int) -> float:
        """A smooth function of a trial's encoded config."""
        return float(np.sum((self.trials.X[trial] - 0.3) ** 2))

    def results(self, n: int) -> None:
        """Ask one by one until ``n`` trials are DONE or there are no more."""
        for _ in range(n):
            self.ask(1)
            for trial in self.start():
                self.end(trial, self.value(trial))

    def _check_distinct(self, answer: list[Proposal]) -> None:
        """A config that is taken is proposed only when the space has no other, or as a repeat."""
        every = self.space.enumerate(20_000)
        taken = set(self.trials.taken)
        free = np.inf if every is None else len({key(x) for x in every} - taken)
        for proposal, x in zip(answer, self.space.encode([p.config for p in answer]), strict=True):
            if proposal.origin == "repeat":
                continue
            _require(key(x) not in taken or free <= 0, f"{proposal.config} is done, pending or proposed twice")
            free -= key(x) not in taken
            taken.add(key(x))


def busy_run(maker: Maker, space: Space, seed: int = 0, asks: int = 18) -> Iterator[list[Config]]:
    """The answers in an asynchronous run with failures, a lost worker, waiting and forgotten proposals, kept models."""
    run = Run(maker, space, seed)
    dice = np.random.default_rng(seed)
    yield [p.config for p in run.ask(6)]
    running = run.start(5)
    for k in range(asks):
        for _ in range(min(2, len(running))):
            trial = running.pop(int(dice.integers(len(running))))
            if trial == 4:
                run.lose(trial)
            else:
                run.end(trial, None if trial % 5 == 3 else run.value(trial))
        if k % 4 == 3:
            run.waiting.clear()  # a newer answer takes their place
        yield [p.config for p in run.ask(3 if k % 5 else 8, fit=k % 3 != 1)]
        running += run.start(2 if k % 5 else 6)


# --- the checks ---


def proposes_legal_new_configs(maker: Maker) -> None:
    """Configs are legal, of plain types and new; the table is only read, whatever happens to trials."""
    for space in (mixed_space(), small_space()):
        for _ in busy_run(maker, space):
            pass


def repeats_itself(maker: Maker) -> None:
    """The same lines, asks and seeds give the same proposals."""
    for space in (mixed_space(), small_space()):
        first, second = list(busy_run(maker, space, seed=7)), list(busy_run(maker, space, seed=7))
        _require(first == second, "two fresh strategies gave different answers to the same asks")


def survives_an_empty_table(maker: Maker) -> None:
    """The first ask of a run is answered, with or without a wish for a model."""
    _some(Run(maker, mixed_space()).ask(3))
    _some(Run(maker, mixed_space()).ask(3, fit=False))


def survives_failures(maker: Maker) -> None:
    """When every trial fails the search goes on."""
    run = Run(maker, mixed_space())
    for _ in range(5):
        _some(run.ask(8))
        for trial in run.start():
            run.end(trial, None)


def survives_constant_values(maker: Maker) -> None:
    """Values that do not differ are no reason to stop."""
    run = Run(maker, mixed_space())
    for value in (1.0, 1.0, 1.0, 1.0, -1e300, 1e300):
        _some(run.ask(8))
        for trial in run.start():
            run.end(trial, value)


def survives_everything_pending(maker: Maker) -> None:
    """Many trials run and none has ended, or few have."""
    run = Run(maker, mixed_space())
    for _ in range(4):
        run.ask(10)
        run.start()
    run.end(0, 1.0)
    run.ask(2)
    run.start()


def survives_one_parameter(maker: Maker) -> None:
    """One number is a space, too."""
    for parameter in ((0.0, 1.0), (1, 10**6, "log")):
        run = Run(maker, Space({"x": parameter}))
        run.results(14)
        run.ask(5)


def survives_tiny_spaces(maker: Maker) -> None:
    """Two configs, one, or only constants: never more proposals than configs, and no error when these are used up."""
    for parameters in ({"x": ["a", "b"]}, {"x": ["a"]}, {"x": 3}):
        run = Run(maker, Space(parameters))
        run.ask(1)
        run.ask(10)
        for trial in run.start():
            run.end(trial, run.value(trial))
        run.ask(2)
        run.ask(2, fit=False)


def survives_a_used_up_space(maker: Maker) -> None:
    """A small space comes to its end in the middle of an answer."""
    run = Run(maker, small_space())
    for n in (2, 3, 1, 50, 50):
        run.ask(n)
        for trial in run.start():
            run.end(trial, run.value(trial))


CHECKS: tuple[Callable[[Maker], None], ...] = (
    proposes_legal_new_configs,
    repeats_itself,
    survives_an_empty_table,
    survives_failures,
    survives_constant_values,
    survives_everything_pending,
    survives_one_parameter,
    survives_tiny_spaces,
    survives_a_used_up_space,
)


def _columns(trials: Trials) -> list[Any]:
    """All that a strategy can see of a table, as values to compare."""
    arrays = (
        trials.X,
        trials.y,
        trials.state,
        trials.budget,
        trials.order,
        trials.origin,
        trials.waiting,
        trials.pending,
    )
    return [trials.n, trials.asked, trials.fit, set(trials.taken), *(array.tobytes() for array in arrays)]


def _check_config(space: Space, config: Config) -> None:
    try:
        checked = space.check(config)
        json.dumps(config, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise AssertionError(f"it proposed {config!r}: {error}") from error
    kinds = {name: type(value) for name, value in checked.items()}
    _require({n: type(v) for n, v in config.items()} == kinds, f"expected plain Python types, got {config!r}")


def _some(answer: list[Proposal]) -> None:
    _require(bool(answer), "it has nothing to propose although nothing is pending and the space is not used up")


def _require(held: bool, message: str) -> None:
    if not held:
        raise AssertionError(message)
