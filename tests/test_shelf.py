"""Checkpoints on disk: what a trial may go on from is there, what is of no more use is not, and memory stays flat."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import simulate

from mpibo.engine.keeping import place
from mpibo.engine.managing.account import take_in
from mpibo.engine.managing.shelf import Shelf
from mpibo.engine.transport import Flaky
from mpibo.goals import Aims
from mpibo.replaying import replay
from mpibo.store.journal import read
from mpibo.trial import Ledger, State, trials_of

OPEN = {"kind": "open", "utc": "2026-01-01T00:00:00+00:00"}


class Run:
    """A journal in memory, the ledger and the shelf beside it, and the files as children write them."""

    def __init__(self, folder, schedule=False):
        self.folder, self.events, self.schedule = folder, [], schedule
        self.ledger = Ledger()
        self.shelf = Shelf(self.ledger, schedule)
        self.tell(**OPEN)

    def tell(self, kind, **fields):
        event = {"n": len(self.events) + 1, "t": 0.0, "kind": kind, **fields}
        self.events.append(event)
        self.ledger.apply(event)
        self.shelf.apply(event)

    def start(self, **more):
        number = self.ledger.next_id
        self.tell("start", id=number, config={}, seed=0, **{"budget": 1} | more)
        return number

    def save(self, trial, step):
        path = self.folder / place(trial, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        self.tell("report", id=trial, step=step, value=1.0, checkpoint={"step": step, "sha256": "a" * 64, "bytes": 1})

    def end(self, trial, value=1.0, state="DONE"):
        self.tell("end", id=trial, state=state, value=value, duration=1.0)

    def lose(self, trial):
        self.tell("lost", id=trial, why="", death=False)

    def sweep(self, synced=10**9):
        self.shelf.sweep(self.folder, synced)
        return self.files

    @property
    def files(self):
        return sorted(str(path.relative_to(self.folder)) for path in Path(self.folder).rglob("*.ckpt"))

    def offered(self, trial):
        return [(each["id"], each["step"]) for each in self.shelf.candidates(trial)]


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


@pytest.fixture
def scheduled(tmp_path):
    return Run(tmp_path, schedule=True)


def test_the_newest_is_kept_and_the_older_one_waits_for_the_sync(run):
    """Only what can't be taken back waits for it: after a power cut the line of the newer one could be gone."""
    trial = run.start()
    run.save(trial, 1)
    run.save(trial, 2)
    line = len(run.events)
    assert run.sweep(synced=line - 1) == [place(0, 1), place(0, 2)]
    assert run.sweep(synced=line) == [place(0, 2)]


def test_a_step_that_is_saved_again_is_not_removed(run):
    trial = run.start()
    run.save(trial, 1)
    run.save(trial, 1)
    assert run.sweep() == [place(0, 1)]
    run.save(trial, 2)
    run.save(trial, 1)
    assert run.sweep() == [place(0, 1)]


def test_a_retry_goes_on_from_the_attempts_before_it(run):
    first = run.start()
    run.save(first, 3)
    run.lose(first)
    second = run.start(retry_of=first)
    assert run.offered(second) == [(first, 3)]
    run.lose(second)  # before it has saved
    third = run.start(retry_of=second)
    assert run.offered(third) == [(first, 3)] and run.sweep() == [place(first, 3)]
    run.save(third, 5)
    assert run.sweep() == [place(third, 5)]  # whose own is as good
    run.lose(third)
    last = run.start(retry_of=third)
    assert run.offered(last) == [(third, 5)]
    run.end(last)
    assert run.sweep() == [] and run.shelf.files == set()


def test_a_promotion_goes_on_from_its_own_attempts_then_upwards(scheduled):
    run = scheduled
    bottom = run.start()
    run.save(bottom, 1)
    run.end(bottom)
    lost = run.start(parent=bottom, budget=3, origin="promotion")
    assert run.offered(lost) == [(bottom, 1)]
    run.save(lost, 2)
    run.lose(lost)
    middle = run.start(parent=bottom, retry_of=lost, budget=3)
    assert run.offered(middle) == [(lost, 2), (bottom, 1)]
    run.end(middle)  # it has saved nothing of its own
    top = run.start(parent=middle, budget=9)
    assert run.offered(top) == [(lost, 2), (bottom, 1)]
    run.save(top, 9)
    run.end(top)
    assert run.sweep() == [place(bottom, 1), place(lost, 2), place(top, 9)]
    run.tell("drop", ids=[bottom, lost, middle])
    assert run.sweep() == [place(top, 9)]


def test_without_a_schedule_the_incumbent_alone_keeps_its_own(run):
    for value in (3.0, 5.0, 2.0, 4.0):
        trial = run.start()
        run.save(trial, 1)
        run.end(trial, value)
    stopped = run.start()
    run.save(stopped, 1)
    run.end(stopped, 0.0, "STOPPED")
    failed = run.start()
    run.save(failed, 1)
    run.end(failed, None, "FAILED")
    given_up = run.start()
    run.save(given_up, 1)
    run.tell("abandon", id=given_up, why="")
    run.save(given_up, 2)  # it has not heard of it
    assert run.sweep() == [place(2, 1)]


