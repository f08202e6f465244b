"""A journal replays to the same proposals and choices, bit for bit; a changed one is found, with its first line."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import simulation
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import simulate, value

from mpibo.engine.proposer import Inline
from mpibo.engine.transport import Flaky
from mpibo.replaying import Replay, replay
from mpibo.search import Search
from mpibo.space import Space
from mpibo.store.journal import NAME, dumps, line_of, read
from mpibo.strategies.design import Random
from mpibo.trial import Proposal
from mpibo.verdict import replay_file, show
from mpibo.warm import prior

GOALS = ["min error", "min cost"]


def flaky(inner):
    """Messages come late and in another order, workers die and their trials are retried."""
    return Flaky(inner, 3, kill=0.04, delay=0.3, late=3.0, spare=(1, 2))


def fallible(config):
    if config["c"] == "a" and config["k"] > 6:
        raise RuntimeError("no")
    return value(config)


def stormy(folder, method, seed=3, trials=40, **more):
    """Two starts of a run, the first of them interrupted, with failures, deaths and late messages."""
    looks = iter(range(10**9))
    told = {"objective": fallible, "seed": seed, "lease": 20.0, "attempts": 6, "wrap": flaky} | more
    simulate(folder, method, max_trials=60, interrupted=lambda: "SIGINT" if next(looks) > trials + 5 else None, **told)
    simulate(folder, method, max_trials=trials, **told)
    return read(folder).events


def written(folder, events):
    """The events as a journal whose numbers and checksums are right."""
    made = [{name: told for name, told in event.items() if name not in ("n", "synced", "crc")} for event in events]
    path = folder / NAME
    path.write_bytes(b"".join(line_of(event, n, n - 1) for n, event in enumerate(made, start=1)))
    return path


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """The lines of a stormy run of a strategy that looks at the values and takes little time."""
    text = json.dumps(stormy(tmp_path_factory.mktemp("run"), "tpe"))
    kinds = [event["kind"] for event in json.loads(text)]
    assert kinds.count("open") == 2 and {"lost", "end", "close"} <= set(kinds)
    return lambda: json.loads(text)


# --- what replays -----------------------------------------------------------------------------------------------------


DESIGNS = ["random", "grid", "lhs", "sobol"]
MODELS = ["ts", "ts-sync", "ts-hallucinated", "auto", "tpe", "adaptive", "evolution"]
SLOW = {"ts:model=gp": 30, "gp-ei": 20, "ambs:model=gp,pending=penalise-soft": 30}  # and how many trials are enough


@pytest.mark.parametrize(("method", "trials"), [*((name, 40) for name in DESIGNS + MODELS), *SLOW.items()])
def test_a_stormy_run_replays(tmp_path, method, trials):
    """Late results, deaths, failures, retries, an interrupted start and another max_trials."""
    events = stormy(tmp_path, method, trials=trials, cost=lambda event: 0.2)
    kinds = {event["kind"] for event in events} | {event.get("state") for event in events}
    assert {"lost", "FAILED"} <= kinds and any("retry_of" in event for event in events)
    origins = {event["origin"] for event in events if event["kind"] == "start"}
    assert "model" in origins or method in DESIGNS
    again = Replay()
    assert [difference for event in events for difference in again.take(event)] == []
    started = sum(event["kind"] == "start" and "ask" in event for event in events)
    assert (again.starts, again.proposals) == (2, started)
    assert again.asks == sum(event["kind"] == "ask" for event in events)


def test_a_run_that_began_with_another_ones_results_replays_without_it(tmp_path):
    """They are lines of its own, and in what the first proposals know: one that is changed is found."""
    other, ours = tmp_path / "other", tmp_path / "ours"
    other.mkdir()
    ours.mkdir()
    simulate(other, max_trials=24, seed=1)
    known = prior(other, Space(simulation.SPACE)).results
    events = stormy(ours, "tpe", prior=known)
    shutil.rmtree(other)
    adds = [i for i, event in enumerate(events) if event["kind"] == "add"]
    assert adds == list(range(1, 25)) and {"lost", "end"} <= {event["kind"] for event in events}
    assert next(event for event in events if event["kind"] == "start")["origin"] == "model"
    assert replay(events) == []
    best = min(adds, key=lambda i: events[i]["value"])
    events[best]["value"] = 9.0
    differences = replay_file(written(ours, events)).differences
    assert differences and "to be {" in differences[0].expected


def test_a_replaced_proposer_begins_with_cold_caches(tmp_path, monkeypatch):
    """It dies twice with a request out; what was asked then is asked anew, by a line of its own."""

    class Mortal(Inline):
        asked = 0

        def ask(self, event, journal, until):
            super().ask(event, journal, until)
            Mortal.asked += 1
            if Mortal.asked in (4, 7):
                self._said = [(self._now(), dumps({"kind": "gone", "code": -9}))]

        def restart(self):
            space = Space(simulation.SPACE)
            self._search, self._follower = Search(space, "auto", workers=8, max_trials=36), None
            super().restart()

    monkeypatch.setattr(simulation, "Inline", Mortal)
    simulate(tmp_path, "auto", max_trials=36, cost=lambda event: 0.2)
    events = read(tmp_path).events
    assert sum(event["kind"] == "proposer" for event in events) == 3
    assert any(event["kind"] == "choice" for event in events) and replay(events) == []


def test_each_start_has_its_own_method_and_start_configs(tmp_path):
    simulate(tmp_path, "random", max_trials=15)
    simulate(tmp_path, "ts", max_trials=25, start=[{"k": 7}])
    simulate(tmp_path, "tpe", max_trials=40, workers=3)
    events = read(tmp_path).events
    assert replay(events) == []
    opens = [event for event in events if event["kind"] == "open"]
    opens[1]["settings"]["start"] = []
    assert "{" in replay(events)[0] and all(int(line.split(":")[0][5:]) > opens[1]["n"] for line in replay(events))


def test_two_goals_with_limits_replay_and_are_found_when_changed(tmp_path):
    def both(config):
        return {"error": value(config), "cost": config["x"] + config["k"] / 8, "size": config["k"]}

    events = stormy(tmp_path, "evolution", objective=both, goals=GOALS, limits=["size <= 7"], wrap=lambda inner: inner)
    assert replay(events) == []
    ends = [event for event in events if event["kind"] == "end"]
    ends[5]["metrics"]["cost"] = -9.0
    assert replay(events)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_beginning_of_a_journal_replays(journal, data):
    """A run that was killed has such a one."""
    events = journal()
    assert replay(events[: data.draw(st.integers(1, len(events)))]) == []


def test_a_line_that_is_being_written_is_no_difference(tmp_path, journal, capsys):
    path = written(tmp_path, journal()[:60])
    path.write_bytes(path.read_bytes()[:-20])
    assert show(replay_file(path), False) == 0
    assert "the last line is not whole" in capsys.readouterr().out


class Mine(Random):
    """A strategy of one's own, all too random."""

    def propose(self, trials, n, rng):
        return [Proposal(each.config) for each in super().propose(trials, n, rng)]


