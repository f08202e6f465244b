"""DeepHyper with its fast setting: extra trees, and the best of 10,000 random points in place of a genetic search."""

from __future__ import annotations

from mpibo import Space
from search_quality.peers import deephyper_et


class Optimiser(deephyper_et.Optimiser):
    """``deephyper.hpo.CBO`` with ``acq_optimizer="sampling"``; everything else as in ``deephyper_et``."""

    def __init__(self, space: Space, seed: int, workers: int, evaluations: int) -> None:
        super().__init__(space, seed, workers, evaluations, acq_optimizer="sampling")