def test_with_a_schedule_a_file_is_kept_until_it_is_dropped(scheduled):
    run = scheduled
    for value in (3.0, 2.0, 4.0):
        trial = run.start()
        run.save(trial, 1)
        run.end(trial, value)
    failed = run.start()
    run.save(failed, 1)
    run.end(failed, None, "FAILED")
    assert len(run.sweep()) == 3
    run.shelf.drop([0, 1, 2])
    assert run.sweep() == [place(1, 1)]  # an incumbent
    better = run.start(budget=3)
    run.end(better, 1.0)
    assert run.sweep() == []


def test_what_a_trial_may_be_reading_is_not_removed_under_it(scheduled):
    run = scheduled
    parent = run.start()
    run.save(parent, 1)
    run.end(parent)
    best = run.start(budget=9)
    run.end(best)
    child = run.start(parent=parent, budget=3)
    run.shelf.drop([parent])
    assert run.sweep() == [place(parent, 1)] and run.offered(child) == [(parent, 1)]
    run.lose(child)
    again = run.start(parent=parent, retry_of=child, budget=3)
    assert run.offered(again) == [(parent, 1)]
    run.save(again, 3)
    assert run.sweep() == [place(again, 3)]


def test_what_no_line_names_is_removed_at_a_start(run):
    trial = run.start()
    run.save(trial, 1)
    run.lose(trial)
    folder = run.folder / "checkpoints"
    (folder / "0" / "2.ckpt").write_text("its child died before it could report it")
    (folder / "0" / ".3.ckpt.1234.tmp").write_text("while it wrote it")
    (folder / "8").mkdir()
    (folder / "8" / ".1.ckpt.1234.tmp").write_text("")
    run.shelf.tidy(run.folder)
    assert [path.name for path in sorted(folder.rglob("*"))] == ["0", "1.ckpt"]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), schedule=st.booleans())
def test_any_run_keeps_what_is_of_use_and_nothing_else(tmp_path_factory, data, schedule):
    """Whatever happens: what is offered is there, a rebuilt shelf is the same, at the end nothing is left."""
    run = Run(tmp_path_factory.mktemp("run"), schedule)
    done = []
    for _ in range(data.draw(st.integers(1, 30))):
        running, lost = sorted(run.ledger.running), sorted(run.ledger.lost)
        deeds = ["start"] + ["promote"] * bool(done) * schedule + ["retry"] * bool(lost)
        deeds += ["save", "end", "lose", "abandon"] * bool(running) + ["drop"] * bool(done) * schedule
        deed = data.draw(st.sampled_from(deeds))
        trial = data.draw(st.sampled_from(running)) if running else None
        if deed == "start":
            run.start()
        elif deed == "promote":
            parent = data.draw(st.sampled_from(done))
            run.start(parent=parent, budget=2)
        elif deed == "retry":
            before = run.ledger.lost[data.draw(st.sampled_from(lost))]
            run.start(parent=before.parent, retry_of=before.id, budget=before.budget)
        elif deed == "save":
            run.save(trial, data.draw(st.integers(1, 5)))
        elif deed == "end":
            run.end(trial, float(data.draw(st.integers(0, 9))))
            done.append(trial)
        elif deed == "lose":
            run.lose(trial)
        elif deed == "abandon":
            run.tell("abandon", id=trial, why="")
        else:
            run.tell("drop", ids=data.draw(st.lists(st.sampled_from(done), unique=True)))
        if data.draw(st.booleans()):
            assert set(run.sweep()) == run.shelf.files
        for number in run.ledger.running:
            assert all((run.folder / place(*each)).exists() for each in run.offered(number))
    rebuilt = take_in(run.events, Aims(), schedule).shelf
    assert rebuilt.files == run.shelf.files
    assert all(rebuilt.candidates(number) == run.shelf.candidates(number) for number in run.ledger.running)
    for number in list(run.ledger.lost):
        before = run.ledger.lost[number]
        run.start(parent=before.parent, retry_of=number, budget=before.budget)
    for number in list(run.ledger.running):
        run.tell("abandon", id=number, why="")
    run.tell("drop", ids=list(range(run.ledger.next_id)))
    best = {run.ledger.best.id} if run.ledger.best else set()
    assert {int(name.split("/")[1]) for name in run.sweep()} <= best
    assert not (run.shelf._attempts.keys() | run.shelf._elders.keys()) - best and run.shelf._files.keys() <= best


class Saving(Flaky):
    """Workers whose trials save at once, and complain of what they were to go on from."""

    def __init__(self, inner):
        super().__init__(inner)
        self.runs = []

    def send(self, worker, message):
        if message["kind"] == "run":
            self.runs.append(message)
            number = message["id"]
            saved = {"step": 1, "sha256": f"{number:064x}", "bytes": 5}
            point = {"step": 1, "value": 9.0, "metrics": {}, "checkpoint": saved}
            self._inner._at(0.01, worker, {"kind": "report", "id": number, "points": [point]})
            if "checkpoints" in message:
                self._inner._at(0.02, worker, {"kind": "note", "id": number, "text": "is missing"})
        super().send(worker, message)


