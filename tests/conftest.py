"""Which suites a run of the tests takes, in what order, and which it leaves out and why."""

import os
import re
import shutil
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest


class Suite(NamedTuple):
    """A marker of setup.cfg: whether it waits for ``--all``, and what it cannot do without."""

    waits: bool = False
    program: str = ""
    module: str = ""

    def lack(self) -> str:
        """What is missing here, or nothing."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        if self.program and not shutil.which(self.program, path=path):
            return f"{self.program} is not installed"
        if self.module and not find_spec(self.module):
            return f"{self.module} is not installed"
        return ""


# In the order in which they run, after the tests without a marker.
SUITES = {
    "torch": Suite(module="torch"),
    "mpi": Suite(program="mpirun"),
    "slow": Suite(waits=True),
    "slurm": Suite(waits=True, program="slurmctld"),
    "container": Suite(waits=True, program="buildah"),
}
LEFT_OUT = pytest.StashKey[Counter]()


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="also the suites that are slow or need Debian packages")


def pytest_collection_modifyitems(config, items):
    """Fast tests first; a suite that waits for ``--all`` also runs when ``-m`` names it."""
    left_out = config.stash[LEFT_OUT] = Counter()
    named = set(re.findall(r"\w+", config.option.markexpr))
    waiting = {name for name, suite in SUITES.items() if suite.waits and not config.option.all and name not in named}
    lacks = {name: lack for name, suite in SUITES.items() if (lack := suite.lack())}
    rank = {name: place for place, name in enumerate(SUITES, start=1)}
    taken, dropped = [], []
    for item in items:
        suites = [name for name in SUITES if item.get_closest_marker(name)]
        reasons = [f"{name}: {lacks[name]}" for name in suites if name in lacks]
        reasons += [f"{name}: runs with --all" for name in suites if name in waiting]
        left_out.update(reasons[:1])
        (dropped if reasons else taken).append((max([rank[name] for name in suites], default=0), item))
    items[:] = [item for _, item in sorted(taken, key=lambda pair: pair[0])]
    if dropped:
        config.hook.pytest_deselected(items=[item for _, item in dropped])


def pytest_terminal_summary(terminalreporter, config):
    """Name what this run did not try, and the checks that failed before it (scripts/test.sh)."""
    for reason, count in config.stash.get(LEFT_OUT, Counter()).items():
        terminalreporter.write_line(f"suite left out: {reason} ({count} tests)", yellow=True)
    if failed := os.environ.get("MPIBO_FAILED_CHECKS"):
        terminalreporter.write_line(f"FAILED before the tests: {failed} (see above)", red=True)
