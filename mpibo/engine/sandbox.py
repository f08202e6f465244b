"""The child that evaluates: it loads the user's objective and lives on from trial to trial."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from mpibo.engine import loading
from mpibo.engine.cancelling import Cancel
from mpibo.engine.children import settle_in
from mpibo.engine.keeping import Keeping
from mpibo.engine.resources import settle
from mpibo.engine.running import RunningTrial, Stopped
from mpibo.engine.seeds import Seeds
from mpibo.goals import aims_of
from mpibo.outcome import ERROR_BYTES, METRICS_BYTES, outcome_of
from mpibo.store.journal import dumps
from mpibo.trial import Outcome, State, config_of

Emit = Callable[[dict[str, Any]], None]


class Evaluator:
    """Evaluate trials of one objective in this process, one after the other.

    Args:
        setup: ``objective`` (its description), ``fix``, ``folder`` (of the run), ``goals``, ``limits``,
            ``checkpoint_every`` (seconds), ``group`` (of the ranks that share a trial).
        emit: Where messages go.
        cancelled: Why this trial is to end; None while it is not. Asked at its start and at each report.
        comm: The communicator of the ranks that share a trial; None for a single one.
    """

    def __init__(
        self, setup: Mapping[str, Any], emit: Emit, cancelled: Callable[[int], Cancel | None], comm: Any = None
    ) -> None:
        self.fix = setup.get("fix", {})
        self.folder = setup.get("folder")
        self.aims = aims_of(False, setup.get("goals", ()), setup.get("limits", ()))
        self._emit = emit
        self._cancelled = cancelled
        self._comm = comm
        self._every: float | None = setup.get("checkpoint_every")
        self._writes = (setup.get("group") or {}).get("rank", 0) == 0 and (comm is None or comm.rank == 0)
        self._seeds = Seeds()
        self._home = os.getcwd()
        self.objective = loading.load(setup["objective"])
        self.arguments = loading.parameters_of(self.objective)
        takes_trial = any(name == "trial" and kind == "one" for name, kind, _ in self.arguments)
        self.hears = takes_trial and setup["objective"]["kind"] != "command"  # told to end, it may end by itself

    def evaluate(self, run: Mapping[str, Any]) -> Outcome:
        """Evaluate one trial; whatever the objective does but end the process becomes an outcome."""
        number = run["id"]
        folder = os.path.join(self.folder, "trials", str(number)) if self.folder else None

        def emit(report: dict[str, Any]) -> None:
            if len(json.dumps(report)) > METRICS_BYTES:
                raise ValueError(
                    f"a report may take {METRICS_BYTES} bytes, this one takes more (step {report['step']})"
                )
            self._emit({"kind": "report", "id": number, "points": [report]})

        cancel: Cancel | None = None

        def cancelled() -> str | None:
            nonlocal cancel
            cancel = self._cancelled(number)
            return None if cancel is None else cancel.why

        def note(text: str) -> None:
            with contextlib.suppress(ValueError, OSError):  # the objective may have closed it
                print(f"mpibo: {text}", flush=True)
            self._emit({"kind": "note", "id": number, "text": text})

        trial = RunningTrial(
            number, config_of(run["config"]), run["budget"], run["seed"], folder=folder, emit=emit,
            cancelled=cancelled, comm=self._comm, keeping=self._keeping(run, note),
        )  # fmt: skip
        os.environ.update(
            MPIBO_TRIAL=str(number), MPIBO_BUDGET=str(trial.budget), MPIBO_SEED=str(trial.seed),
            MPIBO_FOLDER=folder or "",
        )  # fmt: skip
        began = time.perf_counter()
        try:
            os.chdir(self._home)  # the one of the start, wherever an earlier trial went
            self._seeds.set(trial.seed)
            began = time.perf_counter()
            if cancelled() is not None:  # while the objective was loaded
                raise Stopped
            returned = loading.call(self.objective, self.arguments, trial, self.fix)
            return outcome_of(returned, trial.last, time.perf_counter() - began, self.aims)
        except (Exception, SystemExit, KeyboardInterrupt, Stopped) as error:
            duration = time.perf_counter() - began  # the one broad catch: a crash becomes an outcome
            if stopped(error):
                return (cancel or Cancel("stop")).outcome(trial.last, duration, several=self.aims.several)
            if isinstance(error, KeyboardInterrupt):  # as SIGTERM: nobody but a scheduler interrupts a child
                return Outcome(State.LOST, reason="lost", error="ended by SIGINT", duration=duration)
            return Outcome(State.FAILED, reason=reason_of(error), error=told(error), duration=duration)

    def _keeping(self, run: Mapping[str, Any], note: Callable[[str], None]) -> Keeping | None:
        """Where a trial's checkpoints go; None without a run folder."""
        if not self.folder:
            return None
        return Keeping(
            self.folder, run["id"], run.get("checkpoints", ()), rung=run.get("rung", False), every=self._every,
            writes=self._writes, note=note,
        )  # fmt: skip


