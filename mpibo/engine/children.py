"""A child of ours: an exec'd Python with pipes of its own, in a process group that can be killed as a whole."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mpibo.store.journal import dumps

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Child:
    """Start ``python -m MODULE`` and talk to it in JSON lines.

    The child reads its messages from stdin and writes its answers to the file descriptor named by ``--answers``;
    ``--parent`` is our process id. No ``preexec_fn``: the child itself sets its death signal (``settle_in``).

    Args:
        module: What to run, e.g. ``mpibo.engine.sandbox``.
        arguments: Further arguments.
        environment: The whole environment.
        capture: Whether its stdout and stderr come to ``output``; else they are ours.
        cores: Where to bind it; None: where we are.
    """

    def __init__(
        self, module: str, arguments: Sequence[str] = (), *, environment: Mapping[str, str], capture: bool = False,
        cores: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        answers, theirs = os.pipe()
        command = [sys.executable, "-m", module, "--answers", str(theirs), "--parent", str(os.getpid()), *arguments]
        stream = subprocess.PIPE if capture else None
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT if capture else None,
            pass_fds=(theirs,), start_new_session=True, env=dict(environment),
        )  # fmt: skip
        os.close(theirs)
        if cores:
            with contextlib.suppress(OSError):  # it has ended already, or a core has gone away
                os.sched_setaffinity(self._process.pid, cores)
        os.set_blocking(answers, False)
        self._answers = answers
        self._buffer = b""
        self.pid = self._process.pid
        self.ended = False
        self._buried = False
        self._output = self._process.stdout
        if self._output:
            os.set_blocking(self._output.fileno(), False)

    def fileno(self) -> int:
        """The descriptor that becomes readable when the child answers or ends."""
        return self._answers

    @property
    def descriptors(self) -> list[int]:
        """All descriptors to wait on: the answers and, where captured, the output."""
        return [self._answers] + ([self._output.fileno()] if self._output and not self._output.closed else [])

    @property
    def gone(self) -> bool:
        """Whether its process has ended (its pipe may live on in a process that it left behind)."""
        return self._process.poll() is not None

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send one message; False when the child is gone."""
        assert self._process.stdin
        try:
            self._process.stdin.write(dumps(message))
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return False
        return True

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have come whole; sets ``ended`` when the pipe is at its end. A broken line is left out."""
        while not self.ended:
            try:
                data = os.read(self._answers, 1 << 16)
            except BlockingIOError:
                break
            self.ended = not data
            self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        messages = []
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    messages.append(message)
        return messages

    def output(self) -> bytes:
        """What the child has printed since the last call (captured output only)."""
        if not self._output or self._output.closed:
            return b""
        try:
            data = os.read(self._output.fileno(), 1 << 16)
        except BlockingIOError:
            return b""
        if not data:
            self._output.close()  # at its end it would be readable for ever
        return data

    def finish(self) -> None:
        """Close its stdin: a child of ours then ends by itself."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code (negative: the signal), or None if it still runs after ``timeout`` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> int:
        """Kill the whole process group and close the pipes; gives the exit code."""
        if self._buried:
            return self._process.wait()
        self._buried = True
        kill_tree(self.pid)
        code = self._process.wait()
        self.finish()
        self.ended = True
        os.close(self._answers)
        if self._output:
            self._output.close()
        return code


def descendants(pid: int) -> list[int]:
    """The ids of all processes below this one, as /proc shows them."""
    found, todo = [], [pid]
    while todo:
        each = todo.pop()
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{each}/task/{each}/children") as file:
            children = [int(child) for child in file.read().split()]
            found += children
            todo += children
    return found


def settle_in(parent: int) -> None:
    """What every child of ours does first: die with its parent, and be the first to go when memory runs out."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # a daemon of the objective's stays our descendant
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    if os.getppid() != parent:
        os._exit(1)  # it died before the signal was set


def resident(pid: int) -> int:
    """Resident bytes of a process and its descendants (those that /proc shows)."""
    total = 0
    for each in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{each}/statm") as file:
            total += int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def kill_tree(pid: int) -> None:
    """Kill a child's process group, and what it started outside of it; what it said before can still be read."""
    below = descendants(pid)  # without their parents they could not be found
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # first: it must not tell that its own processes were killed
    for each in below:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)
