"""Ageing evolution: the population is the latest results, parents win tournaments, children are near them."""

import copy
import pickle

import numpy as np
import pytest

from mpibo import testing
from mpibo.space import Space
from mpibo.strategies.evolution import Evolution
from mpibo.testing import Run, mixed_space, small_space

MAKERS = {"default": Evolution, "few": lambda: Evolution(population=3, sample=2, initial="lhs")}


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("method", MAKERS)
def test_contract(method, check):
    check(MAKERS[method])


def test_a_small_space_is_used_up_and_a_batch_is_distinct():
    """All legal configs once, then nothing; a batch of children has no two alike (``Run`` would tell)."""
    run = Run(MAKERS["few"], small_space())
    for n in (3, 2, 40):
        run.ask(n)
        for trial in run.start():
            run.end(trial, run.value(trial))
    assert run.trials.n == len(run.space.enumerate(20_000)) and run.ask(3) == []
    run = Run(Evolution, mixed_space())
    run.results(20)
    answer = run.ask(128)
    assert len(answer) == 128 and all(p.origin == "model" for p in answer)


def test_it_pickles_and_needs_no_fit():
    run = Run(Evolution, mixed_space())
    run.results(25)
    twin = copy.deepcopy(run)
    twin.strategy = pickle.loads(pickle.dumps(run.strategy))
    assert twin.ask(4, fit=False) == run.ask(4)


def box() -> Space:
    return Space({f"x{i}": (0.0, 1.0) for i in range(6)})


def test_the_oldest_dies_however_good_it_was():
    """The population is the last ones that ended, in the order of their ends, not of their starts."""
    run = Run(lambda: Evolution(population=4, sample=2), box())
    run.ask(8)
    run.start()
    order = [5, 1, 7, 0, 3, 2]
    for k, trial in enumerate(order):
        run.end(trial, None if trial == 3 else float(k))  # 5, the first, is the best
    assert list(run.strategy.alive(run.trials)) == [7, 0, 3, 2]


def test_parents_are_the_winners_of_tournaments():
    """With all in the sample always the best of the population; with one each alike; a failed one only if it must."""
    y, rng = np.array([9.0, 4.0, np.nan, 0.5, np.nan, 7.0]), np.random.default_rng(0)
    assert {Evolution(population=6, sample=6).winner(y, rng) for _ in range(20)} == {3}
    assert {Evolution(population=6, sample=1).winner(y, rng) for _ in range(200)} == set(range(6))
    pair = Evolution(population=3, sample=2)
    assert {pair.winner(y[[2, 4, 5]], rng) for _ in range(50)} == {1, 2}  # of failed ones the younger
    assert {pair.winner(np.zeros(3), rng) for _ in range(50)} == {1, 2}


def test_children_are_mutations_of_living_parents():
    """Each shares a coordinate or more with some member of the population, mostly; few move them all."""
    run = Run(lambda: Evolution(population=5, sample=2), box())
    run.results(12)
    parents = run.trials.X[run.strategy.alive(run.trials)]
    children = run.space.encode([p.config for p in run.ask(60)])
    shared = (children[:, None, :] == parents[None]).sum(axis=2).max(axis=1)
    assert (shared < 6).all() and (shared > 0).mean() > 0.6


def test_it_beats_chance():
    """On a bowl of ten numbers 100 trials of it find lower values than as many random ones."""

    def best(method):
        found = []
        for seed in range(3):
            run = Run(method, Space({f"x{i}": (0.0, 1.0) for i in range(10)}), seed)
            run.results(100)
            found.append(run.trials.y.min())
        return np.mean(found)

    assert best(Evolution) < 0.7 * best(testing.maker_of("random"))


@pytest.mark.parametrize("options", [{"sample": 0}, {"population": 3, "sample": 4}])
def test_a_tournament_needs_members(options):
    with pytest.raises(ValueError, match="1 <= sample <= population"):
        Evolution(**options)
