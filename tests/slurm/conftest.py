"""A cluster for the tests of this folder, made once."""

import shutil

import pytest
from cluster import Cluster, lack


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Three nodes; all of it is stopped at the end, whatever the tests did."""
    if why := lack():
        pytest.skip(why)
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    yield made
    made.down()
    shutil.rmtree(made.folder / "work" / "runs", ignore_errors=True)
