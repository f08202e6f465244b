"""The commands as a person types them, each in a process of its own."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mpibo
from mpibo.replaying import replay
from mpibo.store.journal import read
from mpibo.trial import State

MPIRUN = str(Path(sys.executable).with_name("mpirun"))
ENVIRONMENT = os.environ | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1",
}  # fmt: skip
both = pytest.mark.parametrize("ranks", [0, pytest.param(3, marks=pytest.mark.mpi)])


def command(*arguments, ranks=0):
    launcher = [MPIRUN, "-n", str(ranks)] if ranks else []
    return [*launcher, sys.executable, "-m", "mpibo", *map(str, arguments)]


def mpibo_(*arguments, folder, ranks=0, timeout=90):
    return subprocess.run(
        command(*arguments, ranks=ranks), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout
    )  # fmt: skip


@both
def test_a_run_and_its_folder(tmp_path, ranks):
    """Every file of the run folder says the same."""
    done = mpibo_("run", "synthetic:branin", "--max-trials", 15, "--out", "run", ranks=ranks, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "x1" in done.stdout and "Best" in done.stdout
    folder = tmp_path / "run"
    result = mpibo.load(folder)
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "ended" and status["why_ended"] == "max_trials" and status["exit_code"] == 0
    assert status["best"]["value"] == result.best.value and status["counts"]["DONE"] == 15
    with open(folder / "results.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["value"]) for row in table] == [trial.value for trial in result.trials]
    assert [float(row["config.x1"]) for row in table] == [trial.config["x1"] for trial in result.trials]
    import h5py

    with h5py.File(folder / "results.h5", locking=False) as file:
        assert list(file["value"]) == [trial.value for trial in result.trials]
        assert json.loads(file.attrs["space"])["parameters"][0]["name"] == "x1"
    again = mpibo_(
        "run", "synthetic:branin", "--settings", "run/settings.toml", "--max-trials", 18, ranks=ranks, folder=tmp_path
    )
    assert again.returncode == 0, again.stderr
    assert len(mpibo.load(folder).trials) == 18


def refused(folder, arguments, ranks=0):
    """The one line that bad input gets."""
    (folder / "bad.py").write_text("def f(:\n")
    (folder / "good.py").write_text("space = {'x': (0.0, 1.0)}\ndef f(x): return x\n")
    (folder / "bad.toml").write_text("x = = 3\n")
    done = mpibo_(*arguments, ranks=ranks, folder=folder)
    lines = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert lines[0].startswith("mpibo: ") and not (folder / "runs").exists()
    return lines[0]


@pytest.mark.mpi
@pytest.mark.parametrize(("objective", "told"), [("digitz", "digits"), ("bad.py:f", "SyntaxError")])
def test_rank_0_alone_tells_bad_input(tmp_path, objective, told):
    assert told in refused(tmp_path, ["run", objective, "--max-trials", 3], ranks=3)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "digitz"], "digits"),
        (["run", "--max-trails", "3"], "--max-trails"),
        (["run", "--walltime", "soon"], "walltime"),
        (["run", "--method", "ambs:kapa=2"], "kappa"),
        (["run", "missing.py:f", "--max-trials", "3"], "no file missing.py"),
        (["run", "bad.py:f", "--max-trials", "3"], "SyntaxError"),
        (["run", "good.py:g", "--max-trials", "3"], "no function 'g'"),
        (["run", "good.py:f"], "when is the search to end"),
        (["run", "good.py:f", "--max-trials", "3", "--space", "bad.toml"], "bad.toml"),
        (["run", "--settings", "bad.toml"], "bad.toml"),
        (["run", "--max-trials", "3", "--", "true"], "no space"),
    ],
)
def test_bad_input_gets_one_line_and_code_2(tmp_path, arguments, told):
    assert told in refused(tmp_path, arguments)


def test_help_groups_its_flags_and_shows_examples(tmp_path):
    done = mpibo_("run", "--help", folder=tmp_path)
    assert done.returncode == 0
    for word in ("goal:", "search:", "trials:", "workers:", "output:", "examples:", "--trial-timeout"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 130


@pytest.mark.mpi
@pytest.mark.parametrize("arguments", [["run", "--help"], ["--help"], ["nonsense"]])
def test_help_comes_once_under_mpirun(tmp_path, arguments):
    done = mpibo_(*arguments, ranks=3, folder=tmp_path)
    assert done.returncode == (2 if arguments == ["nonsense"] else 0)
    assert (done.stdout + done.stderr).count("mpibo: unknown" if arguments == ["nonsense"] else "usage:") == 1


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--target", "nan", "finite"),
        ("--max-trials", "1e3", "whole number"),
        ("--seed", "-1", "at least 0"),
        ("--start", "start.json", "list of configs"),
        ("--isolation", "some", "expected one of"),
    ],
)
def test_values_out_of_range(tmp_path, flag, value, told):
    (tmp_path / "start.json").write_text("[1, 2]")
    assert told in refused(tmp_path, ["run", "good.py:f", "--max-trials", 3, flag, value])


def test_settings_come_back_through_settings(tmp_path):
    """None, large seeds, negative numbers in exponent form: what settings.toml says is what was meant."""
    (tmp_path / "train.py").write_text(
        "def f(x, opt=0):\n    return {'value': x, 'none': opt is None}\nf.space = {'x': (1.0, 2.0)}\n"
    )
    more = ["--out", "run", "--progress", "none"]
    flags = ["--max-trials", 3, "--fix", "opt=None", "--seed", 2**60 + 1, "--target", "-1e-300"]
    first = mpibo_("run", "train.py:f", *flags, *more, folder=tmp_path)
    assert first.returncode == 0, first.stderr
    again = mpibo_("run", "train.py:f", "--settings", "run/settings.toml", "--max-trials", 6, *more, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    trials = mpibo.load(tmp_path / "run").trials
    assert len(trials) == 6 and all(trial.metrics["none"] for trial in trials)


def test_a_diverging_loss_costs_no_view(tmp_path):
    (tmp_path / "train.py").write_text(
        "def f(x, trial):\n    trial.report(float('nan'), step=1)\n    return x\nf.space = {'x': (0.0, 1.0)}\n"
    )
    done = mpibo_("run", "train.py:f", "--max-trials", 4, "--out", "run", folder=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert {"results.csv", "results.h5"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_a_killed_proposer_is_replaced(tmp_path):
    """Its caches are cold, the run goes on, no config comes twice, and the journal replays across it."""
    line = command("run", "synthetic:sleep", "--fix", "seconds=0.1", "--max-trials", 40, "--workers", 3, "--out", "run")
    run = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = tmp_path / "run" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count('"kind": "end"') >= 15):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(next(event["pid"] for event in read(journal).events if event["kind"] == "proposer"), signal.SIGKILL)
    assert run.wait(timeout=60) == 0
    events = read(journal).events
    assert sum(event["kind"] == "proposer" for event in events) == 2
    configs = [json.dumps(event["config"]) for event in events if event["kind"] == "start"]
    assert len(set(configs)) == len(configs) == 40
    assert replay(events) == []


SCRIPT = """#!/bin/sh
echo "training with $1 $2"
echo '{"step": 1, "value": 5}'
echo "$2" | awk '{ print ($1 - 0.5) * ($1 - 0.5) }'
"""


@both
def test_any_program(tmp_path, ranks):
    """A program's last line is its value; its JSON lines are reports; what it prints is in the log."""
    (tmp_path / "train.sh").write_text(SCRIPT)
    (tmp_path / "train.sh").chmod(0o755)
    (tmp_path / "space.toml").write_text("[space]\nlr = {float = [0.0, 1.0]}\n")
    done = mpibo_("run", "--space", "space.toml", "--max-trials", 8, "--out", "run", "--", "./train.sh", "--lr", "{lr}",
                  ranks=ranks, folder=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    for trial in mpibo.load(tmp_path / "run").trials:
        assert trial.value == pytest.approx((trial.config["lr"] - 0.5) ** 2, abs=1e-4)
    told = mpibo_("log", "run", 3, folder=tmp_path)
    assert told.returncode == 0 and "training with --lr" in told.stdout and "DONE" in told.stdout
    assert sum(event["kind"] == "report" for event in read(tmp_path / "run").events) == 8


def test_check_tries_one_trial(tmp_path):
    (tmp_path / "train.py").write_text(
        "def f(x, on):\n    print('trying', x)\n    return x\nspace = {'x': (2.0, 3.0), 'on': [True, False]}\n"
    )
    done = mpibo_("check", "train.py:f", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "x" in done.stdout and "trying 2." in done.stdout and "value 2." in done.stdout
    bad = mpibo_("check", "train.py:f", "--fix", "y=3", folder=tmp_path)
    assert bad.returncode == 2 and "no argument 'y'" in bad.stderr


def test_settings_from_a_file_and_flags(tmp_path):
    (tmp_path / "my.toml").write_text('max_trials = 4\nmethod = "random"\n[fix]\nscale = 2.0\n')
    (tmp_path / "train.py").write_text("def f(x, scale=1.0): return x * scale\nf.space = {'x': (1.0, 2.0)}\n")
    done = mpibo_("run", "train.py:f", "--settings", "my.toml", "--method", "lhs", "--out", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    opening = read(tmp_path / "run").events[0]
    assert opening["settings"]["method"] == "lhs" and opening["settings"]["max_trials"] == 4
    assert all(trial.value == 2 * trial.config["x"] for trial in mpibo.load(tmp_path / "run").trials)


@both
def test_exit_code_1_when_no_trial_has_a_value(tmp_path, ranks):
    (tmp_path / "train.py").write_text("def f(x):\n    raise RuntimeError('no data')\nf.space = {'x': (1.0, 2.0)}\n")
    done = mpibo_("run", "train.py:f", "--max-trials", 40, "--out", "run", ranks=ranks, folder=tmp_path)
    assert done.returncode == 1
    assert "all failed alike" in done.stderr and "no data" in done.stderr
    assert all(trial.state in (State.FAILED, State.LOST) for trial in mpibo.load(tmp_path / "run").trials)


def open_mpi():
    """Whether the launcher of these tests is Open MPI's."""
    told = subprocess.run([MPIRUN, "--version"], env=ENVIRONMENT, capture_output=True, text=True)
    return "Open MPI" in told.stdout or "open-mpi" in told.stdout


def _children(pid):
    """All living descendants of a process, by id and start time, so that a reused id is told apart."""
    found, todo = {}, [pid]
    while todo:
        each = todo.pop()
        try:
            found[each] = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[19]
            todo += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
        except OSError:
            continue
    return found


def _alive(processes):
    alive = []
    for pid, started in processes.items():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[19] == started and fields[0] != "Z":
            alive.append(pid)
    return alive


@both
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_ends_the_run_in_order(tmp_path, ranks, number, code):
    """Journal whole, status written, no process left; the next start goes on and evaluates nothing twice."""
    line = command("run", "synthetic:sleep", "--fix", "seconds=0.4", "--max-trials", 400, "--out", "run", ranks=ranks)
    run = subprocess.Popen(
        line, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    journal = tmp_path / "run" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count('"kind": "end"') >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    family = _children(run.pid)
    assert len(family) >= 3
    run.send_signal(number)
    output, _ = run.communicate(timeout=60)
    if ranks and open_mpi():  # its mpirun sends SIGTERM for SIGINT, a SIGKILL a second later, and always gives 1
        number, code = signal.SIGTERM, 75
        assert run.returncode == 1, output
    else:
        assert run.returncode == code, output
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["why_ended"] == number.name and status["exit_code"] == code
    events = read(tmp_path / "run").events
    assert events[-1]["kind"] == "close"
    deadline = time.monotonic() + 10
    while _alive(family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _alive(family) == []
    assert (ranks and open_mpi()) or not (tmp_path / "run" / "run.lock").exists()

    before = mpibo.load(tmp_path / "run").trials
    more = len([trial for trial in before if trial.retry_of is None]) + 3
    done = mpibo_(
        "run",
        "synthetic:sleep",
        "--fix",
        "seconds=0.1",
        "--max-trials",
        more,
        "--out",
        "run",
        ranks=ranks,
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    after = mpibo.load(tmp_path / "run").trials
    done_configs = [json.dumps(trial.config) for trial in after if trial.state is State.DONE]
    assert len(done_configs) == len(set(done_configs)) == more
    lost = {trial.id for trial in after if trial.state is State.LOST}
    assert lost == {trial.retry_of for trial in after if trial.retry_of is not None}


@pytest.mark.mpi
def test_a_launcher_that_does_not_match_is_refused(tmp_path):
    """The launcher says that there are 4 ranks, the library sees one: one line, code 2, no search."""
    if open_mpi():
        pytest.skip("these variables are Open MPI's own")
    done = subprocess.run(
        command("run", "synthetic:branin"), cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env=ENVIRONMENT | {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"},
    )  # fmt: skip
    assert done.returncode == 2 and "sees only one" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_killed_run_goes_on(tmp_path):
    """SIGKILL of the manager: the children die with it, and what was written is kept."""
    line = command("run", "synthetic:sleep", "--fix", "seconds=0.2", "--max-trials", 30, "--workers", 2, "--out", "run")
    run = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = tmp_path / "run" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count('"kind": "end"') >= 5):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = _children(run.pid)
    run.kill()
    run.wait()
    time.sleep(1)
    assert _alive(family) == []
    before = [trial for trial in mpibo.load(tmp_path / "run").trials if trial.state is State.DONE]
    done = mpibo_(
        "run",
        "synthetic:sleep",
        "--fix",
        "seconds=0.05",
        "--max-trials",
        30,
        "--workers",
        2,
        "--out",
        "run",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    after = mpibo.load(tmp_path / "run").trials
    assert [after[trial.id].value for trial in before] == [trial.value for trial in before]
    assert sum(trial.state is State.DONE for trial in after) == 30


def test_a_second_manager_is_refused(tmp_path):
    line = command("run", "synthetic:sleep", "--fix", "seconds=0.3", "--max-trials", 100, "--out", "run")
    run = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "status.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second = mpibo_("run", "synthetic:sleep", "--max-trials", 100, "--out", "run", folder=tmp_path)
    run.send_signal(signal.SIGINT)
    run.wait(timeout=60)
    assert second.returncode == 2 and f"{run.pid}" in second.stderr
