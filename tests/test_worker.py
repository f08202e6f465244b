"""User code can't hurt the search: whatever an objective does costs its own trial, and the worker goes on."""

import os
import time

import pytest

from mpibo.engine import messages
from mpibo.engine.transport import Local
from mpibo.trial import State, Trial

OBJECTIVE = """
import ctypes, os, subprocess, sys, time, warnings

with open(__file__ + ".loads", "a") as file:
    file.write("x")

def helper(x):
    return 2 * x

def objective(do, trial):
    if do == "value":
        for step in range(3):
            trial.report(3.0 - step, step=step + 1, loss=step)
        return {"value": 1, "size": 2.5, "name": "a"}
    if do == "reported":
        trial.report(0.25, step=1)
        return
    if do == "raise":
        raise KeyError("boo")
    if do == "nan":
        return float("nan")
    if do == "inf":
        return {"value": float("-inf"), "kept": 1}
    if do == "none":
        return None
    if do == "text":
        return "0.5"
    if do == "array":
        import numpy; return numpy.zeros(3)
    if do == "numpy":
        import numpy; return numpy.float32(0.5)
    if do == "nothing":
        return {"loss": 1.0}
    if do == "large":
        return {"value": 1.0, "text": "x" * 100_000}
    if do == "segfault":
        print("about to fall", flush=True)
        ctypes.string_at(0)
    if do == "_exit":
        os._exit(3)
    if do == "exit":
        sys.exit("enough")
    if do == "hang":
        subprocess.Popen(["sleep", "987"])
        time.sleep(100)
    if do == "memory":
        kept = []
        while True:
            kept.append(bytearray(10_000_000))
    if do == "numpy memory":
        import numpy
        return float(numpy.ones(10**9)[0])
    if do == "mpi":
        from mpi4py import MPI
        return MPI.COMM_WORLD.size
    if do == "threads":
        return int(os.environ["OMP_NUM_THREADS"])
    if do == "print":
        print("hello from", trial.id); sys.stderr.write("and stderr\\n")
        return 0.0
    if do == "stdin":
        return len(sys.stdin.read())
    if do == "sigterm":
        os.kill(os.getpid(), 15); time.sleep(5)
    if do == "seeded":
        import random, numpy
        return random.random() + numpy.random.random()
    if do == "where":
        here = os.getcwd()
        os.chdir("/")
        return {"value": 0, "here": here}
    if do == "close stdout":
        sys.stdout.close()
        return 0.75
    if do == "long keys":
        return {"a" * 100_000: 1.0}
    if do == "large and long":
        return {"value": 1.0, "text": "\u20ac" * 9_000}
    if do == "long error":
        raise ValueError("\u20ac" * 1_000_000)
    if do == "nan report":
        trial.report(float("nan"), step=1)
        return 0.5
    if do == "spawn":
        import multiprocessing
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(helper, [1.5])[0]
    if do == "daemon":
        subprocess.Popen(["setsid", "sleep", "988"])
        return 0.0
    if do == "folder":
        (trial.folder / "model.txt").write_text("weights")
        return float(os.path.samefile(os.environ["MPIBO_FOLDER"], trial.folder))
"""


@pytest.fixture
def evaluate(tmp_path):
    """Evaluate one case after the other on one worker; gives their outcomes and reports."""
    file = tmp_path / "objective.py"
    file.write_text(OBJECTIVE)

    def run(*cases, **more):
        setup = {
            "objective": {"kind": "file", "path": str(file), "function": "objective"}, "fix": {}, "argv": ["x"],
            "folder": str(tmp_path), "isolation": "process", "trial_timeout": 2.0, "memory": None, "threads": 1,
        } | more  # fmt: skip
        outcomes, reports, waiting = [], [], list(enumerate(cases))
        deadline = time.monotonic() + 60
        with Local(1, setup) as transport:
            while len(outcomes) < len(cases):
                assert time.monotonic() < deadline
                worker, message = transport.receive(transport.now() + 1) or (1, {"kind": "nothing"})
                if message["kind"] == "report":
                    reports += message["points"]
                if message["kind"] == "finished":
                    outcomes.append(messages.outcome(message))
                if message["kind"] in ("ready", "finished") and waiting:
                    number, case = waiting.pop(0)
                    trial = Trial(id=number, config={"do": case}, seed=5)
                    transport.send(worker, messages.run(trial))
        return outcomes, reports

    return run


CASES = {
    "raise": "exception", "nan": "nonfinite", "inf": "nonfinite", "none": "value", "text": "value", "array": "value",
    "nothing": "value", "large": "value", "segfault": "crash", "_exit": "exit", "exit": "exit", "hang": "timeout",
}  # fmt: skip


