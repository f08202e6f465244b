"""A trial that is told to end ends: by itself where it can hear, by force when its grace is over, and rightly named."""

import os
import select
import signal
import time

import pytest

from mpibo.engine import messages
from mpibo.engine.cancelling import Cancel
from mpibo.engine.working.worker import Worker
from mpibo.trial import State, Trial

OBJECTIVE = """
import os, signal, subprocess, sys, time, types
from pathlib import Path

HERE = Path(__file__).parent
for name in ("group", "slow"):
    if (HERE / name).exists():
        (HERE / "loading").touch()
        if name == "group":
            module = types.ModuleType("mpibo.engine.group")
            module.join_group = lambda group: (HERE / "joined").open("a").write(str(group["rank"]))
            sys.modules["mpibo.engine.group"] = module
        while name == "slow" and (HERE / name).exists():
            time.sleep(0.01)

def for_ever(trial, value=3.0):
    for step in range(100_000):
        trial.report(value, step=step)
        time.sleep(0.01)

def objective(do, trial):
    (HERE / "began").touch()
    if do == "listens":
        for_ever(trial)
    if do == "reports no number":
        for_ever(trial, float("nan"))
    if do == "is deaf":
        trial.report(3.0, step=1)
        (HERE / "pids").write_text(str(subprocess.Popen(["setsid", "sleep", "900"]).pid))
        time.sleep(900)
    if do == "is silent":
        (HERE / "pids").write_text("")
        time.sleep(900)
    if do == "goes on":
        try:
            for_ever(trial)
        except BaseException:
            return 7.0
    if do == "stumbles":
        try:
            for_ever(trial)
        finally:
            raise ValueError("while it tidied up")
    if do == "leaves":
        try:
            for_ever(trial)
        except BaseException:
            os._exit(4)
    if do == "exits":
        sys.exit(143)
    if do in ("SIGKILL", "SIGTERM", "SIGINT", "SIGUSR1"):
        os.kill(os.getpid(), getattr(signal, do))
        time.sleep(0.1 if do == "SIGUSR1" else 900)
        return 0.5
    if do == "returns":
        return 0.5
    if do == "device":
        return {"value": 1.0, "device": trial.device, "threads": os.environ["OMP_NUM_THREADS"]}
    trial.report(0.25, step=1)
    return 0.5

def without_trial(do):
    (HERE / "pids").write_text("")
    time.sleep(900)
"""


class Desk:
    """A manager's place: one worker with a real child, and a clock that only the test moves."""

    def __init__(self, folder, ended=lambda: False, poll=lambda: None, **setup):
        self.folder, self.sent, self.clock, self.next = folder, [], 100.0, 0
        file = folder / "objective.py"
        file.write_text(OBJECTIVE)
        setup = {
            "objective": {"kind": "file", "path": str(file), "function": "objective"}, "fix": {}, "argv": ["x"],
            "folder": str(folder), "isolation": "process", "trial_timeout": None, "memory": None, "threads": 1,
        } | setup  # fmt: skip
        self.worker = Worker(1, setup, self.sent.append, now=lambda: self.clock, ended=ended, poll=poll)
        self.worker.start()

    def run(self, do, **more):
        self.sent.clear()
        self.worker.handle(messages.run(Trial(id=self.next, config={"do": do}, seed=5, **more)))
        self.next += 1

    def cancel(self, why, grace=20.0, text=None, trial=None):
        trial = self.next - 1 if trial is None else trial
        self.worker.handle({"kind": "cancel", "id": trial, "why": why, "grace": grace, "text": text})

    def pass_time(self, seconds):
        self.clock += seconds
        self.worker.step()

    def wait(self, what):
        """Drive the worker until ``what()`` holds."""
        deadline = time.monotonic() + 60
        while not what():
            assert time.monotonic() < deadline
            select.select(self.worker.descriptors, [], [], 0.02)
            self.worker.step()

    def wait_for(self, name):
        """Wait for a message of this kind, or for a file that the objective makes."""
        self.wait(lambda: self._told(name) or (self.folder / name).exists())

    def outcome(self):
        self.wait(lambda: self._told("finished"))
        return messages.outcome(self._told("finished")[0])

    def _told(self, kind):
        return [message for message in self.sent if message["kind"] == kind]


@pytest.fixture
def desk(tmp_path):
    desks = []

    def make(**more):
        desks.append(Desk(tmp_path, **more))
        return desks[-1]

    yield make
    for each in desks:
        each.worker.close()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(("why", "state", "reason", "error"), [
    ("end", State.LOST, "lost", "ended by the run"),
    ("stop", State.STOPPED, None, None),
    ("timeout", State.STOPPED, "timeout", None),
])  # fmt: skip
def test_who_listens_ends_by_itself_and_keeps_its_last_report(desk, why, state, reason, error):
    """Its child lives on, and evaluates the next trial."""
    desk = desk()
    desk.run("listens")
    desk.wait_for("report")
    desk.cancel(why)
    outcome = desk.outcome()
    assert (outcome.state, outcome.value, outcome.reason, outcome.error) == (state, 3.0, reason, error)
    child = desk.worker._child
    desk.run("well")
    assert desk.outcome().value == 0.5 and desk.worker._child is child


