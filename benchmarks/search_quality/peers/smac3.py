"""SMAC3's facade for hyperparameter optimisation: a random forest with log EI, conditions by ConfigSpace.

Running trials are kept in its run history, so that they are not proposed again; its model does not see them. It fits
anew after each eighth proposal, its default. Conditions and forbidden combinations are those of ``to_configspace``.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

from smac import HyperparameterOptimizationFacade, Scenario
from smac.runhistory import TrialInfo, TrialValue

from mpibo import Space
from search_quality.peers.points import Config, known


class Optimiser:
    """``smac.HyperparameterOptimizationFacade`` for an objective without noise; everything else at its default."""

    def __init__(self, space: Space, seed: int, workers: int, evaluations: int) -> None:
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of no values, before the first result
        self.space = space
        self.folder = tempfile.TemporaryDirectory()  # it writes its history
        scenario = Scenario(
            space.to_configspace(),
            n_trials=evaluations,
            deterministic=True,
            seed=seed,
            output_directory=Path(self.folder.name),
        )
        self.facade = HyperparameterOptimizationFacade(
            scenario, self._never, logging_level=logging.ERROR, overwrite=True
        )

    def ask(self) -> tuple[TrialInfo, Config] | None:
        """SMAC's trial and its config."""
        info = self.facade.ask()
        return info, known(self.space, dict(info.config))

    def tell(self, handle: TrialInfo, value: float) -> None:
        """Tell the cost."""
        self.facade.tell(handle, TrialValue(cost=value), save=False)

    @staticmethod
    def _never(config: Any, seed: int = 0) -> float:
        raise RuntimeError("the driver evaluates, not SMAC")
