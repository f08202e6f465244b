"""Checkpoints of trials that may go on are kept: nobody is promoted whose checkpoint was given up before."""

import numpy as np
import pytest

from mpibo import Search

SPACE = {"x": (0.0, 1.0)}
ORDERS = {  # value of the k-th config
    "better and better": lambda k, rng: -float(k),
    "worse and worse": lambda k, rng: float(k),
    "by chance": lambda k, rng: rng.random(),
    "better by and by": lambda k, rng: rng.random() - k / 20,
    "some fail": lambda k, rng: rng.random() if rng.random() < 0.8 else float("nan"),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("schedule", ["asha", "asha:eta=2", "hyperband", "sha"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nobody_goes_on_whose_checkpoint_was_given_up(schedule, order, seed):
    """ASHA promotes more than one in eta: the upper rungs fill beyond their share."""
    rng = np.random.default_rng(seed)
    search = Search(SPACE, "random", schedule=schedule, budget=(1, 9), max_trials=40)
    values, given_up, running, promotions = {}, set(), [], 0
    while True:
        while len(running) < 4 and (asked := search.ask()):
            (trial,) = asked
            if trial.parent is not None:
                promotions += 1
                assert trial.parent not in given_up
            running.append(trial)
        if not running:
            break
        trial = running.pop(int(rng.integers(len(running))))
        root = int(search.table.root[trial.id])
        if root not in values:
            values[root] = ORDERS[order](len(values), rng)
        search.tell(trial, values[root])
        search.table.saved.add(trial.id)
        given_up |= set(search.collect())
    assert promotions > 10
    assert len(given_up) > 10
