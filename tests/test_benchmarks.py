"""The benchmarks' own reading and arithmetic: a witness that would notice, shares of time that add up."""

import json
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import architectures
import campaign
import checkpoints
import faults
import mnist_search
import rivals
import runs
import scaling
import training_runs
import witness
from witness import Witness, key

from mpibo import Float, Space
from mpibo.store.journal import line_of


def journal(*events):
    """A journal's bytes, made by the library's own writer."""
    return b"".join(line_of(event, number, number - 1) for number, event in enumerate(events, start=1))


def opened(pid=1):
    return {"kind": "open", "t": 0.0, "utc": "2026-01-01T00:00:00+00:00", "pid": pid, "settings": {},
            "space": Space({"x": Float(0.0, 1.0)}).to_json()}  # fmt: skip


def start(number, x=None, **more):
    config = {"x": number / 100 if x is None else x}
    return {"kind": "start", "t": 1.0, "id": number, "config": config, "budget": 1, "origin": "design", "seed": number,
            "worker": 1, **more}  # fmt: skip


def end(number, value, state="DONE"):
    return {"kind": "end", "t": 2.0, "id": number, "state": state, "value": value, "duration": 0.5}


def lost(number):
    return {"kind": "lost", "t": 3.0, "id": number, "why": "the run ended", "death": False}


KILLED = [opened(), start(0), end(0, 0.5), start(1)]  # trial 1 ran
RESUMED = [*KILLED, opened(2), lost(1), start(2, 0.01, seed=1, retry_of=1, origin="retry")]


def seen(*copies, notes=()):
    """A witness of copies of a journal, one after the other."""
    found = Witness()
    for events in copies:
        found.read(journal(*events))
    found.hear(b"".join(json.dumps(words).encode() + b"\n" for words in notes))
    return found


def note(number, x=None):
    return {"begin": number, "key": key({"x": number / 100 if x is None else x})}


def test_a_resume_as_it_should_be_has_no_findings():
    """Lines grow, the trial that ran is LOST and asked again, each evaluation was noted once."""
    notes = [note(0), {"told": 0, "value": 0.5}, note(1), note(2, 0.01)]
    found = seen(KILLED, RESUMED, [*RESUMED, end(2, 0.25)], notes=[*notes, {"told": 2, "value": 0.25}])
    found.resumed()
    found.settle(final=True)
    assert found.findings == [] and (found.lost, found.doubled, found.differences) == (0, 0, 0)
    assert [row.state for row in found.rows.values()] == ["DONE", "LOST", "DONE"]


def test_a_torn_tail_may_go_and_a_whole_line_may_not():
    """What is not a good line was never written; a good line that is missing, or other bytes in it, is a loss."""
    whole = journal(*KILLED)
    found = Witness()
    found.read(whole + b'{"n": 5, "kind": "end", "t": 2.')
    found.read(whole + line_of(opened(2), 5, 4))
    assert found.lost == 0 and found.lines == 5
    found.read(whole.replace(b'"value": 0.5', b'"value": 0.6'))
    assert found.lost == 3, "the changed line and all behind it"
    shorter = seen(KILLED, KILLED[:2])
    assert shorter.lost == 2 and "line 3" in shorter.findings[0]


def test_a_line_with_another_checksum_or_number_ends_the_good_ones():
    """The reading does not lean on the library: it computes the checksum itself."""
    first, second = line_of(opened(), 1, 0), line_of(start(0), 2, 1)
    assert witness.good_lines(first + second) == [first, second]
    assert witness.good_lines(first + first) == [first]
    assert witness.good_lines(first + second.replace(b'"budget": 1', b'"budget": 2')) == [first]
    assert b"%08x" % zlib.crc32(first[: first.rfind(b', "crc"')]) in first


@pytest.mark.parametrize(
    ("events", "notes"),
    [
        ([*KILLED, start(2, 0.0)], []),  # the config of trial 0, which is DONE
        ([*RESUMED, start(3, 0.01, seed=1, retry_of=1, origin="retry")], []),  # asked again twice
        ([opened(), start(0), start(1, 0.0), end(0, 0.5), end(1, 0.5)], []),  # two results
        (KILLED, [note(0), note(0)]),  # evaluated twice
    ],
)
def test_what_is_done_twice_is_found(events, notes):
    """Evaluations, results and retries come once."""
    assert seen(events, notes=notes).doubled == 1


def test_what_does_not_fit_is_found():
    """Evaluations without a line, results that nobody told, trials that are left open."""
    assert seen(KILLED, notes=[note(7)]).differences == 1
    assert seen(KILLED, notes=[note(0, 0.9)]).differences == 1
    told = seen(KILLED, notes=[note(0), {"told": 0, "value": 0.4}, note(1)])
    told.settle()
    assert told.differences == 1 and "the objective told 0.4" in told.findings[0]
    left = seen([*KILLED, opened(2)])
    left.resumed()
    assert left.differences == 1 and "neither ended nor LOST" in left.findings[0]
    never = seen(RESUMED[:-1])
    never.told = {0: 0.5}
    never.settle(final=True)
    assert [words for words in never.findings if "never asked again" in words]


