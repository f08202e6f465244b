"""DeepHyper's centralised Bayesian optimisation at its defaults: extra trees, UCBd, a genetic search.

Told and asked as its own loop does: one result in, one config out. Points that run are not asked for again (it filters
repeats); its model does not see them. Conditions and forbidden combinations are those of ``to_configspace``; a
parameter that is inactive comes back with a value that is ignored.
"""

from __future__ import annotations

import tempfile
from typing import Any

from deephyper.hpo import CBO, HpProblem

from mpibo import Space
from search_quality.peers.points import Config, known


class Optimiser:
    """``deephyper.hpo.CBO``.

    Args:
        options: More options for it; none: its defaults.
    """

    def __init__(self, space: Space, seed: int, workers: int, evaluations: int, **options: Any) -> None:
        self.space = space
        self.folder = tempfile.TemporaryDirectory()
        problem = HpProblem(space.to_configspace())
        self.search = CBO(problem, random_state=seed, log_dir=self.folder.name, **options)

    def ask(self) -> tuple[dict[str, Any], Config] | None:
        """DeepHyper's dict and our config."""
        found = self.search.ask(1)[0]
        return found, known(self.space, found)

    def tell(self, handle: dict[str, Any], value: float) -> None:
        """Tell a value; DeepHyper maximises."""
        self.search.tell([(handle, -value)])
