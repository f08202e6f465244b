"""What a person sees of a run: the numbers, the plain view, the live view, and which of them."""

from __future__ import annotations

import io
import math
import os
import pty
import re
import termios
from pathlib import Path
from typing import Any

import pytest
from a_run import CLOSE, RUN, TRACEBACK, end, fail, open_line, start
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mpibo.report import notebook, terminal, words
from mpibo.report.live import Live, picture
from mpibo.report.plain import Plain, summary
from mpibo.report.progress import Progress
from mpibo.trial import Event, State


def progress_of(events: list[Event]) -> Progress:
    progress = Progress()
    for event in events:
        progress.feed(event)
    return progress


# The numbers


def test_numbers_of_a_run() -> None:
    """Counts, rates, the workers' busy share and the time left, as a hand calculation has them."""
    progress = progress_of(RUN)
    assert [progress.count(state) for state in (State.DONE, State.FAILED, State.LOST)] == [2, 1, 1]
    assert progress.finished == 3 and progress.total == 8 and list(progress.ledger.running) == [4]
    assert progress.best and (progress.best.id, progress.best.value) == (2, 0.25)
    assert progress.workers == 2
    assert progress.rate(14.0) == progress.overall_rate(14.0) == pytest.approx(3 / 12)
    measured, lost, running = 3.9 + 1.0 + 4.0, 2.0, 3.0
    assert progress.busy(14.0) == pytest.approx((measured + lost + running) / (2 * 12))
    assert progress.left(14.0) == pytest.approx((5 * (4 / 3) * measured / 3 - measured / 3) / 2)
    assert progress.left(995.0) == pytest.approx(5.0), "the time limit comes first"
    assert progress.fraction(14.0) == pytest.approx(3 / 8) and progress.fraction(900.0) == pytest.approx(0.9)
    assert progress.failure and progress.failure.id == 3 and progress.reasons == {"exception": 1}
    assert progress.reports == {4: (1, 0.9)}
    assert [trial.id for trial in progress.recent] == [0, 1, 2, 3]


def test_maximize_comes_from_the_settings() -> None:
    progress = progress_of([open_line(maximize=True), *RUN[1:]])
    assert progress.best and progress.best.value == 0.5


def test_before_anything_has_happened() -> None:
    """Nothing is known yet, and no view minds."""
    for events in ([], [open_line()], [open_line(), start(0.0, 0)]):
        progress = progress_of(events)
        assert progress.rate(0.0) is progress.left(0.0) is progress.fraction(0.0) is progress.best is None
        assert "none yet" in drawn(progress, 0.0)
        assert "no trial has a value" in "\n".join(summary(progress, 0.0, "runs/a", []))


def test_a_second_start_counts_its_own_speed() -> None:
    """Rates and busy workers are of this start; values, counts and the time used are of all."""
    again = [open_line(utc=1e9 + 500, max_trials=8, workers=2), {"kind": "lost", "t": 0.1, "id": 4, "why": "restart"},
             start(1.0, 5, 1, retry_of=4), end(3.0, 5, 0.125, 2.0)]  # fmt: skip
    progress = progress_of([*RUN, *again])
    assert progress.ended_before == 4 and progress.ledger.ended == 6
    assert progress.overall_rate(3.0) == pytest.approx(1 / 2) and progress.busy(3.0) == pytest.approx(1 / 2)
    assert progress.elapsed(3.0) == pytest.approx(12 + 3)
    assert progress.best and progress.best.value == 0.125


def test_the_recent_rate_forgets() -> None:
    """Of a run that becomes ten times slower the recent rate tells the new speed, the overall rate the mean."""
    times = [0.1 * number for number in range(400)] + [40.0 + number for number in range(40)]
    events = [open_line(), start(0.0, 9)]
    for number, t in enumerate(times, start=10):
        events += [end(t, number - 1, 0.5, 0.1), start(t, number)]
    progress = progress_of(events)
    assert progress.rate(79.0) == pytest.approx(1.0, rel=0.06)
    assert progress.overall_rate(79.0) == pytest.approx(440 / 79)
    progress.ledger.configs, progress.opened["settings"]["max_trials"] = 441, 501
    assert progress.left(79.0) == pytest.approx(61, rel=0.06)
    hanging = progress.rate(1000.0)
    assert hanging is not None and hanging < 0.1


