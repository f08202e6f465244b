"""Searches on a real Slurm: every command of docs/slurm.md, the time limit, killed workers, dead and cut-off nodes.

The jobs of one part are submitted together, and each test waits for its own: on few cores most of a job is its start.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from cluster import NETWORK, status, wait_for

import mpibo
from mpibo.trial import State

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MPIBO_DATA", ROOT / "data"))
# One start of a worker is a few seconds on a busy machine.
HERE = {"MPIBO_HOME": str(ROOT), "MPIBO_PYTHON": sys.executable, "PYTHONPATH": str(ROOT),
        "MPIBO_DATA": str(DATA), "MPIBO_START": "60"}  # fmt: skip
SHAPE = ["--nodes=2", "--ntasks-per-node=2", "--time=30"]
STEP = 0.5  # seconds
# An objective that can resume, and notes each step that it has done.
TRAIN = f"""
import time

def train(x, trial):
    first = trial.resume()
    total = trial.saved.get("total", 0.0)
    for step in range(first + 1, trial.budget + 1):
        time.sleep({STEP})
        total += x
        with open(trial.folder.parents[1] / "steps", "a") as file:
            file.write(f"{{trial.id}} {{step}}\\n")
        trial.report(total / step, step=step, state={{"total": total}})
    return total / trial.budget

train.space = {{"x": (0.0, 1.0)}}
"""


@pytest.fixture(scope="session")
def work(cluster):
    """The folder from which jobs are submitted, with what they search."""
    (cluster.work / "tune.py").write_text(TRAIN)
    (cluster.work / "space.toml").write_text("[space]\nlr = {float = [0.1, 1.0]}\n")
    (cluster.work / "train.sh").write_text("#!/bin/sh\necho $2\n")
    (cluster.work / "train.sh").chmod(0o755)
    return cluster.work


def check(folder, configs):
    """Every config has exactly one result, and each LOST row its retry; gives the rows."""
    assert status(folder)["exit_code"] == 0
    trials = list(mpibo.load(folder).trials)
    results = Counter((json.dumps(trial.config), trial.budget) for trial in trials if trial.state is State.DONE)
    assert set(results.values()) == {1} and len({config for config, _ in results}) == configs
    retries = Counter(trial.retry_of for trial in trials if trial.retry_of is not None)
    assert retries == Counter(trial.id for trial in trials if trial.state is State.LOST)
    return trials


# --- the page -------------------------------------------------------------------------------------------------------


def commands():
    """The lines of docs/slurm.md that submit something, and those within sentences."""
    text = (ROOT / "docs/slurm.md").read_text()
    lines = re.findall(r"^ {4,}((?:sbatch|mpibo submit) [^#\n]+)", text, re.MULTILINE)
    lines += re.findall(r"`((?:MPIBO_HOME=\S+ )?sbatch [^`]*slurm/[^`]+)`", text)
    return [" ".join(line.split()) for line in lines]


def smaller(line):
    """The same command with less to do: fewer ranks, three trials, one epoch of few images."""
    words = [word.replace("~/mpibo", str(ROOT)) for word in shlex.split(line)]
    words, command = (words[: words.index("--")], words[words.index("--") :]) if "--" in words else (words, [])
    if words[0].startswith("MPIBO_HOME="):
        del words[0]
    less = ["--max-trials", "3"]
    less += ["--budget", "1"] * any("mnist" in word or "digits" in word for word in words)
    less += ["--fix", "train_size=200"] * any("mnist" in word for word in words)
    if words[0] == "sbatch":
        script = next(i for i, word in enumerate(words) if word.endswith(".sh") and "slurm/" in word)
        words[script] = str(ROOT / words[script])
        shape = [*SHAPE, *(["--gpus-per-node=2"] if "gpus" in line else [])]
        return [*words[:script], *shape, *words[script:], *less, *command]
    less += ["--nodes", "2", "--ntasks-per-node", "2", "--time", "30m"]
    return [sys.executable, "-m", "mpibo", *words[1:], *less, *command]


@pytest.fixture(scope="session")
def jobs(cluster, work):
    """Each command's job, all submitted at once; None for one that submits nothing."""
    begun = {}
    for line in commands():
        told = cluster.run(*smaller(line), **HERE)
        number = re.search(r"Submitted batch job (\d+)", told)
        begun[line] = int(number[1]) if number else None
        assert number or "#SBATCH --nodes=2" in told
    return begun


def test_the_page_has_commands():
    assert len(commands()) == 12


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_page(cluster, work, jobs, line):
    """It runs over two nodes, ends with code 0 and has each result once."""
    if "mnist" in line and not (DATA / "MNIST").exists():
        pytest.skip("MNIST can't be had here")
    number = jobs[line]
    if number is None:
        return
    job = cluster.finish(number)
    assert job["JobState"] == "COMPLETED", cluster.output(number)
    (folder,) = (work / "runs").glob(f"*-{number}") if "--out" not in line else [work / "runs/mnist-JOBID"]
    check(folder, 3)
    assert len(set(re.findall(r"workers on (n\d)", cluster.output(number)))) == 2