def stopped(error: BaseException | None) -> bool:
    """Whether an error is ``Stopped``, or came up while that was on its way through the objective."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, Stopped):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def reason_of(error: BaseException) -> str:
    """The reason of a failure by exception; torch's OutOfMemoryError is no MemoryError."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return "memory"
    return "exit" if isinstance(error, SystemExit) else "exception"


def told(error: BaseException) -> str:
    """The traceback of a user's error, without our own frames, with rank and host; at most 4 KB, its end kept."""
    trace = error.__traceback__
    while trace is not None and os.path.dirname(__file__) == os.path.dirname(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, trace)).strip()
    except Exception:  # an exception whose own __str__ raises
        text = type(error).__name__
    where = f"(worker {os.environ.get('MPIBO_WORKER', '0')} on {socket.gethostname()})"
    return f"{text[-(ERROR_BYTES - 200) :]}\n{where}"


class Pipe:
    """The child's end of its two pipes: lines of JSON in and out."""

    def __init__(self, answers: int) -> None:
        self._in = os.dup(0)
        self._out = answers
        self._buffer = b""
        self._sending = threading.Lock()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)  # the objective's stdin is empty
        os.close(null)
        os.set_inheritable(self._in, False)
        os.set_inheritable(answers, False)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message."""
        data = dumps(message)
        with self._sending:
            while data:
                data = data[os.write(self._out, data) :]

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the parent has closed its end."""
        while b"\n" not in self._buffer:
            data = os.read(self._in, 1 << 20)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def waiting(self) -> bool:
        """Whether ``receive`` would not block for long."""
        return b"\n" in self._buffer or bool(select.select([self._in], [], [], 0)[0])


def limit_memory(limit: int) -> None:
    """Let allocations beyond what the loaded objective takes now, plus ``limit`` bytes, fail with MemoryError.

    Only without a GPU: an address-space limit stops CUDA. The worker watches the resident memory besides.
    """
    import resource

    if os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/kfd"):
        return
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + limit, now + limit))


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments that ``Child`` gives to every child."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    return parser.parse_args(argv)


def main() -> None:
    """Serve trials until the parent closes the pipe."""
    arguments = parse()
    settle_in(arguments.parent)
    faulthandler.enable()
    # A scheduler's signal reaches us too: the trial is told by the manager. A handler, since SIG_IGN is inherited.
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    pipe = Pipe(arguments.answers)
    setup = pipe.receive()
    if setup is None:
        return
    settle(setup)  # before the objective loads a library that reads the variables
    sys.argv = list(setup.get("argv", sys.argv))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    cancels: dict[int, Cancel] = {}

    def cancelled(number: int) -> Cancel | None:
        while pipe.waiting():
            message = pipe.receive()
            if message is None:
                os._exit(0)
            if message["kind"] == "cancel":
                cancels.setdefault(message["id"], Cancel.of(message))
        return cancels.get(number)

    try:
        evaluator = Evaluator(setup, pipe.send, cancelled)
    except (Exception, SystemExit) as error:
        pipe.send({"kind": "broken", "error": told(error), "line": one_line(error)})
        return
    if setup.get("memory"):
        limit_memory(setup["memory"])
    pipe.send({"kind": "loaded", "hears": evaluator.hears})
    group = setup.get("group")
    while (message := pipe.receive()) is not None:
        if message["kind"] != "run":
            continue  # a cancel that came after its trial's end
        cancels.clear()
        if group is not None:
            from mpibo.engine.group import join_group

            try:
                join_group(group)
            except ImportError as error:
                pipe.send({"kind": "broken", "error": told(error), "line": one_line(error)})
                return
            except Exception as error:  # another rank's child has just ended: the group forms anew
                lost = Outcome(State.FAILED, reason="crash", error=told(error))
                pipe.send({"kind": "finished", "id": message["id"], "outcome": asdict(lost)})
                return
            group = None
        outcome = evaluator.evaluate(message)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError, AttributeError, OSError):  # the objective may have closed it
                stream.flush()
        pipe.send({"kind": "finished", "id": message["id"], "outcome": asdict(outcome)})


def one_line(error: BaseException) -> str:
    """An error in one line, with its type where the text alone does not tell."""
    text = " ".join(str(error).split())
    plain = isinstance(error, (ValueError, LookupError, SystemExit)) and not isinstance(error, KeyError)
    return text if plain and text else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    main()
