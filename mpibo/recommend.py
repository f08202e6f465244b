"""What to return from a noisy search: the evaluated config of which a model of all results expects most."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpibo.models.gp import GP
from mpibo.table import Trials
from mpibo.trial import State


class Recommended(NamedTuple):
    """A row of the table, and its posterior mean with the person's sign."""

    row: int
    expected: float


def recommend(trials: Trials) -> Recommended | None:
    """The config with the lowest posterior mean among those evaluated, by a Gaussian process with noise.

    It is chosen among DONE rows within the limits at the highest budget that has one; the model sees every value at
    that budget, repeats of a config as rows of their own, at most 1,000 in all. Of several rows of one config it names
    the first.

    Args:
        trials: The table, with one value a row.

    Returns:
        The choice; None when no row has a value within the limits.
    """
    able = np.flatnonzero(trials.mask(State.DONE) & trials.done & trials.feasible)
    if not len(able):
        return None
    highest = trials.budget[able].max()
    able = able[trials.budget[able] == highest]
    seen = trials.done & trials.at_budget(int(highest))
    model = GP(trials.space, transform="clip")
    model.fit(trials.X[seen], trials.y[seen], np.random.default_rng(0))
    _, first = np.unique(trials.X[able], axis=0, return_index=True)
    rows = able[np.sort(first)]
    mean, _ = model.predict(trials.X[rows])
    best = int(np.argmin(mean))
    expected = model.transform.centre + model.transform.scale * float(mean[best])
    return Recommended(int(rows[best]), -expected if trials.aims.maximize else expected)
