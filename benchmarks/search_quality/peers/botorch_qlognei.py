"""BoTorch's Gaussian process with qLogNEI; the running points are its ``X_pending``.

Points are the columns of the space without its conditions: numbers and ordered choices on [0, 1], other choices
one-hot, all relaxed and then snapped to the nearest config, as is common. Inactive parameters are sampled and ignored.
The first points are Sobol's, ten as in its peers. A config that is forbidden is told as the highest value so far.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch.quasirandom import SobolEngine

from mpibo import Constant, Space
from search_quality.peers.points import TRIES, Config, assemble, flat, legal

INITIAL = 10
SAMPLES = {"num_restarts": 10, "raw_samples": 512}  # of BoTorch's tutorials


class Optimiser:
    """``SingleTaskGP`` at its defaults, fitted anew for each point."""

    def __init__(self, space: Space, seed: int, workers: int, evaluations: int) -> None:
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.double)
        torch.manual_seed(seed)
        warnings.simplefilter("ignore")  # about fits and searches that are tried once more
        self.space, self.flat = space, flat(space)
        free = sum(not isinstance(p, Constant) for p in space.parameters.values())
        self.design = self.flat.spread(SobolEngine(free, scramble=True, seed=seed).draw(INITIAL).numpy())
        self.bounds = torch.tensor([[0.0] * self.flat.dimension, [1.0] * self.flat.dimension])
        self.pending: dict[int, np.ndarray] = {}
        self.done: list[tuple[np.ndarray, float]] = []
        self.asked = 0

    def ask(self) -> tuple[int, Config] | None:
        """A number for the point, and its config."""
        for _ in range(TRIES):
            x = self._next()
            self.asked += 1
            config = assemble(self.space, self.flat.decode(x[None, :])[0])
            if legal(self.space, config):
                self.pending[self.asked] = x
                return self.asked, config
            self.done.append((x, max((y for _, y in self.done), default=0.0)))
        raise RuntimeError(f"{TRIES} configs in a row are forbidden")

    def tell(self, handle: int, value: float) -> None:
        """Keep the value; the model is fitted when the next point is asked for."""
        self.done.append((self.pending.pop(handle), value))

    def _next(self) -> np.ndarray:
        if self.asked < INITIAL:
            return self.design[self.asked]
        X = torch.tensor(np.array([x for x, _ in self.done]))
        Y = -torch.tensor([[y] for _, y in self.done])  # BoTorch maximises
        model = SingleTaskGP(X, Y, outcome_transform=Standardize(m=1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        pending = torch.tensor(np.array(list(self.pending.values()))) if self.pending else None
        score = qLogNoisyExpectedImprovement(model, X_baseline=X, X_pending=pending, prune_baseline=True)
        found, _ = optimize_acqf(score, bounds=self.bounds, q=1, **SAMPLES)
        return self.flat.snap(found.numpy())[0]
