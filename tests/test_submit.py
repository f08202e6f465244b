"""Batch scripts without a cluster: what `mpibo submit` writes, and when a script goes on in another allocation."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpibo import needs
from mpibo.engine.deadline import noticed
from mpibo.submit import SHAPE, submit

ROOT = Path(__file__).resolve().parents[1]
# Stands for srun: writes the run folder as a run would that ended so; counts the signals that it is sent.
SRUN = """#!/usr/bin/env python3
import json, os, pathlib, signal, sys, time
if "--job-name=mpibo-spot" in sys.argv:
    pathlib.Path("spot").write_text(" ".join(sys.argv[1:]))
    sys.exit()
flags = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
out = [value for flag, value in zip(flags, flags[1:]) if flag == "--out"][-1]
folder = pathlib.Path(out)
folder.mkdir(parents=True, exist_ok=True)
(folder / "flags").write_text(" ".join(sys.argv[1:]))
told = json.loads(os.environ["FAKE"])
if told.get("stuck") and not (folder / "stuck").exists():
    (folder / "stuck").touch()
    time.sleep(60)
signals = []
if told.get("until"):
    signal.signal(signal.SIGUSR1, lambda *_: signals.append(1))
    (folder / "ready").touch()
    while not signals:
        time.sleep(0.02)
    time.sleep(0.3)
    (folder / "signals").write_text(str(len(signals)))
with open(folder / "journal.jsonl", "a") as journal:
    journal.write('{"n": 1, "kind": "end", "id": 0}\\n' * told.get("ends", 0))
if "why" in told:
    (folder / "status.new").write_text(json.dumps({
        "state": told.get("state", "ended"), "why_ended": told["why"], "exit_code": told["code"],
        "best": {"config": {"exit_code": 9, "state": "red"}}}, indent=2))
    (folder / "status.new").replace(folder / "status.json")