@pytest.mark.parametrize(("why", "do", "state", "value", "reason"), [
    ("end", "is deaf", State.LOST, 3.0, "lost"),
    ("stop", "is deaf", State.STOPPED, 3.0, None),
    ("timeout", "is deaf", State.FAILED, None, "timeout"),
    ("abandon", "is deaf", State.LOST, 3.0, "lost"),
    ("end", "is silent", State.LOST, None, "lost"),
    ("stop", "is silent", State.FAILED, None, "timeout"),
    ("timeout", "is silent", State.FAILED, None, "timeout"),
])  # fmt: skip
def test_who_does_not_listen_is_killed_when_its_grace_is_over(desk, why, do, state, value, reason):
    """With all that it started, even what left its process group."""
    desk = desk()
    desk.run(do)
    desk.wait_for("pids")
    desk.wait(lambda: (desk.folder / "pids").read_text() or do == "is silent")
    desk.cancel(why, text="so it was decided")
    desk.pass_time(19.0)
    assert desk.clock < desk.worker.wake() <= desk.clock + 1
    assert desk.worker.busy and alive(desk.worker._child.pid)
    desk.pass_time(1.0)
    outcome = desk.outcome()
    assert (outcome.state, outcome.value, outcome.reason) == (state, value, reason)
    assert "so it was decided" in outcome.error and "and killed after 20 s" in outcome.error
    started = (desk.folder / "pids").read_text()
    desk.wait(lambda: not started or not alive(int(started)))
    desk.run("well")
    assert desk.outcome().value == 0.5


def test_without_any_value_there_is_nothing_to_stop_with(desk):
    desk = desk()
    desk.run("reports no number")
    desk.wait_for("report")
    desk.cancel("timeout", text="too long")
    outcome = desk.outcome()
    assert (outcome.state, outcome.reason, outcome.error) == (State.FAILED, "timeout", "too long")


@pytest.mark.parametrize("why", ["end", "stop", "timeout", "abandon"])
def test_who_goes_on_to_a_value_is_done(desk, why):
    desk = desk()
    desk.run("goes on")
    desk.wait_for("report")
    desk.cancel(why)
    assert (outcome := desk.outcome()).state is State.DONE and outcome.value == 7.0


@pytest.mark.parametrize("do", ["stumbles", "leaves"])
def test_what_fails_while_it_is_ended_is_lost_not_failed(desk, do):
    desk = desk()
    desk.run(do)
    desk.wait_for("report")
    desk.cancel("end")
    assert (outcome := desk.outcome()).state is State.LOST and outcome.value == 3.0
    desk.run("well")
    assert desk.outcome().value == 0.5


@pytest.mark.parametrize("grace", [0.0, 20.0])
def test_a_value_that_came_first_stands(desk, grace):
    """The child has answered when the cancel comes; that touches neither this trial nor the next."""
    desk = desk()
    desk.wait(lambda: desk.worker._loaded)
    desk.run("returns")
    assert select.select(desk.worker.descriptors, [], [], 60)[0]  # its answer is there, but not read yet
    desk.cancel("stop", grace=grace)
    assert (outcome := desk.outcome()).state is State.DONE and outcome.value == 0.5
    desk.run("well")
    assert desk.outcome().state is State.DONE


def test_a_value_that_came_while_its_child_was_killed_stands(desk):
    """The next trial is not given to the dying child."""
    desk = desk()
    desk.wait(lambda: desk.worker._loaded)
    desk.run("returns")
    assert select.select(desk.worker.descriptors, [], [], 60)[0]
    desk.worker._kill(Cancel("timeout"))
    assert desk.outcome().state is State.DONE
    desk.run("returns")
    assert desk.outcome().value == 0.5


def test_a_cancel_for_another_trial_is_ignored(desk):
    desk = desk()
    desk.run("well")
    desk.outcome()
    desk.cancel("end", grace=0.0)  # late: the trial has ended
    desk.run("well")
    desk.cancel("end", grace=0.0, trial=0)
    assert desk.outcome().value == 0.5


def test_the_first_reason_and_the_earliest_deadline_count(desk):
    desk = desk()
    desk.run("is deaf")
    desk.wait_for("pids")
    desk.cancel("stop", grace=500.0)
    desk.cancel("end", grace=3.0)
    desk.cancel("timeout", grace=None)
    desk.pass_time(3.0)
    assert (outcome := desk.outcome()).state is State.STOPPED and outcome.value == 3.0


def test_a_trial_cancelled_while_its_objective_loads_never_begins(desk, tmp_path):
    (tmp_path / "slow").touch()
    desk = desk()
    desk.run("well")
    desk.cancel("end")
    desk.wait_for("loading")
    (tmp_path / "slow").unlink()
    assert (outcome := desk.outcome()).state is State.LOST and outcome.value is None
    assert not (tmp_path / "began").exists()


def test_with_several_goals_a_report_is_no_value(desk):
    desk = desk(goals=["min loss", "min size"])
    desk.run("listens")
    desk.wait_for("report")
    desk.cancel("stop")
    assert (outcome := desk.outcome()).state is State.STOPPED and outcome.value is None