def test_the_library_reads_the_same_tables_and_another_table_is_found():
    """``mpibo.load``, ``Trials`` and ``Ledger`` of a killed and resumed journal; then one value off."""
    found, data = seen(KILLED, RESUMED), journal(*RESUMED)
    tables = dict(campaign.library_tables(data))
    assert set(tables) == {"mpibo.load", "Trials", "Ledger"}
    for name, rows in tables.items():
        found.compare(rows, name)
    assert found.findings == []
    tables["Trials"][0]["value"] = 0.6
    found.compare(tables["Trials"], "Trials")
    found.compare(tables["Trials"][:-1], "Trials")
    assert found.differences == 2


def test_anything_that_is_not_zero_makes_the_campaign_fail():
    """Kills and redone evaluations are what a campaign costs; all else is bad."""
    assert faults.Count("manager", kills=100, redone=700).bad == 0
    for name in ("lost", "doubled", "differences", "left"):
        assert faults.Count("manager", **{name: 1}).bad == 1
    assert len(faults.row_of(faults.Count("manager"))) == len(faults.HEADER)


def test_shares_of_time():
    """Two workers, each always busy but for a gap of one second in ten: the window is where both had work."""
    spans = [(1, 0.0, 4.0), (1, 5.0, 9.0), (1, 9.0, 12.0), (2, 1.0, 10.0), (2, 10.0, 12.0)]
    told = rivals.summary(spans, cpu=1e-4, trips=10.0, first=0.0)
    assert told["busy"] == pytest.approx(100 * (8 + 9) / 18)  # from 1 s, both there, to 10 s, the last begin
    assert told["rate"] == pytest.approx(3 / 9)
    events = [{"kind": "start", "id": i, "t": begin, "worker": worker, "config": {"x": i}}
              for i, (worker, begin, _) in enumerate(spans)]  # fmt: skip
    events += [{"kind": "end", "id": i, "t": last, "duration": last - begin, "state": "DONE"}
               for i, (_, begin, last) in enumerate(spans)]  # fmt: skip
    made = runs.Run(0.0, 0.0, 0.0, events, [], [])
    assert runs.busy(made, 2)["steady"] == pytest.approx(told["busy"])
    assert runs.busy(made, 2)["whole"] == pytest.approx(100 * 22 / 24)


def test_a_task_of_a_rival_takes_what_its_number_says():
    """The same number, the same task, for every rival; a sleep is as long as it says."""
    begin, finish = rivals.work("sleep", 0.01, 3)
    assert finish - begin >= 0.005
    assert rivals.packed(rivals.RUN).startswith(b'{"kind":"run","id":')


def test_points_are_measured_once(tmp_path):
    """What a file of points has is not measured again, and each target is held against its own point."""
    path, made = tmp_path / "points.json", []

    def point():
        made.append(1)
        return scaling.Point("real", "auto", 7, 1.0, steady=98.5, whole=96.0, evaluations=140, rate=6.7, elapsed=21.0)

    for _ in range(2):
        kept = scaling.Kept(str(path))
        kept.take(("real", "auto", 7, 1.0), point)
    assert made == [1]
    (only,) = kept.points.values()
    assert only.target == 98.0 and "98 met" in only.row() and len(only.row()) == len(scaling.HEADER)


def test_real_evaluations_grow_with_the_ranks_so_that_two_cores_carry_them():
    """127 workers sleep 10 s each, seven 1 s; never more evaluations a second than the rate."""
    assert scaling.affordable(127) == 10.0 and scaling.affordable(7) == 1.0
    assert all((n - 1) / scaling.affordable(n - 1) <= 1.05 * scaling.RATE for n in scaling.RANKS)


def test_time_to_an_error_counts_no_time_between_two_starts():
    """A promotion counts the epochs that it trained itself; a trial of a smaller budget is not the returned one."""

    def done(number, t, value, error):
        event = {"kind": "end", "t": t, "id": number, "state": "DONE", "value": value, "duration": 7.0}
        return event | {"metrics": {"test_error": error}}

    def begun(number, t, budget, **more):
        return {"kind": "start", "t": t, "id": number, "config": {}, "budget": budget, **more}

    first = [{"kind": "open", "t": 0.0}, begun(0, 1.0, 1), begun(1, 1.0, 1), done(0, 8.0, 0.03, 0.04)]
    again = [{"kind": "open", "t": 0.0}, begun(3, 2.0, 3, retry_of=2, parent=0), done(1, 2.0, 0.01, 0.02)]
    told = training_runs.told([*first, begun(2, 8.0, 3, parent=0), *again, done(3, 9.0, 0.02, 0.02)])
    assert (told.wall, told.configs, told.starts) == (17.0, 2, 2)
    assert told.busy == pytest.approx(3 * 7.0 / (7 * (7.0 + 7.0)))
    assert told.returned() == training_runs.End(17.0, 0.02, 0.02, 3, 2, 3, None)
    assert told.reached(0.02) == (10.0, 2) and told.reached(0.02, 3) == (17.0, 4) and told.reached(0.005) is None