def test_within_salloc_a_script_starts_as_it_is(cluster, work):
    """On the login node, over the allocation's two nodes."""
    if not (DATA / "MNIST").exists():
        pytest.skip("MNIST can't be had here")
    search = [ROOT / "slurm/run.sh", "mnist", "--max-trials", "3", "--budget", "1", "--fix", "train_size=200"]
    command = shlex.join(map(str, ["salloc", *SHAPE, *search, "--out", "within"]))
    cluster.run("sh", "-c", f"({command}; echo code $?) >slurm-salloc.out 2>&1 &", **HERE)
    wait_for(lambda: "code" in cluster.output("salloc"), "the end of salloc", 240)
    assert cluster.output("salloc").endswith("code 0\n"), cluster.output("salloc")
    check(work / "within", 3)


def test_a_cancelled_job_ends_in_order_and_another_goes_on(cluster, work):
    """``scancel JOBID``: code 75, nobody requeues it; later a job of the same ``--out``, with more trials."""
    search = [ROOT / "slurm/run.sh", "synthetic:sleep", "--fix", "seconds=0.5", "--out", "cancelled", "--max-trials"]
    first = cluster.submit(*SHAPE, *search, "200", **HERE)
    journal = work / "cancelled/journal.jsonl"
    wait_for(lambda: journal.exists() and journal.read_text().count('"kind": "end"') > 3, "trials", 150)
    cluster.run("scancel", first)
    job = cluster.finish(first)
    assert job["JobState"] == "CANCELLED" and job["Restarts"] == "0", cluster.output(first)
    told = status(work / "cancelled")
    assert (told["state"], told["exit_code"], told["why_ended"]) == ("ended", 75, "SIGTERM")
    more = told["counts"]["configs"] + 4
    second = cluster.submit(*SHAPE, *search, str(more), **HERE)
    assert cluster.finish(second)["JobState"] == "COMPLETED", cluster.output(second)
    check(work / "cancelled", more)


# --- the time limit -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def limited(cluster, work):
    """Two jobs whose allocations are too short: one that Slurm requeues, and one that it may not."""
    search = [
        ROOT / "slurm/run.sh",
        "tune.py:train",
        "--schedule",
        "asha",
        "--budget",
        "1:9",
        "--checkpoint-every",
        "1h",
    ]
    shape = ["--nodes=2", "--ntasks-per-node=2", "--signal=B:USR1@10"]
    requeued = cluster.submit(*shape, "--time=1", *search, "--max-trials", "60", "--out", "requeued", **HERE)
    followed = cluster.submit(
        *shape, "--no-requeue", "--time=6", *search, "--max-trials", "40", "--out", "followed", **HERE
    )
    return requeued, followed


def check_resumed(folder, configs):
    """What was broken off goes on with the step after the last one that was done; gives how many trials were."""
    rows = check(folder, configs)
    steps = {row.id: [] for row in rows}
    for line in (folder / "steps").read_text().splitlines():
        trial, step = map(int, line.split())
        steps[trial].append(step)
    broken = {row.id: row for row in rows if row.state is State.LOST}
    for row in rows:
        if row.retry_of in broken and steps[row.retry_of]:
            assert steps[row.id][:1] in ([], [steps[row.retry_of][-1] + 1])
    return len([number for number in broken if steps[number]])


def test_where_requeue_is_forbidden_a_dependent_job_goes_on(cluster, work, limited):
    """In the same folder; the notice is sent by hand."""
    _, first = limited
    journal = work / "followed/journal.jsonl"
    wait_for(lambda: journal.exists() and journal.read_text().count('"report"') > 3, "reports", 150)
    cluster.run("scancel", "--batch", "--signal=USR1", first)
    cluster.finish(first)
    second = int(re.search(r"Submitted batch job (\d+)", cluster.output(first))[1])
    job = cluster.finish(second)
    assert job["JobState"] == "COMPLETED" and job["NumNodes"] == "2", cluster.output(second)
    assert job["TimeLimit"] == "00:06:00"
    assert check_resumed(work / "followed", 40) >= 1


def test_the_time_limit_strikes_and_the_job_goes_on_until_it_is_done(cluster, work, limited):
    """Slurm's own notice, before the limit of a minute; the last allocations are longer. Nothing is trained twice."""
    number, _ = limited
    wait_for(lambda: int(cluster.job(number)["Restarts"]) >= 1, "a requeue", 150)
    assert status(work / "requeued")["exit_code"] == 75
    wait_for(lambda: cluster.job(number)["JobState"] == "PENDING", "the end of the first allocation", 60)
    cluster.run("scontrol", "update", f"JobId={number}", "TimeLimit=10")
    job = cluster.finish(number)
    assert job["JobState"] == "COMPLETED", cluster.output(number)
    assert check_resumed(work / "requeued", 60) >= 1