sys.exit(told.get("rank", 0))
"""
NOTES = '#!/bin/sh\necho "$(basename $0) $*" >>{log}\n{then}\n'
JOB = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_NTASKS": "16", "SLURM_JOB_NAME": "tune", "ENVIRONMENT": "BATCH"}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs of Slurm's names that note how they are called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    tool(tmp_path, "srun", SRUN)
    tool(tmp_path, "python", "#!/bin/sh\n")  # it can import everything
    for name, then in {"scontrol": "exit 0", "sbatch": "echo Submitted batch job 8", "squeue": "echo 1:00:00"}.items():
        tool(tmp_path, name, NOTES.format(log=tmp_path / "log", then=then))
    return tmp_path


def tool(folder, name, text):
    path = folder / "bin" / name
    path.write_text(text)
    path.chmod(0o755)


def calls(folder):
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


def start(fake, *arguments, script=ROOT / "slurm/run.sh", **variables):
    """Start slurm/run.sh, as in a job."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "MPIBO_"))}
    environment = kept | JOB | {"MPIBO_HOME": str(ROOT), "MPIBO_PYTHON": "python", "FAKE": json.dumps(fake)}
    environment |= variables
    return subprocess.Popen(
        ["bash", script, *arguments], env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def run(fake, *arguments, **variables):
    """The exit code of slurm/run.sh, and what it said."""
    process = start(fake, *arguments, **variables)
    return process.wait(timeout=60), process.stdout.read()


def until(claim):
    deadline = time.monotonic() + 60
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_job_ends_with_the_runs_own_code(slurm):
    """srun's code is the highest of its tasks: 137 where a worker was killed."""
    assert run({"why": "max_trials", "code": 0, "rank": 137})[0] == 0
    assert run({"why": "failing", "code": 1, "rank": 137})[0] == 1
    assert run({"rank": 2})[0] == 2  # bad input: the status is an earlier start's
    assert not calls(slurm)


@pytest.mark.parametrize(("why", "asks"), [("SIGUSR1", True), ("deadline", True), ("SIGTERM", False)])
def test_a_run_that_the_allocations_end_broke_off_is_requeued(slurm, why, asks):
    """After scancel it is not."""
    code, _ = run({"why": why, "code": 75, "ends": 1}, "tune.py:train", "--max-trials", "9")
    assert code == 75 and calls(slurm) == (["scontrol requeue 7"] if asks else [])
    assert (slurm / "runs/train-7/journal.jsonl").exists()
    run({"rank": 2}, "tune.py:train")  # what does not come so far that it writes a status is not asked for again
    assert len(calls(slurm)) == asks


def test_within_salloc_nothing_is_requeued(slurm):
    assert run({"why": "SIGUSR1", "code": 75}, ENVIRONMENT="")[0] == 75 and not calls(slurm)


def test_requeues_without_progress_come_to_an_end(slurm):
    """Each allocation that gets further may be followed by another; three that do not, by none."""
    for ends in (0, 2, 0, 0):
        _, said = run({"why": "deadline", "code": 75, "ends": ends}, MPIBO_REQUEUES="3")
        assert "goes on" in said
    code, said = run({"why": "deadline", "code": 75}, MPIBO_REQUEUES="3")
    assert code == 75 and "too short" in said and len(calls(slurm)) == 4


def test_the_notice_reaches_the_ranks_once_and_the_script_lives_on(slurm):
    """USR1 goes to the batch script alone; --out may be the person's own."""
    process = start(
        {"until": "signal", "why": "SIGUSR1", "code": 75}, "digits", "--out", "mine", "--", "x", "--out", "no"
    )
    until((slurm / "mine/ready").exists)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 75 and calls(slurm) == ["scontrol requeue 7"]
    assert (slurm / "mine/signals").read_text() == "1" and not (slurm / "no").exists()


@pytest.mark.parametrize("made", [False, True], ids=["run.sh", "mpibo submit"])
def test_a_spot_node_that_goes_ends_the_job_in_time(slurm, capsys, made):
    """A watcher on each node sends USR2; the ranks get USR1, and the run folder says until when they have."""
    script, words = ROOT / "slurm/run.sh", ["digits", "--out", "mine"]
    if made:
        assert submit([*words, "--time", "1h", "--dry-run"]) == 0
        script, words = slurm / "job.sh", []
        script.write_text(capsys.readouterr().out)
    (slurm / "mine").mkdir()
    (slurm / "mine/notice").write_text("of an earlier start")
    fake = {"until": "signal", "why": "SIGUSR1", "code": 75}
    process = start(fake, *words, script=script, MPIBO_SPOT="1", MPIBO_PYTHON=sys.executable)
    until(lambda: (slurm / "mine/ready").exists() and (slurm / "spot").exists())
    assert not (slurm / "mine/notice").exists()
    process.send_signal(signal.SIGUSR2)
    until(lambda: noticed(slurm / "mine/notice"))
    assert 70 < noticed(slurm / "mine/notice") <= 110
    assert process.wait(timeout=60) == 75 and calls(slurm) == ["scontrol requeue 7"]
    assert (slurm / "mine/signals").read_text() == "1"
    told = (slurm / "spot").read_text()
    watch = Path(re.search(r" bash (\S+) scancel --batch --signal=USR2 7$", told)[1])
    assert watch.name == "spot_watch.sh" and watch.is_file() and "--ntasks=2 --ntasks-per-node=1" in told


def test_elsewhere_nobody_watches(slurm):
    for told in ({"MPIBO_SPOT": "0"}, {}):  # this machine is none of EC2's
        run({"why": "max_trials", "code": 0}, **told)
    assert not (slurm / "spot").exists()


def test_the_data_of_an_objective_are_fetched_before_the_ranks_start(slurm):
    tool(
        slurm,
        "python",
        f"""#!/bin/sh
case "$*" in
*mpibo.needs*) exec {sys.executable} "$@" ;;
*/get_*) echo "$*" >>{slurm}/log; exit $CODE ;;
esac
""",
    )
    fetched = str(ROOT / "scripts/get_fashion.py")
    assert run({}, "rnn", "--fix", "data=fashion", CODE="0")[0] == 0 and calls(slurm) == [fetched]
    code, said = run({}, "fashion", CODE="1", MPIBO_OUT="no")
    assert code == 2 and "run scripts/get_fashion.py where there is a network" in said
    code, said = run({}, "rnn", "--fix", "data", MPIBO_OUT="no")
    assert (code, said) == (2, "mpibo: --fix expects NAME=VALUE, got 'data'\n") and not (slurm / "no").exists()


@pytest.mark.parametrize(
    ("words", "script"),
    [("", ""), ("mnist", "scripts/get_mnist.py"), ("fashion-architecture --max-trials 3", "scripts/get_fashion.py"),
     ("rnn", ""), ("rnn --budget 2 --fix data=mnist", "scripts/get_mnist.py"), ("--settings a.toml rnn", ""),
     ("--settings b.toml rnn", "scripts/get_fashion.py"), ("cifar10cnn", ""), ("--space s.toml -- mnist", "")],
)  # fmt: skip
def test_which_script_fetches_what_a_search_reads(slurm, capsys, words, script):
    (slurm / "a.toml").write_text("max-trials = 3\n")
    (slurm / "b.toml").write_text('[fix]\ndata = "fashion"\n')
    assert needs.main(words.split()) == 0
    assert capsys.readouterr().out.strip() == script and (not script or (ROOT / script).is_file())


def test_a_start_that_hangs_is_done_again(slurm):
    tool(slurm, "scancel", NOTES.format(log=slurm / "log", then=""))
    tool(slurm, "squeue", "#!/bin/sh\necho 7.batch; echo 7.0\n")
    code, said = run({"stuck": True, "why": "max_trials", "code": 0}, "digits", MPIBO_START="1")
    assert code == 0, said
    assert "once more" in said and calls(slurm) == ["scancel --signal=KILL 7.0"]


def test_where_requeue_is_forbidden_another_job_follows(slurm):
    """With the shape of this one, in the same run folder, and without this one's variables."""
    log = slurm / "log"
    tool(slurm, "scontrol", NOTES.format(log=log, then="exit 1"))
    tool(slurm, "sbatch", f'#!/bin/sh\necho "sbatch $*" >>{log}\necho "$MPIBO_OUT ${{SLURM_JOB_ID:-}}" >>{log}\n')
    given = {"SLURM_JOB_ACCOUNT": "ab12", "SLURM_NTASKS_PER_NODE": "8", "SLURM_GPUS_PER_NODE": "4"}
    run({"why": "SIGUSR1", "code": 75}, "tune.py:train", "--goals", "min a, max b", **given)
    line, told = calls(slurm)[-2:]
    assert "--dependency=afterany:7" in line and "--time=1:00:00" in line and "--nodes=2" in line
    assert "--account=ab12" in line and "--ntasks-per-node=8" in line and "--gpus-per-node=4" in line
    assert line.endswith("slurm/run.sh tune.py:train --goals min a, max b")
    assert told.strip() == f"{slurm}/runs/train-7"


def test_gpus_are_shared_by_the_ranks_unless_slurm_binds_them(slurm):
    flags = slurm / "runs/digits-7/flags"
    for given, bound in [({}, False), ({"SLURM_GPUS_ON_NODE": "4"}, True)]:
        run({}, "digits", **given)
        assert ("--gpu-bind=none" in flags.read_text()) == bound
    run({}, "digits", SLURM_GPUS_ON_NODE="4", SLURM_GPUS_PER_TASK="1", MPIBO_SRUN="--cpu-bind=cores --label")
    assert "--gpu-bind" not in flags.read_text() and "--cpu-bind=cores --label " in flags.read_text()
    assert "--mpi=pmi2 --no-kill --kill-on-bad-exit=0" in flags.read_text()


def test_a_file_of_the_site_is_sourced_first(slurm):
    (slurm / "site.sh").write_text("export SLURM_MPI_TYPE=pmix\n")
    run({}, "digits", MPIBO_SETUP="site.sh")
    assert "--mpi=pmix" in (slurm / "runs/digits-7/flags").read_text()
    code, said = run({}, "digits", MPIBO_SETUP="nowhere.sh")
    assert code == 2 and said == "mpibo: MPIBO_SETUP: can't read nowhere.sh\n"


# --- mpibo submit ---------------------------------------------------------------------------------------------------


def test_submit_shows_the_script(slurm, capsys):
    """It holds all that it needs, and is a script that a shell and shellcheck take."""
    words = ["--goals", "min a, max 'b'", "--max-trials", "9", "--nodes", "3", "--time", "90m", "--account", "ab12"]
    assert submit(["mlp", *words, "--sbatch=--mail-type=END", "--dry-run"]) == 0
    script = capsys.readouterr().out
    for flag in ("nodes=3", "time=0-01:30:00", "account=ab12", "signal=B:USR1@120", "requeue", "mail-type=END"):
        assert f"#SBATCH --{flag}\n" in script
    assert "source" not in script.split("fail()")[1].replace("sourced", "").split("MPIBO_SETUP")[0]
    with pytest.raises(SystemExit):
        submit(["--help"])
    assert {f"--{flag}" for flag in (*SHAPE, "time", "notice", "dry-run")} <= set(capsys.readouterr().out.split())
    assert submit(["mlp", "--time", "1h", "--notice", "10m", "--dry-run"]) == 0
    assert "#SBATCH --signal=B:USR1@600\n" in capsys.readouterr().out
    assert script.endswith("""search mlp --goals 'min a, max '"'"'b'"'"'' --max-trials 9\n""")
    (slurm / "job.sh").write_text(script)
    subprocess.run(["bash", "-n", "job.sh"], check=True)
    assert not calls(slurm) and not (slurm / "runs").exists()


def test_submit_submits_it(slurm, capsys):
    (slurm / "train.sh").touch()
    (slurm / "space.toml").write_text("[space]\nlr = {float = [0.1, 1.0]}\n")
    command = ["--space", "space.toml", "--max-trials", "5", "--time", "1h", "--", "./train.sh", "--lr", "{lr}"]
    assert submit(command) == 0
    (script,) = slurm.glob("runs/train-*.sh")
    assert calls(slurm) == [f"sbatch {script.relative_to(slurm)}"] and "batch job 8" in capsys.readouterr().out
    assert "search --space space.toml --max-trials 5 -- ./train.sh --lr '{lr}'" in script.read_text()


@pytest.mark.parametrize("words", ["mnist", "fashion-architecture", "rnn --fix data=mnist", "cifar10cnn"])
def test_data_that_are_missing_are_told_before_the_queue(slurm, monkeypatch, capsys, words):
    """How to get them, too. Where nothing is submitted, or a file of the site may name them, it is a warning."""
    monkeypatch.delenv("MPIBO_DATA", raising=False)
    command = [*words.split(), "--max-trials", "5", "--time", "1h"]
    with pytest.raises(ValueError, match=r"^no \w+ in data/.*torchvision\.datasets\.\w+\('data', download=True\)"):
        submit(command)
    assert not (slurm / "runs").exists() and not calls(slurm)
    (slurm / "site.sh").touch()
    for more in (["--dry-run"], ["--setup", "site.sh"]):
        assert submit([*command, *more]) == 0 and capsys.readouterr().err.startswith("mpibo: no ")
    monkeypatch.setenv("MPIBO_DATA", str(slurm / "there"))
    for folder in ("MNIST/raw", "FashionMNIST/raw", "cifar-10-batches-py"):
        (slurm / "there" / folder).mkdir(parents=True)
        (slurm / "there" / folder / "file").touch()
    assert submit(command) == 0 and not capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("digits", "give --time"),
        ("digits --time 60", "60m"),
        ("digits --time soon", "--time: expected a duration"),
        ("digits --time 1h --nodes two", "--nodes: expected a whole number"),
        ("digits --time 1m --notice 2m", "must be shorter"),
        ("digits --time 1h --max-trials none", "max_trials"),
        ("digits --time 1h --max-trails 5", "--max-trails"),
        ("nothing.py:train --time 1h --max-trials 5", "no file nothing.py"),
        ("--space gone.toml --max-trials 5 --time 1h -- ./x", "no file gone.toml"),
        ("json:loads --time 1h", "when is the search to end"),
        ("digits --time 1h --deadline 30m", "--deadline is not for a job"),
        ("digits --time 1h --setup gone.sh", "no file gone.sh"),
        ("digits --time 1h --account a'b", "without blanks and quotes"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(slurm, words, told):
    with pytest.raises(ValueError, match=r"\S") as raised:
        submit(words.split(" "))
    assert told in str(raised.value) and not (slurm / "runs").exists() and not calls(slurm)


def test_what_sbatch_refuses_is_told_in_one_line(slurm):
    tool(slurm, "sbatch", "#!/bin/sh\necho 'sbatch: error: invalid account' >&2; exit 1\n")
    with pytest.raises(ValueError, match="invalid account"):
        submit(["digits", "--time", "1h", "--account", "nobody"])
    (slurm / "bin/sbatch").unlink()
    with pytest.raises(ValueError, match="sbatch"):
        submit(["digits", "--time", "1h"])
