"""Every command of a page is run by a test, which this table names; a page that says something new needs a new row."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_TRIED = "not tried, and the page says so"
FAKE_AWS = "test_aws.py::test_commands_of_the_page_with_stand_ins"
GPU_IMAGE = "test_container.py::test_the_image_has_the_torch_that_was_asked_for"  # with MPIBO_TEST_TORCH=gpu
LAPTOP = "test_laptop.py::test_the_commands_of_the_page_in_their_order"
FRESH = "test_laptop.py::test_the_first_command_makes_the_environment_once_and_runs_the_main_job"
SLURM = "slurm/test_slurm.py::test_a_command_of_the_page"
FETCH = "test_objectives.py::test_the_script_fetches_the_data_once"
S3 = "test_s3.py::test_a_schedule_under_mpirun_goes_on_from_s3_alone"

# Page, its commands as they stand there, and the test that runs each, with less to do where it is a search.
COMMANDS = {
    "laptop.md": {
        "scripts/run.sh": FRESH,
        ". .venv/bin/activate": LAPTOP,
        "mpibo check tune.py:train": LAPTOP,
        "mpirun -n 8 python -m mpibo.run tune.py:train --max-trials 200 --out runs/tune": LAPTOP,
        "mpibo run tune.py:train --max-trials 200 --workers 4": LAPTOP,
        "mpibo run --space space.toml --max-trials 50 --workers 4 -- ./train.sh --lr '{lr}'": LAPTOP,
        "mpibo log runs/tune 12": LAPTOP,
        "python -c \"import mpibo; print(mpibo.load('runs/tune').best)\"": LAPTOP,
        "mpirun -n 4 mpibo resume runs/tune --max-trials 300": LAPTOP,
        "mpirun -n 8 python -m mpibo.run tune.py:train --max-trials 100 --warm-start runs/tune "
        "--out runs/second": LAPTOP,
        "mpibo replay runs/tune": LAPTOP,
        "mpibo simulate runs/tune --workers 8,64 --max-trials 1000": LAPTOP,
    },
    "slurm.md": {
        "scripts/run.sh --max-trials 2": FRESH,
        ".venv/bin/python scripts/get_mnist.py": FETCH,
        ".venv/bin/python scripts/get_fashion.py": FETCH,
        "sbatch slurm/mnist.sh": SLURM,
        "sbatch slurm/digits.sh --max-trials 200": SLURM,
        "sbatch --nodes=4 --ntasks-per-node=32 --time=08:00:00 slurm/run.sh tune.py:train --max-trials 2000": SLURM,
        "sbatch slurm/command.sh --space space.toml --max-trials 50 -- ./train.sh --lr '{lr}'": SLURM,
        "slurm/run.sh mnist": "slurm/test_slurm.py::test_within_salloc_a_script_starts_as_it_is",
        "MPIBO_HOME=~/mpibo sbatch ~/mpibo/slurm/run.sh tune.py:train --max-trials 100": SLURM,
        "mpibo submit tune.py:train --max-trials 2000 --nodes 4 --ntasks-per-node 32 --time 8h --account ab12": SLURM,
        "mpibo submit mnist --nodes 2 --time 1h --dry-run": SLURM,
        "mpibo submit --space space.toml --max-trials 50 --time 1h -- ./train.sh --lr '{lr}'": SLURM,
        "mpibo submit --help": "test_submit.py::test_submit_shows_the_script",
        "mpibo submit --notice 10m": "test_submit.py::test_submit_shows_the_script",
        "sbatch --signal=B:USR1@600 slurm/run.sh tune.py:train --max-trials 500": SLURM,
        "scancel JOBID": "slurm/test_slurm.py::test_a_cancelled_job_ends_in_order_and_another_goes_on",
        "sbatch slurm/mnist.sh --out runs/mnist-JOBID --max-trials 128": SLURM,
        "sbatch --cpus-per-task=4 --ntasks-per-node=2 slurm/run.sh tune.py:train --max-trials 100": SLURM,
        "sbatch --gpus-per-node=4 --ntasks-per-node=4 slurm/run.sh tune.py:train --max-trials 100": SLURM,
    },
    "s3.md": {
        "pip install 'mpibo[aws]'": "test_s3.py::test_the_extra_is_all_that_it_needs",
        "mpirun -n 8 mpibo run train.py:train --max-trials 500 --sync s3://my-bucket/runs/mnist": S3,
        "mpibo pull s3://my-bucket/runs/mnist back": S3,
        "mpibo resume s3://my-bucket/runs/mnist": S3,
        "mpibo resume RUN": "test_resuming.py::test_a_run_goes_on_by_its_own_settings",
    },
    "aws.md": {
        "python3 -m venv .venv-aws": "test_aws.py::installed",
        ".venv-aws/bin/pip install aws-parallelcluster awscli": "test_aws.py::installed",
        ".venv-aws/bin/aws configure": FAKE_AWS,
        "scripts/aws_up.sh cpu --dryrun true": "test_aws.py::test_pcluster_would_make_every_cluster",
        "scripts/aws_up.sh cpu": FAKE_AWS,
        "scripts/aws_up.sh gpu": "test_aws.py::test_pcluster_would_make_every_cluster",
        "scripts/aws_up.sh my.yaml": "test_aws.py::test_pcluster_would_make_every_cluster",
        "sbatch slurm/mnist.sh": SLURM,
        ".venv-aws/bin/aws ec2 describe-spot-price-history --instance-types c7i.4xlarge "
        "--product-descriptions Linux/UNIX --max-items 5": FAKE_AWS,
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
        "scripts/build_image.sh --build-arg TORCH=gpu": GPU_IMAGE,
        "docker run --rm --gpus all mpibo": NOT_TRIED,
        "apptainer build mpibo.sif scripts/mpibo.def": NOT_TRIED,
        "apptainer run mpibo.sif digits --max-trials 20": NOT_TRIED,
        "srun --mpi=pmi2 apptainer exec mpibo.sif python -m mpibo.run digits --out runs/digits": NOT_TRIED,
    },
}


# What within a sentence is a command too: a program that a reader calls, and what it is to do.
INLINE = re.compile(r"(\w+=\S+ )*(sbatch|scancel|mpirun|scripts/\S+|slurm/\S+|(mpibo|docker|podman) [a-z]+) .+")


def commands(page):
    """The lines of a page's indented blocks, without what follows a blank and a hash, and the commands in sentences."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"\s+#.*", "", line.strip()) for line in text.splitlines() if re.match(r" {4,}\S", line)]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    return lines + [span for span in spans if INLINE.fullmatch(span)]


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