def test_every_kind_of_failure_costs_one_trial(evaluate):
    """Each failure is followed by a good call on the same worker."""
    cases = [case for bad in CASES for case in (bad, "numpy")]
    outcomes, _ = evaluate(*cases)
    assert [outcome.reason for outcome in outcomes[::2]] == list(CASES.values())
    assert all(outcome.state is State.FAILED and outcome.error for outcome in outcomes[::2])
    assert [outcome.value for outcome in outcomes[1::2]] == [0.5] * len(CASES)
    told = dict(zip(CASES, outcomes[::2], strict=True))
    assert "KeyError: 'boo'" in told["raise"].error and "worker 1 on" in told["raise"].error
    assert "SIGSEGV" in told["segfault"].error and "about to fall" in told["segfault"].error
    assert "exit code 3" in told["_exit"].error and "enough" in told["exit"].error
    assert "mpibo/engine" not in told["raise"].error  # the user's frames, not ours
    assert told["inf"].metrics == {"kept": 1}


def test_a_hang_is_killed_with_what_it_started(evaluate):
    evaluate("hang")
    deadline = time.monotonic() + 5
    while any("sleep\x00987" in _command(pid) for pid in os.listdir("/proc") if pid.isdigit()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_daemon_of_an_objective_does_not_outlive_the_run(evaluate):
    evaluate("daemon", "numpy")
    deadline = time.monotonic() + 5
    while any("sleep\x00988" in _command(pid) for pid in os.listdir("/proc") if pid.isdigit()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_awkward_objectives(evaluate):
    """They change folder, close what is ours, return or raise too much: each costs its own trial at most."""
    outcomes, reports = evaluate(
        "where", "where", "close stdout", "numpy", "long keys", "large and long", "long error", "nan report", "numpy"
    )  # fmt: skip
    assert outcomes[0].metrics["here"] == outcomes[1].metrics["here"]
    assert [outcome.value for outcome in outcomes[2:]] == [0.75, 0.5, None, 1.0, None, 0.5, 0.5]
    assert (outcomes[4].reason, outcomes[6].reason) == ("value", "exception")
    assert len(outcomes[6].error) <= 4096 and reports[-1]["value"] is None


def test_an_objective_may_spawn_processes_of_its_own(evaluate):
    """They import the objective's file under its own name."""
    outcomes, _ = evaluate("spawn", trial_timeout=20.0)
    assert outcomes[0].value == 3.0


@pytest.mark.parametrize(("isolation", "loads"), [("process", 1), ("fresh", 6)])
def test_how_often_the_objective_is_loaded(evaluate, tmp_path, isolation, loads):
    evaluate(*["numpy"] * 5, isolation=isolation)
    assert len((tmp_path / "objective.py.loads").read_text()) in (loads, loads - 1)  # the spare one may not get to it


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


@pytest.mark.parametrize("case", ["memory", "numpy memory"])
def test_the_memory_limit_costs_one_trial(evaluate, case):
    outcomes, _ = evaluate(case, "numpy", memory=300 * 2**20, trial_timeout=30.0)
    assert outcomes[0].reason == "memory" and outcomes[1].value == 0.5


def test_good_values_and_reports(evaluate):
    outcomes, reports = evaluate("value", "reported", "numpy")
    assert outcomes[0].value == 1.0 and outcomes[0].metrics == {"size": 2.5, "name": "a"}
    assert outcomes[1].value == 0.25
    assert [(point["step"], point["value"]) for point in reports] == [(1, 3.0), (2, 2.0), (3, 1.0), (1, 0.25)]
    assert reports[1]["metrics"] == {"loss": 1}


def test_the_childs_world(evaluate):
    """MPI may be imported, threads are set, stdin is empty, the trial has a folder of its own."""
    outcomes, _ = evaluate("threads", "stdin", "folder")
    assert [outcome.value for outcome in outcomes] == [1.0, 0.0, 1.0]


@pytest.mark.mpi
def test_a_child_may_import_mpi(evaluate):
    outcomes, _ = evaluate("mpi", "numpy", trial_timeout=20.0)
    assert [outcome.value for outcome in outcomes] == [1.0, 0.5]


def test_a_child_that_is_told_to_end_is_lost_not_failed(evaluate):
    outcomes, _ = evaluate("sigterm", "numpy")
    assert outcomes[0].state is State.LOST and outcomes[1].value == 0.5


@pytest.mark.parametrize("isolation", ["process", "fresh", "none"])
def test_isolation_changes_no_result(evaluate, isolation):
    """The seed is set before each trial, wherever it runs."""
    outcomes, _ = evaluate("numpy", "seeded", "raise", "seeded", "seeded", isolation=isolation, trial_timeout=None)
    values = [outcome.value for outcome in outcomes]
    assert values[1] == values[3] == values[4] and values[2] is None


def test_what_a_trial_prints_is_in_its_workers_log(evaluate, tmp_path):
    from mpibo.engine.working.log import printed_by

    evaluate("numpy", "print", "numpy", "print")
    log = tmp_path / "logs" / "worker-001.log"
    assert printed_by(log, 3) == b"hello from 3\nand stderr\n"
    assert printed_by(log, 0) == b"" and log.read_bytes().count(b"=== mpibo trial") == 2


def test_no_log_without_output(evaluate, tmp_path):
    evaluate("numpy")
    assert not (tmp_path / "logs").exists()