# --- a fixed time limit ---------------------------------------------------------------------------------------------


def test_at_its_time_limit_a_trial_is_told_first(desk):
    desk = desk(trial_timeout=600.0)
    desk.run("listens")
    desk.wait_for("report")
    desk.pass_time(599.0)
    assert desk.worker._cancel is None and desk.clock < desk.worker.wake() <= desk.clock + 1
    desk.pass_time(1.0)
    outcome = desk.outcome()
    assert (outcome.state, outcome.value, outcome.reason) == (State.STOPPED, 3.0, "timeout")
    assert outcome.error == "the trial took longer than 600 s"


def test_a_tenth_of_the_time_limit_later_it_is_killed(desk):
    desk = desk(trial_timeout=100.0)
    desk.run("is deaf")
    desk.wait_for("pids")
    desk.pass_time(100.0)
    desk.pass_time(9.0)
    assert desk.clock < desk.worker.wake() <= desk.clock + 1
    assert desk.worker.busy and alive(desk.worker._child.pid)
    desk.pass_time(1.0)
    outcome = desk.outcome()
    assert (outcome.state, outcome.value, outcome.reason) == (State.FAILED, None, "timeout")
    assert "longer than 100 s and killed after 10 s (worker 1 on" in outcome.error


@pytest.mark.parametrize("kind", ["function", "command"])
def test_who_can_not_hear_is_killed_at_the_limit(desk, tmp_path, kind):
    program = f"import time; open({str(tmp_path / 'pids')!r}, 'w'); time.sleep(900)"
    objective = {
        "function": {"kind": "file", "path": str(tmp_path / "objective.py"), "function": "without_trial"},
        "command": {"kind": "command", "argv": ["python3", "-c", program]},
    }[kind]
    desk = desk(trial_timeout=100.0, objective=objective)
    desk.run("x")
    desk.wait_for("pids")
    desk.pass_time(100.0)
    outcome = desk.outcome()  # without any time passing
    assert (outcome.state, outcome.reason) == (State.FAILED, "timeout")
    assert "killed after" not in outcome.error


# --- signals --------------------------------------------------------------------------------------------------------


def test_a_warning_of_the_scheduler_alone_ends_no_trial(desk):
    """SIGUSR1 reaches the child too, and means nothing to it: the manager tells it what is to come."""
    desk = desk()
    desk.run("SIGUSR1")
    assert desk.outcome().state is State.DONE


@pytest.mark.parametrize("do", ["SIGTERM", "SIGINT"])
def test_a_signal_of_the_scheduler_loses_the_trial(desk, do):
    desk = desk()
    desk.run(do)
    assert (outcome := desk.outcome()).state is State.LOST and do in outcome.error
    desk.run("well")
    assert desk.outcome().value == 0.5


@pytest.mark.parametrize("do", ["SIGKILL", "exits"])
def test_no_death_is_the_trials_fault_while_its_rank_is_ended(desk, do):
    told = []
    desk = desk(ended=lambda: bool(told))
    desk.run(do)
    assert desk.outcome().state is State.FAILED
    told.append(signal.SIGTERM)
    desk.run(do)
    assert desk.outcome().state is State.LOST
    desk.run("well")  # the manager may go on
    assert desk.outcome().value == 0.5


# --- the child's world ----------------------------------------------------------------------------------------------


def test_the_ranks_variables_win_and_name_the_device(desk):
    desk = desk(variables={"MPIBO_DEVICE": "cuda:1", "OMP_NUM_THREADS": "3"})
    desk.run("device")
    assert desk.outcome().metrics == {"device": "cuda:1", "threads": "3"}


def test_a_child_of_a_group_joins_it_once(desk, tmp_path):
    (tmp_path / "group").touch()  # the objective's file brings a group of its own
    desk = desk(group={"rank": 2})
    desk.wait(lambda: desk.worker._loaded)
    assert not (tmp_path / "joined").exists()
    for _ in range(2):
        desk.run("well")
        assert desk.outcome().value == 0.5
    assert (tmp_path / "joined").read_text() == "2"


# --- isolation none -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("message", "state"), [
    ({"kind": "cancel", "id": 0, "why": "stop", "grace": 5.0}, State.STOPPED),
    ({"kind": "cancel", "id": 0, "why": "end", "grace": 5.0}, State.LOST),
    ({"kind": "cancel", "id": 7, "why": "end", "grace": 5.0}, State.STOPPED),  # another's; then the limit comes
    ({"kind": "quit"}, State.LOST),
])  # fmt: skip
def test_in_the_ranks_own_process_a_trial_hears_as_well(desk, message, state):
    def poll():
        here.clock += 1.0
        if here.clock == 105.0:
            here.worker.handle(message)

    here = desk(isolation="none", poll=poll, trial_timeout=20.0)
    home, variables = os.getcwd(), dict(os.environ)
    try:
        here.run("listens")
    finally:
        os.chdir(home)
        os.environ.clear()
        os.environ.update(variables)
    outcome = here.outcome()
    assert outcome.state is state and outcome.value == 3.0
    assert here._told("report")
