"""A trial goes on from its checkpoint as if nothing had broken it; from a bad one it does not, and says so."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mpibo.engine import messages
from mpibo.engine.keeping import Keeping, place
from mpibo.engine.running import RunningTrial, Stopped
from mpibo.engine.sandbox import Evaluator
from mpibo.engine.transport import Local
from mpibo.replaying import replay
from mpibo.store.journal import read
from mpibo.trial import State, Trial, trials_of


class Sum:
    """A part: what it has added up."""

    def __init__(self, size=1):
        self.numbers = [0] * size

    def state_dict(self):
        return {"numbers": self.numbers}

    def load_state_dict(self, state):
        if len(state["numbers"]) != len(self.numbers):
            raise ValueError(f"expected {len(self.numbers)} numbers, got {len(state['numbers'])}")
        self.numbers = list(state["numbers"])


class Desk:
    """Trials of one run folder in this process; keeps what they say."""

    def __init__(self, folder):
        self.folder, self.points, self.notes, self.why = str(folder), [], [], None

    def trial(self, number, budget=3, found=(), **more):
        keeping = Keeping(self.folder, number, found, note=self.notes.append, **{"rung": True} | more)
        return RunningTrial(number, budget=budget, emit=self.points.append, cancelled=lambda: self.why, keeping=keeping)

    def train(self, number, budget, found=(), size=1, **more):
        """Add up; gives the first step and the sums."""
        trial, part = self.trial(number, budget, found, **more), Sum(size)
        first = trial.resume(sum=part)
        for step in range(first + 1, budget + 1):
            part.numbers[0] += step
            trial.report(part.numbers[0], step, state={"seen": step})
        return first, part.numbers[0], trial

    def saved(self):
        """What the manager would offer of all that was reported."""
        return [point["checkpoint"] for point in self.points if "checkpoint" in point]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def offer(number, saved):
    return {"id": number} | {name: saved[name] for name in ("step", "sha256")}


def test_a_promotion_goes_on_where_its_parent_was_saved(desk):
    assert desk.train(0, 3)[:2] == (0, 6)
    (saved,) = desk.saved()
    assert saved["step"] == 3 and "checkpoint" in desk.points[-1]
    first, total, trial = desk.train(1, 5, [offer(0, saved)])
    assert (first, total) == (3, 15) and trial.saved == {"seen": 3} and desk.notes == []


def test_a_trial_that_was_saved_at_its_end_has_a_value_without_training(desk):
    """Its worker died between its last report and its answer."""
    desk.train(0, 3)
    first, _, trial = desk.train(1, 3, [offer(0, desk.saved()[0])])
    assert first == 3 and trial.last == 6.0


def missing(path):
    path.unlink()


def damaged(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("spoil", "told"), [(missing, "is missing"), (damaged, "is damaged (its hash differs)")], ids=["missing", "damaged"]
)
def test_a_bad_checkpoint_costs_what_it_held_and_is_told(desk, spoil, told):
    """The next one is taken: an elder's; without one the trial starts from nothing."""
    desk.train(0, 2)
    desk.train(1, 4, [offer(0, desk.saved()[0])])
    elder, own = desk.saved()
    spoil(Path(desk.folder, place(1, 4)))
    assert desk.train(2, 6, [offer(1, own), offer(0, elder)])[:2] == (2, 21)
    assert desk.notes == [f"checkpoint checkpoints/1/4.ckpt {told}: goes on from trial 0's step 2"]
    spoil(Path(desk.folder, place(0, 2)))
    desk.notes.clear()
    first, total, trial = desk.train(3, 6, [offer(1, own), offer(0, elder)])
    assert (first, total, trial.saved) == (0, 21, {"seen": 6} if trial.saved else {})
    assert [note.split(": ")[1] for note in desk.notes] == ["starts from nothing"] * 2


def test_a_checkpoint_that_does_not_fit_is_passed_over(desk):
    desk.train(0, 2, size=2)
    assert desk.train(1, 3, [offer(0, desk.saved()[0])])[:2] == (0, 6)
    told = (
        "checkpoint checkpoints/0/2.ckpt does not fit (sum: ValueError: expected 1 numbers, got 2): starts from nothing"
    )
    assert desk.notes == [told]


def test_when_a_report_saves(desk):
    """At the end of a rung, when the run ends, after a while; never for a trial that nobody will go on with."""
    now = [0.0]
    keeping = Keeping(desk.folder, 0, rung=True, every=10.0, now=lambda: now[0])
    assert not keeping.due(1, 3, None) and keeping.due(3, 3, None) and keeping.due(1, 3, "end")
    now[0] = 9.9
    assert not keeping.due(1, 3, None)
    now[0] = 10.0
    assert keeping.due(1, 3, None)
    assert not any(keeping.due(3, 3, why) for why in ("stop", "abandon", "timeout"))
    keeping.save(1, {}, {"a": 1}, None)
    now[0] = 19.9
    assert not keeping.due(1, 3, None)
    assert not Keeping(desk.folder, 0).due(3, 3, None)
    member = Keeping(desk.folder, 0, rung=True, every=0.0, writes=False)
    assert not member.due(3, 3, None) and not member.due(3, 3, "end")