def test_a_closed_run_was_busy_until_its_last_end() -> None:
    """What the end of the run takes is no fault of its workers."""
    progress = progress_of([open_line(workers=1), start(0.0, 0), end(9.0, 0, 0.5, 9.0), CLOSE])
    assert progress.busy(16.0) == pytest.approx(1.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("start done failed lost retry open add".split()), max_size=40), st.floats(0, 9))
def test_laws_of_the_numbers(kinds: list[str], later: float) -> None:
    """Shares lie in [0, 1], nothing is negative, and no more has finished than was started."""
    progress = progress_of([open_line(max_trials=5, walltime=60.0)])
    t = 0.0
    for kind in kinds:
        t += 0.5
        new, running, lost = progress.ledger.next_id, list(progress.ledger.running), list(progress.ledger.lost)
        if kind == "start":
            progress.feed(start(t, new, new % 3))
        elif kind == "add":
            progress.feed({"kind": "add", "t": t, "id": new, "config": {}, "value": 1.0})
        elif kind == "retry" and lost:
            progress.feed(start(t, new, new % 3, retry_of=lost[0]))
        elif kind == "open":
            t = 0.0
            progress.feed(open_line(utc=1e9 + 100, max_trials=5, walltime=60.0))
        elif running and kind in ("done", "failed", "lost"):
            made = {"done": end(t, running[0], 1.0, 0.4), "failed": fail(t, running[0])}
            progress.feed(made.get(kind, {"kind": "lost", "t": t, "id": running[0]}))
        now = t + later
        for share in (progress.busy(now), progress.fraction(now)):
            assert share is None or 0 <= share <= 1
        for amount in (progress.rate(now), progress.overall_rate(now), progress.left(now), progress.elapsed(now)):
            assert amount is None or 0 <= amount < math.inf
        assert 0 <= progress.finished <= progress.ledger.configs
        picture(progress, now, "runs/a")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (205, "3 min 25 s"),
     (3599.7, "1 h 00 min"), (7500, "2 h 05 min"), (187200, "2 d 4 h"), (None, "unknown")],
)  # fmt: skip
def test_times_in_words(seconds: float | None, told: str) -> None:
    assert words.time(seconds) == told


def test_rates_in_words() -> None:
    rates = (1234.5, 2.14, 0.5, 0.001, None)
    assert [words.rate(rate) for rate in rates] == ["1234/s", "2.1/s", "30.0/min", "3.6/h", "none yet"]


@pytest.mark.parametrize(
    ("error", "told"),
    [(TRACEBACK, "ValueError: no"), ("ended by signal 11 (SIGSEGV)\nEpoch 1\n", "ended by signal 11 (SIGSEGV)"),
     ("", ""), (None, ""), ("\n  \x1b[31mred\x07\n", "[31mred"), (TRACEBACK[:34], TRACEBACK[:34])],
)  # fmt: skip
def test_the_line_of_an_error_that_says_most(error: str | None, told: str) -> None:
    assert words.headline(error) == told


# The plain view


def test_plain_lines() -> None:
    """A line per finished trial; a failure says why and where to look."""
    out = io.StringIO()
    view, progress = Plain(out, "runs/a"), progress_of(RUN[:1])
    view.start(progress)
    for event in RUN[1:]:
        progress.feed(event)
        view.show(progress, event["t"])
    first, failed, second, lost = out.getvalue().splitlines()
    assert first == "  1/8  0.5 (new best #0)  1 running  15.0/min  busy 99 %  12 s left"
    assert failed == "  trial 1 failed (exception): ValueError: no  (mpibo log runs/a 1)"
    assert second == "  3/8  0.25 (new best #2)  1 running  1 failed  22.5/min  busy 68 %  6.4 s left"
    assert lost == "  trial 3 lost: worker 2 is gone  (mpibo log runs/a 3)"