def test_the_manager_offers_notes_and_forgets(tmp_path, caplog):
    """Workers are silent for a while: their trials are asked again, with what the lost ones have saved."""
    made = []

    def wrap(inner):
        made.append(Saving(inner))
        return made[0]

    duration = lambda run, rng: 100.0 if run["id"] in (3, 5) else 1.0  # noqa: E731
    manager, ended, _ = simulate(tmp_path, workers=4, max_trials=30, lease=20.0, duration=duration, wrap=wrap)
    assert ended.why == "max_trials"
    events = read(tmp_path).events
    found = trials_of(events)
    retries = [trial for trial in found if trial.retry_of is not None]
    assert {trial.retry_of for trial in retries} == {3, 5} and found[3].state is State.LOST
    told = {run["id"]: run.get("checkpoints") for run in made[0].runs}
    for trial in retries:
        before = trial.retry_of
        assert told[trial.id] == [{"id": before, "step": 1, "sha256": f"{before:064x}"}]
    assert sum(each is not None for each in told.values()) == len(retries)
    assert not any("rung" in run for run in made[0].runs)
    notes = [event for event in events if event["kind"] == "note"]
    assert [event["text"] for event in notes] == ["is missing"] * len(retries) and "is missing" in caplog.text
    assert manager._account.shelf.files == {place(manager.ledger.best.id, 1)}
    assert replay(events) == []
    wrong = next(event for event in events if "checkpoint" in event)
    wrong["checkpoint"]["step"] = 2
    assert "expected a checkpoint of the reported step" in replay(events)[0]


def test_with_a_schedule_every_trial_saves_its_rung(tmp_path):
    made = []
    manager, *_ = simulate(
        tmp_path, max_trials=10, wrap=lambda inner: made.append(Saving(inner)) or made[0], schedule="median",
        budget=(1, 9),
    )  # fmt: skip
    assert len(made[0].runs) == 10 and all(run["rung"] for run in made[0].runs)
    # none may go on in another; the incumbent keeps its own, and so do those that ended after the last answer
    assert manager.ledger.best.id in {int(path.split("/")[1]) for path in manager._account.shelf.files}


class Partly(Flaky):
    """Workers of which some trials save the end of their rung: those that ``saves`` names."""

    def __init__(self, inner, saves):
        super().__init__(inner)
        self.saves = saves

    def send(self, worker, message):
        if message["kind"] == "run" and self.saves(message):
            step = message["budget"]
            saved = {"step": step, "sha256": f"{message['id']:064x}", "bytes": 5}
            point = {"step": step, "value": 9.0, "metrics": {}, "checkpoint": saved}
            self._inner._at(0.0, worker, {"kind": "report", "id": message["id"], "points": [point]})
        super().send(worker, message)


def notes_of(folder, saves, total=20):
    """Go on with a run under ASHA; gives its journal, and its notes by trial."""
    simulate(folder, max_trials=total, wrap=lambda inner: Partly(inner, saves), schedule="asha", budget=(1, 9))
    events = read(folder).events
    return events, {event["id"]: event["text"] for event in events if event["kind"] == "note"}


def test_of_an_objective_that_saves_nothing_it_is_said_once_a_run(tmp_path, caplog):
    """At the first promotion; a new start does not say it again. Were it told of each, nobody would read the others."""
    events, notes = notes_of(tmp_path, saves=lambda run: False)
    first = next(event["id"] for event in events if event["kind"] == "start" and "parent" in event)
    assert list(notes) == [first] and notes[first].startswith("promotions train from the start")
    assert f"trial {first}: promotions train from the start" in caplog.text
    more, again = notes_of(tmp_path, saves=lambda run: False, total=40)
    assert again == notes and len(more) > len(events) and replay(more) == []


def test_a_parent_that_left_no_checkpoint_is_named(tmp_path):
    """Others save: each promotion that begins anew says so, those that go on do not."""
    events, notes = notes_of(tmp_path, saves=lambda run: run["id"] % 2 == 0, total=40)
    promotions = {event["id"]: event["parent"] for event in events if event["kind"] == "start" and "parent" in event}
    first = {trial: parent for trial, parent in promotions.items() if parent not in promotions}
    anew = {trial: parent for trial, parent in first.items() if parent % 2}
    assert anew and len(anew) < len(first)
    told = "its parent, trial {}, left no checkpoint: starts from nothing"
    assert {each: notes[each] for each in notes.keys() & first} == {each: told.format(anew[each]) for each in anew}


def test_a_run_whose_trials_save_has_no_notes(tmp_path):
    """Nor have retries: what was lost may not have come to save anything."""
    duration = lambda run, rng: 100.0 if run["id"] in (3, 5) else 1.0  # noqa: E731
    wrap = lambda inner: Partly(inner, lambda run: run["id"] not in (3, 5))  # noqa: E731
    simulate(tmp_path, lease=20.0, duration=duration, wrap=wrap, schedule="asha", budget=(1, 9))
    events = read(tmp_path).events
    assert any("retry_of" in event for event in events) and not any(event["kind"] == "note" for event in events)