def test_only_who_can_resume_saves(desk):
    trial = desk.trial(0, 1)
    trial.report(1.0, 1)
    assert desk.saved() == []
    trial.resume()
    trial.report(1.0, 1)
    assert desk.saved() == []
    trial.report(1.0, 1, state={})
    assert len(desk.saved()) == 1


def test_a_trial_that_is_told_to_end_saves_first(desk):
    desk.why = "end"
    with pytest.raises(Stopped):
        desk.train(0, 5, rung=False)
    assert [point["step"] for point in desk.points] == [1] and desk.saved()[0]["step"] == 1
    desk.why = "stop"
    with pytest.raises(Stopped):
        desk.train(1, 1)
    assert len(desk.saved()) == 1 and len(desk.points) == 2


def test_a_disk_that_is_full_costs_the_checkpoint_alone(desk, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mpibo.store.checkpoint.os.fsync", full)
    assert desk.train(0, 2)[1] == 3 and desk.train(0, 2, every=0.0)[1] == 3
    told = "checkpoint checkpoints/0/{}.ckpt can't be written (No space left on device): the training goes on"
    assert desk.saved() == [] and desk.notes == [told.format(2), told.format(1)]  # once a trial


def test_by_hand_nothing_is_saved(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trial = RunningTrial(budget=1)
    assert trial.resume(sum=Sum()) == 0 and trial.saved == {}
    trial.report(0.5, 1, state={"a": 1})
    assert "value 0.5" in capsys.readouterr().out and os.listdir() == []
    with pytest.raises(TypeError, match=r"state\['a'\] is of the type object"):
        trial.report(0.5, 1, state={"a": object()})
    with pytest.raises(TypeError, match="list has no state_dict"):
        trial.resume(model=[])


# --- in a child -------------------------------------------------------------------------------------------------------

OBJECTIVE = """
import random

class Walk:
    def __init__(self): self.at = 0.0
    def state_dict(self): return {"at": self.at}
    def load_state_dict(self, state): self.at = state["at"]

def objective(do, trial):
    walk = Walk()
    first = trial.resume(walk=walk)
    print("first", first)
    steps = trial.saved.get("steps", [])
    for step in range(first, trial.budget):
        walk.at += random.gauss(0.0, 1.0)
        steps = steps + [step]
        trial.report(walk.at, step=step + 1, state={"steps": steps} | ({"bad": object()} if do == "bad" else {}))
    return {"value": walk.at, "steps": steps}
"""


@pytest.fixture
def evaluate(tmp_path):
    """Evaluate one ``run`` message after the other on one worker; gives the outcomes, and all messages."""
    file = tmp_path / "objective.py"
    file.write_text(OBJECTIVE)

    def run(*make, **more):
        setup = {
            "objective": {"kind": "file", "path": str(file), "function": "objective"}, "fix": {}, "argv": ["x"],
            "folder": str(tmp_path), "isolation": "process", "trial_timeout": None, "memory": None, "threads": 1,
        } | more  # fmt: skip
        outcomes, said, waiting = [], [], list(make)
        deadline = time.monotonic() + 60
        with Local(1, setup) as transport:
            while len(outcomes) < len(make):
                assert time.monotonic() < deadline
                worker, message = transport.receive(transport.now() + 1) or (1, {"kind": "nothing"})
                said.append(message)
                if message["kind"] == "finished":
                    outcomes.append(messages.outcome(message))
                if message["kind"] in ("ready", "finished") and waiting:
                    transport.send(worker, waiting.pop(0)(said))
        return outcomes, said

    return run


def first_run(number, budget, do="walk", found=lambda said: (), rung=True):
    trial = Trial(id=number, config={"do": do}, budget=budget, seed=5)
    return lambda said: messages.run(trial, found(said), rung)


def latest(*numbers):
    """The checkpoints of these trials, as the manager would offer them."""

    def found(said):
        points = {
            message["id"]: point["checkpoint"] for message in said if message["kind"] == "report"
            for point in message["points"] if "checkpoint" in point
        }  # fmt: skip
        return [offer(number, points[number]) for number in numbers]

    return found


@pytest.mark.parametrize("isolation", ["process", "fresh", "none"])
def test_a_chain_of_promotions_is_one_unbroken_training(evaluate, isolation):
    """Random numbers go on, and each step is done once; a report with a checkpoint does not wait for others."""
    outcomes, said = evaluate(
        first_run(0, 9), first_run(1, 1), first_run(2, 3, found=latest(1)), first_run(3, 9, found=latest(2, 1)),
        isolation=isolation,
    )  # fmt: skip
    unbroken, *_, last = outcomes
    assert last.value == unbroken.value and last.metrics == unbroken.metrics == {"steps": list(range(9))}
    kept = [message["points"][-1]["checkpoint"]["step"] for message in said if message["kind"] == "report"
            and "checkpoint" in message["points"][-1]]  # fmt: skip
    assert kept == [9, 1, 3, 9]


def test_a_note_comes_up_and_stands_in_the_log(evaluate, tmp_path):
    wrong = lambda said: [offer(7, {"step": 1, "sha256": "0" * 64})]  # noqa: E731
    outcomes, said = evaluate(first_run(0, 2, found=wrong), first_run(1, 2, "bad"))
    note = "checkpoint checkpoints/7/1.ckpt is missing: starts from nothing"
    assert [message for message in said if message["kind"] == "note"] == [{"kind": "note", "id": 0, "text": note}]
    assert f"mpibo: {note}" in (tmp_path / "logs" / "worker-001.log").read_text()
    assert outcomes[0].state is State.DONE
    assert outcomes[1].reason == "exception" and "state['bad'] is of the type object" in outcomes[1].error


def test_every_so_often(evaluate):
    _, said = evaluate(first_run(0, 5, rung=False), checkpoint_every=1e-9)
    steps = [point["step"] for message in said if message["kind"] == "report" for point in message["points"]
             if "checkpoint" in point]  # fmt: skip
    assert steps == [1, 2, 3, 4, 5]


def test_of_several_ranks_the_first_alone_saves_and_all_load(tmp_path):
    (tmp_path / "objective.py").write_text(OBJECTIVE)
    objective = {"kind": "file", "path": str(tmp_path / "objective.py"), "function": "objective"}
    said = []
    for rank, found in ((1, lambda said: ()), (0, lambda said: ()), (1, latest(0))):
        comm = SimpleNamespace(rank=rank)
        evaluator = Evaluator({"objective": objective, "folder": str(tmp_path)}, said.append, lambda number: None, comm)
        budget = 2 + 2 * bool(found(said))
        outcome = evaluator.evaluate(first_run(0 if rank == 0 else 9, budget, found=found)(said))
    assert outcome.metrics == {"steps": [0, 1, 2, 3]} and said[-1]["points"][0]["step"] == 4
    assert [path.parent.name for path in tmp_path.rglob("*.ckpt")] == ["0"]


# --- a whole run ------------------------------------------------------------------------------------------------------

TRAIN = """
import random, time
import numpy as np
import torch
from pathlib import Path
from torch import nn

torch.set_num_threads(1)
space = {"lr": (1e-3, 1e-1, "log")}
WAIT = Path(__file__).with_name("wait")

def train(lr, trial):
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.MultiStepLR(opt, [3, 6], 0.5)
    first = trial.resume(model=model, opt=opt, schedule=schedule)
    total = trial.saved.get("total", 0.0)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] * x[:, 1])[:, None]
    for epoch in range(first, 10):
        for rows in torch.randperm(64).split(16):
            opt.zero_grad()
            noise = torch.from_numpy(np.random.randn(len(rows), 4)).float()
            loss = ((model(x[rows] + 0.1 * noise) - y[rows]) ** 2).mean()
            loss.backward()
            opt.step()
            total += loss.item() + 1e-3 * random.random()
        schedule.step()
        trial.report(total, step=epoch + 1, state={"total": total})
        while epoch == 4 and WAIT.exists():
            time.sleep(0.05)
            trial.report(total, step=epoch + 1, state={"total": total})
    return {"value": total, "first": first}
"""


@pytest.mark.torch
@pytest.mark.timeout(300)
def test_a_run_that_is_ended_goes_on_and_finds_the_same(tmp_path):
    """SIGUSR1 in mid-training, as Slurm sends it before the time limit: saved, LOST, asked again, bit for bit equal."""
    (tmp_path / "train.py").write_text(TRAIN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def command(out):
        flags = "--max-trials 1 --workers 1 --progress none --isolation process".split()
        return [sys.executable, "-m", "mpibo.run", "train.py:train", *flags, "--out", out]

    def rows(out):
        return trials_of(read(tmp_path / out).events)

    whole = {"cwd": tmp_path, "env": environment, "timeout": 100, "capture_output": True, "text": True}
    done = subprocess.run(command("unbroken"), **whole)
    assert done.returncode == 0, done.stderr
    (tmp_path / "wait").touch()
    broken = subprocess.Popen(command("broken"), cwd=tmp_path, env=environment)
    try:
        deadline = time.monotonic() + 60
        journal = tmp_path / "broken" / "journal.jsonl"
        while not journal.exists() or '"step": 5' not in journal.read_text():
            assert time.monotonic() < deadline and broken.poll() is None
            time.sleep(0.05)
        broken.send_signal(signal.SIGUSR1)
        assert broken.wait(60) == 75
    finally:
        broken.kill()
    (tmp_path / "wait").unlink()
    (lost,) = rows("broken")
    assert lost.state is State.LOST and (tmp_path / "broken" / place(0, 5)).exists()
    done = subprocess.run(command("broken"), **whole)
    assert done.returncode == 0, done.stderr
    (unbroken,), (_, again) = rows("unbroken"), rows("broken")
    assert again.retry_of == 0 and again.metrics == {"first": 5}
    assert again.value == unbroken.value and again.config == unbroken.config
    assert list((tmp_path / "broken").rglob("*.ckpt")) == []  # it saved nothing after it, and it has ended
    events = read(tmp_path / "broken").events
    assert replay(events) == [] and [event["death"] for event in events if event["kind"] == "lost"] == [False]