MINE = """
from neighbour import Random
from mpibo.trial import Proposal
from mpibo.verdict import replay_file, show

class Mine(Random):
    def propose(self, trials, n, rng):
        return [Proposal(each.config) for each in super().propose(trials, n, rng)]

class Broken:
    def propose(self, trials, n, rng):
        raise RuntimeError("no idea")
"""


def test_a_strategy_of_ones_own_is_named(tmp_path, monkeypatch):
    """The journal has only the name of an object's class; what is given must be the same strategy."""
    simulate(tmp_path, Mine(), max_trials=15)
    events = read(tmp_path).events
    for event in events:
        if event["kind"] == "open":
            event["settings"]["method"] = "Mine"
    path = written(tmp_path, events)
    with pytest.raises(ValueError, match=r"line 1: the run's method was an object, .* --method file.py:Mine"):
        replay_file(path)
    (tmp_path / "neighbour.py").write_text("from mpibo.strategies.design import Random\n")
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    assert replay_file(path, f"{tmp_path}/mine.py:Mine").differences == []
    report = replay_file(path, f"{tmp_path}/mine.py:Broken")
    assert report.replayed.over and "at which the strategy fails here (RuntimeError: no idea)" in str(
        report.differences[0]
    )
    assert replay_file(path, "sobol").differences


def test_a_strategy_that_failed_in_the_run_may_fail_again(tmp_path, capsys):
    """Its ask is the last before the run ends, or before the proposer is replaced."""
    simulate(tmp_path, Mine(), max_trials=15)
    events = read(tmp_path).events
    first = next(i for i, event in enumerate(events) if event["kind"] == "ask")
    again = Replay(method=type("Broken", (), {"propose": lambda *told: 1 / 0})())
    assert [line for event in events[: first + 1] for line in again.take(event)] == []
    assert again.failed == "ZeroDivisionError: division by zero"


def test_another_platform_is_told(tmp_path, journal, capsys):
    """It excuses nothing, but explains."""
    events = journal()
    events[next(i for i, event in enumerate(events) if event["kind"] == "proposer")]["versions"] = {"numpy": "1.0"}
    assert show(replay_file(written(tmp_path, events)), False) == 0
    assert "the run was made with numpy 1.0, here 2" in capsys.readouterr().out


# --- what is found ----------------------------------------------------------------------------------------------------


