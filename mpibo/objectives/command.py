"""Any executable as an objective: the config goes in as arguments, the last line that it prints is the value."""

from __future__ import annotations

import codecs
import json
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import IO, Any

from mpibo.objectives import RunningTrial

TRIAL_NAMES = ("trial.id", "trial.budget", "trial.seed", "trial.folder", "trial.config_file")
TAIL = 10  # lines of stderr that an error quotes
PATIENCE = 0.5  # seconds without output after which a program that ended is taken to have said all

_BRACES = re.compile(r"\{([^{}]+)\}")
_WORD = re.compile(r"[^\W\d][\w.:-]*")  # what must be a name when it stands alone in braces; {1,2} and {$1} need not
_NAME = re.compile(r"[^\s\"'=]+")  # what may be a name


class CommandFailed(RuntimeError):
    """The program could not be started, ended with an error, or did not print a value."""


class Command:
    """An objective that runs a program, without a shell, once per trial.

    In each argument ``{name}`` is replaced by the value of that parameter, ``{name|text}`` by ``text`` where the
    parameter is inactive, and ``{trial.id}``, ``{trial.budget}``, ``{trial.seed}``, ``{trial.folder}`` and
    ``{trial.config_file}`` (the config as a JSON file) by what the trial has. Other braces stay as they are. Booleans
    become ``true`` and ``false``, None ``null``, tuples JSON arrays. The program sees ``MPIBO_TRIAL``,
    ``MPIBO_BUDGET``, ``MPIBO_SEED`` and ``MPIBO_FOLDER`` in its environment.

    A line of its output that is a JSON object with ``step`` (and ``value``) is a report, passed on while it runs. The
    last line must be a number or a JSON object.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        if isinstance(argv, str) or not argv or not all(isinstance(part, str) for part in argv):
            raise TypeError(f"a command is a list of one or more strings, got {argv!r}")
        self.argv = tuple(argv)

    def __repr__(self) -> str:
        return f"Command({shlex.join(self.argv)})"

    def check(self, names: Iterable[str], conditional: Iterable[str] = ()) -> None:
        """Hold the placeholders against the names of the space, ``conditional`` being those with a condition.

        Raises:
            ValueError: an unknown name in braces, a conditional one without a text, or a program that is not there.
        """
        known, conditional = {*names, *TRIAL_NAMES}, set(conditional)
        for argument in self.argv:
            for match in _BRACES.finditer(argument):
                name, text = _split(match[1], known)
                if name is None:
                    continue
                if name not in known:
                    there = ", ".join([*sorted(known.difference(TRIAL_NAMES)), *TRIAL_NAMES])
                    raise ValueError(f"{match[0]} in {argument!r} names no parameter of the space; there are {there}")
                if name in conditional and text is None:
                    raise ValueError(f"{name} in {argument!r} is not always active: write {{{name}|TEXT}}")
        program = self.argv[0]
        if not _BRACES.search(program) and shutil.which(program) is None:
            raise ValueError(f"{program!r} is no program that can be run (not found, or not executable)")

    @property
    def sees_budget(self) -> bool:
        """Whether the program can know its budget: an argument, or a file that is one, names it."""
        return any("{trial.budget}" in part or "MPIBO_BUDGET" in part + _text_of(part) for part in self.argv)

    def __call__(self, config: dict[str, Any], trial: RunningTrial) -> float | dict[str, Any]:
        """Run the program for one config and give its value, or the JSON object that it ended with.

        Raises:
            CommandFailed: it can't be started, ends with a non-zero status, or its last line is no value.
        """
        argv = [self._fill(argument, config, trial) for argument in self.argv]
        environment = os.environ | {
            "MPIBO_TRIAL": str(trial.id),
            "MPIBO_BUDGET": str(trial.budget),
            "MPIBO_SEED": str(trial.seed),
            "MPIBO_FOLDER": str(trial.folder),
        }
        try:
            # In our process group: who ends this process's group ends the program too.
            program = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
            )
        except OSError as error:
            raise CommandFailed(f"cannot start {argv[0]!r}: {error.strerror or error}") from None
        except ValueError as error:
            raise CommandFailed(f"cannot start {argv[0]!r}: {error}") from None
        try:
            last, tail = _follow(program, trial)
            status = program.wait()
        except BaseException:  # Stopped above all: nothing of the program outlives its trial
            if program.poll() is None:
                _kill_tree(program.pid)
                program.wait()
            raise
        finally:
            for pipe in (program.stdout, program.stderr):
                if pipe is not None:
                    pipe.close()
        if status:
            why = f"exit status {status}" if status > 0 else f"ended by signal {-status} ({signal.strsignal(-status)})"
            raise CommandFailed("\n".join([f"{argv[0]}: {why}", *tail]))
        return parse_value(last)

    def _fill(self, argument: str, config: Mapping[str, Any], trial: RunningTrial) -> str:
        def value(match: re.Match[str]) -> str:
            name, text = _split(match[1], {*config, *TRIAL_NAMES})
            if name is None:
                return match[0]
            if name in config:
                return as_text(config[name])
            if name == "trial.config_file":
                return str(_write_config(config, trial.folder))
            if name in TRIAL_NAMES:
                return str(getattr(trial, name.removeprefix("trial.")))
            if text is None:
                raise CommandFailed(f"{name} in {argument!r} is not active in this config: write {{{name}|TEXT}}")
            return text

        return _BRACES.sub(value, argument)


def as_text(value: Any) -> str:
    """A parameter's value as an argument: text as it is, everything else as JSON has it."""
    return value if isinstance(value, str) else json.dumps(value)


