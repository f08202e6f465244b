"""Any program as an objective: its command line, its last line, its reports, its end."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Stopped, Trial

from mpibo.objectives.command import Command, CommandFailed, as_text, parse_value


def sh(script: str, *arguments: str) -> Command:
    return Command(["/bin/sh", "-c", script, "sh", *arguments])


def python(code: str, *arguments: str) -> Command:
    return Command([sys.executable, "-c", code, *arguments])


ECHO = "import json, sys; print(json.dumps({'value': 0, 'argv': sys.argv[1:]}))"


def filled(template: str, config: dict[str, Any], trial: Trial) -> str:
    """The argument that a real program gets for a template."""
    return python(ECHO, template)(config, trial)["argv"][0]


@pytest.mark.parametrize(
    ("template", "argument"),
    [
        ("{lr}", "1e-05"),
        ("--lr={lr} {n}", "--lr=1e-05 3"),
        ("{flag} {off} {none} {text} {pair}", "true false null a b [1, 2.5]"),
        ("{svm:C}", "10.0"),
        ("{momentum|0.0}", "0.0"),
        ("{momentum|}", ""),
        ("{n|9}", "3"),
        ('{"lr": {lr}, "n": [{n}]}', '{"lr": 1e-05, "n": [3]}'),
        ("awk '{ print $1 }' {} {1,2} ${1}", "awk '{ print $1 }' {} {1,2} ${1}"),
        ("{trial.id} {trial.budget} {trial.seed}", "3 1 7"),
    ],
)
def test_only_bare_names_in_braces_are_replaced(template, argument, tmp_path):
    config = {
        "lr": 1e-5,
        "n": 3,
        "flag": True,
        "off": False,
        "none": None,
        "text": "a b",
        "pair": (1, 2.5),
        "svm:C": 10.0,
    }
    assert filled(template, config, Trial(tmp_path)) == argument
    Command(["sh", template]).check([*config, "momentum"], conditional=["momentum"])


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
@settings(max_examples=100, deadline=None)
def test_text_is_passed_on_as_it_is(text):
    """No value is read by a shell or filled in again; an argument without braces stays as it is."""
    assert Command(["x"])._fill("{name}", {"name": text}, Trial()) == text
    if "{" not in text:
        assert Command(["x"])._fill(text, {"name": "value"}, Trial()) == text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63) | st.booleans())
@settings(max_examples=100, deadline=None)
def test_numbers_survive_the_way_through_text(value):
    assert json.loads(as_text(value)) == value


def test_what_is_wrong_with_a_command_is_said_at_the_start(tmp_path):
    for argv, why in [
        (["sh", "{epoch}"], r"\{epoch\} in '\{epoch\}' names no parameter of the space; there are lr, trial\.id"),
        (["sh", "{epoch|1}"], "names no parameter"),
        (["sh", "{trial.name}"], "names no parameter"),
        (["sh", "{lr}"], "lr in '{lr}' is not always active"),
        (["./no-such-program"], "'./no-such-program' is no program"),
        ([str(tmp_path)], "is no program"),
    ]:
        with pytest.raises(ValueError, match=why.replace("{lr}", r"\{lr\}")) as caught:
            Command(argv).check(["lr"], conditional=["lr"])
        assert "\n" not in str(caught.value)
    for argv in ([], "./train.sh", ["sh", 3]):
        with pytest.raises(TypeError, match="list of one or more strings"):
            Command(argv)


def test_a_command_sees_its_budget_if_it_names_it(tmp_path):
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/sh\necho 1\n")
    assert not Command(["sh", str(script), "{lr}"]).sees_budget
    assert Command(["sh", str(script), "--epochs={trial.budget}"]).sees_budget
    assert sh("echo $MPIBO_BUDGET").sees_budget
    script.write_text("#!/bin/sh\necho $MPIBO_BUDGET\n")
    assert Command(["sh", str(script)]).sees_budget


def test_the_environment_and_the_config_file_tell_the_trial(tmp_path):
    result = python(
        "import json, os, sys; config = json.load(open(sys.argv[1]))\n"
        "print(json.dumps({'value': config['lr'], 'seen': [os.environ['MPIBO_' + n] for n in sys.argv[2:]]}))",
        "{trial.config_file}", "TRIAL", "BUDGET", "SEED", "FOLDER",
    )({"lr": 0.5, "none": None}, Trial(tmp_path, budget=9))  # fmt: skip
    assert result == {"value": 0.5, "seen": ["3", "9", "7", str(tmp_path)]}
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("0.25", 0.25),
        (" 3 ", 3.0),
        ("-1e-3", -1e-3),
        ('{"value": 2, "f1": 0.5}', {"value": 2, "f1": 0.5}),
        ('{"step": 4, "value": 2}', {"value": 2}),
    ],
)
def test_the_last_line_is_the_value(line, value, tmp_path):
    assert parse_value(line) == value
    assert sh('echo "loading ..."; printf "%s\\n\\n" "$1"', line)({}, Trial(tmp_path)) == value
    assert sh('printf "%s" "$1"', line)({}, Trial(tmp_path)) == value


@pytest.mark.parametrize(
    "line", ["Epoch 10/10 in 3.2 s", "loss: 0.3", "0.3 0.4", "1_000", "[1]", '{"value": 1', '"0.3"']
)
def test_a_last_line_that_is_no_value_is_quoted(line):
    with pytest.raises(CommandFailed, match="must be a number or a JSON object; it was") as caught:
        parse_value(line)
    assert repr(line) in str(caught.value)


def test_a_program_that_prints_nothing_fails(tmp_path):
    with pytest.raises(CommandFailed, match="it printed nothing"):
        Command(["true"])({}, Trial(tmp_path))


def test_a_nonzero_exit_fails_with_the_tail_of_stderr(tmp_path, capsys):
    """Even after a good last line; the whole of stderr goes to the log."""
    with pytest.raises(CommandFailed) as caught:
        sh('i=1; while [ $i -le 15 ]; do echo "line $i" >&2; i=$((i+1)); done; echo 0.5; exit 4')({}, Trial(tmp_path))
    first, *tail = str(caught.value).splitlines()
    assert first == "/bin/sh: exit status 4"
    assert tail == [f"line {i}" for i in range(6, 16)]
    captured = capsys.readouterr()
    assert captured.err.splitlines()[0] == "line 1" and captured.out == "0.5\n"
    with pytest.raises(CommandFailed, match="ended by signal 9"):
        sh("kill -9 $$")({}, Trial(tmp_path))


def test_a_program_that_cannot_start_fails(tmp_path):
    script = tmp_path / "train.sh"
    script.write_text("echo 1\n")
    with pytest.raises(CommandFailed, match=r"cannot start .*Permission denied"):
        Command([str(script)])({}, Trial(tmp_path))
    with pytest.raises(CommandFailed, match="cannot start 'no-such-program'"):
        Command(["no-such-program"])({}, Trial(tmp_path))


def test_reports_come_while_the_program_runs(tmp_path):
    trial = Trial(tmp_path)
    result = sh(
        "echo '{\"step\": 1, \"value\": 0.9, \"loss\": 2}'; echo '{\"note\": 1}'; sleep 0.4\n"
        "echo '{\"step\": 2.0, \"value\": 0.8}'; echo 0.7"
    )({}, trial)  # fmt: skip
    assert result == 0.7
    assert trial.reports == [(0.9, 1, {"loss": 2}), (0.8, 2, {})]
    assert trial.times[1] - trial.times[0] > 0.2


@pytest.mark.parametrize("line", ['{"step": 1}', '{"step": 1.5, "value": 1}', '{"step": 1, "value": "0.5"}'])
def test_a_report_without_a_step_and_a_value_fails(line, tmp_path):
    with pytest.raises(CommandFailed, match="a report needs"):
        sh('echo "$1"; sleep 60', line)({}, Trial(tmp_path))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="descendants are found in /proc")
def test_a_stopped_trial_leaves_no_process(tmp_path):
    """The program, its child and its grandchild are gone when ``report`` has raised."""
    inner = tmp_path / "inner.sh"
    inner.write_text("sleep 60 & echo $! $$ > pids; wait\n")
    script = "cd $MPIBO_FOLDER; sh inner.sh & while [ ! -s $MPIBO_FOLDER/pids ]; do sleep 0.01; done\n"
    script += 'echo \'{"step": 1, "value": 2}\'; wait'
    with pytest.raises(Stopped):
        sh(script)({}, Trial(tmp_path, stop_at=1))
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(pids) == 2 and not any(map(alive, pids))


def test_a_process_left_behind_does_not_hold_up_the_value(tmp_path):
    """Something started in the background keeps the pipes open: the program itself has ended, that counts."""
    start = time.monotonic()
    assert sh("sleep 20 & echo $! > $MPIBO_FOLDER/pid; echo 0.5")({}, Trial(tmp_path)) == 0.5
    assert time.monotonic() - start < 15
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_output_of_any_size_and_encoding_goes_through(tmp_path, monkeypatch):
    """More than a pipe holds on both streams, and bytes that are no UTF-8."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    code = (
        "import sys; out, err = sys.stdout.buffer, sys.stderr.buffer\n"
        "for i in range(300): out.write(b'\\xff' + b'a' * 999 + b'\\n'); err.write(b'b' * 999 + b'\\n')\n"
        "out.write('grün\\n0.5\\n'.encode())"
    )
    assert python(code)({}, Trial(tmp_path)) == 0.5
    assert sys.stdout.getvalue().endswith("a\ngrün\n0.5\n") and len(sys.stderr.getvalue()) == 300_000
