"""GP-EI as GPyOpt runs it: a squared-exponential kernel of greatest likelihood, and expected improvement."""

from __future__ import annotations

from mpibo.strategies.bayes import Bayesian


class GPEI(Bayesian):
    """The Gaussian process of the worksheet "Machine Learning in the Cloud" (Meissner & Ek 2020, table 1).

    Kernel variance 0.2, length scale 0.2 of the range (2 on [-5, 5]) and noise variance 0.05 are where the search for
    the hyperparameters of greatest likelihood begins; it goes on after each result. Values are standardised, with no
    other transform and no priors. The starting points are a Latin hypercube: from three that fall together greatest
    likelihood learns that a step away nothing is known, and the search stays there.

    Args:
        n_initial: Points at the start.
        pending: The rule for pending points, as in ``ambs``; of no effect with one worker.
        candidates: Points over which the acquisition is maximised, before it is refined.
    """

    def __init__(self, *, n_initial: int = 3, pending: str = "believer", candidates: int = 1000) -> None:
        super().__init__(
            model="gp", acquisition="ei", pending=pending, n_initial=n_initial, initial="lhs",
            candidates=candidates, kernel="rbf", additive=False, transform="none", begin=(0.2, 0.2, 0.05),
        )  # fmt: skip