def test_a_chosen_model_is_told_with_its_reason_when_it_changes() -> None:
    """Once each time, in every view."""
    out = io.StringIO()
    view, progress = Plain(out, "runs/a"), progress_of(RUN[:3])
    assert "Model" not in drawn(progress, 3.0) and "model" not in notebook.line(progress, 3.0)
    view.start(progress)
    for model, why in (("gp", "predicts best"), ("gp", "predicts best"), ("et", "the only one\nthat keeps ahead")):
        progress.feed({"kind": "choice", "t": 3.0, "ask": 1, "model": model, "why": why})
        view.show(progress, 3.0)
        view.show(progress, 3.0)
    assert out.getvalue() == "  model gp: predicts best\n  model et: the only one that keeps ahead\n"
    assert "et: the only one that keeps ahead" in drawn(progress, 3.0)
    assert "model et: the only one that keeps ahead" in notebook.line(progress, 3.0)


def test_results_of_another_run_are_told_once_and_apart() -> None:
    """They are no trials of this run: neither lines nor rates nor the count of what is done speak of them."""
    out = io.StringIO()
    added = [{"kind": "add", "t": 0.0, "id": number, "config": {}, "value": 0.125} for number in range(3)]
    progress = progress_of([{**open_line(max_trials=2), "warm": {"run": "runs/b"}}, *added, start(1.0, 3)])
    view = Plain(out, "runs/a")
    view.start(progress)
    progress.feed(end(2.0, 3, 0.5, 1.0))
    view.show(progress, 2.0)
    told, line = out.getvalue().splitlines()
    assert told == "  starting from 3 results of runs/b"
    assert line.startswith("  1/2  0.5 (best 0.125 #") and "3 added" in line
    assert "Trials   1 done, 3 added" in "\n".join(summary(progress, 2.0, "runs/a", []))
    assert "1 done   0 running   3 added" in drawn(progress, 2.0)


def test_a_fast_run_does_not_fill_the_log() -> None:
    """10,000 trials in 20 s, every third a failure, are told in some twenty lines, none twice."""
    out = io.StringIO()
    view, progress = Plain(out, "runs/a"), progress_of([open_line(workers=4)])
    view.start(progress)
    for number in range(10_000):
        t = number * 0.002
        progress.feed(start(t, number))
        progress.feed(end(t, number, number, 0.0) if number % 3 else fail(t, number))
        if number % 100 == 99:
            view.show(progress, t)
    lines = out.getvalue().splitlines()
    assert 8 <= len(lines) <= 25 and len(set(lines)) == len(lines)


def test_a_slow_run_tells_every_trial() -> None:
    out = io.StringIO()
    view, progress = Plain(out, "runs/a"), progress_of([open_line(workers=4)])
    view.start(progress)
    for number in range(200):
        progress.feed(start(15.0 * number, number))
        progress.feed(end(15.0 * number + 14, number, 0.1 * number, 14.0))
        view.show(progress, 15.0 * number + 14)
    assert len(out.getvalue().splitlines()) == 200


def test_summary_says_it_all() -> None:
    """Why it ended, the best value with its exact config, the counts, where the files and the failures are."""
    progress = progress_of([*RUN, end(15.0, 4, 0.3, 4.0), CLOSE])
    text = "\n".join(summary(progress, 16.0, "runs/a", ["results.csv", "logs/"]))
    for part in ("max_trials reached, after 16 s", "0.25   trial 2", "lr   0.01", "opt  1", "3 done, 1 failed, 1 lost",
                 "2 workers busy 57 %", "mpibo log runs/a 3", "results.csv  logs/"):  # fmt: skip
        assert part in text
    assert "the manager is gone" in "\n".join(summary(progress_of(RUN), 16.0, "runs/a", []))