def test_a_start_that_hangs_is_done_again_in_the_same_job(cluster, work):
    """Its ranks are killed, the batch script is not."""
    python = work / "python"
    python.write_text(f"""#!/bin/sh
[ "$2" != mpibo.run ] || [ -e hung-$SLURM_PROCID ] || {{ touch hung-$SLURM_PROCID; exec sleep 300; }}
exec {sys.executable} "$@"
""")
    python.chmod(0o755)
    search = [ROOT / "slurm/run.sh", "tune.py:train", "--max-trials", "3", "--out", "hung"]
    number = cluster.submit(*SHAPE, *search, **HERE | {"MPIBO_START": "20", "MPIBO_PYTHON": str(python)})
    assert cluster.finish(number)["JobState"] == "COMPLETED", cluster.output(number)
    assert "once more" in cluster.output(number)
    check(work / "hung", 3)


def test_a_node_that_is_taken_away_ends_the_job_as_its_time_limit_does(cluster, work):
    """A spot notice on one node: the nodes' watchers ask a metadata service. The job is requeued, and goes on."""
    told = work / "spot-notice"
    service = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from test_spot import Service
class Told(Service):
    notice = property(lambda self: os.path.exists({str(told)!r}))
server = Told("{NETWORK}.254", 8080)
open("service-is-up", "w")
server.serve_forever()
"""
    command = cluster.control.enter([sys.executable, "-c", service], work, {})
    spot = {"MPIBO_SPOT": "1", "MPIBO_SPOT_SECONDS": "1"}
    spot["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://{NETWORK}.254:8080"
    search = [ROOT / "slurm/run.sh", "tune.py:train", "--schedule", "asha", "--budget", "1:9", "--max-trials", "60"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for((work / "service-is-up").exists, "the metadata service")
            number = cluster.submit(*SHAPE, *search, "--out", "spot", **HERE, **spot)
            journal = work / "spot/journal.jsonl"
            wait_for(lambda: journal.exists() and journal.read_text().count('"report"') > 3, "reports", 150)
            told.touch()
            wait_for(lambda: int(cluster.job(number)["Restarts"]) >= 1, "a requeue", 60)
            assert status(work / "spot")["exit_code"] == 75 and "is taken away" in cluster.output(number)
            told.unlink()
            job = cluster.finish(number)
        finally:
            server.kill()
    assert job["JobState"] == "COMPLETED", cluster.output(number)
    assert check_resumed(work / "spot", 60) >= 1


def test_how_busy_the_workers_stay_in_an_allocation(cluster, work):
    """slurm/scaling.sh: real runs by srun of all sizes that fit, beside a simulated point, in one file."""
    flags = ["--workers", "8", "--methods", "random", "--seconds", "0.3", "--json", "points.json"]
    number = cluster.submit(*SHAPE, ROOT / "slurm/scaling.sh", *flags, **HERE)
    assert cluster.finish(number)["JobState"] == "COMPLETED", cluster.output(number)
    points = json.loads((work / "points.json").read_text())["points"]
    assert len([point for point in points if point["kind"] == "real"]) == 2, points


# --- deaths ---------------------------------------------------------------------------------------------------------


def rank_on(node, folder):
    """The process id, here, of a worker's rank on a node that evaluates for a run in this folder."""
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "cmdline").read_bytes()
            here = (each / "environ").read_bytes()
            is_rank = b"mpibo.run" in words and str(folder).encode() in words and b"PMI_RANK=" in here
            if is_rank and f"SLURMD_NODENAME={node}".encode() in here:
                return int(each.name)
        except OSError:  # it has just ended
            continue
    raise AssertionError(f"no rank on {node}")


def test_a_killed_worker_a_cut_off_node_and_a_dead_one_cost_their_trials(cluster, work):
    """One after the other, in one run; the manager's node is left, and ends the run with code 0."""
    folder = work / "deaths"
    search = [ROOT / "slurm/run.sh", "synthetic:sleep", "--fix", "seconds=0.7", "--max-trials", "60", "--out", folder]
    number = cluster.submit(
        "--nodes=3", "--ntasks-per-node=3", "--time=10", *search, **HERE, MPIBO_LEASE="6", MPIBO_MANAGER_LEASE="15"
    )

    def ended(count):
        journal = folder / "journal.jsonl"
        wait_for(lambda: journal.exists() and journal.read_text().count('"kind": "end"') >= count, "trials", 150)

    try:
        ended(4)
        os.kill(rank_on("n2", folder), signal.SIGKILL)
        ended(14)
        cluster.cut("n3")
        ended(22)
        cluster.nodes["n2"].shoot()
        job = cluster.finish(number)
    finally:
        cluster.nodes["n2"].shoot()
        cluster.add("n2")
        cluster.cut("n3", connected=True)
    assert job["JobState"] in ("COMPLETED", "NODE_FAIL"), cluster.output(number)
    rows = check(folder, 60)
    lost = [row for row in rows if row.state is State.LOST]
    assert 4 <= len(lost) <= 6 and {row.host for row in lost} == {"n2", "n3"}
    assert {row.host for row in rows[-5:]} == {"n1"}