def test_the_curves_of_a_run_are_those_of_its_journal(tmp_path, capsys):
    """Through promotions and retries, each epoch once; what is not whole or ended early by the schedule has none."""

    def begun(number, t, budget, **more):
        return {
            "kind": "start",
            "t": t,
            "id": number,
            "config": {"lr": number / 10},
            "budget": budget,
            "seed": 7,
            **more,
        }

    def report(number, t, step):
        return {"kind": "report", "t": t, "id": number, "step": step, "value": 1 / step, "metrics": {"train_loss": 0.5}}

    def done(number, t, value, epochs):
        metrics = {"test_error": 0.2, "parameters": 9, "epochs": epochs}
        return {
            "kind": "end",
            "t": t,
            "id": number,
            "state": "DONE",
            "value": value,
            "duration": 1.0,
            "metrics": metrics,
        }

    settings = {"budget": [1, 3], "fix": {"train_size": 500}}
    first = [{**opened(), "settings": settings}, begun(0, 1.0, 1), begun(1, 1.0, 1), report(0, 3.0, 1),
             done(0, 3.0, 1, 1), report(1, 2.0, 1), done(1, 2.0, 1, 1), begun(2, 5.0, 3, parent=0),
             report(2, 7.0, 2)]  # fmt: skip
    again = [opened(2), lost(2), begun(3, 1.0, 3, parent=0, retry_of=2), report(3, 2.5, 2), report(3, 5.0, 3),
             done(3, 5.0, 0.3, 3), begun(4, 0.0, 3), report(4, 4.0, 1), done(4, 6.0, 0.9, 2),
             begun(5, 0.0, 3), report(5, 4.0, 1), done(5, 8.0, 0.1, 3)]  # fmt: skip
    (tmp_path / "journal.jsonl").write_bytes(journal(*first, *again))
    mnist_search.curves_from(tmp_path, tmp_path / "curves.jsonl")
    whole, diverged = map(json.loads, (tmp_path / "curves.jsonl").read_text().splitlines())
    assert (whole["id"], whole["config"], whole["values"], whole["value"]) == (0, {"lr": 0.0}, [1.0, 0.5, 1 / 3], 0.3)
    assert whole["cpu_seconds"] == [2.0, 3.5, 6.0] and whole["train_size"] == 500
    assert (diverged["values"], diverged["train_losses"], diverged["cpu_seconds"]) == (
        [1.0, 0.9],
        [0.5, None],
        [4.0, 6.0],
    )
    assert "trials 5\n" in capsys.readouterr().out


@pytest.mark.torch
def test_what_checkpoints_cost_is_measured_on_the_real_objective(tmp_path, monkeypatch, capsys):
    """Each epoch is saved, the training ends as without, and the part is that of the row that is printed."""
    torch = pytest.importorskip("torch")
    from mpibo.objectives import datasets, training

    def noise(name, train_size):
        made = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (train_size, 1, 28, 28), generator=made, dtype=torch.uint8)
        return training.Images(*(images, torch.arange(train_size) % 10) * 3)

    monkeypatch.setattr(datasets, "data", noise)
    monkeypatch.setenv("MPIBO_DEVICE", "cpu")
    part = checkpoints.measure(str(tmp_path), filters=4, epochs=2, train_size=130)
    assert sorted(path.name for path in tmp_path.rglob("*.ckpt")) == ["1.ckpt", "2.ckpt"]
    assert part > 0.0 and f"{part:.2%}" in capsys.readouterr().out


def test_a_row_of_architectures_is_of_the_best_at_the_largest_budget():
    """A smaller error after fewer epochs is not the one that a run returns."""
    ends = [training_runs.End(1.0, 0.01, 0.02, 1, 1, 0, 5), training_runs.End(2.0, 0.05, 0.06, 3, 2, 1, 9),
            training_runs.End(3.0, 0.03, 0.04, 3, 2, 2, 1234)]  # fmt: skip
    told = training_runs.Told(ends, configs=3, wall=9.4, busy=0.97, starts=1)
    row = architectures.row("asha", told, "12 s")
    assert row == ("asha", "3", "5", "3.00%", "4.00%", "1,234", "4.00%", "9 s", "12 s", "97.0%")
    assert len(row) == len(architectures.HEADER)
    assert architectures.flags("asha", 3)[-1] == "1:3" and architectures.flags("auto", 3)[-1] == "3"