# The live view


def drawn(progress: Progress, now: float, width: int = 80, height: int = 24) -> str:
    """The live view as text without colours."""
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    console.print(picture(progress, now, "runs/a", width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_the_last_trials_cost_is_told() -> None:
    """Three workers are idle for 30 of 40 s while one trial runs on: 56 % of the time of the four."""
    events = [open_line(workers=4)]
    events += [start(0.0, number, number + 1) for number in range(4)]
    events += [end(10.0, number, 1.0, 10.0) for number in range(3)] + [end(40.0, 3, 1.0, 40.0), CLOSE | {"t": 40.0}]
    progress = progress_of(events)
    assert progress.straggling() == pytest.approx(3 * 30 / 160)
    assert "56 % of their time went to waiting for the last trials" in "\n".join(summary(progress, 40.0, "runs/a", []))
    even = progress_of([*events[:5], *(end(10.0, number, 1.0, 10.0) for number in range(4)), CLOSE | {"t": 10.0}])
    assert even.straggling() == 0.0 and "waiting" not in "\n".join(summary(even, 10.0, "runs/a", []))


def test_a_retired_worker_is_told_and_its_failures_are_none() -> None:
    """A `retire` line takes the failures back; a trial that the end of the run cut off is no failure either."""
    line = {"kind": "retire", "t": 9.0, "worker": 2, "host": "node1", "ids": [1], "why": "worker 2 on node1: sick"}
    progress = progress_of([*RUN[:6], line])
    assert progress.reasons == {} and progress.count(State.LOST) == 1 and progress.count(State.FAILED) == 0
    assert "Retired  worker 2 on node1: sick" in summary(progress, 9.0, "runs/a", [])
    cut = progress_of([*RUN[:4], {"kind": "lost", "t": 9.0, "id": 1, "why": "the run ended", "death": False}])
    assert cut.failure is None


def test_live_view_shows_the_run() -> None:
    text = drawn(progress_of(RUN), 14.0)
    for part in ("digits  random  seed 3", "3/8", "38 %", "14 s + 8.4 s left", "2 done   1 running   1 failed   1 lost",
                 "15.0/min now", "2 workers busy 58 %", "0.25   trial 2", "lr=0.01  opt=1", "mpibo log runs/a 3",
                 "0.9 at 1", "runs/a"):  # fmt: skip
        assert part in text


@settings(max_examples=60, deadline=None)
@given(st.integers(30, 140), st.integers(12, 40), st.text(max_size=60), st.integers(0, 30), st.integers(0, 12))
def test_live_view_fits_its_terminal(width: int, height: int, text: str, names: int, ended: int) -> None:
    """However wide or low: no line is longer than the terminal, and nothing a program said can move its cursor."""
    config = {f"parameter{number}": text or number for number in range(names)}
    progress = progress_of([open_line(workers=3, method=text)])
    for number in range(ended + 2):
        progress.feed(start(1.0, number, config=config))
        if number < ended:
            said = f"[bold]\x1b[2J{text}\x07"
            progress.feed(end(2.0, number, 1 / 3, 1.0) if number % 4 else fail(2.0, number, said))
    lines = drawn(progress, 3.0, width, height).splitlines()
    assert len(lines) <= height
    assert all(cell_len(line) <= width and line.isprintable() for line in lines)


def test_live_view_draws_through_a_pipe_and_leaves_the_cursor() -> None:
    """It draws where no terminal is, in its place, at the size told then, and never hides the cursor for good."""
    out, size = io.StringIO(), [(80, 24)]
    view, progress = Live(out, "runs/a", lambda: size[0]), progress_of(RUN)
    view.start(progress)
    view.show(progress, 13.0)
    first = out.getvalue()
    view.show(progress, 13.01)  # too soon to be seen
    assert out.getvalue() == first and first.count("digits") == 1
    size[0] = (100, 30)
    view.warn("can't write [red]results.h5[/]")
    view.show(progress, 14.0)
    progress.feed({"kind": "close", "t": 15.0, "why": "Ctrl-C", "exit_code": 130})
    view.close(progress, 15.0, ["results.csv"])
    text = out.getvalue()
    assert "warning: can't write [red]results.h5[/]" in text and "Ended    Ctrl-C" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    for part, width in ((first, 80), (text[text.index("warning") + 2000 :], 100)):
        assert max(map(len, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part).splitlines())) == width


# Terminal or not


def fake_proc(root: Path, *processes: tuple[int, str, int, str]) -> Path:
    """A process file system with (pid, name, parent, standard output)."""
    for pid, name, parent, output in processes:
        (root / str(pid) / "fd").mkdir(parents=True)
        (root / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} 1 1 0 -1")
        (root / str(pid) / "fd" / "1").symlink_to(output)
    return root


PTS, PIPE = "/dev/pts/3", "pipe:[123]"
SHELL = (10, "bash", 1, PTS)


@pytest.mark.parametrize(
    ("processes", "live"),
    [
        ([SHELL, (20, "mpirun", 10, PTS), (30, "hydra_pmi_proxy", 20, PIPE), (40, "python", 30, PIPE)], True),
        ([SHELL, (20, "mpirun", 10, "/tmp/log"), (30, "hydra_pmi_proxy", 20, PIPE), (40, "python", 30, PIPE)], False),
        ([SHELL, (20, "prterun", 10, PTS), (40, "python", 20, "/dev/pts/4")], True),
        ([SHELL, (20, "prterun", 10, PIPE), (40, "python", 20, "/dev/pts/4")], False),
        ([SHELL, (20, "mpiexec.hydra", 10, PTS), (30, "a (b) c", 20, PIPE), (40, "python", 30, PIPE)], True),
        ([(20, "slurmstepd", 1, "/dev/null"), (40, "python", 20, PIPE)], False),
        ([(20, "slurmstepd", 1, "/dev/null"), (40, "python", 20, "/dev/pts/0")], True),
        ([SHELL, (40, "python", 10, PTS)], True),
        ([SHELL, (40, "python", 10, "/tmp/out.txt")], False),
        ([(40, "python", 41, PTS), (41, "a", 40, PTS)], True),
        ([], False),
    ],
    ids=["mpich", "mpich to a file", "open mpi", "open mpi | cat", "mpiexec.hydra", "srun", "srun --pty", "python",
         "python > file", "a loop", "gone"],
)  # fmt: skip
def test_the_launchers_terminal_counts(tmp_path: Path, processes: list[Any], live: bool) -> None:
    """Under MPICH no rank has a terminal and under Open MPI every rank has one: the launcher's tells."""
    proc = fake_proc(tmp_path, *processes)
    assert terminal.wants_live("auto", 40, proc=proc, environ={"TERM": "xterm"}) is live
    assert not terminal.wants_live("auto", 40, proc=proc, environ={"TERM": "dumb"})
    assert not terminal.wants_live("auto", 40, proc=proc, environ={})


def test_a_choice_is_kept(tmp_path: Path) -> None:
    assert [terminal.wants_live(name, 1, proc=tmp_path) for name in ("live", "plain", "none")] == [True, False, False]


def test_size_is_that_of_the_launchers_terminal(tmp_path: Path) -> None:
    controller, own = pty.openpty()
    try:
        termios.tcsetwinsize(own, (33, 123))
        proc = fake_proc(tmp_path, (20, "mpirun", 1, os.ttyname(own)), (40, "python", 20, PIPE), (50, "sh", 1, PIPE))
        assert terminal.size(40, proc) == (123, 33)
        assert terminal.size(50, proc) is None
        termios.tcsetwinsize(own, (0, 0))  # as serial lines and some containers say
        assert terminal.size(40, proc) is None
    finally:
        os.close(controller)
        os.close(own)
