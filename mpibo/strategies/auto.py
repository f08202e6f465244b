"""The method that chooses its model: a Gaussian process while that is affordable and predicts better, else a forest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.models.forest import Forest
from mpibo.models.gp import GP, WARM, maximise
from mpibo.models.posterior import Posterior
from mpibo.strategies.bayes import Bayesian
from mpibo.strategies.gaussian import Gaussian
from mpibo.strategies.surrogate import Opening
from mpibo.strategies.thompson import Thompson
from mpibo.table import Trials
from mpibo.trial import Proposal

Array = NDArray[np.float64]

MANY = 1500  # results above which a Gaussian process counts as too dear where there is no clock
JUDGED = 256  # newest results that the models are compared on
FEWEST = 4  # results for the first comparison
GROWN = 1.2  # the comparison is made again when there are so many times more results
TAKEN = 0.5  # nats a result by which the forest must predict better to be taken
KEPT = 0.3  # nats a result above which the forest, once taken, stays
FLOOR = 1e-4  # smallest variance of a prediction, as a share of the values' own: ties must not decide


class Auto:
    """A design, then proposals of the model that suits: see ``choice`` for which, and why.

    Among the models that keep ahead of the workers (``Trials.affordable``) it takes the one that predicts the results
    so far better, by the cross-validated density of the values as the Gaussian process sees them. The forest has to be
    better by half a nat: where the two predict alike, the process finds lower values (docs/decisions/0004).

    Args:
        n_initial: Results that the first model waits for; None: max(10, 2 p) for p parameters, at most 40.
        initial: The design until then: random, lhs or sobol.

    Attributes:
        choice: The model of the last answer, "gp" or "et", and the reason; None while the design lasts.
    """

    def __init__(self, *, n_initial: int | None = None, initial: str = "sobol") -> None:
        self._opening = Opening(n_initial, initial)
        self._gp = Bayesian(model="gp", pending="believer", acquisition="mixed", n_initial=1)
        self._et = Thompson(model="et", n_initial=1)
        self.choice: tuple[str, str] | None = None
        self._ahead = 0.0  # nats a result by which the Gaussian process predicts better
        self._compared = 0  # results at the last comparison

    def prepare(self) -> None:
        """Load the models' libraries; the engine calls it beside the first answers."""
        self._gp.prepare()
        self._et.prepare()

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` new configs; none when the space is exhausted."""
        if not self._opening.over(trials, self.choice is not None):
            return self._opening.propose(trials, n, rng)
        model, why = self._chosen(trials, rng)
        members: dict[str, Bayesian | Thompson] = {"gp": self._gp, "et": self._et}
        if not trials.fit and not members[model].kept:
            model, why = ("et" if model == "gp" else "gp"), f"{model} is not fitted yet"
        self.choice = model, why
        return members[model].propose(trials, n, rng)

    def _chosen(self, trials: Trials, rng: np.random.Generator) -> tuple[str, str]:
        results = len(trials.observed()[1])
        affordable = trials.affordable
        if affordable is None and results > MANY:
            return "et", f"more than {MANY} results"
        if affordable is not None and "gp" not in affordable:
            return "et", "gp can't keep ahead of the workers"
        if trials.fit and results >= max(FEWEST, GROWN * self._compared):
            self._compared = results
            self._compare(trials, rng)
        used = self.choice[0] if self.choice else "gp"
        if not self._compared:
            return used, "not compared yet"
        better = "et" if -self._ahead > (KEPT if used == "et" else TAKEN) else "gp"
        gain = self._ahead if better == "gp" else -self._ahead
        how = f"better by {gain:.2f}" if gain >= 0 else f"worse by only {-gain:.2f}"
        return better, f"predicts {how} nats a result, of {self._compared}"

    def _compare(self, trials: Trials, rng: np.random.Generator) -> None:
        """How much better the Gaussian process predicts the results."""
        model = self._gp.model
        assert isinstance(model, Gaussian)
        model.update(trials, rng)
        assert model.posterior is not None and model.gp is not None
        known = np.flatnonzero(~np.isnan(model.z))[-JUDGED:]
        self._ahead = lead(model.gp, model.posterior.X[known], model.z[known], rng)


def lead(gp: GP, X: Array, z: Array, rng: np.random.Generator) -> float:
    """Nats a result by which a Gaussian process predicts better than extra trees.

    Each half of the results is predicted from the other half. The process gets hyperparameters fitted to that half
    alone: with those of all results it would look 0.2 to 0.5 nats too good where values are noisy.

    Args:
        gp: A fitted process: its kernel, and where to begin.
        X: ``(n, d)`` points.
        z: ``(n,)`` their values as the process sees them.
        rng: Source of the halves and of the trees.
    """
    assert gp.theta is not None
    told = {"gp": np.empty((2, len(z))), "et": np.empty((2, len(z)))}
    order = rng.permutation(len(z))
    for half in (0, 1):
        out, rest = order[half::2], order[1 - half :: 2]
        theta, mean = maximise(gp.kernel, X[rest], z[rest], [(gp.theta, WARM)])
        posterior = Posterior(gp.kernel, theta, X[rest])
        K = gp.kernel.cross(theta, X[rest], X[out])
        told["gp"][:, out] = mean + posterior.weights(z[rest] - mean) @ K, posterior.spread(K) + posterior.noise
        forest = Forest("et")
        forest.fit(X[rest], z[rest], rng)
        middle, spread = forest.predict(X[out])
        told["et"][:, out] = middle, spread**2
    least = FLOOR * float(z.var()) + 1e-300
    gp_density, et_density = (log_density(z, m, np.maximum(v, least)) for m, v in (told["gp"], told["et"]))
    return gp_density - et_density


def log_density(z: Array, mean: Array, variance: Array) -> float:
    """Mean log density of ``z (n,)`` under normal predictions whose variances are right up to one common factor."""
    factor = float(np.mean((z - mean) ** 2 / variance))
    return float(-0.5 * (np.mean(np.log(variance)) + np.log(factor + 1e-300) + np.log(2 * np.pi) + 1.0))