def find(events, kind, at=0, **having):
    """The index of a line of this kind that has these fields (``None``: any)."""
    fits = [
        i for i, event in enumerate(events)
        if event["kind"] == kind and all(name in event and told in (None, event[name]) for name, told in having.items())
    ]  # fmt: skip
    return fits[at]


def a_config(events):
    i = find(events, "start", 20, ask=None)
    events[i]["config"]["x"] += 1e-12
    return i


def a_seed(events):
    i = find(events, "start", 12)
    events[i]["seed"] ^= 1
    return i


def an_origin(events):
    i = find(events, "start", 12, origin="model")
    events[i]["origin"] = "design"
    return i


def a_count(events):
    """The last proposal of that answer is not made: it can't be kept, and not be started."""
    i = find(events, "ask")
    events[i]["count"] -= 1
    last = events[i]["count"]
    kept = [j for j, event in enumerate(events) if event["kind"] == "ask" and [0, last] in event["keep"]]
    return min([*kept, find(events, "start", ask=0, place=last)])


def a_proposal_that_was_started_is_kept(events):
    start = find(events, "start", 30, ask=None)
    i = next(i for i in range(start, len(events)) if events[i]["kind"] == "ask")
    events[i]["keep"].insert(0, [events[start]["ask"], events[start]["place"]])
    return i


def a_missing_ask(events):
    """Its proposals do not wait, or the next ask has not the next number."""
    i = find(events, "ask", 3)
    del events[i]
    return next(j for j in range(i, len(events)) if events[j]["kind"] == "ask" or events[j].get("ask") == 3)


def a_missing_end(events):
    """The worker can't have begun another trial."""
    i = find(events, "end", 4)
    start = find(events, "start", id=events[i]["id"])
    del events[i]
    worker = events[start]["worker"]
    return next(j for j in range(i, len(events)) if events[j]["kind"] == "start" and events[j]["worker"] == worker)


def a_missing_start(events):
    i = find(events, "start", 10)
    number = events[i]["id"]
    del events[i]
    return next(j for j in range(i, len(events)) if events[j].get("id", -1) >= number)


def a_missing_proposer(events):
    i = find(events, "proposer")
    del events[i]
    return find(events, "ask")


def an_end_of_another_trial(events):
    i = find(events, "end", 9)
    events[i]["id"] = events[find(events, "end", 2)]["id"]
    return i


def a_second_end(events):
    i = find(events, "end", 9)
    events.insert(i + 1, dict(events[i]))
    return i + 1


def a_state(events):
    i = find(events, "end", 9)
    events[i]["state"] = "RUNNING"
    return i


def a_retry_of_another_config(events):
    i = find(events, "start", retry_of=None)
    events[i]["config"]["x"] /= 2
    return i


def a_retry_of_a_trial_that_is_done(events):
    i = find(events, "start", retry_of=None)
    events[i]["retry_of"] = events[find(events, "end", state="DONE")]["id"]
    return i


def a_lower_limit(events):
    """The second start goes beyond what its open line allows."""
    i = find(events, "open", 1)
    events[i]["settings"]["max_trials"] = 35
    fresh = [j for j, event in enumerate(events) if event["kind"] == "start" and "retry_of" not in event]
    return fresh[35]


def another_seed_of_the_run(events):
    i = find(events, "open", 1)
    events[i]["settings"]["seed"] += 1
    return i


def another_space(events):
    i = find(events, "open", 1)
    events[i]["space"]["parameters"][0]["high"] = 2.0
    return i


def two_lines_swapped(events):
    i = next(i for i in range(20, len(events)) if events[i]["t"] < events[i + 1]["t"])
    events[i], events[i + 1] = events[i + 1], events[i]
    return i + 1 if events[i]["kind"] == "end" else None


def a_line_after_the_close(events):
    events.append({"kind": "report", "t": events[-1]["t"], "id": 0, "step": 1, "value": 1.0})
    return len(events) - 1


def a_kind_that_is_none(events):
    i = find(events, "end", 3)
    events[i]["kind"] = "fin"
    return i


def a_field_that_is_gone(events):
    i = find(events, "start", 5)
    del events[i]["seed"]
    return i


def a_retired_trial_that_did_not_fail(events):
    i = find(events, "end", 3, state="DONE")
    told = {"kind": "retire", "t": events[i]["t"], "worker": 1, "host": "here", "ids": [events[i]["id"]], "why": "sick"}
    events.insert(i + 1, told)
    return i + 1


