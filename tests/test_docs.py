"""Every command of a page is run by a test, which this table names; a page that says something new needs a new row."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_TRIED = "not tried, and the page says so"
FAKE_AWS = "test_aws.py::test_commands_of_the_page_with_stand_ins"

# Page, its commands as they stand there, and the test that runs each. A page that is not here is not held to it yet.
COMMANDS = {
    "aws.md": {
        "python3 -m venv .venv-aws": "test_aws.py::installed",
        ".venv-aws/bin/pip install aws-parallelcluster awscli": "test_aws.py::installed",
        ".venv-aws/bin/aws configure": FAKE_AWS,
        "scripts/aws_up.sh cpu --dryrun true": "test_aws.py::test_pcluster_would_make_every_cluster",
        "scripts/aws_up.sh cpu": FAKE_AWS,
        "scripts/aws_submit.sh slurm/mnist.sh": FAKE_AWS,
        "scripts/aws_submit.sh --nodes=4 --time=08:00:00 slurm/mnist.sh --max-trials 500": FAKE_AWS,
        "scripts/aws_submit.sh --partition=gpu --ntasks-per-node=4 --gpus-per-node=1 slurm/mnist.sh": FAKE_AWS,
        ".venv-aws/bin/pcluster ssh --cluster-name mpibo --region us-east-1 -i ~/.ssh/mpibo": FAKE_AWS,
        "scp -i ~/.ssh/mpibo tune.py ubuntu@ADDRESS:/shared/mpibo/": FAKE_AWS,
        "scripts/aws_down.sh --stop": FAKE_AWS,
        "scripts/aws_down.sh": FAKE_AWS,
        "scripts/aws_down.sh --discard": FAKE_AWS,
    },
    "container.md": {
        "scripts/build_image.sh": "test_container.py::image",
        "docker run --rm mpibo": "test_container.py::test_run_without_words_is_the_main_job",
        'docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/job" mpibo digits --max-trials 8': (
            "test_container.py::test_commands_of_the_page"
        ),
        'docker run --rm --volume "$PWD:/job" --entrypoint mpibo mpibo check tune.py:train': (
            "test_container.py::test_commands_of_the_page"
        ),
        "docker run --rm --volume /opt/site/lib:/opt/site:ro --env MPI4PY_LIBMPI=/opt/site/libmpi.so.12 "
        "--env LD_LIBRARY_PATH=/opt/site mpibo": ("test_container.py::test_the_machines_own_mpi_can_be_bound_in"),
        "scripts/build_image.sh --build-arg TORCH=gpu": NOT_TRIED,
        "docker run --rm --gpus all mpibo": NOT_TRIED,
        "apptainer build mpibo.sif scripts/mpibo.def": NOT_TRIED,
        "apptainer run mpibo.sif digits --max-trials 20": NOT_TRIED,
        "srun --mpi=pmi2 apptainer exec mpibo.sif python -m mpibo.run digits --out runs/digits": NOT_TRIED,
    },
}


def commands(page):
    """The lines of a page's indented blocks, without what follows a blank and a hash."""
    text = (ROOT / "docs" / page).read_text()
    return [re.sub(r"\s+#.*", "", line.strip()) for line in text.splitlines() if re.match(r" {4}\S", line)]


@pytest.mark.parametrize("page", COMMANDS)
def test_each_command_of_a_page_has_its_test(page):
    """The table and the page have the same commands."""
    assert sorted(set(commands(page))) == sorted(COMMANDS[page])


def test_the_tests_that_run_commands_are_there():
    """A test that is renamed or deleted takes its commands with it."""
    for place in {place for page in COMMANDS.values() for place in page.values()} - {NOT_TRIED}:
        file, name = place.split("::")
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, place


def test_what_is_not_tried_is_said():
    """In words that a reader can't miss."""
    for page, table in COMMANDS.items():
        if NOT_TRIED in table.values():
            assert re.search(r"\*\*Untested\*\*|never (built|tried)", (ROOT / "docs" / page).read_text())