def parse_value(line: str) -> float | dict[str, Any]:
    """The number or the JSON object that ``line`` wholly is (an object's ``step`` is left out).

    Raises:
        CommandFailed: it is neither; the line is quoted.
    """
    line = line.strip()
    result = _json_object(line)
    if result is not None:
        return {key: value for key, value in result.items() if key != "step"}
    try:
        if "_" not in line:  # Python's own idea of 1_000
            return float(line)
    except ValueError:
        pass
    said = f"it was {line[:200]!r}" if line else "it printed nothing"
    raise CommandFailed(f"the last line of the output must be a number or a JSON object; {said}")


def _split(inside: str, known: Set[str]) -> tuple[str | None, str | None]:
    """The name in a pair of braces and its text for when inactive; no name where the braces hold something else."""
    if inside in known:
        return inside, None
    name, bar, text = inside.partition("|")
    is_name = name in known or (_NAME if bar else _WORD).fullmatch(name)
    return (name, text if bar else None) if is_name else (None, None)


def _follow(program: subprocess.Popen[bytes], trial: RunningTrial) -> tuple[str, list[str]]:
    """Pass on both streams and the reports until the program ends; gives the last stdout line and stderr's tail."""
    assert program.stdout is not None and program.stderr is not None
    out = _Lines(program.stdout, sys.stdout)
    err = _Lines(program.stderr, sys.stderr)
    last, tail = "", deque[str](maxlen=TAIL)
    with selectors.DefaultSelector() as selector:
        for stream in (out, err):
            selector.register(stream.pipe, selectors.EVENT_READ, stream)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            if not ready and program.poll() is not None:
                break  # a grandchild keeps the pipe open: the program itself has said all
            for key, _ in ready:
                stream = key.data
                lines = stream.read()
                if stream.ended:
                    selector.unregister(stream.pipe)
                if stream is err:
                    tail.extend(lines)
                    continue
                for line in filter(str.strip, lines):
                    last = line
                    _pass_on_report(line, trial)
    rest = out.rest()
    if rest.strip():
        last = rest
        _pass_on_report(rest, trial)
    tail.extend(filter(None, [err.rest()]))
    return last, list(tail)


class _Lines:
    """One of a program's output streams: echoed as it comes, and cut into lines."""

    def __init__(self, pipe: IO[bytes], echo: Any) -> None:
        self.pipe = pipe
        self.ended = False
        self._echo = echo
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""

    def read(self) -> list[str]:
        """The lines that are complete now."""
        data = os.read(self.pipe.fileno(), 65536)
        self.ended = not data
        text = self._decoder.decode(data, final=self.ended)
        self._echo.write(text)
        self._echo.flush()
        *lines, self._partial = (self._partial + text).split("\n")
        return lines

    def rest(self) -> str:
        """A last line without its newline."""
        return self._partial


def _pass_on_report(line: str, trial: RunningTrial) -> None:
    """Report a JSON line with ``step``; whatever ``trial.report`` raises goes through."""
    fields = _json_object(line.strip())
    if fields is None or "step" not in fields:
        return
    step, value = fields.pop("step"), fields.pop("value", None)
    fields.pop("state", None)  # no metric may have this name: it is what a trial saves
    if isinstance(step, float) and step.is_integer():
        step = int(step)
    if type(step) is not int or type(value) not in (int, float):
        raise CommandFailed(f"a report needs a whole number `step` and a number `value`, got {line.strip()[:200]}")
    trial.report(value=value, step=step, **fields)


def _json_object(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        result = json.loads(line)
    except ValueError:
        return None
    return result if isinstance(result, dict) else None


def _write_config(config: Mapping[str, Any], folder: Path) -> Path:
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(config, indent=1) + "\n")
    return path


def _text_of(argument: str) -> str:
    """The text of the file that an argument names; empty where it names none, a large one or a binary one."""
    try:
        path = Path(shutil.which(argument) or argument)
        return path.read_text() if path.is_file() and path.stat().st_size < 1_000_000 else ""
    except (OSError, ValueError):  # no readable file, no UTF-8, no possible path
        return ""


def _kill_tree(pid: int) -> None:
    """End a child of ours with all its descendants; each is stopped first, so that it starts no others meanwhile."""
    try:
        os.kill(pid, signal.SIGSTOP)
        for child in _children(pid):
            _kill_tree(child)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _children(pid: int) -> list[int]:
    """The ids of a process's children, from /proc; none where there is no /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # the name before it may hold anything
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found