CHANGES = [
    a_config, a_seed, an_origin, a_count, a_proposal_that_was_started_is_kept, a_missing_ask, a_missing_end,
    a_missing_start, a_missing_proposer, an_end_of_another_trial, a_second_end, a_state, a_retry_of_another_config,
    a_retry_of_a_trial_that_is_done, a_lower_limit, another_seed_of_the_run, another_space, two_lines_swapped,
    a_line_after_the_close, a_kind_that_is_none, a_field_that_is_gone, a_retired_trial_that_did_not_fail,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_found_with_its_first_line(tmp_path, journal, change):
    """Whoever changed it made the numbers and the checksums anew."""
    events = journal()
    line = change(events)
    differences = replay_file(written(tmp_path, events)).differences
    assert differences and (line is None or differences[0].line == line + 1), differences[:3]
    assert str(differences[0]).startswith(f"line {differences[0].line}: expected ")


def test_a_changed_value_is_found_in_what_was_proposed_after_it(tmp_path, journal):
    events = journal()
    i = find(events, "end", 6, state="DONE")
    events[i]["value"] -= 5.0
    differences = replay_file(written(tmp_path, events)).differences
    assert differences and differences[0].line > i + 1 and "to be {" in differences[0].expected


class Choosing(Random):
    """Random proposals, said to be of two models in turn, five asks each."""

    choice = None

    def propose(self, trials, n, rng):
        self.choice = ("gp" if trials.asked // 5 % 2 else "et", f"ask {trials.asked}")
        return super().propose(trials, n, rng)


@pytest.fixture(scope="module")
def choosing(tmp_path_factory):
    """A stormy run of a strategy that changes its model: no reports, so that every line counts."""
    text = json.dumps(stormy(tmp_path_factory.mktemp("choosing"), Choosing(), cost=lambda event: 0.1))
    assert text.count('"kind": "choice"') > 3
    return lambda: json.loads(text)


def test_a_missing_choice_is_found(choosing):
    events = choosing()
    i = find(events, "choice", 1)
    gone = events.pop(i)
    for number, event in enumerate(events, start=1):
        event["n"] = number
    first, *_ = replay(events, method=Choosing())
    assert f"expected a choice line first, {gone['model']} ({gone['why']}) for ask {gone['ask']}" in first
    assert int(first.split(":")[0][5:]) >= i + 1


def test_a_choice_too_many_is_found(choosing):
    events = choosing()
    i = find(events, "ask", 2)
    events.insert(i + 1, {"kind": "choice", "t": events[i]["t"], "ask": 2, "model": "et", "why": "ask 2"})
    for number, event in enumerate(events, start=1):
        event["n"] = number
    assert replay(events, method=Choosing())[0].startswith(f"line {i + 2}: expected choice et (ask 2), as before")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_line_can_be_removed_or_doubled(choosing, data):
    """But ``close``, which a killed start lacks; and a start or proposer may be there twice for nothing."""
    events = choosing()
    i = data.draw(st.sampled_from([i for i, event in enumerate(events[:-1]) if event["kind"] != "close"]))
    if data.draw(st.booleans()) and events[i]["kind"] not in ("open", "proposer"):
        events.insert(i, events[i])
    else:
        del events[i]
    numbered = [event | {"n": number} for number, event in enumerate(events, start=1)]
    differences = replay(numbered, method=Choosing())
    assert differences and int(differences[0].split(":")[0][5:]) >= i + 1


# --- the command ------------------------------------------------------------------------------------------------------


def mpibo_(*arguments, folder):
    """As a person types it, with as many BLAS threads as that person likes."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    command = [sys.executable, "-m", "mpibo", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=os.environ | threads, capture_output=True, text=True, timeout=120)


def test_the_command(tmp_path):
    """A run of processes of its own; then one byte is flipped, then a config edited and its checksum made anew."""
    made = mpibo_("run", "synthetic:branin", "--workers", 2, "--max-trials", 20, "--out", "run", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    done = mpibo_("replay", "run", "--method", "sobol", folder=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("identical: 20 proposals of ") and "--method was not used" in done.stdout

    path = tmp_path / "run" / NAME
    good, events = path.read_bytes(), read(path).events
    i = find(events, "start", 12)
    lines = good.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:i]) + lines[i].replace(b'"x1": ', b'"x1":  ') + b"".join(lines[i + 1 :]))
    done = mpibo_("replay", "run", folder=tmp_path)
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout.startswith(f"line {i + 1}: expected a line that matches its checksum")

    events[i]["config"]["x1"] += 1e-9
    written(tmp_path / "run", events)
    done = mpibo_("replay", path, "--all", folder=tmp_path)
    shown = done.stdout.splitlines()
    assert done.returncode == 1 and shown[0].startswith(f"line {i + 1}: expected trial {events[i]['id']} (ask ")
    assert len(shown) == sum(line.startswith("line ") for line in shown) + 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere is no run folder: it holds no journal.jsonl"),
        (["."], ". is no run folder"),
        ([], "the following arguments are required: RUN"),
        (["--quick", "."], "unrecognized arguments: --quick"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, told):
    done = mpibo_("replay", *arguments, folder=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert told in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
